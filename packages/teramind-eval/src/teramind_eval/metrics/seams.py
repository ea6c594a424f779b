"""Seams: whether a brain changes more where its tiles or windows meet than elsewhere.

Between tiles, the index is the gradient energy on tile borders over the same off the borders: the mean squared
difference of neighbouring pixels that lie on two sides of a border, over that of neighbours that do not (design,
section 7). It is 1 where borders are like any other place.

Between sections, single pixels say nothing, since nuclei do not go on from one section to the next; what a seam there
shows is tone. So the index is the mean squared difference of tile means of neighbouring sections that two windows made,
over that of neighbours which one window made. A real brain has no windows, but its sections differ and lie unevenly, so
its own index is what to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box

FloatArray = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Grid:
    """How a store was put together: edge of its tiles in pixels, and sections of a window; None where not known."""

    tile: int | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class SeamSums:
    """Squared differences of neighbours and their number, across seams and elsewhere."""

    seam: float = 0.0
    n_seam: int = 0
    other: float = 0.0
    n_other: int = 0

    def merge(self, more: SeamSums) -> SeamSums:
        """Both together."""
        return SeamSums(
            self.seam + more.seam,
            self.n_seam + more.n_seam,
            self.other + more.other,
            self.n_other + more.n_other,
        )

    @property
    def index(self) -> float:
        """The seam index; nan where there is no seam, or nothing changes elsewhere."""
        if not self.n_seam or not self.n_other or self.other == 0:
            return math.nan
        return (self.seam / self.n_seam) / (self.other / self.n_other)


@dataclass(frozen=True)
class SectionSeams:
    """One section of one store.

    Attributes:
        sums: across the borders of tiles, by stain.
        means: of each tissue tile, `(c, rows, columns)`, nan without tissue; for seams between sections.
    """

    sums: tuple[SeamSums, ...]
    means: FloatArray


def border_sums(
    image: npt.NDArray[np.uint8],
    grid: int,
    origin: tuple[int, int],
    counted: npt.NDArray[np.bool_],
    lead: tuple[int, int] = (0, 0),
) -> SeamSums:
    """Sums of a piece of an image, along y and x.

    Args:
        image: `(y, x)`.
        grid: edge of the tiles in pixels; they are counted from the canvas's corner.
        origin: canvas coordinates of the piece's first pixel.
        counted: pixels that count, `(y, x)`; of two neighbours both must.
        lead: first rows and columns that belong to other pieces and are neighbours alone, so that the sums of pieces
            add up to those of the whole.

    Raises
    ------
    InputError
        for tiles of less than two pixels.
    """
    if grid < 2:
        raise InputError("tile is too small for seams", expected="at least 2 px", found=grid)
    total = SeamSums()
    # Across x is across y of the transposed image.
    turned = ((image, counted, lead[1], origin[0]), (image.T, counted.T, lead[0], origin[1]))
    for values, counts, beside, start in turned:
        # Neighbours (i, i + 1) lie on two sides of a border where i + 1 is a multiple of the grid.
        on_border = (np.arange(1, len(values)) + start) % grid == 0
        both = counts[1:, beside:] & counts[:-1, beside:]
        squared = np.square(np.diff(values[:, beside:].astype(np.int32), axis=0)) * both
        energy, count = squared.sum(axis=1), both.sum(axis=1)
        total = total.merge(
            SeamSums(
                float(energy[on_border].sum()),
                int(count[on_border].sum()),
                float(energy[~on_border].sum()),
                int(count[~on_border].sum()),
            )
        )
    return total


class SeamScan:
    """Seams of one section of one store, from its blocks given one after another, row by row.

    Of what was given, only last rows and columns of pixels are kept, until the blocks that they border on come.

    Args:
        stains: how many.
        canvas: `(height, width)` in pixels.
        grid: edge of the store's tiles; None where it has none, and then there are no sums.
        tile: edge of tissue tiles.
    """

    def __init__(self, stains: int, canvas: tuple[int, int], grid: int | None, tile: int) -> None:
        self._grid, self._tile = grid, tile
        self._sums = [SeamSums()] * stains
        self._means = np.full((stains, *(-(-edge // tile) for edge in canvas)), math.nan)
        # By the y0, x0 of the block that they border on: row above it, column left of it. Last channel: what counts.
        self._above: dict[tuple[int, int], Pixels] = {}
        self._left: dict[tuple[int, int], Pixels] = {}

    def add(self, block: Box, pixels: Pixels, tissue: Sequence[Box]) -> None:
        """Take in the pixels `(c, y, x)` of a block of a grid of whole tiles, of which the `tissue` counts.

        Blocks without tissue may be left out; the others come row by row, from left to right.
        """
        counted = np.zeros((1, *block.shape), np.uint8)
        for one in tissue:
            here = one.shift(-block.y0, -block.x0).slices
            counted[(..., *here)] = 1
            self._means[:, one.y0 // self._tile, one.x0 // self._tile] = pixels[(..., *here)].mean(
                axis=(1, 2)
            )
        if self._grid is not None:
            self._add_borders(self._grid, block, np.concatenate([pixels, counted]))

    def _add_borders(self, grid: int, block: Box, found: Pixels) -> None:
        wide = np.pad(found, ((0, 0), (1, 0), (1, 0)))
        place = block.y0, block.x0
        if place in self._above:
            wide[:, :1, 1:] = self._above.pop(place)
        if place in self._left:
            wide[:, 1:, :1] = self._left[place]
        # Of a block that was left out nothing is taken any more.
        self._above = {at: row for at, row in self._above.items() if at[0] >= block.y0}
        self._above[block.y1, block.x0] = found[:, -1:].copy()
        self._left = {(block.y0, block.x1): found[..., -1:].copy()}
        for index, image in enumerate(wide[:-1]):
            more = border_sums(image, grid, (block.y0 - 1, block.x0 - 1), wide[-1] > 0, (1, 1))
            self._sums[index] = self._sums[index].merge(more)

    def seams(self) -> SectionSeams:
        """What was found."""
        return SectionSeams(tuple(self._sums), self._means)


def between_sections(one: FloatArray, other: FloatArray, *, seam: bool) -> tuple[SeamSums, ...]:
    """Sums of two neighbouring sections, by stain, from their tile means `(c, rows, columns)`.

    `seam` tells whether two windows made them.
    """
    out = []
    for squared in np.square(one - other):
        seen = squared[np.isfinite(squared)]
        energy, n = float(seen.sum()), int(seen.size)
        out.append(SeamSums(energy, n, 0.0, 0) if seam else SeamSums(0.0, 0, energy, n))
    return tuple(out)


@dataclass
class BrainSeams:
    """Sums of a store's sections, given one after another in the real brain's order.

    Of the sections before, only the last one's tile means are kept.
    """

    window: int | None
    sections: list[tuple[SeamSums, ...]] = field(default_factory=list)
    windows: tuple[SeamSums, ...] = ()
    _last: tuple[int, FloatArray] | None = None

    def add(self, own: int, found: SectionSeams) -> None:
        """Take a section in. `own` is its place in the atlas, where windows are counted."""
        self.sections.append(found.sums)
        if self._last is not None and self.window and own == self._last[0] + 1:
            seam = own // self.window != self._last[0] // self.window
            more = between_sections(self._last[1], found.means, seam=seam)
            self.windows = merged((self.windows, more))
        self._last = own, found.means

    @property
    def brain(self) -> tuple[SeamSums, ...]:
        """Across the borders of tiles in all sections, by stain."""
        return merged(self.sections)


def merged(parts: Sequence[tuple[SeamSums, ...]]) -> tuple[SeamSums, ...]:
    """Sums by stain of many parts; of none, none."""
    total: tuple[SeamSums, ...] = ()
    for part in parts:
        total = part if not total else tuple(a.merge(b) for a, b in zip(total, part, strict=True))
    return total
