from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from teramind_data.errors import OutputExistsError
from teramind_data.geometry import Box
from teramind_data.store import Brain, ImageSpec, append_image, create_brain, open_brain, store_state


def test_absent_and_empty_places_are_taken(truth: Any, tmp_path: Path) -> None:
    assert store_state(tmp_path / "a") == "absent"
    (tmp_path / "b").mkdir()
    assert store_state(tmp_path / "b") == "empty"
    for name in "ab":
        create_brain(tmp_path / name, truth.spec)
        assert store_state(tmp_path / name) == "incomplete"


def test_ours_is_replaced_only_when_asked(truth: Any, truth_maker: Any, own_brain: Brain) -> None:
    with pytest.raises(OutputExistsError, match=r"output exists: .*found a complete store.*--overwrite"):
        create_brain(own_brain.url, truth.spec)
    assert store_state(own_brain.url) == "complete"
    np.testing.assert_array_equal(open_brain(own_brain.url).morphology[:], truth.morphology)
    other = truth_maker(seed=5, canvas=(64, 64))
    np.testing.assert_array_equal(other.write(own_brain.url, overwrite=True).morphology[:], other.morphology)
    assert "labels" in {p.name for p in Path(own_brain.url).iterdir()}


def test_an_unfinished_store_of_ours_is_not_replaced_unasked(truth: Any, tmp_path: Path) -> None:
    create_brain(tmp_path / "b", truth.spec)
    with pytest.raises(OutputExistsError, match="found an incomplete store"):
        create_brain(tmp_path / "b", truth.spec)
    create_brain(tmp_path / "b", truth.spec, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file", "zarr", "damaged"])
def test_what_is_not_ours_is_never_touched(truth: Any, tmp_path: Path, kind: str, overwrite: bool) -> None:
    place = tmp_path / "theirs"
    if kind == "file":
        place.write_text("precious")
        precious = place
    else:
        place.mkdir()
        precious = place / ("zarr.json" if kind in ("zarr", "damaged") else "notes.txt")
        text = {"zarr": '{"zarr_format": 3, "node_type": "group", "attributes": {}}', "damaged": "{"}
        precious.write_text(text.get(kind, "precious"))
    before = precious.read_text()
    assert store_state(place) == "foreign"
    with pytest.raises(OutputExistsError, match="no store of ours"):
        create_brain(place, truth.spec, overwrite=overwrite)
    assert precious.read_text() == before


def test_a_store_that_holds_things_of_others_is_kept(truth: Any, own_brain: Brain) -> None:
    (Path(own_brain.url) / "my_notes.txt").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"not ours: .*found my_notes\.txt"):
        create_brain(own_brain.url, truth.spec, overwrite=True)
    assert open_brain(own_brain.url).complete


def test_a_link_to_a_store_is_not_followed(truth: Any, own_brain: Brain, tmp_path: Path) -> None:
    link = tmp_path / "link.zarr"
    link.symlink_to(own_brain.url)
    with pytest.raises(OutputExistsError, match="symbolic link"):
        create_brain(link, truth.spec, overwrite=True)
    assert open_brain(own_brain.url).complete


def test_the_same_rules_hold_in_memory(truth_maker: Any) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    truth = truth_maker(canvas=(64, 64))
    url = f"{root}/brain.zarr"
    assert store_state(url) == "absent"
    truth.write(url)
    with pytest.raises(OutputExistsError):
        create_brain(url, truth.spec)
    assert truth.write(url, overwrite=True).complete
    fsspec.open(f"{root}/theirs/a.txt", "w").open().close()
    assert store_state(f"{root}/theirs") == "foreign"
    with pytest.raises(OutputExistsError, match="no store of ours"):
        create_brain(f"{root}/theirs", truth.spec, overwrite=True)


def test_appended_images_follow_the_same_rules(own_brain: Brain, truth: Any) -> None:
    def add(value: float, name: str = "maps", **options: Any) -> None:
        plane = np.full((1, 13, 19), value, np.float16)
        append_image(
            own_brain.url,
            ImageSpec(name, ("a",), "float16", 16),
            ((z, None, plane) for z in range(4)),
            **options,
        )

    add(1)
    with pytest.raises(OutputExistsError, match=r"image exists: .*images/maps.*Pass --overwrite"):
        add(2)
    assert (open_brain(own_brain.url).image("maps")[:] == 1).all()
    add(2, overwrite=True)
    assert (open_brain(own_brain.url).image("maps")[:] == 2).all()
    with pytest.raises(OutputExistsError, match=r"image exists: .*images/expression\. Choose another name"):
        add(3, "expression", overwrite=True)
    with pytest.raises(OutputExistsError, match="image exists"):
        add(3, "tissue", overwrite=True)
    theirs = Path(own_brain.url) / "images/theirs"
    theirs.mkdir()
    (theirs / "zarr.json").write_text("{}")
    with pytest.raises(OutputExistsError, match="not ours"):
        add(3, "theirs", overwrite=True)
    np.testing.assert_array_equal(open_brain(own_brain.url).read("expression", 0), truth.expression[:, 0])
    assert open_brain(own_brain.url).read("maps", 0, Box(0, 2, 0, 2)).shape == (1, 2, 2)
