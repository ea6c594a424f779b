"""Which places a report shows: drawn by rule and seed, in what is compared."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from teramind_data.geometry import Box
from teramind_data.store import open_brain
from teramind_eval.evaluate import section_nuclei
from teramind_eval.morphometry.cellpose_segmenter import Cellpose
from teramind_eval.morphometry.cellpose_weights import Weights
from teramind_eval.morphometry.segmenter import DapiSection, LabelImage, Levels
from teramind_eval.morphometry.watershed import Watershed
from teramind_eval.pairs import Compared, read_stain, tissue_blocks
from teramind_eval.part import Part
from teramind_eval.report import pictures
from teramind_eval.report.compose import _montage_note
from teramind_eval.report.panels import stain_panels
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


class _Bright(Cellpose):
    """In place of the network: nuclei are what is brighter than the middle of its window."""

    def segment(self, image: npt.NDArray[np.uint8], pixel_size_um: float, levels: Levels) -> LabelImage:
        from skimage.measure import label

        low, high = levels
        return np.asarray(label((image > (low + high) / 2) & (high > low)), np.int32)


def test_a_small_part_is_judged_by_its_own_pixels(real: Part, tmp_path: Path) -> None:
    inside = Box(101, 124, 60, 87)  # under 1 % of the canvas, which is one block
    part = real.within(inside)
    assert tissue_blocks(real, 1, 1536) == [WHOLE]
    blocks = tissue_blocks(part, 1, 1536)
    assert blocks == [inside]
    assert tissue_blocks(part, 1, 64) == [Box(101, 124, 60, 64), Box(101, 124, 64, 87)]
    pixels = np.asarray(read_stain(real, 1, inside, "DAPI"))
    segmenter = _Bright(Weights(tmp_path / "none", None, "3.1.1.3"))
    section = DapiSection(lambda box: read_stain(part, 1, box, "DAPI"), part.canvas, part.pixel_size_um)
    low, high = segmenter.levels(section, blocks)
    assert (low, high) == tuple(np.percentile(pixels, (1, 99), method="inverted_cdf"))
    wanted = segmenter.segment(pixels, part.pixel_size_um, (low, high))
    assert len(section_nuclei(part, 1, segmenter, blocks)) == wanted.max() > 0
    # The watershed's threshold too: with the black around it was far below that of the whole section.
    part = real.within(Box(64, 192, 64, 192))
    whole, here = (
        Watershed().levels(
            DapiSection(partial(_dapi, one), one.canvas, one.pixel_size_um), tissue_blocks(one, 0, 1536)
        )
        for one in (real, part)
    )
    assert here[0] == pytest.approx(whole[0], rel=0.1)


def _dapi(part: Part, box: Box) -> npt.NDArray[np.uint8]:
    return read_stain(part, 0, box, "DAPI")


def test_nuclei_are_outlined_in_views_that_are_segmented_at_once(
    real: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = choose_places(real, 0, 1)[0]
    edges = [view.box.width for view in views]
    assert edges == [256, 128, 64]
    stores = [Compared("real", "real", real)]
    assert "region, 128 by 128 pixels" in stain_panels(stores, views, Watershed())[0][-1].pictures[0].alt
    monkeypatch.setattr(pictures, "_OUTLINED_PX", 127)
    assert pictures.outlined_views(views) == [views[2]]
    assert "nuclei, 64 by 64 pixels" in stain_panels(stores, views, Watershed())[0][-1].pictures[0].alt


def test_a_stain_may_be_called_what_no_file_is(tmp_path: Path) -> None:
    drawn = [draw_section(seed) for seed in (11, 12)]
    part = Part(open_brain(str(write_real(tmp_path / "C.zarr", drawn, stains=("DAPI", "Poly/T")))))
    panels, _ = stain_panels([Compared("real", "real", part)], choose_places(part, 0, 1)[0], Watershed())
    names = [picture.name for panel in panels for picture in panel.pictures]
    assert names == ["stain1_dapi_real.png", "stain2_poly_t_real.png", "nuclei_real.png"]


def test_the_montage_is_called_what_it_is(real: Part) -> None:
    assert _montage_note(real).startswith("Whole sections")
    assert "Whole" not in _montage_note(real.within(Box(32, 210, 80, 256)))
