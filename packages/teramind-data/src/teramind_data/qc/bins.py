"""A section at the resolution of bins (16 x 16 px), read box by box: mask, molecules, mean of each stain."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain
from teramind_data.store.pyramid import halve

__all__ = ["IMAGE_LEVEL", "DensityRows", "MaskSource", "SectionBins", "fold"]

#: Mean of a bin, of 255, from which it counts as imaged tissue where a store has no mask.
IMAGE_LEVEL = 8

_BIN_LEVEL = BIN_PX.bit_length() - 1  # pyramid level whose pixels are bins

MaskSource = Literal["tissue", "image", "transcripts"]


class DensityRows(Protocol):
    """Molecules of all genes in each bin of a section, by rows of bins."""

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows ``y0 .. y1 - 1``, ``(rows, w)`` integers."""
        ...


class _StoreDensity:
    """Counted from the store's molecules."""

    def __init__(self, brain: Brain, z: int) -> None:
        self._brain, self._z = brain, z

    def read(self, y0: int, y1: int) -> NDArray[np.int64]:
        width = self._brain.canvas[1] // BIN_PX
        box = Box(y0 * BIN_PX, y1 * BIN_PX, 0, self._brain.canvas[1])
        y, x, _ = self._brain.molecules.read(self._z, box)
        flat = (y.astype(np.int64) // BIN_PX - y0) * width + x // BIN_PX
        return np.bincount(flat, minlength=(y1 - y0) * width).reshape(y1 - y0, width)


class SectionBins:
    """What a store knows of one section's bins. Boxes are in bins; of whole rows where molecules are asked for.

    ``density``: the section's molecules where they are at hand, else they are counted from the store.
    """

    def __init__(self, brain: Brain, z: int, density: DensityRows | None = None) -> None:
        self.brain, self.z = brain, z
        self.shape = brain.canvas[0] // BIN_PX, brain.canvas[1] // BIN_PX
        self.stains = brain.stains if "morphology" in brain.images else ()
        self._density = density
        if density is None and brain.has_molecules:
            self._density = _StoreDensity(brain, z)
        if "tissue" in brain.labels:
            self.mask_source: MaskSource = "tissue"
        else:
            self.mask_source = "image" if self.stains else "transcripts"

    @property
    def has_density(self) -> bool:
        """Whether molecules are known."""
        return self._density is not None

    def density(self, y0: int, y1: int) -> NDArray[Any]:
        """Molecules of all genes in rows of bins; zeros where none are known."""
        if self._density is None:
            return np.zeros((y1 - y0, self.shape[1]), np.int64)
        return self._density.read(y0, y1)

    def images(self, box: Box) -> NDArray[np.uint8]:
        """Mean of each stain in each bin, ``(c, h, w)``: the pyramid's level of bins, made here where it has none."""
        if not self.stains:
            return np.zeros((0, *box.shape), np.uint8)
        levels = self.brain.layout("morphology").levels
        # Coarser levels than a writer's own are there only once the store is finished; they would hold the same.
        level = max(lv.index for lv in levels if lv.online and lv.index <= _BIN_LEVEL)
        pixels = self.brain.read("morphology", self.z, box.refine(BIN_PX >> level), level=level)
        for _ in range(_BIN_LEVEL - level):
            pixels = halve(pixels, "mean", "uint8")
        return pixels

    def mask(self, box: Box, images: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
        """Where there is tissue, ``(h, w)``: by the store's mask, else by its image, else by its molecules."""
        if self.mask_source == "tissue":
            return np.asarray(self.brain.read("tissue", self.z, box)) != 0
        if self.mask_source == "image":
            return (self.images(box) if images is None else images).max(axis=0) >= IMAGE_LEVEL
        return self.density(box.y0, box.y1)[:, box.x0 : box.x1] > 0


def fold(plane: NDArray[Any], y0: int, step: int, into: NDArray[np.int64]) -> None:
    """Add rows of a plane, of which the first is row ``y0``, to sums over cells of ``step x step``."""
    width = plane.shape[1]
    columns = np.add.reduceat(plane.astype(np.int64), np.arange(0, width, step), axis=1)
    np.add.at(into, (y0 + np.arange(len(plane))) // step, columns)
