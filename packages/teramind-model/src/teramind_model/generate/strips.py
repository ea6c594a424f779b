"""Running units into a store: rows collected into bands of whole shards, each shard written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.geometry import Box
from teramind_data.store import BrainWriter
from teramind_model.controls import CountsSource
from teramind_model.diffusion.ddim import to_uint8
from teramind_model.diffusion.steps import Step
from teramind_model.generate.behind import WriteBehind
from teramind_model.generate.config import Precision
from teramind_model.generate.counting import Counts, count_unit
from teramind_model.generate.draws import write_shard
from teramind_model.generate.meter import Taken
from teramind_model.generate.ready import computing
from teramind_model.generate.rows import StoreRows
from teramind_model.generate.source import Source
from teramind_model.generate.tissue import TissueTiles
from teramind_model.generate.units import Layout, Unit
from teramind_model.generate.watch import Watcher
from teramind_model.generate.wavefront import Wavefront
from teramind_model.network.unet import PatchUNet, UNetShape

__all__ = ["Done", "Strips"]

Shard = tuple[int, Box]
"""Section of the store, box in pixels."""
Band = tuple[int, NDArray[np.uint8]]
"""Its number, and its image ``(stains, Z, band px, strip px)``."""


@dataclass
class Done:
    """What a run read, asked of the network, and wrote, and what that took."""

    bins_read: int = 0
    tile_steps: int = 0
    shards_written: int = 0
    patches_encoded: int = 0
    gene_patches: int = 0
    idle_places: int = 0
    taken: Taken = field(default_factory=Taken)

    def add(self, other: Done) -> None:
        """Count what another did, too."""
        self.bins_read += other.bins_read
        self.tile_steps += other.tile_steps
        self.shards_written += other.shards_written
        self.patches_encoded += other.patches_encoded
        self.gene_patches += other.gene_patches
        self.idle_places += other.idle_places
        self.taken.add(other.taken)


def _nothing() -> None:
    """For who holds the store: nobody else may write it."""


@dataclass(frozen=True)
class Strips:
    """What all units of a run share. ``first`` .. ``end`` are the atlas's sections that the store holds; a draw is made
    of each of ``seeds``; ``on_shard`` is shown each shard of the first once it is written, by the thread that wrote it;
    with ``tissue`` only that is made. ``check`` raises, before a shard is written, where nothing may be any more."""

    source: Source
    counts: CountsSource
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]
    layout: Layout
    canvas: tuple[int, int]
    first: int
    end: int
    batch: int
    precision: Precision
    on_shard: Watcher
    tissue: TissueTiles | None = None
    check: Callable[[], None] = _nothing

    def shards(self, pending: Iterable[Shard], unit: Unit) -> list[Shard]:
        """Those of the shards not written yet that are the unit's."""
        sections = {z - self.first for z in unit.window.image if self.first <= z < self.end}
        return [(z, box) for z, box in pending if z in sections and self.layout.owns(unit.columns, box)]

    def count(self, unit: Unit, shards: Sequence[Shard]) -> Counts:
        """What :meth:`run` will do for a unit's shards, all draws."""
        tissue = None if self.tissue is None else self.tissue.window(unit.window)
        boxes = [box for _, box in shards]
        counts = count_unit(self.layout, unit, boxes, len(self.steps), self.batch, tissue)
        return counts.draws(len(self.seeds))

    def run(
        self,
        writer: BrainWriter,
        behind: WriteBehind,
        unit: Unit,
        pending: list[Shard],
        done: Done,
        advance: Callable[[int], None],
    ) -> None:
        """Make what of a unit is not written yet, its shards ``pending``; written, in this order, by ``behind``."""
        tissue = None if self.tissue is None else self.tissue.window(unit.window)
        touched = [(z, box) for z, box in pending if self.layout.shows(box, tissue)]
        black = [shard for shard in pending if shard not in touched]
        if black:
            behind.put(partial(self._write_background, writer, black))
            done.shards_written += len(black)
        if not touched:
            return
        rows = self.layout.rows([box for _, box in touched])
        by_band: dict[int, list[Shard]] = {}
        for z, box in touched:
            by_band.setdefault(box.y0 // self.layout.band, []).append((z, box))

        def tell(tile_steps: int) -> None:
            behind.check()  # a full disk is told of now, not when the next band is made
            advance(tile_steps)

        # All draws side by side, band by band: none is ever whole in memory.
        readers = [StoreRows(self.counts, unit.window, self._shape, seed, tissue) for seed in self.seeds]
        draws = [self._bands(unit, rows, reader, done, tell) for reader in readers]
        for bands in _side_by_side(draws):
            shards = by_band.get(bands[0][0], [])
            behind.put(partial(self._write_band, writer, unit, shards, bands))
            done.shards_written += len(shards)

    def _bands(
        self, unit: Unit, rows: range, reader: StoreRows, done: Done, advance: Callable[[int], None]
    ) -> Iterator[Band]:
        """Bands as their last rows are finished."""
        model, shape = self._model, self._shape
        patch, edge = self.layout.patch, self.layout.band_tiles
        target = unit.target(rows)
        wavefront = Wavefront(model, reader, self.steps, target, self.layout.known, self.canvas, self.batch)
        size = (shape.stains, shape.image_slices, self.layout.band, len(unit.columns) * patch)
        image = np.zeros(size, np.uint8)
        counted = 0
        for row, x in _each_under(lambda: computing(model, self.precision), wavefront.rows()):
            y = row % edge * patch
            made = to_uint8(x).unflatten(0, (shape.stains, shape.image_slices))
            image[:, :, y : y + patch] = made.to("cpu", torch.uint8).numpy()
            advance(wavefront.calls.decoded - counted)
            done.tile_steps += wavefront.calls.decoded - counted
            counted = wavefront.calls.decoded
            if row + 1 == target.y1 or (row + 1) % edge == 0:
                yield row // edge, image
                image = np.zeros(size, np.uint8)
        done.bins_read += reader.bins_read
        done.patches_encoded += wavefront.calls.encoded
        done.gene_patches += wavefront.calls.genes
        done.idle_places += wavefront.calls.idle

    @property
    def _model(self) -> PatchUNet:
        model = self.source.model
        assert isinstance(model, PatchUNet)
        return model

    @property
    def _shape(self) -> UNetShape:
        return self._model.config

    def _cut(self, image: NDArray[np.uint8], band: int, unit: Unit, box: Box) -> NDArray[np.uint8]:
        """A shard's block ``(stains, h, w)`` of a band's image, black outside the region and the canvas."""
        height, width = image.shape[-2:]
        there = Box.from_shape((height, width), (band * self.layout.band, self._pixel(unit.columns.start)))
        block = np.zeros((image.shape[0], *box.shape), np.uint8)
        common = there.intersect(box)
        if common is not None:
            into = common.shift(-box.y0, -box.x0).slices
            block[(..., *into)] = image[(..., *common.shift(-there.y0, -there.x0).slices)]
        return block

    def _write_band(
        self, writer: BrainWriter, unit: Unit, shards: list[Shard], draws: Sequence[Band]
    ) -> None:
        for z, box in shards:
            slot = unit.window.image.index(z + self.first)
            blocks = [self._cut(image[:, slot], band, unit, box) for band, image in draws]
            self._write(writer, z, box, blocks)

    def _write_background(self, writer: BrainWriter, shards: list[Shard]) -> None:
        for z, box in shards:
            black = np.zeros((len(self.source.stains), *box.shape), np.uint8)
            self._write(writer, z, box, [black] * len(self.seeds))

    def _write(self, writer: BrainWriter, z: int, box: Box, draws: list[NDArray[np.uint8]]) -> None:
        self.check()
        write_shard(writer, z, box, draws)
        self.on_shard(z, box, draws[0])

    def _pixel(self, column: int) -> int:
        return column * self.layout.patch


def _side_by_side(draws: Sequence[Iterator[Band]]) -> Iterator[list[Band]]:
    """The next band of each draw, until they end together; zip would keep the ones before in memory."""
    while bands := [band for draw in draws for band in islice(draw, 1)]:
        yield bands


def _each_under(
    context: Callable[[], AbstractContextManager[object]], rows: Iterator[tuple[int, torch.Tensor]]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Rows, each made under a context of its own: one held open across a yield would leak into other draws."""
    while True:
        with context():
            row = next(rows, None)
        if row is None:
            return
        yield row
