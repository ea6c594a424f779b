"""The skewed wavefront: a brain's tile rows flow through all denoising steps at once, each patch encoded once a step.

A tile row at step s + 1 needs the rows above, at and below it at step s. At wave w, step s handles tile row w - 2s:
what it needs was made in the wave before, so all steps of a wave are independent and share batches, each patch with its
own t. A row of patches is encoded once a step and its skips wait one wave for the row below; gene features are computed
once and live until the last step has passed. A few rows of each step are all that is held, however high the canvas.

A part of the canvas (a strip, a restart further down) computes at step s what the later steps will need of it: the part
grown by N - 1 - s tiles. Batches keep one shape, idle places included: kernels round differently for other shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from teramind_data.geometry import Box
from teramind_model.diffusion.ddim import OUTSIDE
from teramind_model.diffusion.steps import History, Step
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
    """Some neighbouring tiles (or patches) of one step's row."""

    step: int
    first: int
    count: int


@dataclass
class _Step:
    """One denoising step: what it computes, its last encoded row of patches, and the rows of x it waits to use, each
    with what the step before handed on beside it."""

    rule: Step
    tiles: Box
    x_columns: range
    above: Encoded | None = None
    x: dict[int, Tensor] = field(default_factory=dict)
    history: dict[int, History] = field(default_factory=dict)


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
        self._genes: dict[int, GeneFeatures] = {}
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
        finished = [(row, self._advance(s, row, noise[s])) for s, row in tiles.items()]
        for s in active:
            self._steps[s].above = below[s]
        for patch_row in [p for p in self._genes if p < wave - 2 * (len(self._steps) - 1) + 1]:
            del self._genes[patch_row]
        for (row, (x, history)), s in zip(finished, tiles, strict=True):
            if s < len(self._steps) - 1:
                self._steps[s + 1].x[row] = x
                self._steps[s + 1].history[row] = history
            else:
                yield row, x

    def _begin(self, row: int) -> None:
        """Read what the first step meets for the first time: noise of tile rows, genes of the patch row below."""
        step = self._steps[0]
        while self._noise_rows and self._noise_rows.start <= row + 1:
            tile_row, self._noise_rows = self._noise_rows.start, self._noise_rows[1:]
            x = self._source.noise(tile_row, step.x_columns).to(self._device)
            step.x[tile_row] = self._bounded(x, tile_row, step.x_columns)
        self._genes[row + 1] = self._gene_features(row + 1)

    def _gene_features(self, patch_row: int) -> GeneFeatures:
        """Features of a patch row over the first step's columns, the widest; batches of one shape."""
        tiles = self._steps[0].tiles
        columns = range(tiles.x0, tiles.x1 + 1)
        counts = self._source.counts(patch_row, columns).to(self._device, torch.float32)
        patches = counts.unflatten(-1, (len(columns), -1)).movedim(-2, 0)
        self.calls.genes += len(patches)
        parts = [self._model.gene_features(self._filled(part)) for part in patches.split(self._batch)]
        g_0, g_1, g_2, g_3 = (torch.cat([p[i] for p in parts])[: len(patches)] for i in range(4))
        return g_0, g_1, g_2, g_3

    def _filled(self, part: Tensor) -> Tensor:
        """``part`` with idle places to the batch's size."""
        self.calls.idle += self._batch - len(part)
        return self._filled_quietly(part)

    def _encode(self, active: dict[int, int]) -> dict[int, Encoded]:
        """The patch row below each active step's tile row."""
        patches = {s: self._patches(s, row + 1) for s, row in active.items()}
        parts: dict[int, list[Encoded]] = {s: [] for s in active}
        for places in self._batches({s: len(p) for s, p in patches.items()}):
            x = torch.cat([patches[p.step][p.first : p.first + p.count] for p in places])
            genes = self._genes_of([(p, active[p.step] + 1) for p in places])
            self.calls.encoded += len(x)
            encoded = self._model.encode(
                self._filled(x), self._times(places), _map(self._filled_quietly, genes)
            )
            done = 0
            for p in places:
                parts[p.step].append(_slice(encoded, done, done + p.count))
                done += p.count
        return {s: _join(pieces) for s, pieces in parts.items()}

    def _decode(self, tiles: dict[int, int], below: dict[int, Encoded]) -> dict[int, Tensor]:
        """Noise ``(tiles, k * Z, P, P)`` of each step's tile row, from the patch rows above and below its middle."""
        parts: dict[int, list[Tensor]] = {s: [] for s in tiles}
        for places in self._batches({s: self._steps[s].tiles.width for s in tiles}):
            cuts = [self._cut(p, tiles[p.step], below[p.step]) for p in places]
            encoded = _join([cut for cut, _ in cuts])
            genes = _join_genes([g for _, g in cuts])
            count = len(encoded.middle)
            self.calls.decoded += count
            filled = Encoded(
                self._filled(encoded.middle), tuple(self._filled_quietly(skip) for skip in encoded.skips)
            )
            eps = self._model.decode(filled, self._times(places), _map(self._filled_quietly, genes))
            done = 0
            for p in places:
                parts[p.step].append(eps[done : done + p.count])
                done += p.count
        return {s: torch.cat(pieces) for s, pieces in parts.items()}

    def _cut(self, place: _Place, row: int, below: Encoded) -> tuple[Encoded, GeneFeatures]:
        """The collage patches of some tiles: what the decoder reads, cut from two rows of patches."""
        step = self._steps[place.step]
        above = step.above
        assert above is not None  # the wave before encoded it
        first, last = place.first, place.first + place.count + 1
        upper, lower = _slice(above, first, last), _slice(below, first, last)
        columns = [_Place(place.step, first, place.count + 1)]
        genes = [self._genes_of([(p, patch_row) for p in columns]) for patch_row in (row, row + 1)]
        return self._model.collage(_join([upper, lower]), _join_genes(genes), 2, place.count + 1)

    def _genes_of(self, places: Sequence[tuple[_Place, int]]) -> GeneFeatures:
        """Gene features of places, each of a patch row."""
        widest = self._steps[0].tiles.x0
        slices = []
        for place, patch_row in places:
            start = self._steps[place.step].tiles.x0 - widest + place.first
            slices.append(_narrow(self._genes[patch_row], start, place.count))
        return _join_genes(slices)

    def _patches(self, s: int, patch_row: int) -> Tensor:
        """Noised patches ``(columns, k * Z, P, P)`` of a patch row: halves of the tile rows above and below, -1 where
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
        return strip.unflatten(-1, (-1, self._patch)).movedim(-2, 0)

    def _advance(self, s: int, row: int, eps: Tensor) -> tuple[Tensor, History]:
        """A tile row after step s, over the step's columns, and its history; what was before the step is let go."""
        step = self._steps[s]
        left = (step.tiles.x0 - step.x_columns.start) * self._patch
        columns = slice(left, left + step.tiles.width * self._patch)
        history = tuple(image[..., columns] for image in step.history.get(row, ()))
        x, handed = step.rule.advance(step.x[row][..., columns], eps.movedim(0, -2).flatten(-2), history)
        for old in [r for r in step.x if r <= row]:
            del step.x[old]
            step.history.pop(old, None)
        return self._bounded(x, row, range(step.tiles.x0, step.tiles.x1)), handed

    def _bounded(self, x: Tensor, row: int, columns: range) -> Tensor:
        """-1 where a row of tiles sticks out of the canvas."""
        height, width = self._inside
        rows = min(self._patch, height - row * self._patch)
        wide = min(len(columns) * self._patch, width - columns.start * self._patch)
        if (rows, wide) == tuple(x.shape[-2:]):
            return x
        padding = (0, x.shape[-1] - wide, 0, x.shape[-2] - rows)
        return functional.pad(x[..., :rows, :wide], padding, value=OUTSIDE)

    def _batches(self, lengths: dict[int, int]) -> Iterator[list[_Place]]:
        """All places of all steps, in batches."""
        batch: list[_Place] = []
        room = self._batch
        for step, length in lengths.items():
            first = 0
            while first < length:
                count = min(room, length - first)
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


def _map(function: Callable[[Tensor], Tensor], genes: GeneFeatures) -> GeneFeatures:
    g_0, g_1, g_2, g_3 = (function(g) for g in genes)
    return g_0, g_1, g_2, g_3


def _narrow(genes: GeneFeatures, first: int, count: int) -> GeneFeatures:
    return _map(lambda g: g[first : first + count], genes)


def _slice(encoded: Encoded, first: int, last: int) -> Encoded:
    return Encoded(encoded.middle[first:last], tuple(skip[first:last] for skip in encoded.skips))


def _join(pieces: Sequence[Encoded]) -> Encoded:
    if len(pieces) == 1:
        return pieces[0]
    skips = zip(*(piece.skips for piece in pieces), strict=True)
    return Encoded(torch.cat([p.middle for p in pieces]), tuple(torch.cat(group) for group in skips))


def _join_genes(pieces: Sequence[GeneFeatures]) -> GeneFeatures:
    if len(pieces) == 1:
        return pieces[0]
    g_0, g_1, g_2, g_3 = (torch.cat(group) for group in zip(*pieces, strict=True))
    return g_0, g_1, g_2, g_3
