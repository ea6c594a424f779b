"""Molecules on their way from files sorted by field of view to stores sorted by place: through blocks on disk.

A block is 4096 px square, on any canvas. Memory holds one batch of a file, and later one block's molecules.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box, ceil_div
from teramind_data.ingest.plan import PlannedSection
from teramind_data.ingest.rasterize import pusher
from teramind_data.ingest.transcripts import GeneNames, TranscriptCount, stream_transcripts

TILE_PX = 256
BLOCK_PX = 4096
_TILES = BLOCK_PX // TILE_PX
_TILE_BITS = TILE_PX.bit_length() - 1
_GENE_BITS = 16  # as the store holds them
_RAW = np.dtype([("y", "<i4"), ("x", "<i4"), ("code", "<u4")])
_SORTED = np.dtype([("y", "<i4"), ("x", "<i4"), ("gene", "<u2")])
_FAR = 1 << 30  # a registration that throws a point so far has lost it
_POINTS = 1 << 16  # pushed through a registration at once
_BATCH = 1 << 18  # molecules handed on at once
#: Bytes a molecule of a block takes while it is sorted (records, columns, keys and their order).
SORT_BYTES = 96


@dataclass(frozen=True)
class Frame:
    """Where the canvas lies: its corner in plane pixels (multiples of 256) and its size."""

    shift: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks in y and x."""
        return ceil_div(self.canvas[0], BLOCK_PX), ceil_div(self.canvas[1], BLOCK_PX)

    def block(self, iy: int, ix: int) -> Box:
        """Canvas pixels of a block, cut at the rim."""
        y0, x0 = iy * BLOCK_PX, ix * BLOCK_PX
        return Box(y0, min(y0 + BLOCK_PX, self.canvas[0]), x0, min(x0 + BLOCK_PX, self.canvas[1]))


@dataclass
class LaidSection:
    """A section's molecules as read: raw records in plane pixels, by block of the plane."""

    folder: Path
    names: GeneNames = field(default_factory=GeneNames)
    count: TranscriptCount = field(default_factory=TranscriptCount)
    blocks: dict[tuple[int, int], int] = field(default_factory=dict)
    placed: int = 0
    far: int = 0
    low: tuple[int, int] = (_FAR, _FAR)
    high: tuple[int, int] = (-_FAR, -_FAR)

    def raw(self, by: int, bx: int) -> NDArray[np.void]:
        """The records of a block of the plane."""
        if (by, bx) not in self.blocks:
            return np.empty(0, _RAW)
        return np.fromfile(self.folder / f"{by}_{bx}", _RAW)

    def largest(self) -> int:
        """Most molecules of a block."""
        return max(self.blocks.values(), default=0)


@dataclass(frozen=True)
class Molecules:
    """Molecules as parallel arrays: canvas pixels y, x and gene index."""

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    gene: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.gene)


def lay_down(scratch: Path, section: PlannedSection) -> LaidSection:
    """Read a section's transcripts, push them to the plane and lay them down by block.

    Into a new folder each time: work that is repeated after a crash must not find half of its own.
    """
    laid = LaidSection(Path(tempfile.mkdtemp(prefix=f"{section.index}-raw-", dir=scratch)))
    push = pusher(section.to_image, section.folder.micron_to_mosaic)
    for xy_um, code in stream_transcripts(section.folder.transcript_source, laid.names, laid.count):
        for start in range(0, len(xy_um), _POINTS):
            part = slice(start, start + _POINTS)
            xy = np.floor(push(xy_um[part]) + 0.5)
            near = (np.abs(xy) < _FAR).all(axis=1)
            laid.far += int((~near).sum())
            batch = np.empty(int(near.sum()), _RAW)
            batch["x"], batch["y"] = xy[near].T
            batch["code"] = code[part][near]
            _lay(laid, batch)
    return laid


def _lay(laid: LaidSection, batch: NDArray[np.void]) -> None:
    if not len(batch):
        return
    y, x = batch["y"], batch["x"]
    laid.placed += len(batch)
    laid.low = (min(laid.low[0], int(y.min())), min(laid.low[1], int(x.min())))
    laid.high = (max(laid.high[0], int(y.max())), max(laid.high[1], int(x.max())))
    by, bx = y // BLOCK_PX, x // BLOCK_PX
    # Numbered within the batch's own extent: few enough, as a rule, for 16 bits, which sort in one pass.
    columns = int(bx.max()) - int(bx.min()) + 1
    number = (by - by.min()).astype(np.int64) * columns + (bx - bx.min())
    if int(number.max()) < 1 << 16:
        number = number.astype(np.uint16)
    order = np.argsort(number, kind="stable")
    batch = batch[order]
    starts = np.flatnonzero(np.diff(number[order], prepend=number[order[0]]))
    for part in np.split(batch, starts):
        key = int(part["y"][0]) // BLOCK_PX, int(part["x"][0]) // BLOCK_PX
        laid.blocks[key] = laid.blocks.get(key, 0) + len(part)
        with (laid.folder / f"{key[0]}_{key[1]}").open("ab") as handle:
            handle.write(part.data)


@dataclass(frozen=True)
class SortedSection:
    """A section's molecules on the canvas and in the panel, by block, in a store's order inside it.

    ``index``: ``offsets[iy, ix, tile]`` is the first molecule of a tile in its block's file.
    """

    folder: Path
    frame: Frame

    def _offsets(self) -> NDArray[np.int64]:
        return np.load(self.folder / "offsets.npy", allow_pickle=False)

    def block(self, iy: int, ix: int) -> Molecules:
        """All molecules of a block."""
        return self._read(iy, ix, 0, int(self._offsets()[iy, ix, -1]))

    def _read(self, iy: int, ix: int, start: int, stop: int) -> Molecules:
        if stop == start:
            none = np.zeros(0, np.int32)
            return Molecules(none, none, np.zeros(0, np.int64))
        file = self.folder / f"{iy}_{ix}"
        records = np.fromfile(file, _SORTED, stop - start, offset=start * _SORTED.itemsize)
        return Molecules(
            records["y"].astype(np.int32), records["x"].astype(np.int32), records["gene"].astype(np.int64)
        )

    def batches(self) -> Iterator[Molecules]:
        """All molecules in the order of the canvas's tiles (row-major), some at a time."""
        offsets = self._offsets()
        for iy in range(offsets.shape[0]):
            for row in range(_TILES):
                for ix in range(offsets.shape[1]):
                    tiles = offsets[iy, ix, row * _TILES : (row + 1) * _TILES + 1]
                    yield from self._runs(iy, ix, tiles)

    def _runs(self, iy: int, ix: int, tiles: NDArray[np.int64]) -> Iterator[Molecules]:
        """Runs of whole tiles of at most about ``_BATCH`` molecules."""
        start = int(tiles[0])
        for tile, end in enumerate(tiles[1:].tolist()):
            last = tile == len(tiles) - 2
            if end > start and (last or int(tiles[tile + 2]) - start > _BATCH):
                yield self._read(iy, ix, start, end)
                start = end


@dataclass(frozen=True)
class Sorting:
    """How raw molecules become sorted ones: the canvas, and the panel index of each gene number (-1: left out)."""

    frame: Frame
    genes: NDArray[np.int64]
    limit: int  # molecules that may be sorted at once

    def sort(self, scratch: Path, laid: LaidSection, index: int) -> tuple[SortedSection, Iterator[Molecules]]:
        """A section's sorted molecules, and its blocks one by one as they are made (all must be taken)."""
        folder = Path(tempfile.mkdtemp(prefix=f"{index}-sorted-", dir=scratch))
        return SortedSection(folder, self.frame), self._blocks(folder, laid, index)

    def _blocks(self, folder: Path, laid: LaidSection, index: int) -> Iterator[Molecules]:
        ny, nx = self.frame.grid
        offsets = np.zeros((ny, nx, _TILES * _TILES + 1), np.int64)
        for iy in range(ny):
            for ix in range(nx):
                found = self._sorted(laid, self.frame.block(iy, ix), index)
                if len(found):
                    records = np.empty(len(found), _SORTED)
                    records["y"], records["x"], records["gene"] = found.y, found.x, found.gene
                    records.tofile(folder / f"{iy}_{ix}")
                    counts = np.bincount(_tile(found.y, found.x), minlength=_TILES * _TILES)
                    offsets[iy, ix, 1:] = np.cumsum(counts)
                yield found
        np.save(folder / "offsets.npy", offsets)

    def _sorted(self, laid: LaidSection, box: Box, index: int) -> Molecules:
        plane = box.shift(*self.frame.shift)
        area = plane.cover(BLOCK_PX).coarsen(BLOCK_PX)
        keys = [(by, bx) for by in range(area.y0, area.y1) for bx in range(area.x0, area.x1)]
        most = sum(laid.blocks.get(key, 0) for key in keys)
        if most > self.limit:
            raise InputError(
                "more molecules in one place than memory allows",
                where=f"section {index}, {box}",
                expected=f"at most {self.limit:,} in {BLOCK_PX} x {BLOCK_PX} px",
                found=f"{most:,}",
                remedy=f"Pass --memory of {ceil_div(most * SORT_BYTES, 1 << 20) + 600} MiB or more",
            )
        parts = [_cut(laid.raw(*key), plane) for key in keys if key in laid.blocks]
        raw = np.concatenate(parts) if parts else np.empty(0, _RAW)
        gene = self.genes[raw["code"]] if len(raw) else np.zeros(0, np.int64)
        kept = raw[gene >= 0]
        key = _packed(kept["y"] - self.frame.shift[0], kept["x"] - self.frame.shift[1], gene[gene >= 0])
        key.sort()
        return _unpacked(key, box)


def _packed(y: NDArray[Any], x: NDArray[Any], gene: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tile in its block, row and column in the tile, and gene, in one number: a plain sort puts molecules in order."""
    place = (_tile(y, x) * TILE_PX + y % TILE_PX) * TILE_PX + x % TILE_PX
    return place << _GENE_BITS | gene


def _unpacked(key: NDArray[np.int64], box: Box) -> Molecules:
    """The molecules of a block that starts at ``box``'s corner."""
    gene = key & (1 << _GENE_BITS) - 1
    key >>= _GENE_BITS
    tile, y, x = key >> 2 * _TILE_BITS, key >> _TILE_BITS & TILE_PX - 1, key & TILE_PX - 1
    y += tile // _TILES * TILE_PX + box.y0
    x += tile % _TILES * TILE_PX + box.x0
    return Molecules(y.astype(np.int32), x.astype(np.int32), gene)


def _cut(raw: NDArray[np.void], box: Box) -> NDArray[np.void]:
    keep = (raw["y"] >= box.y0) & (raw["y"] < box.y1) & (raw["x"] >= box.x0) & (raw["x"] < box.x1)
    return raw[keep]


def _tile(y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.int64]:
    """Number of a molecule's tile in its block, row-major."""
    return (y % BLOCK_PX // TILE_PX).astype(np.int64) * _TILES + x % BLOCK_PX // TILE_PX
