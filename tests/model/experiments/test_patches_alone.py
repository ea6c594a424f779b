"""Patches without collage: the network's own patch path, each patch by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import Box, windows
from teramind_model.baselines import sinfusion
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.ddim import to_uint8
from teramind_model.diffusion.noise import start_noise
from teramind_model.experiments.patches_alone import METHOD, without_collage
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.run import generate
from teramind_model.methods.canvas import denoise_canvas
from tests.model.tiny import tiny_atlas, tiny_source

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_noise_is_that_of_the_patch_path() -> None:
    source = tiny_source()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((8, 4, 32, 32), generator=generator)
    counts = torch.poisson(torch.full((8, 4, 5, 2, 2), 2.0), generator=generator)
    t = torch.tensor([700, 30])
    with torch.inference_mode():
        patch, collage = source.model(x, t, counts)
        alone = METHOD.noise(source.model, x, t.repeat_interleave(4), counts)
    torch.testing.assert_close(alone, patch)
    assert alone.shape[1:] == collage.shape[1:]


def test_a_tile_depends_on_nothing_around_it() -> None:
    alone = without_collage(tiny_source())
    generator = torch.Generator().manual_seed(1)
    x_T = torch.randn((4, 64, 96), generator=generator)
    counts = torch.poisson(torch.full((4, 5, 4, 6), 2.0), generator=generator)

    def made(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return denoise_canvas(METHOD, alone.network, alone.model, c, x, 3)

    before = made(x_T, counts)
    x_T[:, 31, 31] += 1
    counts[..., 0, 0] += 5
    changed = (made(x_T, counts) - before).abs().amax(0) > 1e-5
    assert changed[:32, :32].any()
    assert not changed[32:].any()
    assert not changed[:, 32:].any()


def test_a_store_drawn_with_collage_does_not_pass_for_one_without(tmp_path: Path) -> None:
    tiny_atlas(tmp_path / "a.zarr", (64, 64), 2)
    source = tiny_source()
    config = GenerateConfig(str(tmp_path / "a.zarr"), "tiny", str(tmp_path / "g.zarr"), steps=1)
    generate(config, source, say=lambda line: None)
    with pytest.raises(OutputExistsError):
        generate(config, without_collage(source), say=lambda line: None)
    other = replace(config, out=str(tmp_path / "p.zarr"))
    brain = generate(other, without_collage(source), say=lambda line: None)
    assert brain.provenance["sampler"]["method"] == "tera-mind-patches"


def test_the_store_is_what_the_patch_path_draws(tmp_path: Path) -> None:
    """And not the collage, which the same network draws under its own method."""
    atlas = tiny_atlas(tmp_path / "a.zarr", (64, 64), 2)
    alone = without_collage(tiny_source())
    config = GenerateConfig(atlas.url, "tiny", str(tmp_path / "p.zarr"), steps=2)
    brain = generate(config, alone, say=lambda line: None)
    whole = Box.from_shape(atlas.canvas)
    window = next(iter(windows(2, 4, 2)))
    genes = MeasuredCounts(atlas, alone.gene_positions(atlas))
    counts = torch.from_numpy(genes.window_counts(window, whole).astype(np.float32))
    noise = torch.from_numpy(start_noise(0, window.image, range(2), whole)).flatten(0, 1)
    expected = to_uint8(denoise_canvas(METHOD, alone.network, alone.model, counts, noise, 2))
    made = np.stack([brain.read("morphology", z) for z in range(2)], axis=1)
    assert np.array_equal(made.reshape(4, 64, 64), expected.numpy())


def test_other_methods_are_refused() -> None:
    shape = sinfusion.METHOD.shape({"genes": 5, "patch": 32, "channels": 4, "time_width": 8})
    with pytest.raises(InputError, match="no patch path"):
        without_collage(replace(tiny_source(), method=sinfusion.METHOD, network=shape))
