"""Held-out tiles, and validation on them."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_data.store import Brain
from teramind_model.checkpoint import load_checkpoint
from teramind_model.config import resolve
from teramind_model.data.crops import Atlas, CropSource, Geometry
from teramind_model.data.held_out import HeldOut
from teramind_model.data.keys import Purpose, generator
from teramind_model.data.tissue import TissueIndex
from teramind_model.train import validation
from teramind_model.train.atlases import open_atlases
from teramind_model.train.log import Row, TrainLog
from teramind_model.train.loop import train
from teramind_model.train.run_directory import RunDirectory
from tests.model.test_train import training
from tests.model.tiny import tiny_atlas

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_SAMPLES", 4)


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


def whole_brain(patch: int, share: float) -> CropSource:
    """A large canvas, of whose tiles a few are held out, with tissue in one bin of fifty; nothing can be read."""
    masks = [np.random.default_rng(z).random((608, 512)) < 0.02 for z in range(3)]
    atlas = Atlas("large", 3, (9728, 8192), TissueIndex.from_masks(masks), reader=None)  # type: ignore[arg-type]
    geometry = Geometry(patch=patch, gene_slices=4, image_slices=2, stains=2)
    return CropSource([atlas], geometry, 3, held_out=share)


@pytest.mark.parametrize("patch", [32, 64, 128])
def test_a_few_held_out_tiles_of_a_large_canvas_are_found(patch: int) -> None:
    crops = whole_brain(patch, 0.004)
    tissue = crops.atlases[0].tissue
    (held,) = crops.held_out.tiles
    assert len(held) == 5
    bins = {tissue[number] for number in range(len(tissue))}
    edge = 192 if patch == 128 else 2 * patch  # every block of P = 128 hangs over its crop
    seen, offsets = set(), set()
    for number in range(300):
        place = crops.validation_place(generator(Purpose.VALIDATION, 3, number))
        box = crops.block_box(place)
        assert box.shape == (edge, edge)
        assert 0 <= place.y <= 9728 - crops.geometry.crop and 0 <= place.x <= 8192 - crops.geometry.crop
        around = box.cover(256).coarsen(256)
        assert around.area == 1 and (around.y0, around.x0) in held
        under = box.cover(16).coarsen(16)
        here = product(range(place.section, place.section + 2), *map(range, under.shape))
        assert bins & {(z, under.y0 + y, under.x0 + x) for z, y, x in here}
        seen.add((around.y0, around.x0))
        offsets.add((box.y0 % 16, box.x0 % 16))
    assert seen == set(held)
    assert len(offsets) > 50


def test_a_validation_that_a_signal_cut_off_is_made_up_for(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(training(atlas, steps=4, validate_every=2, held_out=0.3), source=source(atlas, 0.3))
    run, add = RunDirectory(tmp_path / "run"), TrainLog.add

    def add_and_signal(self: TrainLog, row: Row) -> None:
        add(self, row)
        if row.step in (2, 4):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainLog, "add", add_and_signal)
    stopped = train(job, run, {"options": {"steps": 4}})
    assert (stopped.step, stopped.signal) == (2, signal.SIGTERM)
    assert not (run.path / "validation.csv").exists()
    # What is signalled in the last step is finished.
    assert train(job, run, {"options": {"steps": 4}}).step == 4
    with (run.path / "validation.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [int(r["step"]) for r in rows] == [2] * len(validation.TIMES) + [4] * len(validation.TIMES)
    assert load_checkpoint(run.path).training["scores"]["step"] == 4


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
    job = replace(training(atlas, steps=4, validate_every=2, held_out=0.3), source=source(atlas, 0.3))
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
