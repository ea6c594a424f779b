"""The wavefront against the straightforward sampler: any strip, batch, order and restart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teramind_data.geometry import Box, windows
from teramind_data.store import Brain
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.ddim import ddim_steps
from teramind_model.generate.rows import StoreRows
from teramind_model.generate.source import Source
from teramind_model.generate.wavefront import Wavefront, needed
from tests.model.tiny import tiny_atlas, tiny_source

SEED = 5


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """7 x 6 tiles of 32 px, the last row and column sticking out."""
    return tiny_atlas(tmp_path_factory.mktemp("wavefront") / "atlas.zarr", canvas=(208, 176), sections=3)


@pytest.fixture(scope="module")
def source() -> Source:
    return tiny_source()


REGION = Box(0, 7, 0, 6)


def straightforward(atlas: Brain, source: Source, steps: int, tiles: Box = REGION) -> torch.Tensor:
    """x_0 of the second window over whole tiles, -1 outside the canvas."""
    from teramind_model.diffusion.ddim import sample_canvas
    from teramind_model.diffusion.noise import start_noise

    window = windows(atlas.n_sections, 4, 2)[1]
    box = tiles.refine(32)
    counts = MeasuredCounts(atlas, source.gene_positions(atlas)).window_counts(window, box.expand(16))
    noise = torch.from_numpy(start_noise(SEED, window.image, range(2), box)).flatten(0, 1)
    inside = (min(box.height, atlas.canvas[0] - box.y0), min(box.width, atlas.canvas[1] - box.x0))
    return sample_canvas(
        source.model, torch.from_numpy(counts.astype(np.float32)), noise, steps, inside=inside
    )


def wavefront(
    atlas: Brain, source: Source, steps: int, target: Box, batch: int, region: Box = REGION
) -> tuple[torch.Tensor, Wavefront, StoreRows]:
    window = windows(atlas.n_sections, 4, 2)[1]
    rows = StoreRows(MeasuredCounts(atlas, source.gene_positions(atlas)), window, source.network, SEED)
    unit = Wavefront(source.model, rows, ddim_steps(steps), target, region, atlas.canvas, batch)
    made = list(unit.rows())
    assert [row for row, _ in made] == list(range(target.y0, target.y1))
    return torch.cat([x for _, x in made], dim=-2), unit, rows


def part(whole: torch.Tensor, target: Box, region: Box = REGION) -> torch.Tensor:
    return whole[(..., *target.shift(-region.y0, -region.x0).refine(32).slices)]


@pytest.fixture(scope="module")
def whole(atlas: Brain, source: Source) -> dict[int, torch.Tensor]:
    return {steps: straightforward(atlas, source, steps) for steps in (1, 2, 4)}


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_whole_canvas(atlas: Brain, source: Source, whole: dict[int, torch.Tensor], steps: int) -> None:
    made, unit, rows = wavefront(atlas, source, steps, REGION, 5)
    torch.testing.assert_close(made, whole[steps], atol=1e-4, rtol=0)
    # Everything once: 8 x 7 patches for the genes, and for each step; 7 x 6 tiles a step.
    assert (unit.calls.genes, unit.calls.encoded, unit.calls.decoded) == (56, 56 * steps, 42 * steps)
    # Bands of 256 px around the canvas and half a patch on each side: each bin once.
    assert rows.bins_read == 2 * 16 * 7 * 2


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_and_batch(
    atlas: Brain, source: Source, whole: dict[int, torch.Tensor], data: st.DataObject
) -> None:
    steps = data.draw(st.sampled_from([1, 2, 4]))
    y = sorted(data.draw(st.sets(st.integers(0, 7), min_size=2, max_size=2)))
    x = sorted(data.draw(st.sets(st.integers(0, 6), min_size=2, max_size=2)))
    target = Box(y[0], y[1], x[0], x[1])
    made, unit, _ = wavefront(atlas, source, steps, target, data.draw(st.integers(1, 20)))
    torch.testing.assert_close(made, part(whole[steps], target), atol=1e-4, rtol=0)
    assert unit.calls.decoded == sum(needed(target, REGION, later).area for later in range(steps))


def test_a_region_by_itself_has_nothing_around_it(atlas: Brain, source: Source) -> None:
    region = Box(1, 4, 2, 6)
    made, _, _ = wavefront(atlas, source, 2, region, 4, region)
    torch.testing.assert_close(made, straightforward(atlas, source, 2, region), atol=1e-4, rtol=0)


def test_with_one_plan_restarts_and_strips_are_the_same_bits(atlas: Brain, source: Source) -> None:
    """Batches of one shape: where a unit begins, ends or is cut changes no bit."""
    whole, _, _ = wavefront(atlas, source, 3, REGION, 4)
    for target in (Box(3, 7, 0, 6), Box(0, 7, 2, 4), Box(5, 6, 0, 1)):
        made, _, _ = wavefront(atlas, source, 3, target, 4)
        assert torch.equal(made, part(whole, target))


def test_what_is_held_does_not_grow_with_the_height(atlas: Brain, source: Source, tmp_path: Path) -> None:
    tall = tiny_atlas(tmp_path / "tall.zarr", canvas=(32 * 40, 96), sections=3)
    window = windows(3, 4, 2)[0]
    most = []
    for height in (20, 40):
        rows = StoreRows(MeasuredCounts(tall, source.gene_positions(tall)), window, source.network, SEED)
        region = Box(0, height, 0, 3)
        unit = Wavefront(source.model, rows, ddim_steps(2), region, region, tall.canvas, 6)
        held = [
            (len(unit._genes), *(len(step.x) for step in unit._steps), len(rows._bands)) for _ in unit.rows()
        ]
        most.append(tuple(max(column) for column in zip(*held, strict=True)))
    assert most[0] == most[1]
    assert max(most[0]) <= 4
