"""Seams: streamed sums against loops over pixels, on images with and without borders that show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.geometry import Box, tiles
from teramind_eval import likeness
from teramind_eval.likeness import measure_tiles
from teramind_eval.metrics.seam_scores import grids_of, seam_scores
from teramind_eval.metrics.seams import Grid, SeamScan, SeamSums, SectionSeams, between_sections, border_sums
from teramind_eval.pairs import Compared, open_store
from teramind_eval.results import TOGETHER, SeamScores
from tests.eval.conftest import Stores
from tests.eval.drawn import CANVAS, draw_section, write_generated

TILE = 32


def by_loop(image: np.ndarray, counted: np.ndarray, grid: int) -> SeamSums:
    """Every pixel with its neighbour below and to the right, one after another."""
    sums = {True: [0.0, 0], False: [0.0, 0]}
    height, width = image.shape
    for y in range(height):
        for x in range(width):
            for b, a in ((y + 1, x), (y, x + 1)):
                if b < height and a < width and counted[y, x] and counted[b, a]:
                    border = (b % grid == 0) if b > y else (a % grid == 0)
                    sums[border][0] += (int(image[b, a]) - int(image[y, x])) ** 2
                    sums[border][1] += 1
    return SeamSums(sums[True][0], int(sums[True][1]), sums[False][0], int(sums[False][1]))


def scores_of(stores: Sequence[Compared], grids: dict[str, Grid]) -> tuple[SeamScores, ...]:
    """All sections of all stores that have a grid."""
    sections = [section.index for section in stores[0].brain.sections]
    found = {label: [seams_of(stores, section, grids)[label] for section in sections] for label in grids}
    return seam_scores(stores, grids, found)


def seams_of(stores: Sequence[Compared], section: int, grids: dict[str, Grid]) -> dict[str, SectionSeams]:
    measured = measure_tiles(stores, section, TILE, grids=grids)
    assert {label for label, one in measured.items() if one.seams is not None} == set(grids)
    return {label: one.seams for label, one in measured.items() if one.seams is not None}


def tissue_of(section: int) -> np.ndarray:
    """Pixels of the tiles that hold molecules, by the drawing."""
    y, x, _ = draw_section((11, 12)[section]).molecules
    held = np.zeros((CANVAS[0] // TILE, CANVAS[1] // TILE), bool)
    held[y // TILE, x // TILE] = True
    return held.repeat(TILE, 0).repeat(TILE, 1)


@pytest.mark.parametrize("grid", [16, 48, 64])
def test_streamed_sums_are_those_of_a_loop(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, grid: int
) -> None:
    monkeypatch.setattr(likeness, "block_edge", lambda _: 96)
    real, good = open_store(str(stores.real), "real", "real"), open_store(str(stores.good), "G", "generated")
    found = seams_of((real, good), 1, {"G": Grid(grid)})["G"]
    pixels, counted = np.asarray(good.brain.read("morphology", 1)), tissue_of(1)
    assert not counted.all()
    assert found.sums == tuple(by_loop(image, counted, grid) for image in pixels)
    means = pixels.reshape(2, CANVAS[0] // TILE, TILE, CANVAS[1] // TILE, TILE).mean(axis=(2, 4))
    held = counted[::TILE, ::TILE]
    np.testing.assert_allclose(found.means[:, held], means[:, held])
    assert np.isnan(found.means[:, ~held]).all()


@pytest.mark.parametrize("seed", range(5))
def test_blocks_that_hold_no_tissue_are_no_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (1, 112, 90), dtype=np.uint8)
    held = rng.random((7, 6)) < 0.4
    counted = held.repeat(16, 0).repeat(16, 1)[:112, :90]
    scan = SeamScan(1, (112, 90), 24, 16)
    for block in tiles(Box(0, 112, 0, 90), 32):
        tissue = [one for one in tiles(block, 16) if held[one.y0 // 16, one.x0 // 16]]
        if tissue:
            scan.add(block, image[(..., *block.slices)], tissue)
    assert scan.seams().sums == (by_loop(image[0], counted, 24),)


def test_a_step_on_the_borders_is_seen_and_only_there() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(100, 120, (64, 64)).astype(np.uint8)
    whole = np.ones(image.shape, bool)
    steps = image + 20 * (np.indices(image.shape) // 16 % 2).sum(axis=0).astype(np.uint8)
    assert border_sums(image, 16, (0, 0), whole).index == pytest.approx(1, abs=0.15)
    assert border_sums(steps, 16, (0, 0), whole).index > 4
    assert border_sums(steps, 16, (8, 8), whole).index < 1
    with pytest.raises(InputError, match="too small"):
        border_sums(image, 1, (0, 0), whole)
    assert np.isnan(border_sums(np.full((64, 64), 7, np.uint8), 16, (0, 0), whole).index)


def test_sections_are_compared_by_tone() -> None:
    one = np.array([[[10.0, np.nan], [30.0, 40.0]]])
    other = np.array([[[13.0, 5.0], [30.0, np.nan]]])
    assert between_sections(one, other, seam=True) == (SeamSums(9.0, 2, 0.0, 0),)
    assert between_sections(one, other, seam=False) == (SeamSums(0.0, 0, 9.0, 2),)


def test_windows_whose_tone_differs_are_told(tmp_path: Path) -> None:
    from teramind_data.store import Section
    from tests.eval.drawn import write_real

    sections = tuple(Section(i, f"s{i}", 100.0 * i) for i in range(4))
    drawn = [draw_section(seed) for seed in (1, 2, 3, 4)]
    write_real(tmp_path / "C.zarr", drawn, sections=sections)
    # Sections 0 and 1 are of one window, 2 and 3 of the next, which is brighter.
    images = [
        np.clip(d.image.astype(int) // 2 + 40 * (i // 2), 0, 255).astype(np.uint8)
        for i, d in enumerate(drawn)
    ]
    provenance: dict[str, Any] = {"checkpoint": {"network": {"gene_slices": 4, "patch": 64}}}
    write_generated(tmp_path / "G.zarr", images, sections=sections, provenance=provenance)
    real = open_store(str(tmp_path / "C.zarr"), "real", "real")
    run = open_store(str(tmp_path / "G.zarr"), "G", "generated")
    grids = grids_of((real, run), {"G": {"patch": 64, "z": 2}}, Grid())
    assert grids == {"real": Grid(64, 2), "G": Grid(64, 2)}
    found = {(one.store, one.stain): one for one in scores_of((real, run), grids) if one.across == "windows"}
    assert found["G", TOGETHER].index > 3 * found["real", TOGETHER].index
    assert found["G", TOGETHER].n == found["G", "DAPI"].n + found["G", "PolyT"].n
    # One section alone has no neighbour.
    part = [type(one)(one.label, one.role, one.brain.named(["s1", "s3"])) for one in (real, run)]
    assert all(one.across == "tiles" for one in scores_of(part, grids))


def test_grids_come_from_the_store_then_the_option_then_the_first_run(stores: Stores) -> None:
    roles = {"real": "real", "ours": "generated", "theirs": "generated", "shuffled": "control"}
    opened = [
        open_store(str(stores.real if role == "real" else stores.good), label, role)  # type: ignore[arg-type]
        for label, role in roles.items()
    ]
    made = {"ours": {"patch": 64, "z": 2}, "shuffled": {"patch": 32}}
    assert grids_of(opened, made, Grid()) == {
        "real": Grid(64, 2),
        "ours": Grid(64, 2),
        "theirs": Grid(64, 2),
        "shuffled": Grid(32, 2),
    }
    assert grids_of(opened, made, Grid(128, 1))["theirs"] == Grid(128, 1)
    assert grids_of(opened, {}, Grid()) == {}
    assert scores_of(opened, {}) == ()
