"""Reading blocks of one atlas: pixels of some sections, and gene counts in bins from the block's own corner.

Two readers with one contract: from memory (small atlases), and from the store. They give the same arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, CropReader

__all__ = ["BlockReader", "CachedReader", "StoreReader", "memory_bytes", "open_reader"]

_CELL = 64
"""Molecules in memory are sorted by cells of this edge, so that a block scans little more than itself."""


class BlockReader(Protocol):
    """Reads blocks of one brain. Sections are indices; the box's corner may be any pixel."""

    def image(self, sections: Sequence[int], box: Box) -> NDArray[np.uint8]:
        """Stains ``(k, z, h, w)`` of sections inside the brain; the box must lie inside the canvas."""
        ...

    def counts(self, sections: Sequence[int], box: Box) -> NDArray[np.uint16]:
        """Counts ``(S, n, h / 16, w / 16)`` in bins from the box's corner; zero for sections outside the brain."""
        ...


class StoreReader:
    """Reads from the store each time: memory does not grow with the brain."""

    def __init__(
        self,
        brain: Brain,
        genes: NDArray[np.int64],
        stains: NDArray[np.int64],
        *,
        tensorstore: bool | None = None,
    ) -> None:
        self._crops = CropReader(brain, tensorstore=tensorstore)
        self._genes = genes
        self._stains = stains

    def image(self, sections: Sequence[int], box: Box) -> NDArray[np.uint8]:
        """See :class:`BlockReader`."""
        return self._crops.pixels("morphology", sections, box)[self._stains]

    def counts(self, sections: Sequence[int], box: Box) -> NDArray[np.uint16]:
        """See :class:`BlockReader`."""
        return self._crops.counts(sections, box, self._genes)


class CachedReader:
    """Holds a small brain in memory: its stains as they are, its molecules sorted by cells of 64 px."""

    def __init__(self, brain: Brain, genes: NDArray[np.int64], stains: NDArray[np.int64]) -> None:
        height, width = brain.canvas
        self._n_genes = len(genes)
        self._image = np.empty((len(stains), brain.n_sections, height, width), np.uint8)
        rank = np.full(len(brain.panel or ()), -1, np.int64)
        rank[genes] = np.arange(len(genes))
        self._sections = []
        for z in range(brain.n_sections):
            self._image[:, z] = brain.read("morphology", z)[stains]
            y, x, gene = brain.molecules.read(z, Box.from_shape(brain.canvas))
            self._sections.append(_CellTable(y, x, rank[gene], brain.canvas))

    def image(self, sections: Sequence[int], box: Box) -> NDArray[np.uint8]:
        """See :class:`BlockReader`."""
        return np.stack([self._image[(slice(None), z, *box.slices)] for z in sections], axis=1)

    def counts(self, sections: Sequence[int], box: Box) -> NDArray[np.uint16]:
        """See :class:`BlockReader`."""
        shape = (len(sections), self._n_genes, box.height // BIN_PX, box.width // BIN_PX)
        out = np.zeros(shape, np.uint16)
        for slot, z in enumerate(sections):
            if 0 <= z < len(self._sections):
                out[slot] = self._sections[z].counts(box, self._n_genes)
        return out


class _CellTable:
    """Molecules of a section, sorted by cell; those of genes that are not wanted (rank -1) are dropped."""

    def __init__(
        self, y: NDArray[np.int32], x: NDArray[np.int32], rank: NDArray[np.int64], canvas: tuple[int, int]
    ) -> None:
        self._rows, self._columns = (-(-edge // _CELL) for edge in canvas)
        keep = rank >= 0
        cell = y[keep].astype(np.int64) // _CELL * self._columns + x[keep] // _CELL
        order = np.argsort(cell, kind="stable")
        self._y, self._x = y[keep][order].astype(np.int64), x[keep][order].astype(np.int64)
        self._rank = rank[keep][order]
        self._starts = np.searchsorted(cell[order], np.arange(self._rows * self._columns + 1))

    def counts(self, box: Box, n_genes: int) -> NDArray[np.uint16]:
        rows, columns = box.height // BIN_PX, box.width // BIN_PX
        total = np.zeros(n_genes * rows * columns, np.int64)
        cells = box.clip((self._rows * _CELL, self._columns * _CELL))
        if cells is not None:
            cover = cells.cover(_CELL).coarsen(_CELL)
            for row in range(cover.y0, cover.y1):
                first = row * self._columns
                run = slice(self._starts[first + cover.x0], self._starts[first + cover.x1])
                y, x, rank = self._y[run] - box.y0, self._x[run] - box.x0, self._rank[run]
                keep = (y >= 0) & (y < box.height) & (x >= 0) & (x < box.width)
                flat = (rank[keep] * rows + y[keep] // BIN_PX) * columns + x[keep] // BIN_PX
                total += np.bincount(flat, minlength=len(total))
        return total.reshape(n_genes, rows, columns).astype(np.uint16)


def memory_bytes(brain: Brain, stains: int) -> int:
    """What a :class:`CachedReader` of ``brain`` would hold: a byte a pixel, 24 bytes a molecule."""
    height, width = brain.canvas
    return stains * brain.n_sections * height * width + 24 * brain.molecules.total


def open_reader(
    brain: Brain, genes: NDArray[np.int64], stains: NDArray[np.int64], budget_bytes: float
) -> BlockReader:
    """The reader for ``brain``: from memory where it fits ``budget_bytes``, else from the store."""
    if memory_bytes(brain, len(stains)) <= budget_bytes:
        return CachedReader(brain, genes, stains)
    return StoreReader(brain, genes, stains)
