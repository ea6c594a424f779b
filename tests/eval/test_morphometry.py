"""Nuclei: cut into blocks or not, matched by hand, measured against what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.store import Brain, ImageSpec, append_image, open_brain
from teramind_eval.morphometry.annotation import regions_of_patches
from teramind_eval.morphometry.compare import Match, match_centroids, matched_pairs
from teramind_eval.morphometry.measure import measure
from teramind_eval.morphometry.patches import PatchGrid
from teramind_eval.morphometry.segment import Nuclei, find_nuclei
from teramind_eval.morphometry.watershed import NucleiSettings, Watershed, otsu
from teramind_eval.pairs import regions_of_tiles
from teramind_eval.part import Part
from tests.eval.drawn import CANVAS, PIXEL_UM, draw_nuclei, draw_section, write_real


def test_nuclei_stand_where_they_were_drawn() -> None:
    image, truth = draw_nuclei(0)
    nuclei = find_nuclei(lambda box: image[box.slices], image.shape, PIXEL_UM)
    match = match_centroids(truth[:, :2], truth[:, 2], nuclei.centroids)
    assert match.f1 > 0.95


def test_blocks_equal_the_whole() -> None:
    image, _ = draw_nuclei(1)

    def found(block_px: int) -> Nuclei:
        segmenter = Watershed(NucleiSettings(block_px=block_px))
        return find_nuclei(lambda box: image[box.slices], image.shape, PIXEL_UM, segmenter)

    whole, parts = found(384), found(128)
    assert len(parts) == len(whole)
    pairs = matched_pairs(whole.centroids, 0.5, parts.centroids)
    assert len(pairs) == len(whole)
    assert (np.sort(whole.area_px) == np.sort(parts.area_px)).all()


@pytest.mark.parametrize("value", [0, 40, 255])
def test_a_flat_image_holds_no_nuclei(value: int) -> None:
    image = np.full((96, 96), value, dtype=np.uint8)
    assert len(find_nuclei(lambda box: image[box.slices], image.shape, PIXEL_UM)) == 0


def test_noise_alone_holds_no_nuclei() -> None:
    image = np.random.default_rng(0).normal(60, 4, size=(192, 192)).clip(0, 255).astype(np.uint8)
    assert len(find_nuclei(lambda box: image[box.slices], image.shape, PIXEL_UM)) == 0


def test_otsu_separates_two_classes() -> None:
    from skimage.filters import threshold_otsu

    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(40, 6, 4000), rng.normal(150, 20, 900)]).clip(0, 255).astype(np.uint8)
    histogram = np.bincount(values, minlength=256)
    assert abs(otsu(histogram) - threshold_otsu(values)) <= 3


def test_patches_partition_nuclei() -> None:
    nuclei = Nuclei(
        np.array([-0.5, 15.49, 15.5, 31.0]),
        np.array([0.0, 15.5, 3.0, 31.49]),
        np.array([10, 20, 30, 40]),
        *np.zeros((3, 4)),
    )
    result = measure(nuclei, tiles(Box(0, 32, 0, 32), 16), PatchGrid(0, (32, 32), 16, 1.0))
    assert result.per_patch.n == 4
    assert (result.per_patch.values == 1).all()
    assert result.area_px.moments.mean == 25


def test_halves_of_one_name_outweigh_a_region_between_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_real(tmp_path / "C.zarr", [draw_section(seed) for seed in (11, 12)])
    labels = np.zeros(tuple(edge // BIN_PX for edge in CANVAS), np.uint16)
    labels[:, :3], labels[:, 3:6], labels[:, 6:10], labels[:, 10:] = 1, 2, 3, 7
    image = ImageSpec("regions", (), "uint16", step=BIN_PX, reduce="mode", labels=True)
    append_image(path, image, [(section, None, labels) for section in (0, 1)])
    monkeypatch.setattr(Brain, "region_names", {1: "cortex", 2: "cortex", 3: "fibre"})
    real, size = Part(open_brain(path)), 10 * BIN_PX
    assert regions_of_tiles(real, 0, [Box(0, size, 0, size), Box(0, size, size, CANVAS[1])]).tolist() == [
        1,
        7,
    ]
    grid = PatchGrid(0, real.canvas, size, PIXEL_UM)
    assert regions_of_patches(real, 0, grid).tolist() == [1, 7] * grid.rows


@pytest.mark.parametrize(
    ("reference", "radius", "found", "expected"),
    [
        ([], 5, [], (0, 0, 0)),
        ([(0, 0)], 5, [], (0, 0, 1)),
        ([], 5, [(1, 1)], (0, 1, 0)),
        ([(0, 0)], 5, [(0, 5)], (1, 0, 0)),
        ([(0, 0)], 5, [(0, 5.01)], (0, 1, 1)),
        ([(0, 0)], 5, [(0, 1), (1, 0)], (1, 1, 0)),
        ([(0, 0), (0, 3)], 5, [(0, 1)], (1, 0, 1)),
    ],
)
def test_match_by_hand(
    reference: list[tuple[float, float]],
    radius: float,
    found: list[tuple[float, float]],
    expected: tuple[int, ...],
) -> None:
    match = match_centroids(np.reshape(reference, (-1, 2)), radius, np.reshape(found, (-1, 2)))
    assert match == Match(*expected)


def test_matching_takes_most_pairs_before_the_nearest() -> None:
    # Greedy by distance would join (0, 4) with (0, 5) and leave the other two out.
    reference, found = np.array([[0.0, 0.0], [0.0, 5.0]]), np.array([[0.0, 4.0], [0.0, 9.0]])
    assert match_centroids(reference, 4.5, found).true_positive == 2


def test_each_nucleus_has_its_own_radius() -> None:
    reference, found = np.array([[0.0, 0.0], [0.0, 50.0]]), np.array([[0.0, 3.0], [0.0, 53.0]])
    assert match_centroids(reference, np.array([2.0, 4.0]), found) == Match(1, 1, 1)


def test_scores_of_a_match() -> None:
    match = Match(6, 2, 4).merge(Match())
    assert (match.precision, match.recall) == (0.75, 0.6)
    assert match.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert Match().f1 == 0.0
