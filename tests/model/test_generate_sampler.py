"""Generation by DPM-Solver++(2M): the store, what it says of itself, its memory, its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import Box, windows
from teramind_data.store import Brain
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.ddim import sample_canvas, to_uint8
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.steps import dpm_steps
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.budget import Work, unit_memory
from teramind_model.generate.config import Engine, SamplerName
from tests.model.tiny import tiny_atlas, tiny_source

STEPS = 3
CANVAS = (64, 96)
SOURCE = tiny_source()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", CANVAS, 2)


def config(
    atlas: Brain, out: Path, sampler: SamplerName = "dpmpp-2m", run: RunOptions | None = None
) -> GenerateConfig:
    return GenerateConfig(
        atlas.url, "tiny", str(out), steps=STEPS, sampler=sampler, run=run or RunOptions(batch=5)
    )


def made(atlas: Brain, out: Path, **options: object) -> Brain:
    return generate(config(atlas, out, **options), SOURCE, say=lambda line: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["wavefront", "straightforward"])
def test_store_equals_the_sampler_by_hand(atlas: Brain, tmp_path: Path, engine: Engine) -> None:
    found = made(atlas, tmp_path / "g.zarr", run=RunOptions(engine=engine)).morphology[:]
    window, box = windows(2, 4, 2)[0], Box.from_shape(CANVAS)
    counts = MeasuredCounts(atlas, SOURCE.gene_positions(atlas)).window_counts(window, box.expand(16))
    noise = torch.from_numpy(start_noise(0, window.image, range(2), box)).flatten(0, 1)
    floats = torch.from_numpy(counts.astype(np.float32))
    x = sample_canvas(SOURCE.model, floats, noise, dpm_steps(STEPS))  # type: ignore[arg-type]
    expected = to_uint8(x).unflatten(0, (2, 2)).numpy()
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= (1 if engine == "wavefront" else 0)
    assert np.mean(apart > 0) < 1e-3
    ddim = to_uint8(sample_canvas(SOURCE.model, floats, noise, STEPS)).unflatten(0, (2, 2)).numpy()  # type: ignore[arg-type]
    assert np.mean(ddim != expected) > 0.1


def test_the_store_says_which_sampler_and_no_other_goes_on_with_it(atlas: Brain, tmp_path: Path) -> None:
    told = made(atlas, tmp_path / "g.zarr").provenance
    assert told["request"]["sampler"] == "dpmpp-2m"
    assert told["sampler"]["name"] == "dpmpp-2m"
    assert told["sampler"]["timesteps"] == [step.t for step in dpm_steps(STEPS)]
    with pytest.raises(OutputExistsError, match="another sampler"):
        made(atlas, tmp_path / "g.zarr", sampler="ddim")


def test_unknown_sampler_is_one_line_and_leaves_nothing(atlas: Brain, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"unknown sampler .expected ddim or dpmpp-2m, found dpmpp-3m"
    ) as error:
        made(atlas, tmp_path / "g.zarr", sampler="dpmpp-3m")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "g.zarr").exists()


@pytest.mark.parametrize("engine", ["wavefront", "straightforward"])
def test_the_budget_knows_what_travels_beside_x(atlas: Brain, tmp_path: Path, engine: Engine) -> None:
    """Memory that just does for DDIM is too little: the clean images of the step before come on top."""
    network = SOURCE.model.config
    work = Work(network, network.genes, network.gene_slices, STEPS, 5)  # type: ignore[arg-type]
    needed = unit_memory(work, 2, 3, 64)
    if engine == "straightforward":
        from teramind_model.generate.budget import window_memory

        needed = window_memory(SOURCE.network, (2, 3)).total
    run = RunOptions(batch=5, engine=engine, memory=needed)
    made(atlas, tmp_path / "fits.zarr", sampler="ddim", run=run)
    with pytest.raises(InputError, match="does not fit the memory budget"):
        made(atlas, tmp_path / "more.zarr", run=run)
