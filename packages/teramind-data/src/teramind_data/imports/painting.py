"""Image tiles to the shards of a store: a block of the canvas at a time, for as many sections as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_data.imports.grid import Tile, TileGrid
from teramind_data.imports.zarr_zip import ZippedArray
from teramind_data.store import BrainWriter

__all__ = ["BUDGET_BYTES", "TileImages"]

#: For the block of the canvas that is being put together; tiles come and go beside it.
BUDGET_BYTES = 1 << 30

Convert = Callable[[Path, NDArray[Any]], NDArray[np.uint8]]


class TileImages:
    """Zipped tiles ``(stain * sections + section, y, x)`` of one folder.

    Args:
        folder: holds ``<stem>.zip`` for every tile of the grid.
        grid: the tiles.
        dtype: type of the arrays.
        convert: their values to uint8; gets the file too, to name it in errors.
    """

    def __init__(self, folder: Path, grid: TileGrid, dtype: str, convert: Convert) -> None:
        self._folder = folder
        self._grid = grid
        self._dtype = dtype
        self._convert = convert

    def file(self, tile: Tile) -> Path:
        """Where a tile's pixels are."""
        return self._folder / f"{tile.stem}.zip"

    def open(self, tile: Tile) -> ZippedArray:
        """A tile's array."""
        return ZippedArray(self.file(tile), self._dtype, tile.extent.shape)

    def write(self, writer: BrainWriter, advance: Callable[[], Any], budget: int = BUDGET_BYTES) -> None:
        """Write all shards of morphology that are not written yet."""
        pending = sorted(writer.pending("morphology"), key=lambda unit: (unit[1], unit[0]))
        stains = len(writer.spec.stains)
        for box, units in groupby(pending, key=lambda unit: unit[1]):
            sections = [z for z, _ in units]
            most = max(1, budget // (stains * box.area))
            # Groups of equal size: the tiles' chunks hold equal runs of sections.
            groups = -(-len(sections) // most)
            size = -(-len(sections) // groups)
            for start in range(0, len(sections), size):
                group = np.array(sections[start : start + size], np.int64)
                block = self._block(box, group, writer.spec.n_sections, stains)
                for slot, z in enumerate(group):
                    writer.write("morphology", int(z), box, block[:, slot])
                    advance()
                # Before the next is made: two would be twice the budget.
                del block

    def _block(self, box: Box, group: NDArray[np.int64], sections: int, stains: int) -> NDArray[np.uint8]:
        """``(stains, sections of the group, h, w)``; what no tile covers is 0."""
        out = np.zeros((stains, len(group), *box.shape), np.uint8)
        channels = (np.arange(stains)[:, None] * sections + group).ravel()
        for tile in self._grid.touching(box):
            for part, mask in self._parts(tile, box):
                rows, columns = part.shift(-tile.extent.y0, -tile.extent.x0).slices
                with self.open(tile) as array:
                    self._check(tile, array, stains * sections)
                    pixels = self._convert(self.file(tile), array.read(channels, rows, columns))
                target = out[(slice(None), slice(None), *part.shift(-box.y0, -box.x0).slices)]
                values = pixels.reshape(stains, len(group), *part.shape)
                np.copyto(target, values, where=True if mask is None else mask)
        return out

    def _parts(self, tile: Tile, box: Box) -> Iterator[tuple[Box, NDArray[np.bool_] | None]]:
        """What is taken from a tile in a box: at most one part, with a mask where not all of it."""
        mask = self._grid.owned(tile)
        part = (tile.core if mask is None else tile.extent).intersect(box)
        if part is None:
            return
        if mask is not None:
            mask = mask[part.shift(-tile.extent.y0, -tile.extent.x0).slices]
            if not mask.any():
                return
        yield part, mask

    def _check(self, tile: Tile, array: ZippedArray, channels: int) -> None:
        if array.shape[0] != channels:
            raise InputError(
                "image tile has another number of channels than the others",
                where=self.file(tile),
                expected=f"{channels} (stains x sections)",
                found=array.shape[0],
                remedy="Give tiles of one brain; check --stains",
            )
