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
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box, tiles
from teramind_eval.pairs import tissue_boxes

if TYPE_CHECKING:
    from teramind_eval.part import Part

#: Edge of what is read at a time, about, px.
_BLOCK_PX = 2048

FloatArray = npt.NDArray[np.float64]


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
    own: tuple[int, int],
) -> SeamSums:
    """Sums of a piece of an image, along y and x.

    Args:
        image: `(y, x)`.
        grid: edge of the tiles in pixels; they are counted from the canvas's corner.
        origin: canvas coordinates of the piece's first pixel.
        counted: pixels that count, `(y, x)`; of two neighbours both must.
        own: rows and columns of the piece itself; what lies beyond are neighbours alone, so that the sums of pieces
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
    turned = ((image, counted, own[1], origin[0]), (image.T, counted.T, own[0], origin[1]))
    for values, counts, breadth, start in turned:
        # Neighbours (i, i + 1) lie on two sides of a border where i + 1 is a multiple of the grid.
        on_border = (np.arange(1, len(values)) + start) % grid == 0
        both = counts[1:, :breadth] & counts[:-1, :breadth]
        squared = np.square(np.diff(values[:, :breadth].astype(np.int32), axis=0)) * both
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


def section_seams(real: Part, store: Part, section: int, grid: int | None, tile: int) -> SectionSeams:
    """Seams of one section of a store, block by block, over the tissue of the real brain.

    Args:
        real: the atlas; its tiles of `tile` px that hold molecules count.
        store: whose pixels are read.
        section: of both.
        grid: edge of the store's tiles; None where it has none, and then there are no sums.
        tile: edge of tissue tiles.
    """
    canvas = Box(0, real.canvas[0], 0, real.canvas[1])
    sums = [SeamSums() for _ in store.stains]
    shape = -(-canvas.height // tile), -(-canvas.width // tile)
    means = np.full((len(store.stains), *shape), math.nan)
    for own in tiles(canvas, max(1, _BLOCK_PX // tile) * tile):
        # Neighbours beyond the block's last row and column belong to the next blocks' first tiles.
        box = Box(own.y0, min(own.y1 + 1, canvas.y1), own.x0, min(own.x1 + 1, canvas.x1))
        covered = box.cover(tile).clip(real.canvas) or box
        tissue = tissue_boxes(real, section, covered, tile)
        if not tissue:
            continue
        counted = np.zeros(covered.shape, dtype=bool)
        for one in tissue:
            counted[one.shift(-covered.y0, -covered.x0).slices] = True
        counted = counted[: box.height, : box.width]
        pixels = np.asarray(store.read("morphology", section, box))
        for one in tissue:
            inside = one.intersect(own)
            if inside is not None:
                cut = pixels[(..., *inside.shift(-box.y0, -box.x0).slices)]
                means[:, one.y0 // tile, one.x0 // tile] = cut.mean(axis=(1, 2))
        if grid is not None:
            for index, image in enumerate(pixels):
                found = border_sums(image, grid, (box.y0, box.x0), counted, own.shape)
                sums[index] = sums[index].merge(found)
    return SectionSeams(tuple(sums), means)


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
