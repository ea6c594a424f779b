"""Nuclei counted by patch and measured by area: the paper's two morphometric figures, in exact, mergeable form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from teramind_data.geometry import Box
from teramind_eval.metrics.accumulate import IntegerDistribution
from teramind_eval.morphometry.segment import Nuclei


@dataclass(frozen=True, slots=True)
class Morphometry:
    """Nuclei of a section or of many: how many in a patch, and how large (areas in pixels)."""

    per_patch: IntegerDistribution
    area_px: IntegerDistribution

    @classmethod
    def empty(cls) -> Morphometry:
        """Of no section at all."""
        return cls(IntegerDistribution(), IntegerDistribution())

    def merge(self, other: Morphometry) -> Morphometry:
        """Of both together."""
        return Morphometry(self.per_patch.merge(other.per_patch), self.area_px.merge(other.area_px))


def measure(nuclei: Nuclei, patches: Iterable[Box]) -> Morphometry:
    """Morphometry of one section.

    Args:
        nuclei: all nuclei of the section.
        patches: the patches to count in (those that hold tissue). A nucleus belongs to the patch of its centroid;
            patches without nuclei count as zero.
    """
    boxes = list(patches)
    counts = np.zeros(len(boxes), dtype=np.int64)
    order = np.argsort(nuclei.y, kind="stable")
    rows, columns = np.floor(nuclei.y[order] + 0.5), np.floor(nuclei.x[order] + 0.5)
    for index, box in enumerate(boxes):
        first, last = np.searchsorted(rows, (box.y0, box.y1))
        band = columns[first:last]
        counts[index] = np.count_nonzero((band >= box.x0) & (band < box.x1))
    return Morphometry(IntegerDistribution.of(counts), IntegerDistribution.of(nuclei.area_px))
