"""The seam index: against its definition pixel by pixel, and in pieces."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.store import open_brain
from teramind_model.experiments import seams
from teramind_model.experiments.seam_report import SeamConfig, write_seams
from teramind_model.experiments.seams import SeamSums, brain_seams, seam_sums
from tests.model.tiny import tiny_atlas

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def slow_sums(image: np.ndarray, tile: int, origin: tuple[int, int], counted: np.ndarray) -> SeamSums:
    border, n_border, other, n_other = 0.0, 0, 0.0, 0
    for y, x in np.ndindex(image.shape):
        for dy, dx in ((1, 0), (0, 1)):
            if y + dy >= image.shape[0] or x + dx >= image.shape[1]:
                continue
            if not (counted[y, x] and counted[y + dy, x + dx]):
                continue
            squared = (float(image[y + dy, x + dx]) - float(image[y, x])) ** 2
            place = (y + origin[0] + 1) if dy else (x + origin[1] + 1)
            if place % tile == 0:
                border, n_border = border + squared, n_border + 1
            else:
                other, n_other = other + squared, n_other + 1
    return SeamSums(border, n_border, other, n_other)


@pytest.mark.parametrize(
    ("shape", "tile", "origin"), [((17, 23), 5, (0, 0)), ((12, 9), 4, (3, 6)), ((8, 8), 16, (1, 0))]
)
def test_sums_equal_the_slow_ones(shape: tuple[int, int], tile: int, origin: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    for counted in (np.ones(shape, bool), rng.random(shape) < 0.7):
        assert astuple(seam_sums(image, tile, origin, counted)) == astuple(
            slow_sums(image, tile, origin, counted)
        )


def test_index_of_what_is_known() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (512, 512), dtype=np.uint8)
    index = seam_sums(noise, 32).index
    assert index == pytest.approx(1, abs=0.05)
    # A step of 40 at every border on top of noise that is 10 x quieter.
    steps = (np.arange(512) // 32 % 2 * 40)[:, None] + (np.arange(512) // 32 % 2 * 40)[None]
    tiled = (noise // 10 + steps).astype(np.uint8)
    assert (seam_sums(tiled, 32).index or 0) > 5
    assert seam_sums(tiled, 32, origin=(16, 16)).index == pytest.approx(1, abs=0.5)
    assert seam_sums(np.zeros((64, 64), np.uint8), 32).index is None


def test_a_brain_in_blocks_is_the_brain_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brain = tiny_atlas(tmp_path / "a.zarr", (64, 96), 2)
    whole = brain_seams(brain, brain, 32)
    monkeypatch.setattr(seams, "_BLOCK_PX", 16)
    assert {k: astuple(v) for k, v in brain_seams(brain, brain, 32).items()} == {
        k: astuple(v) for k, v in whole.items()
    }
    image = brain.read("morphology", 0)[0]
    tissue = np.repeat(np.repeat(brain.read("expression", 0).any(0), 16, 0), 16, 1)
    second = np.repeat(np.repeat(brain.read("expression", 1).any(0), 16, 0), 16, 1)
    by_hand = slow_sums(image, 32, (0, 0), tissue) + slow_sums(
        brain.read("morphology", 1)[0], 32, (0, 0), second
    )
    assert astuple(whole["DAPI"]) == astuple(by_hand)


def test_report_has_a_row_a_store_and_stain_and_a_picture(tmp_path: Path) -> None:
    real = tiny_atlas(tmp_path / "a.zarr")
    tiny_atlas(tmp_path / "b.zarr")
    rows = write_seams(SeamConfig(real.url, {"copy": str(tmp_path / "b.zarr")}, 32, tmp_path / "out"))
    assert [(r.store, r.stain) for r in rows] == [
        (s, c) for s in ("real", "copy") for c in ("DAPI", "PolyT", "all")
    ]
    assert rows[0].borders == rows[3].borders
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"seams.csv", "seams.md", "borders.png"}


def test_a_store_of_another_canvas_is_refused(tmp_path: Path) -> None:
    real = tiny_atlas(tmp_path / "a.zarr")
    other = tiny_atlas(tmp_path / "b.zarr", (64, 64))
    with pytest.raises(InputError, match="does not fit the atlas"):
        write_seams(SeamConfig(real.url, {"other": other.url}, 32, tmp_path / "out"))
    with pytest.raises(InputError, match="too small"):
        seam_sums(np.zeros((4, 4), np.uint8), 1)
    assert open_brain(other.url).canvas == (64, 64)
