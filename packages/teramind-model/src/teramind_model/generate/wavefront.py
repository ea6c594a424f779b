"""The skewed wavefront: a brain's tile rows flow through all denoising steps at once, each patch encoded once a step.

A tile row at step s + 1 needs the rows above, at and below it at step s. At wave w, step s handles tile row w - 2s:
what it needs was made in the wave before, so all steps of a wave are independent and share batches, each patch with its
own t. A row of patches is encoded once a step and its skips wait one wave for the row below; gene features are computed
once and live until the last step has passed. A few rows of each step are all that is held, however high the canvas.

A part of the canvas (a strip, a restart further down) computes at step s what the later steps will need of it: the part
grown by N - 1 - s tiles. Tiles that the source calls background are -1 at every step and cost nothing.

Batches keep one shape, idle places included: kernels round differently for other shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from teramind_data.geometry import Box
from teramind_model.diffusion.ddim import OUTSIDE
from teramind_model.diffusion.steps import History, Step
from teramind_model.generate.patches import (
    PatchRow,
    cut_patches,
    each_level,
    join_genes,
    join_patches,
    narrow_genes,
    own_patches,
    spread,
    taken,
)
from teramind_model.generate.runs import Runs, patches_under
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded, PatchUNet

__all__ = ["Calls", "RowSource", "Wavefront", "needed"]


class RowSource(Protocol):
    """Gives a unit what it reads. Rows and columns count in tiles from the canvas's corner; patch (p, c) is centred on
    the upper left corner of tile (p, c). Each row is asked for once, from above to below."""

    def counts(self, patch_row: int, columns: range) -> Tensor:
        """Raw counts ``(S, n, g, len(columns) * g)`` under a row of patches."""
        ...

    def noise(self, tile_row: int, columns: range) -> Tensor:
        """Start noise ``(k * Z, P, len(columns) * P)`` of a row of tiles."""
        ...

    def live(self, tile_row: int, columns: range) -> NDArray[np.bool_]:
        """Which tiles of a row are made; the others are background. May be asked in any order."""
        ...


@dataclass
class Calls:
    """What was asked of the network, in patches or tiles; ``idle`` places of batches are counted apart."""

    genes: int = 0
    encoded: int = 0
    decoded: int = 0
    idle: int = 0


def needed(target: Box, region: Box, later: int) -> Box:
    """Tiles to compute at a step that ``later`` steps follow, for ``target`` to be right in the end."""
    box = target.expand(later).intersect(region)
    assert box is not None  # the target lies in the region
    return box


@dataclass(frozen=True)
class _Place:
    """Some neighbouring tiles (or patches) of one step's row: columns from ``first`` on."""

    step: int
    first: int
    count: int


@dataclass
class _Step:
    """One denoising step: what it computes, its last encoded row of patches, and the rows of x it waits to use (but for
    those that are background all over), each with what the step before handed on beside it."""

    rule: Step
    tiles: Box
    x_columns: range
    above: PatchRow | None = None
    x: dict[int, Tensor] = field(default_factory=dict)
    history: dict[int, History] = field(default_factory=dict)

    @property
    def columns(self) -> range:
        """Of its tiles."""
        return range(self.tiles.x0, self.tiles.x1)


class Wavefront:
    """Denoises one unit: a target box of tiles of a region, in one window.

    Args:
        model: the network, in eval mode.
        source: counts and start noise.
        steps: from noise to image (``sampler_steps``).
        target: tiles to make, in tile units; ``region``: all tiles there are, -1 outside them.
        inside: canvas pixels ``(height, width)``; -1 beyond, where the region's last tiles stick out.
        batch: places of a batch.
    """

    def __init__(
        self,
        model: PatchUNet,
        source: RowSource,
        steps: Sequence[Step],
        target: Box,
        region: Box,
        inside: tuple[int, int],
        batch: int,
    ) -> None:
        self._model, self._source = model, source
        self._patch, self._batch = model.config.patch, batch
        self._target, self._region, self._inside = target, region, inside
        self._device = next(model.parameters()).device
        self._genes: dict[int, tuple[GeneFeatures, Runs]] = {}
        self.calls = Calls()
        last = len(steps) - 1
        self._steps = []
        for s, rule in enumerate(steps):
            tiles = needed(target, region, last - s)
            x = needed(target, region, last - s + 1)
            self._steps.append(_Step(rule, tiles, range(x.x0, x.x1)))
        start = needed(target, region, len(steps))
        self._noise_rows = range(start.y0, start.y1)

    @torch.inference_mode()
    def rows(self) -> Iterator[tuple[int, Tensor]]:
        """``(tile row, x_0 (k * Z, P, target width * P))`` of the target, from above to below, not clipped."""
        first = min(step.tiles.y0 + 2 * s for s, step in enumerate(self._steps)) - 1
        last = max(step.tiles.y1 + 2 * s for s, step in enumerate(self._steps))
        for wave in range(first, last):
            for row, x in self._wave(wave):
                if self._target.y0 <= row < self._target.y1:
                    yield row, x

    def _wave(self, wave: int) -> Iterator[tuple[int, Tensor]]:
        """All steps of a wave; what the last step finishes."""
        active = {
            s: wave - 2 * s
            for s, step in enumerate(self._steps)
            if step.tiles.y0 - 1 <= wave - 2 * s < step.tiles.y1
        }
        for s, row in active.items():
            if s == 0:
                self._begin(row)
        below = self._encode(active)
        tiles = {s: row for s, row in active.items() if row >= self._steps[s].tiles.y0}
        noise = self._decode(tiles, below)
        finished = [(row, self._advance(s, row, noise.get(s))) for s, row in tiles.items()]
        for s in active:
            self._steps[s].above = below.get(s)
        for patch_row in [p for p in self._genes if p < wave - 2 * (len(self._steps) - 1) + 1]:
            del self._genes[patch_row]
        for (row, made), s in zip(finished, tiles, strict=True):
            if s == len(self._steps) - 1:
                yield row, self._background(self._steps[s].columns) if made is None else made[0]
            elif made is not None:
                self._steps[s + 1].x[row], self._steps[s + 1].history[row] = made

    def _begin(self, row: int) -> None:
        """Read what the first step meets for the first time: noise of tile rows, genes of the patch row below."""
        step = self._steps[0]
        while self._noise_rows and self._noise_rows.start <= row + 1:
            tile_row, self._noise_rows = self._noise_rows.start, self._noise_rows[1:]
            if self._source.live(tile_row, step.x_columns).any():
                x = self._source.noise(tile_row, step.x_columns).to(self._device)
                step.x[tile_row] = self._bounded(x, tile_row, step.x_columns)
        if runs := self._patch_runs(0, row + 1):
            self._genes[row + 1] = (self._gene_features(row + 1, runs), runs)

    def _tile_runs(self, s: int, row: int) -> Runs:
        """Tiles that a step makes of a row."""
        return Runs.of(self._live(s, row), self._steps[s].tiles.x0)

    def _patch_runs(self, s: int, patch_row: int) -> Runs:
        """Patches that a step needs of a row: those under the tiles that it makes above and below."""
        flags = patches_under(self._live(s, patch_row - 1), self._live(s, patch_row))
        return Runs.of(flags, self._steps[s].tiles.x0)

    def _live(self, s: int, row: int) -> NDArray[np.bool_]:
        step = self._steps[s]
        if step.tiles.y0 <= row < step.tiles.y1:
            return self._source.live(row, step.columns)
        return np.zeros(len(step.columns), bool)

    def _gene_features(self, patch_row: int, runs: Runs) -> GeneFeatures:
        """Features of a patch row over the first step's columns, the widest; batches of one shape."""
        tiles = self._steps[0].tiles
        columns = range(tiles.x0, tiles.x1 + 1)
        counts = self._source.counts(patch_row, columns).to(self._device, torch.float32)
        patches = taken(counts.unflatten(-1, (len(columns), -1)).movedim(-2, 0), runs, columns)
        self.calls.genes += len(patches)
        parts = [self._model.gene_features(self._filled(part)) for part in patches.split(self._batch)]
        g_0, g_1, g_2, g_3 = (torch.cat([p[i] for p in parts])[: len(patches)] for i in range(4))
        return g_0, g_1, g_2, g_3

    def _filled(self, part: Tensor) -> Tensor:
        """``part`` with idle places to the batch's size."""
        self.calls.idle += self._batch - len(part)
        return self._filled_quietly(part)

    def _encode(self, active: dict[int, int]) -> dict[int, PatchRow]:
        """What each active step needs of the patch row below its tile row."""
        runs = {s: found for s, row in active.items() if (found := self._patch_runs(s, row + 1))}
        patches = {s: self._patches(s, active[s] + 1, columns) for s, columns in runs.items()}
        parts: dict[int, list[Encoded]] = {s: [] for s in runs}
        for places in self._batches(runs):
            starts = [runs[p.step].position(p.first) for p in places]
            x = torch.cat([patches[p.step][i : i + p.count] for p, i in zip(places, starts, strict=True)])
            genes = join_genes([self._genes_of(p.first, p.count, active[p.step] + 1) for p in places])
            self.calls.encoded += len(x)
            encoded = self._model.encode(
                self._filled(x), self._times(places), each_level(self._filled_quietly, genes)
            )
            done = 0
            for p in places:
                parts[p.step].append(cut_patches(encoded, done, done + p.count))
                done += p.count
        # Taken out one by one: all rows in parts and joined would be twice what the wave has to hold.
        return {s: PatchRow(own_patches(parts.pop(s)), columns) for s, columns in runs.items()}

    def _decode(self, tiles: dict[int, int], below: dict[int, PatchRow]) -> dict[int, Tensor]:
        """Noise ``(tiles, k * Z, P, P)`` of what each step makes of its tile row, from the patch rows above and below
        its middle."""
        runs = {s: found for s, row in tiles.items() if (found := self._tile_runs(s, row))}
        parts: dict[int, list[Tensor]] = {s: [] for s in runs}
        for places in self._batches(runs):
            cuts = [self._cut(p, tiles[p.step], below[p.step]) for p in places]
            encoded = join_patches([cut for cut, _ in cuts])
            genes = join_genes([g for _, g in cuts])
            count = len(encoded.middle)
            self.calls.decoded += count
            filled = Encoded(
                self._filled(encoded.middle), tuple(self._filled_quietly(skip) for skip in encoded.skips)
            )
            genes = each_level(self._filled_quietly, genes)
            del cuts, encoded  # copied, where several places or idle ones are in the batch
            eps = self._model.decode(filled, self._times(places), genes)
            done = 0
            for p in places:
                parts[p.step].append(eps[done : done + p.count])
                done += p.count
        return {s: torch.cat(pieces) for s, pieces in parts.items()}

    def _cut(self, place: _Place, row: int, below: PatchRow) -> tuple[Encoded, GeneFeatures]:
        """The collage patches of some tiles: what the decoder reads, cut from two rows of patches."""
        above = self._steps[place.step].above
        assert above is not None  # the wave before encoded it
        first, count = place.first, place.count + 1
        rows = above.cut(first, count), below.cut(first, count)
        genes = self._genes_of(first, count, row), self._genes_of(first, count, row + 1)
        return self._model.collage_between(rows, genes)

    def _genes_of(self, first: int, count: int, patch_row: int) -> GeneFeatures:
        """Gene features of some neighbouring patches."""
        genes, runs = self._genes[patch_row]
        return narrow_genes(genes, runs.position(first), count)

    def _patches(self, s: int, patch_row: int, runs: Runs) -> Tensor:
        """Noised patches ``(patches, k * Z, P, P)`` of a patch row: halves of the tile rows above and below, -1 where
        there are none."""
        step, half = self._steps[s], self._patch // 2
        shown = next(iter(step.x.values()))
        empty = torch.full_like(shown, OUTSIDE)
        upper, lower = step.x.get(patch_row - 1, empty), step.x.get(patch_row, empty)
        strip = torch.cat((upper[:, half:], lower[:, :half]), dim=1)
        left = (step.tiles.x0 - step.x_columns.start) * self._patch - half
        right = (step.x_columns.stop - step.tiles.x1) * self._patch - half
        # Negative padding cuts; a positive one is the outside of the region.
        strip = functional.pad(strip, (-left, -right), value=OUTSIDE)
        patches = strip.unflatten(-1, (-1, self._patch)).movedim(-2, 0)
        return taken(patches, runs, range(step.tiles.x0, step.tiles.x1 + 1))

    def _advance(self, s: int, row: int, eps: Tensor | None) -> tuple[Tensor, History] | None:
        """A tile row after step s, over the step's columns, and its history, None where it is all background; what was
        before the step is let go."""
        step = self._steps[s]
        before, history = step.x.get(row), step.history.get(row, ())
        for old in [r for r in step.x if r <= row]:
            del step.x[old]
            step.history.pop(old, None)
        if eps is None:
            return None
        assert before is not None  # a tile that is made has been there before
        left = (step.tiles.x0 - step.x_columns.start) * self._patch
        columns = slice(left, left + step.tiles.width * self._patch)
        eps = spread(eps, self._tile_runs(s, row), step.columns).movedim(0, -2).flatten(-2)
        x, handed = step.rule.advance(
            before[..., columns], eps, tuple(image[..., columns] for image in history)
        )
        return self._bounded(x, row, step.columns), handed

    def _background(self, columns: range) -> Tensor:
        channels = self._model.config.stains * self._model.config.image_slices
        return torch.full((channels, self._patch, len(columns) * self._patch), OUTSIDE, device=self._device)

    def _bounded(self, x: Tensor, row: int, columns: range) -> Tensor:
        """-1 where a row of tiles sticks out of the canvas, and where it is background."""
        live = self._source.live(row, columns)
        if not live.all():
            made = torch.from_numpy(live).to(x.device).repeat_interleave(self._patch)
            x = torch.where(made, x, OUTSIDE)
        height, width = self._inside
        rows = min(self._patch, height - row * self._patch)
        wide = min(len(columns) * self._patch, width - columns.start * self._patch)
        if (rows, wide) == tuple(x.shape[-2:]):
            return x
        padding = (0, x.shape[-1] - wide, 0, x.shape[-2] - rows)
        return functional.pad(x[..., :rows, :wide], padding, value=OUTSIDE)

    def _batches(self, runs: dict[int, Runs]) -> Iterator[list[_Place]]:
        """All places of all steps, in batches."""
        batch: list[_Place] = []
        room = self._batch
        for step, columns in ((step, columns) for step, ranges in runs.items() for columns in ranges):
            first = columns.start
            while first < columns.stop:
                count = min(room, columns.stop - first)
                batch.append(_Place(step, first, count))
                first, room = first + count, room - count
                if not room:
                    yield batch
                    batch, room = [], self._batch
        if batch:
            yield batch

    def _times(self, places: Sequence[_Place]) -> Tensor:
        times = [self._steps[p.step].rule.t for p in places for _ in range(p.count)]
        times += [0] * (self._batch - len(times))
        return torch.tensor(times, device=self._device)

    def _filled_quietly(self, part: Tensor) -> Tensor:
        """As :meth:`_filled`, for what belongs to places that are counted already."""
        missing = self._batch - len(part)
        return torch.cat((part, part.new_zeros((missing, *part.shape[1:])))) if missing else part
