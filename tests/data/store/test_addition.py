"""Several images added to a complete store: together, resumably, by one writer at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import IncompleteStoreError, OutputExistsError
from teramind_data.store import Brain, ImageSpec, append_image, begin_addition, open_brain
from teramind_data.validate import validate

PLANE = np.ones((1, 13, 19), np.float16)
IMAGES = [ImageSpec(name, ("a",), "float16", 16, attrs={"of": name}) for name in ("one", "two")]


def test_an_addition_of_the_same_images_goes_on(own_brain: Brain) -> None:
    with begin_addition(own_brain.url, IMAGES) as addition:
        for name in addition.names:
            addition.write(name, 0, None, PLANE)
        left = addition.pending("one")
        assert left and all(z > 0 for z, _ in left)
        with pytest.raises(IncompleteStoreError, match="one .*missing"):
            addition.finish()
    assert "one" not in open_brain(own_brain.url).images
    # With other attributes it is another image, begun anew; the other goes on.
    with begin_addition(own_brain.url, [replace(IMAGES[0], attrs={"of": "else"}), IMAGES[1]]) as addition:
        assert len(addition.pending("one")) > len(left)
        assert addition.pending("two") == left
        for name, first in (("one", 0), ("two", 1)):
            for z in range(first, 4):
                addition.write(name, z, None, PLANE * (z + 1))
        addition.finish()
    made = open_brain(own_brain.url)
    assert made.images[-2:] == ("one", "two")
    assert np.asarray(made.image("two")[0, :, 0, 0]).tolist() == [1, 2, 3, 4]


def test_a_second_writer_is_refused(own_brain: Brain) -> None:
    with (
        begin_addition(own_brain.url, IMAGES[:1]),
        pytest.raises(OutputExistsError, match="another run is adding images"),
        begin_addition(own_brain.url, IMAGES[1:]),
    ):
        pass
    with begin_addition(own_brain.url, IMAGES[1:]) as addition:
        assert addition.pending("two")


def test_a_finished_addition_leaves_no_journal(own_brain: Brain) -> None:
    before = [str(one) for one in validate(own_brain.url)]
    with begin_addition(own_brain.url, IMAGES[:1]) as addition:
        addition.write("one", 0, None, PLANE)
    append_image(own_brain.url, IMAGES[1], [(z, None, PLANE) for z in range(4)])
    # What another, unfinished addition wrote is still there.
    with begin_addition(own_brain.url, IMAGES[:1]) as addition:
        assert {z for z, _ in addition.pending("one")} == {1, 2, 3}
        for z in (1, 2, 3):
            addition.write("one", z, None, PLANE)
        addition.finish()
    assert not (Path(own_brain.url) / ".journal").exists()
    assert [str(one) for one in validate(own_brain.url)] == before
