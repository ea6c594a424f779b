"""Held-out tiles, and validation on them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_data.store import Brain
from teramind_model.checkpoint import load_checkpoint
from teramind_model.config import resolve
from teramind_model.data.crops import CropSource, Geometry
from teramind_model.data.held_out import HeldOut
from teramind_model.data.keys import Purpose, generator
from teramind_model.train import validation
from teramind_model.train.atlases import open_atlases
from teramind_model.train.loop import train
from teramind_model.train.run_directory import RunDirectory
from tests.model.test_train import training
from tests.model.tiny import tiny_atlas

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_SAMPLES", 8)


GEOMETRY = Geometry(patch=32, gene_slices=4, image_slices=2, stains=2)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("validation") / "atlas.zarr", canvas=(512, 384))


def source(atlas: Brain, share: float) -> CropSource:
    return open_atlases([atlas.url], None, ("DAPI", "PolyT")).source(GEOMETRY, 3, 2**30, held_out=share)


def held_out_pixels(held: HeldOut, canvas: tuple[int, int]) -> np.ndarray:
    """The slow twin: a mask of the canvas."""
    mask = np.zeros(canvas, bool)
    for row in range(0, canvas[0], held.edge):
        for column in range(0, canvas[1], held.edge):
            if (row // held.edge, column // held.edge) in held.tiles[0]:
                mask[row : row + held.edge, column : column + held.edge] = True
    return mask


def test_training_never_sees_held_out_pixels_and_validation_nothing_else(atlas: Brain) -> None:
    crops = source(atlas, 0.3)
    mask = held_out_pixels(crops.held_out, atlas.canvas)
    assert 0 < mask.mean() < 1
    for number in range(200):
        box = crops.block_box(crops.place(generator(Purpose.SAMPLE, 3, 0, number)))
        assert not mask[box.slices].any()
    for number in range(20):
        place = crops.validation_place(generator(Purpose.VALIDATION, 3, number))
        assert mask[crops.block_box(place).slices].all()
        assert crops.read(place)[1].all()  # no padding


def test_at_least_one_tile_with_tissue_is_held_out(atlas: Brain) -> None:
    held = source(atlas, 0.001).held_out
    assert [len(tiles) for tiles in held.tiles] == [1]
    assert source(atlas, 0.0).held_out.tiles == (frozenset(),)


def test_touching_is_what_the_mask_says(atlas: Brain) -> None:
    held = source(atlas, 0.3).held_out
    mask = held_out_pixels(held, atlas.canvas)
    rng = np.random.default_rng(0)
    for _ in range(300):
        box = Box.from_shape((48, 48), (int(rng.integers(512 - 48)), int(rng.integers(384 - 48))))
        assert held.touches(0, box) == bool(mask[box.slices].any())
        inside = bool(mask[box.slices].all()) and box.y0 // 256 == (box.y1 - 1) // 256
        assert held.holds(0, box) == (inside and box.x0 // 256 == (box.x1 - 1) // 256)


def test_nothing_held_out_draws_what_it_always_drew(atlas: Brain) -> None:
    with_none, before = source(atlas, 0.0), source(atlas, 0.0)
    key = (Purpose.SAMPLE, 3, 0, 1)
    assert with_none.place(generator(*key)) == before._draw(generator(*key))


def test_all_held_out_leaves_nothing_to_train_on(atlas: Brain) -> None:
    with pytest.raises(InputError, match=r"no crop is outside the held-out tiles.*smaller --held-out"):
        source(atlas, 0.999).place(generator(Purpose.SAMPLE, 0))


def test_none_held_out_leaves_nothing_to_validate_on(atlas: Brain) -> None:
    with pytest.raises(InputError, match=r"no held-out tile has tissue.*larger --held-out"):
        validation.choose(source(atlas, 0.0))


def test_a_run_validates_and_its_checkpoint_tells(atlas: Brain, tmp_path: Path) -> None:
    job = training(atlas, steps=4, validate_every=2, held_out=0.3)
    job = type(job)(job.info, source(atlas, 0.3), job.options, job.data)
    train(job, RunDirectory(tmp_path / "run"), {"options": {"steps": 4}})
    with (tmp_path / "run" / "validation.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(int(r["step"]), int(r["t"])) for r in rows] == [(s, t) for s in (2, 4) for t in validation.TIMES]
    last = {r["t"]: float(r["patch"]) + float(r["collage"]) for r in rows if r["step"] == "4"}
    found = load_checkpoint(tmp_path / "run")
    scores = found.training["scores"]
    assert scores["step"] == 4
    assert scores["held_out_loss_at_t"] == pytest.approx(last)
    assert scores["held_out_loss"] == pytest.approx(np.mean(list(last.values())))
    assert f"{scores['held_out_loss']:.4g}" in (found.path / "README.md").read_text(encoding="utf-8")


def test_the_same_network_scores_the_same(atlas: Brain) -> None:
    job = training(atlas)
    network = job.method.build(job.info.network).eval()
    first, second = (validation.choose(source(atlas, 0.3)).losses(job.method, network) for _ in range(2))
    assert first == second


def test_rows_of_steps_that_were_lost_give_way(tmp_path: Path) -> None:
    file = tmp_path / "validation.csv"
    for step in (2, 4, 4):
        validation.append_scores(file, step, ("noise",), {10: {"noise": float(step)}})
    validation.append_scores(file, 3, ("noise",), {10: {"noise": 3.0}})
    assert file.read_text().split() == ["step,t,noise", "2,10,2.0", "3,10,3.0"]


def test_validation_without_held_out_tiles_is_refused() -> None:
    with pytest.raises(InputError, match="validate_every needs tiles that are held out"):
        resolve({}, {"atlas": ["A"], "preset": "phantom", "validate_every": 10})
