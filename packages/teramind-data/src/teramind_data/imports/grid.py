"""Which tiles there are and what each owns: cores side by side, margins only where nobody's core is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import Box, ceil_div
from teramind_data.imports.archives import inside

__all__ = ["EDGE_PX", "Tile", "TileGrid", "read_folder"]

#: Edge of a tile's core.
EDGE_PX = 256

_NUMBERS = re.compile(r"\d{1,6}(_\d{1,6})*")

_Cell = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """One tile: its file's stem, its own 256 px, and the pixels its file covers (canvas pixels)."""

    stem: str
    core: Box
    extent: Box


class TileGrid:
    """Tiles by (row, column) of their cores.

    Raises InputError where cores do not lie on one grid or margins are wider than a core.
    """

    def __init__(self, tiles: list[Tile], where: object) -> None:
        first = min(tiles, key=lambda tile: (tile.core.y0, tile.core.x0))
        self._offset = (first.core.y0 % EDGE_PX, first.core.x0 % EDGE_PX)
        self.tiles: dict[_Cell, Tile] = {}
        for tile in tiles:
            cell = self._cell(tile.core.y0, tile.core.x0)
            if tile.core != self._core(cell) or cell in self.tiles:
                raise InputError(
                    "tiles do not lie side by side",
                    where=f"{where}, {tile.stem}",
                    expected=f"a core of {EDGE_PX} x {EDGE_PX} px, multiples of {EDGE_PX} from {first.core}",
                    found=tile.core,
                    remedy="Give the tiles of one brain, under the names they were published with",
                )
            if not tile.extent.contains(tile.core) or not tile.core.expand(EDGE_PX).contains(tile.extent):
                raise InputError(
                    "tile's name makes no sense",
                    where=f"{where}, {tile.stem}",
                    expected=f"core y0_y1_x0_x1 and at most {EDGE_PX} px of margin around it",
                    found=f"core {tile.core}, covering {tile.extent}",
                )
            self.tiles[cell] = tile

    def __len__(self) -> int:
        return len(self.tiles)

    def _cell(self, y: int, x: int) -> _Cell:
        return (y - self._offset[0]) // EDGE_PX, (x - self._offset[1]) // EDGE_PX

    def _core(self, cell: _Cell) -> Box:
        return Box.from_shape(
            (EDGE_PX, EDGE_PX), (self._offset[0] + cell[0] * EDGE_PX, self._offset[1] + cell[1] * EDGE_PX)
        )

    def extent(self) -> tuple[int, int]:
        """``(height, width)`` from the canvas's corner to the end of the last tile, in multiples of 256."""
        ends = [max(getattr(tile.extent, side) for tile in self.tiles.values()) for side in ("y1", "x1")]
        return ceil_div(ends[0], EDGE_PX) * EDGE_PX, ceil_div(ends[1], EDGE_PX) * EDGE_PX

    def check_canvas(self, canvas: tuple[int, int], where: object) -> None:
        """InputError where a core sticks out of a canvas that was asked for."""
        for tile in self.tiles.values():
            if tile.core.y1 > canvas[0] or tile.core.x1 > canvas[1]:
                raise InputError(
                    "tile lies outside the canvas",
                    where=f"{where}, {tile.stem}",
                    expected=f"inside {canvas[0]} x {canvas[1]} px",
                    found=tile.core,
                    remedy="Give a larger canvas, or a reference store of this brain",
                )

    def rows(self) -> Iterator[list[Tile]]:
        """Tiles row by row, each in order of x."""
        for _, cells in groupby(sorted(self.tiles), key=lambda cell: cell[0]):
            yield [self.tiles[cell] for cell in cells]

    def touching(self, box: Box) -> Iterator[Tile]:
        """Tiles that may own pixels of ``box``, row-major."""
        low, high = self._cell(box.y0, box.x0), self._cell(box.y1 - 1, box.x1 - 1)
        for row in range(low[0] - 1, high[0] + 2):
            for column in range(low[1] - 1, high[1] + 2):
                tile = self.tiles.get((row, column))
                if tile is not None and tile.extent.intersect(box) is not None:
                    yield tile

    def owned(self, tile: Tile) -> NDArray[np.bool_] | None:
        """Which pixels of a tile's extent are taken from it; None where just its core.

        Its core; and of its margin what lies in nobody's core, unless an earlier tile (row-major) covers it too.
        """
        mine = self._cell(tile.core.y0, tile.core.x0)
        bare = [cell for cell in _around_cell(mine) if cell not in self.tiles]
        if not bare:
            return None
        extent = tile.extent
        mask = np.zeros(extent.shape, bool)
        mask[tile.core.shift(-extent.y0, -extent.x0).slices] = True
        for cell in bare:
            part = extent.intersect(self._core(cell))
            if part is None:
                continue
            mask[part.shift(-extent.y0, -extent.x0).slices] = True
            for other in _around_cell(cell):
                if other == mine:
                    break
                cut = part.intersect(self.tiles[other].extent) if other in self.tiles else None
                if cut is not None:
                    mask[cut.shift(-extent.y0, -extent.x0).slices] = False
        return mask


def _around_cell(cell: _Cell) -> list[_Cell]:
    """The eight neighbours, row-major."""
    steps = (-1, 0, 1)
    return [(cell[0] + i, cell[1] + j) for i in steps for j in steps if (i, j) != (0, 0)]


def read_folder(folder: Path, suffix: str, *, margins: bool) -> TileGrid:
    """The tiles of a folder by their names: ``y0_y1_x0_x1_Y0_Y1_X0_X1``, or without ``margins`` ``y0_y1_x0_x1``.

    Raises:
        MissingInputError: no such folder. InputError: no tiles in it, or names that make no sense.
    """
    if not folder.is_dir():
        raise MissingInputError("folder of tiles not found", where=folder, remedy="Check the path")
    pattern = "y0_y1_x0_x1_Y0_Y1_X0_X1" if margins else "y0_y1_x0_x1"
    tiles = []
    for file in sorted(folder.glob(f"*{suffix}")):
        if file.name.startswith("."):
            continue
        inside(folder, file)
        numbers = [int(n) for n in file.stem.split("_")] if _NUMBERS.fullmatch(file.stem) else []
        if len(numbers) != (8 if margins else 4):
            raise InputError(
                "file's name is not a tile's",
                where=file,
                expected=f"{pattern}{suffix}",
                found=file.name,
                remedy="Move it away, or check --generated",
            )
        try:
            core = Box(*numbers[:4])
            tiles.append(Tile(file.stem, core, Box(*numbers[4:]) if margins else core))
        except InputError as error:
            raise InputError("tile's name makes no sense", where=file, found=error) from None
    if not tiles:
        raise MissingInputError(
            "folder holds no tiles", where=folder, expected=f"{pattern}{suffix}", remedy="Check the path"
        )
    return TileGrid(tiles, folder)
