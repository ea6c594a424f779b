"""Which places a report shows: drawn by rule and seed, in what is compared."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from teramind_data.geometry import Box
from teramind_data.store import open_brain
from teramind_eval.pairs import read_stain
from teramind_eval.part import Part
from teramind_eval.report.pictures import choose_places
from tests.eval.drawn import CANVAS, draw_section, write_real

WHOLE = Box.from_shape(CANVAS)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Part:
    path = tmp_path_factory.mktemp("places") / "C.zarr"
    return Part(open_brain(str(write_real(path, [draw_section(seed) for seed in (11, 12)]))))


@pytest.mark.parametrize("inside", [WHOLE, Box(32, 210, 80, 256), Box(201, 233, 17, 256)], ids=str)
def test_places_lie_in_what_is_compared_and_hold_molecules(real: Part, inside: Box) -> None:
    part = real.within(inside)
    found = [choose_places(part, seed, 3) for seed in range(8)]
    assert found == [choose_places(part, seed, 3) for seed in range(8)]
    assert len({str(places) for places in found}) > 1
    for places in found:
        assert {views[0].section for views in places[:2]} == {0, 1}
        for views in places:
            assert views[0].box == inside
            assert (views[0].name == "Whole section") == (inside == WHOLE)
            assert all(wide.box.contains(close.box) for wide, close in pairwise(views))
            assert all(view.box.height == view.box.width for view in views[1:])
            y, _, _ = real.molecules.read(views[2].section, views[2].box)
            assert len(y)


def test_what_is_not_compared_is_read_as_black(real: Part) -> None:
    part = real.within(Box(32, 210, 80, 256))
    box = Box(0, 64, 64, 128)
    found, wanted = (read_stain(one, 1, box, "DAPI") for one in (part, real))
    assert not found[:32].any() and not found[:, :16].any()
    np.testing.assert_array_equal(found[32:, 16:], wanted[32:, 16:])
    assert found.any()
    assert not read_stain(part, 1, Box(210, 256, 0, 64), "DAPI").any()
