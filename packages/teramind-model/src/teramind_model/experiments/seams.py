"""Seams: whether an image changes more across the borders of tiles than elsewhere.

The index is the gradient energy on tile borders over the same off the borders: the mean squared difference of
neighbouring pixels that lie on two sides of a border, over that of neighbours that do not. 1 where borders are like any
other place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.store import Brain

__all__ = ["SeamSums", "brain_seams", "seam_sums"]

_BLOCK_PX = 2048


@dataclass(frozen=True)
class SeamSums:
    """Squared differences of neighbours and their number, across borders and elsewhere. They add up."""

    border: float = 0.0
    n_border: int = 0
    other: float = 0.0
    n_other: int = 0

    def __add__(self, more: SeamSums) -> SeamSums:
        return SeamSums(
            self.border + more.border,
            self.n_border + more.n_border,
            self.other + more.other,
            self.n_other + more.n_other,
        )

    @property
    def index(self) -> float | None:
        """The seam index; None where there is no border, or nothing changes off the borders."""
        if not self.n_border or not self.n_other or self.other == 0:
            return None
        return (self.border / self.n_border) / (self.other / self.n_other)


def seam_sums(
    image: NDArray[np.uint8],
    tile: int,
    origin: tuple[int, int] = (0, 0),
    counted: NDArray[np.bool_] | None = None,
    own: tuple[int, int] | None = None,
) -> SeamSums:
    """Sums of a piece of an image, in y and x.

    Args:
        image: ``(y, x)``.
        tile: edge of the tiles in pixels; they are counted from the canvas's origin.
        origin: canvas coordinates of the piece's first pixel.
        counted: pixels that count, ``(y, x)``; of two neighbours both must. All where None.
        own: rows and columns of the piece itself; what lies beyond are neighbours alone, so that the sums of pieces
            add up to those of the whole. All where None.

    Raises:
        InputError: on a tile of less than two pixels.
    """
    if tile < 2:
        raise InputError("tile is too small for seams", expected="at least 2 px", found=tile)
    weight = np.ones(image.shape, bool) if counted is None else counted
    height, width = image.shape if own is None else own
    total = SeamSums()
    # Across x is across y of the transposed image.
    for values, counts, breadth, start in (
        (image, weight, width, origin[0]),
        (image.T, weight.T, height, origin[1]),
    ):
        # Neighbours (i, i + 1) lie on two sides of a border where i + 1 is a multiple of the tile.
        on_border = (np.arange(1, len(values)) + start) % tile == 0
        both = counts[1:, :breadth] & counts[:-1, :breadth]
        squared = np.square(np.diff(values[:, :breadth].astype(np.int32), axis=0)) * both
        energy, count = squared.sum(axis=1), both.sum(axis=1)
        total += SeamSums(
            float(energy[on_border].sum()),
            int(count[on_border].sum()),
            float(energy[~on_border].sum()),
            int(count[~on_border].sum()),
        )
    return total


def brain_seams(brain: Brain, tissue: Brain, tile: int, shift: int = 0) -> dict[str, SeamSums]:
    """Sums by stain over a brain's sections, where ``tissue`` (the atlas) has molecules.

    Args:
        brain: the store whose image is read, block by block.
        tissue: the atlas, of the same canvas; its sections are found by name.
        tile: edge of the tiles in pixels.
        shift: moves the borders that are looked at; half a tile gives those that the collage joins patches across.
    """
    index = {section.name: section.index for section in tissue.sections}
    sums = {stain: SeamSums() for stain in brain.stains}
    for section in brain.sections:
        for own in tiles(Box.from_shape(brain.canvas), _BLOCK_PX):
            box = _with_neighbours(own, brain.canvas)
            covered = box.cover(BIN_PX).coarsen(BIN_PX)
            occupied = tissue.read("expression", index[section.name], covered).any(axis=0)
            wide = np.repeat(np.repeat(occupied, BIN_PX, 0), BIN_PX, 1)
            counted = wide[: box.height, : box.width]
            if not counted.any():
                continue
            images = np.asarray(brain.read("morphology", section.index, box))
            for stain, image in zip(brain.stains, images, strict=True):
                sums[stain] += seam_sums(image, tile, (box.y0 + shift, box.x0 + shift), counted, own.shape)
    return sums


def _with_neighbours(box: Box, canvas: tuple[int, int]) -> Box:
    """The box with the first row and column of the next ones, where there are such."""
    return Box(box.y0, min(box.y1 + 1, canvas[0]), box.x0, min(box.x1 + 1, canvas[1]))
