"""A generation cut into units: one strip of columns of one window, which owns whole shards and shares nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box, Window, ceil_div
from teramind_model.generate.budget import Work, check_unit, unit_memory

__all__ = ["Layout", "Unit", "choose_strip", "units"]


@dataclass(frozen=True)
class Layout:
    """Where things lie. ``region``: tiles to make, in tile units of ``patch`` pixels; ``known``: all tiles that are
    computed where they are needed, -1 outside them; ``band``: edge in pixels of squares that are whole tiles and whole
    shards."""

    region: Box
    known: Box
    patch: int
    shard: int

    @property
    def band(self) -> int:
        """Least common multiple of tile and shard."""
        return lcm(self.patch, self.shard)

    @property
    def band_tiles(self) -> int:
        """Edge of a band in tiles."""
        return self.band // self.patch

    def shows(self, box: Box, tissue: NDArray[np.bool_] | None = None) -> bool:
        """Whether anything is made in a box of pixels: it meets the region, and tissue (tiles of the whole canvas)."""
        tiles = box.cover(self.patch).coarsen(self.patch).intersect(self.region)
        return tiles is not None and (tissue is None or bool(tissue[tiles.slices].any()))

    def rows(self, boxes: Sequence[Box]) -> range:
        """Rows of the region's tiles to make for some shards: whole bands, from the first to the last."""
        top = min(box.y0 for box in boxes) // self.band * self.band_tiles
        bottom = ceil_div(max(box.y1 for box in boxes), self.band) * self.band_tiles
        return range(max(self.region.y0, top), min(self.region.y1, bottom))

    def owns(self, columns: range, box: Box) -> bool:
        """Whether a shard is a strip's; the first and last strips also own what lies left and right of the region."""
        x0 = 0 if columns.start == self.region.x0 else columns.start * self.patch
        x1 = None if columns.stop == self.region.x1 else columns.stop * self.patch
        return box.x0 >= x0 and (x1 is None or box.x0 < x1)

    def strips(self, width: int) -> Iterator[range]:
        """Columns of tiles, cut at multiples of ``width`` bands."""
        edge = width * self.band_tiles
        first, last = self.region.x0 // edge, ceil_div(self.region.x1, edge)
        for strip in range(first, last):
            yield range(max(self.region.x0, strip * edge), min(self.region.x1, (strip + 1) * edge))


@dataclass(frozen=True)
class Unit:
    """One strip of one window: ``columns`` of tiles, all rows of the region."""

    window: Window
    columns: range

    def target(self, rows: range) -> Box:
        """Some of its rows, in tile units."""
        return Box(rows.start, rows.stop, self.columns.start, self.columns.stop)


def units(windows: tuple[Window, ...], layout: Layout, strip: int) -> tuple[Unit, ...]:
    """All units, window by window."""
    return tuple(Unit(window, columns) for window in windows for columns in layout.strips(strip))


def choose_strip(work: Work, layout: Layout, limit: int) -> int:
    """Widest strip, in bands, of which all draws fit ``limit`` bytes: the whole region's width where that does.

    Raises:
        InputError: where not even one band fits, with the number and the remedy.
    """
    bands = ceil_div(layout.region.x1, layout.band_tiles) - layout.region.x0 // layout.band_tiles
    for width in range(bands, 0, -1):
        if _memory(work, layout, width) <= limit:
            return width
    need = _memory(work, layout, 1)
    raise InputError(
        "a strip of this canvas does not fit the memory budget",
        where=f"{layout.band_tiles} tiles of {layout.patch} px wide, {work.steps} steps"
        + (f", {work.draws} draws" if work.draws > 1 else ""),
        expected=f"at most {check_unit(limit)}",
        found=f"about {check_unit(need)}",
        remedy=f"Pass --memory {check_unit(need, up=True)}",
    )


def _memory(work: Work, layout: Layout, width: int) -> int:
    """Of all draws of a unit, which are made side by side."""
    widest = max(len(columns) for columns in layout.strips(width))
    return work.draws * unit_memory(work, widest, layout.known.width, layout.band)
