"""The wavefront against the straightforward sampler: any strip, batch, order, sampler and restart, at every step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teramind_data.geometry import Box, windows
from teramind_data.store import Brain
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.steps import History, Step, ddim_steps, sampler_steps
from teramind_model.generate.rows import StoreRows
from teramind_model.generate.source import Source
from teramind_model.generate.wavefront import Wavefront, needed
from tests.model.tiny import tiny_atlas, tiny_source

SEED = 5


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """5 x 4 tiles of 32 px, the last row and column sticking out."""
    return tiny_atlas(tmp_path_factory.mktemp("wavefront") / "atlas.zarr", canvas=(144, 112), sections=3)


@pytest.fixture(scope="module")
def source() -> Source:
    return tiny_source()


REGION = Box(0, 5, 0, 4)


def straightforward(
    atlas: Brain, source: Source, steps: Sequence[Step], tiles: Box = REGION
) -> dict[int, torch.Tensor]:
    """x of the second window after each step (from 1) over whole tiles, -1 outside the canvas."""
    from teramind_model.diffusion.ddim import sample_canvas
    from teramind_model.diffusion.noise import start_noise

    window = windows(atlas.n_sections, 4, 2)[1]
    box = tiles.refine(32)
    counts = MeasuredCounts(atlas, source.gene_positions(atlas)).window_counts(window, box.expand(16))
    noise = torch.from_numpy(start_noise(SEED, window.image, range(2), box)).flatten(0, 1)
    inside = (min(box.height, atlas.canvas[0] - box.y0), min(box.width, atlas.canvas[1] - box.x0))
    seen: dict[int, torch.Tensor] = {}
    floats = torch.from_numpy(counts.astype(np.float32))
    sample_canvas(source.model, floats, noise, steps, inside=inside, on_step=seen.__setitem__)
    return seen


class Watched(Wavefront):
    """Keeps every row of every step."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[tuple[int, Box, torch.Tensor]] = []

    def _advance(self, s: int, row: int, eps: torch.Tensor) -> tuple[torch.Tensor, History]:
        x, history = super()._advance(s, row, eps)
        columns = self._steps[s].tiles
        self.seen.append((s + 1, Box(row, row + 1, columns.x0, columns.x1), x))
        return x, history


def unit_of(
    atlas: Brain, source: Source, steps: Sequence[Step], target: Box, batch: int, region: Box = REGION
) -> tuple[Watched, StoreRows]:
    window = windows(atlas.n_sections, 4, 2)[1]
    rows = StoreRows(MeasuredCounts(atlas, source.gene_positions(atlas)), window, source.network, SEED)
    return Watched(source.model, rows, steps, target, region, atlas.canvas, batch), rows


def wavefront(
    atlas: Brain, source: Source, steps: int, target: Box, batch: int, region: Box = REGION
) -> tuple[torch.Tensor, Wavefront, StoreRows]:
    unit, rows = unit_of(atlas, source, ddim_steps(steps), target, batch, region)
    made = list(unit.rows())
    assert [row for row, _ in made] == list(range(target.y0, target.y1))
    return torch.cat([x for _, x in made], dim=-2), unit, rows


def part(whole: torch.Tensor, target: Box, region: Box = REGION) -> torch.Tensor:
    return whole[(..., *target.shift(-region.y0, -region.x0).refine(32).slices)]


Whole = dict[tuple[str, int], dict[int, torch.Tensor]]
"""x after each step, by sampler and number of steps."""


@pytest.fixture(scope="module")
def whole(atlas: Brain, source: Source) -> Whole:
    return {
        (sampler, steps): straightforward(atlas, source, sampler_steps(sampler, steps))
        for sampler in ("ddim", "dpmpp-2m")
        for steps in (1, 3)
    }


@pytest.mark.parametrize("steps", [1, 3])
def test_the_whole_canvas(atlas: Brain, source: Source, whole: Whole, steps: int) -> None:
    made, unit, rows = wavefront(atlas, source, steps, REGION, 5)
    torch.testing.assert_close(made, whole["ddim", steps][steps], atol=1e-4, rtol=0)
    # Everything once: 6 x 5 patches for the genes, and for each step; 5 x 4 tiles a step.
    assert (unit.calls.genes, unit.calls.encoded, unit.calls.decoded) == (30, 30 * steps, 20 * steps)
    # Bands of 256 px around the canvas and half a patch on each side: each bin once.
    assert rows.bins_read == 2 * 16 * 5 * 2


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_strips_batch_order_and_sampler_at_every_step(
    atlas: Brain, source: Source, whole: Whole, data: st.DataObject
) -> None:
    """Strips side by side, the next row always of one drawn at random."""
    sampler, number = data.draw(st.sampled_from(sorted(whole)))
    steps, expected = sampler_steps(sampler, number), whole[sampler, number]
    y = sorted(data.draw(st.sets(st.integers(0, 5), min_size=2, max_size=2)))
    x = sorted(data.draw(st.sets(st.integers(0, 4), min_size=2, max_size=2)))
    width, batch = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 20))
    # Nothing is drawn while units run: what Hypothesis replays must not hang on what they do.
    order = random.Random(data.draw(st.integers(0, 1 << 32)))
    target = Box(y[0], y[1], x[0], x[1])
    strips = [Box(*y, left, min(left + width, x[1])) for left in range(*x, width)]
    units = [unit_of(atlas, source, steps, strip, batch)[0] for strip in strips]
    running = {index: unit.rows() for index, unit in enumerate(units)}
    made = torch.full_like(expected[number], torch.nan)
    while running:
        index = order.choice(sorted(running))
        finished = next(running[index], None)
        if finished is None:
            del running[index]
            continue
        row, image = finished
        made[(..., *Box(row, row + 1, strips[index].x0, strips[index].x1).refine(32).slices)] = image
    torch.testing.assert_close(part(made, target), part(expected[number], target), atol=1e-4, rtol=0)
    for strip, unit in zip(strips, units, strict=True):
        assert unit.calls.decoded == sum(needed(strip, REGION, later).area for later in range(number))
        assert sum(box.area for _, box, _ in unit.seen) == unit.calls.decoded
        for done, box, image in unit.seen:
            torch.testing.assert_close(image, part(expected[done], box), atol=1e-4, rtol=0)


def test_few_steps_of_the_samplers_differ(whole: Whole) -> None:
    """Or their comparisons would say nothing."""
    assert (whole["ddim", 3][3] - whole["dpmpp-2m", 3][3]).abs().max() > 0.1


def test_a_region_by_itself_has_nothing_around_it(atlas: Brain, source: Source) -> None:
    region = Box(1, 4, 1, 4)
    made, _, _ = wavefront(atlas, source, 2, region, 4, region)
    expected = straightforward(atlas, source, ddim_steps(2), region)[2]
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
def test_with_one_plan_restarts_and_strips_are_the_same_bits(
    atlas: Brain, source: Source, sampler: str
) -> None:
    """Batches of one shape: where a unit begins, ends or is cut changes no bit."""

    def made(target: Box) -> torch.Tensor:
        unit, _ = unit_of(atlas, source, sampler_steps(sampler, 3), target, 4)
        return torch.cat([x for _, x in unit.rows()], dim=-2)

    whole = made(REGION)
    for target in (Box(2, 5, 2, 4), Box(3, 4, 0, 1)):
        assert torch.equal(made(target), part(whole, target))


def test_what_is_held_does_not_grow_with_the_height(atlas: Brain, source: Source, tmp_path: Path) -> None:
    tall = tiny_atlas(tmp_path / "tall.zarr", canvas=(32 * 18, 64), sections=3)
    window = windows(3, 4, 2)[0]
    most = []
    for height in (9, 18):  # the lower has two bands of counts already
        rows = StoreRows(MeasuredCounts(tall, source.gene_positions(tall)), window, source.network, SEED)
        region = Box(0, height, 0, 2)
        steps = sampler_steps("dpmpp-2m", 2)
        unit = Wavefront(source.model, rows, steps, region, region, tall.canvas, 6)
        held = [
            (
                len(unit._genes),
                *(len(step.x) for step in unit._steps),
                *(len(step.history) for step in unit._steps),
                len(rows._bands),
            )
            for _ in unit.rows()
        ]
        most.append(tuple(max(column) for column in zip(*held, strict=True)))
    assert most[0] == most[1]
    assert max(most[0]) <= 4
