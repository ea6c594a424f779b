"""Where there is tissue: the tiles that ``--tissue-only`` makes; the others are background, -1 at every step.

A tile of a window is made where any of the image sections of that window has tissue in the tile or in one of its eight
neighbours, on the whole canvas and whatever part of it is asked for, so that a part stays the same part of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box, Window, ceil_div, tiles
from teramind_data.store import Brain

__all__ = ["TissueTiles", "beside", "tissue_bins"]

_READ_PX = 4096
"""Edge of the squares in which genes are looked through where an atlas has no tissue mask: an expression of 500 genes
is 33 MB of them."""


class TissueTiles:
    """The tiles with tissue of an atlas, in tiles of ``patch`` pixels; of the last window asked for they are kept."""

    def __init__(self, atlas: Brain, patch: int) -> None:
        self._atlas, self._patch = atlas, patch
        self._last: tuple[tuple[int, ...], NDArray[np.bool_]] | None = None

    def window(self, window: Window) -> NDArray[np.bool_]:
        """Which tiles of the canvas are made, ``(rows, columns)``, the last ones perhaps sticking out."""
        if self._last is None or self._last[0] != window.image:
            found = [self._tiles(z) for z in window.image if 0 <= z < self._atlas.n_sections]
            self._last = (window.image, beside(np.logical_or.reduce(found)))
        return self._last[1]

    def _tiles(self, z: int) -> NDArray[np.bool_]:
        bins = tissue_bins(self._atlas, z)
        starts = (np.arange(0, edge, self._patch // BIN_PX) for edge in bins.shape)
        for axis, first in enumerate(starts):
            bins = np.logical_or.reduceat(bins, first, axis=axis)
        return bins


def beside(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where a flag or one of its eight neighbours is, ``(rows, columns)``."""
    rows, columns = flags.shape
    padded = np.pad(flags, 1)
    shifted = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.asarray(np.logical_or.reduce(shifted))


def tissue_bins(atlas: Brain, z: int) -> NDArray[np.bool_]:
    """Bins of a section with tissue, ``(height / 16, width / 16)``: ``labels/tissue``; of an atlas without, the bins
    that hold a molecule of any gene."""
    if "tissue" in atlas.labels:
        return np.asarray(atlas.read("tissue", z) > 0)
    found = np.zeros([edge // BIN_PX for edge in atlas.canvas], bool)
    for box in _squares(found.shape):
        if not atlas.blank("expression", z, box):
            found[box.slices] = atlas.read("expression", z, box).any(axis=0)
    return found


def _squares(shape: tuple[int, ...]) -> Iterator[Box]:
    return tiles(Box.from_shape((shape[0], shape[1])), ceil_div(_READ_PX, BIN_PX))
