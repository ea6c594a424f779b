"""Connected parts (4 neighbours) of a plane that is read by strips of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.ingest.raster import Rows, strips


@dataclass(frozen=True)
class Components:
    """Parts of a plane: provisional labels by row, and the part (1 .. count, 0 the rest) of each label.

    Parts are numbered in the order of their first pixel, whatever the strips.
    """

    labels: Rows
    part: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of parts."""
        return int(self.part.max())

    def read(self, y0: int, y1: int) -> NDArray[np.int64]:
        """The part of each pixel of some rows."""
        return self.part[self.labels.read(y0, y1)]

    def sizes(self, rows: int) -> NDArray[np.int64]:
        """Pixels of each part, ``[0]`` those of none."""
        total = np.zeros(self.count + 1, np.int64)
        for y0, y1 in strips(self.labels.shape[0], rows):
            total += np.bincount(self.read(y0, y1).ravel(), minlength=len(total))
        return total

    def at_rim(self) -> NDArray[np.bool_]:
        """Which parts touch the plane's edge (``[0]`` is false)."""
        found = np.zeros(self.count + 1, bool)
        height = self.labels.shape[0]
        for y0, y1 in strips(height, 256):
            rows = self.read(y0, y1)
            found[rows[:, 0]] = found[rows[:, -1]] = True
            if y0 == 0:
                found[rows[0]] = True
            if y1 == height:
                found[rows[-1]] = True
        found[0] = False
        return found


def components(mask: Callable[[int, int], NDArray[np.bool_]], labels: Rows, rows: int) -> Components:
    """Label the connected parts of a mask.

    Args:
        mask: gives rows ``y0 .. y1 - 1``.
        labels: an int32 plane to write labels into.
        rows: height of the strips; the result does not depend on it.
    """
    from scipy import ndimage
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    total = 0
    above: NDArray[np.int32] | None = None
    meets: list[NDArray[np.int32]] = []
    for y0, y1 in strips(labels.shape[0], rows):
        part, count = ndimage.label(mask(y0, y1))
        part[part > 0] += total
        if above is not None:
            both = (above > 0) & (part[0] > 0)
            meets.append(np.unique(np.stack([above[both], part[0][both]]), axis=1))
        labels.write(y0, part)
        above = part[-1].copy()
        total += count
    a, b = np.concatenate(meets, axis=1) if meets else np.zeros((2, 0), np.int32)
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(total + 1, total + 1))
    _, number = connected_components(graph, directed=False)
    return Components(labels, _by_first(number))


def _by_first(number: NDArray[np.int32]) -> NDArray[np.int64]:
    """Numbers made to rise in the order of their first appearance."""
    _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]
