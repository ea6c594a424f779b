"""The published way to generate, as a baseline: tile by tile, step by step, through files.

Each 256-px tile (4 x 4 patches) is padded by half a patch and cut into 25 patches; gene features, encoder and middle of
all 25, both decoders (25 patches in place, whose output nothing reads, and 16 of the collage), then one DDIM step. The
tile is written as 16-bit float, and read again at the next step with its eight neighbours. Written anew from that
description, on our network: same weights, precision and kernels, any number of tiles a batch.

It is kinder to the baseline than the published code: what depends on genes alone is not repeated for equal pixels
within the attention, files are neither synced nor compressed, and a small canvas is re-read from the page cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from teramind_data.geometry import BIN_PX
from teramind_model.diffusion.ddim import OUTSIDE
from teramind_model.diffusion.steps import DDIMStep
from teramind_model.network.unet import PatchUNet
from tests.benchmarks.generation_clock import Span, stopwatch

__all__ = ["PATCHES", "PublishedLoop", "TileFiles"]

PATCHES = 4
"""Patches along the edge of a tile: 256 px at P = 64."""

Place = tuple[int, int]


@dataclass
class TileFiles:
    """Tiles of a canvas between two steps, one file each; without a folder, held in memory.

    dtype: what a tile is stored as. spent: time of reading and writing, copies from and to the device included.
    """

    folder: Path | None
    grid: tuple[int, int]
    dtype: torch.dtype = torch.float16
    spent: Span = field(default_factory=Span)
    _held: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    def write(self, step: int, place: Place, tile: Tensor) -> None:
        """Store ``(k * Z, E, E)``."""
        values = tile.to(self.dtype).cpu()
        if self.folder is None:
            self._held[(step, *place)] = values
        else:
            np.save(self._file(step, place), values.numpy())

    def read(self, step: int, place: Place, halo: int) -> Tensor:
        """A tile and ``halo`` pixels around it, from nine whole tiles; -1 where there is none."""
        around = [self._tile(step, (place[0] + y, place[1] + x)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        middle = around[4]
        assert middle is not None  # every tile of the grid is written at every step
        empty, edge = torch.full_like(middle, OUTSIDE), middle.shape[-1]
        tiles = [empty if tile is None else tile for tile in around]
        whole = torch.cat([torch.cat(tiles[i : i + 3], dim=-1) for i in (0, 3, 6)], dim=-2)
        inner = slice(edge - halo, 2 * edge + halo)
        return whole[:, inner, inner]

    def forget(self, step: int) -> None:
        """Remove what a step left."""
        if self.folder is None:
            self._held = {key: tile for key, tile in self._held.items() if key[0] != step}
            return
        for place in product(range(self.grid[0]), range(self.grid[1])):
            self._file(step, place).unlink()

    def _tile(self, step: int, place: Place) -> Tensor | None:
        if not (0 <= place[0] < self.grid[0] and 0 <= place[1] < self.grid[1]):
            return None
        if self.folder is None:
            return self._held[(step, *place)]
        return torch.from_numpy(np.load(self._file(step, place)))

    def _file(self, step: int, place: Place) -> Path:
        assert self.folder is not None
        return self.folder / f"{step:02d}_{place[0]:04d}_{place[1]:04d}.npy"


class PublishedLoop:
    """Denoises a canvas as the published code does.

    Args:
        model: the network, in eval mode.
        counts: raw counts ``(S, n, H/16 + g, W/16 + g)`` over the canvas and half a patch around it.
        steps: from noise to image.
        batch: tiles of 4 x 4 patches a batch.
    """

    def __init__(self, model: PatchUNet, counts: Tensor, steps: Sequence[DDIMStep], batch: int) -> None:
        self._model, self._counts, self._steps, self._batch = model, counts, steps, batch
        self._device = next(model.parameters()).device
        self._patch = model.config.patch
        self._edge = PATCHES * self._patch

    def begin(self, files: TileFiles, x_T: Tensor) -> None:
        """Store the start noise ``(k * Z, H, W)``: H and W are whole tiles."""
        for place in self._places(files):
            files.write(0, place, x_T[(..., *self._where(place))])

    @torch.inference_mode()
    def run(self, files: TileFiles) -> Tensor:
        """All steps, from stored noise to ``x_0 (k * Z, H, W)``, not clipped, as it was stored."""
        for done, step in enumerate(self._steps):
            places = list(self._places(files))
            for first in range(0, len(places), self._batch):
                self._tiles(files, done, step, places[first : first + self._batch])
            files.forget(done)
        return self._gathered(files)

    def _tiles(self, files: TileFiles, done: int, step: DDIMStep, places: Sequence[Place]) -> None:
        half = self._patch // 2
        with stopwatch(files.spent, self._device):
            padded = torch.stack([files.read(done, place, half) for place in places])
            padded = padded.to(self._device, torch.float32)
        eps = self._noise(padded, step.t, torch.stack([self._counts_of(place) for place in places]))
        after = step.apply(padded[..., half:-half, half:-half], eps)
        with stopwatch(files.spent, self._device):
            for place, tile in zip(places, after, strict=True):
                files.write(done + 1, place, tile)

    def _noise(self, padded: Tensor, t: int, counts: Tensor) -> Tensor:
        """Noise ``(b, k * Z, E, E)`` of tiles from ``(b, k * Z, E + P, E + P)``."""
        model, across = self._model, PATCHES + 1
        patches, genes_under = _cut(padded, across), _cut(counts, across)
        times = torch.full((len(patches),), t, device=self._device)
        genes = model.gene_features(genes_under)
        encoded = model.encode(patches, times, genes)
        model.decode(encoded, times, genes)  # the patch path, made and not used
        cut, cut_genes = model.collage(encoded, genes, across, across)
        eps = model.decode(cut, times[: len(cut.middle)], cut_genes)
        grid = eps.unflatten(0, (len(padded), PATCHES, PATCHES))
        return grid.movedim((1, 2), (2, 4)).flatten(4, 5).flatten(2, 3)

    def _counts_of(self, place: Place) -> Tensor:
        """Counts under a tile and half a patch around it; the array begins half a patch before the canvas."""
        size, reach = self._edge // BIN_PX, (self._edge + self._patch) // BIN_PX
        y, x = (index * size for index in place)
        return self._counts[..., y : y + reach, x : x + reach]

    def _where(self, place: Place) -> tuple[slice, slice]:
        y, x = (slice(index * self._edge, (index + 1) * self._edge) for index in place)
        return y, x

    def _gathered(self, files: TileFiles) -> Tensor:
        rows, columns = files.grid
        last = len(self._steps)
        lines = [
            torch.cat([files.read(last, (row, column), 0) for column in range(columns)], dim=-1)
            for row in range(rows)
        ]
        return torch.cat(lines, dim=-2).float()

    def _places(self, files: TileFiles) -> Iterator[Place]:
        rows, columns = files.grid
        return product(range(rows), range(columns))


def _cut(block: Tensor, across: int) -> Tensor:
    """``(b, ..., across * h, across * w)`` to ``(b * across^2, ..., h, w)``, row-major."""
    parts = block.unflatten(-2, (across, -1)).unflatten(-1, (across, -1))
    return parts.movedim((-4, -2), (1, 2)).flatten(0, 2)
