"""Nuclei counted by patch and measured one by one: the paper's two morphometric figures and more, in mergeable form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box
from teramind_eval.metrics.accumulate import IntegerDistribution
from teramind_eval.morphometry.patches import STEPS, Patches, PatchGrid, patches_of
from teramind_eval.morphometry.segment import Nuclei

#: Counts of nuclei, which are of patches; all other measures are of nuclei.
PER_PATCH = "per_patch"

#: All measures, as results name them.
MEASURES = (PER_PATCH, "area_um2", *STEPS)


@dataclass(frozen=True, slots=True)
class Morphometry:
    """Nuclei of a section or of many: how many in a patch, how large, of what shape and how near each other."""

    patches: Patches = field(default_factory=Patches.empty)

    @classmethod
    def empty(cls) -> Morphometry:
        """Of no section at all."""
        return cls()

    def merge(self, other: Morphometry) -> Morphometry:
        """Of both together."""
        return Morphometry(self.patches.merge(other.patches))

    @property
    def per_patch(self) -> IntegerDistribution:
        """Nuclei in a tissue patch."""
        return IntegerDistribution.of(self.patches.counts()[0])

    @property
    def area_px(self) -> IntegerDistribution:
        """Areas in pixels."""
        return IntegerDistribution.of(self.patches.values("area_px")[0])

    def sample(
        self, measure: str, region: int | tuple[int, ...] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Values of a measure (in a region) in whole steps of `step_of`, and the rows of their patches."""
        if measure == PER_PATCH:
            return self.patches.counts(region)
        return self.patches.values("area_px" if measure == "area_um2" else measure, region)

    def regions(self) -> list[int]:
        """Annotations that any nucleus or tissue patch has."""
        found = np.union1d(self.patches.nucleus_region, self.patches.region[self.patches.tissue])
        return [int(value) for value in found if value]


def step_of(measure: str, pixel_size_um: float) -> float:
    """What one step of a measure is, in the measure's unit."""
    return {PER_PATCH: 1.0, "area_um2": pixel_size_um**2, **STEPS}[measure]


def measure(
    nuclei: Nuclei,
    patches: Iterable[Box],
    grid: PatchGrid,
    regions: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]] | None = None,
) -> Morphometry:
    """Morphometry of one section.

    Args:
        nuclei: all nuclei of the section.
        patches: the patches to count in (those that hold tissue), of the grid. A nucleus belongs to the patch of its
            centroid; patches without nuclei count as zero.
        grid: how the section is cut.
        regions: annotation at each nucleus, and of each patch of the grid; see `patches_of`.
    """
    return Morphometry(patches_of(nuclei, patches, grid, regions))
