"""Nuclei by patch and region: one row a nucleus, from which counts, distributions and their bootstrap follow.

Values are whole numbers of a small step, so distributions are exact and merge. 26 bytes a nucleus: the one thing in an
evaluation that grows with a brain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box, ceil_div
from teramind_eval.morphometry.segment import Nuclei

Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

#: What is measured of a nucleus besides its area, and the step in which it is kept.
STEPS = {"eccentricity": 0.001, "solidity": 0.001, "mean_intensity": 0.1, "neighbour_um": 0.01}

#: Stands for "not measured": the neighbour of a nucleus that is alone in its section.
_NONE = -1


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of one section or many, and the nuclei in them.

    Attributes:
        keys: `(p, 3)` section, y0, x0 of each patch: who it is, in every store alike.
        tissue: `(p,)` whether it is one to count nuclei in.
        region: `(p,)` annotation that most of it has, 0 for none.
        patch: `(n,)` row of the patch that holds a nucleus's centroid.
        nucleus_region: `(n,)` annotation at the centroid.
        codes: `(n,)` by measure: `area_px`, and those of `STEPS` in their steps; -1 is not measured.
    """

    keys: Codes
    tissue: npt.NDArray[np.bool_]
    region: npt.NDArray[np.uint16]
    patch: Codes
    nucleus_region: npt.NDArray[np.uint16]
    codes: Mapping[str, Codes]

    @classmethod
    def empty(cls) -> Patches:
        """Of no section at all."""
        none = np.zeros(0, np.int32)
        flat = np.zeros(0, np.uint16)
        measures = ("area_px", *STEPS)
        return cls(none.reshape(0, 3), np.zeros(0, bool), flat, none, flat, dict.fromkeys(measures, none))

    def merge(self, other: Patches) -> Patches:
        """Both together; a patch is in one of them only."""
        return Patches(
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.tissue, other.tissue]),
            np.concatenate([self.region, other.region]),
            np.concatenate([self.patch, other.patch + np.int32(len(self.keys))]),
            np.concatenate([self.nucleus_region, other.nucleus_region]),
            {name: np.concatenate([own, other.codes[name]]) for name, own in self.codes.items()},
        )

    def counts(self, region: int | tuple[int, ...] | None = None) -> tuple[Integers, Codes]:
        """Nuclei in each tissue patch (of a region, or of several), and the patches' rows."""
        chosen = self.tissue if region is None else self.tissue & np.isin(self.region, region)
        rows = np.flatnonzero(chosen).astype(np.int32)
        return np.bincount(self.patch, minlength=len(self.keys))[rows], rows

    def values(self, measure: str, region: int | tuple[int, ...] | None = None) -> tuple[Integers, Codes]:
        """A measure of all nuclei (of a region, or of several) in its steps, and the rows of their patches."""
        codes = self.codes[measure]
        chosen = codes != _NONE
        if region is not None:
            chosen &= np.isin(self.nucleus_region, region)
        return codes[chosen].astype(np.int64), self.patch[chosen]


def patches_of(
    nuclei: Nuclei,
    tissue: Iterable[Box],
    grid: PatchGrid,
    regions: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]] | None = None,
) -> Patches:
    """The nuclei of one section by patch.

    Args:
        nuclei: all of them.
        tissue: patches to count in, on the grid; elsewhere nuclei are measured and not counted.
        grid: how the section is cut.
        regions: annotation at each nucleus `(n,)`, and that of each patch of the grid `(p,)`, row-major.
    """
    p = grid.rows * grid.columns
    wanted = np.zeros(p, bool)
    for box in tissue:
        wanted[grid.row_of(box.y0, box.x0)] = True
    # Pixel i covers [i - 0.5, i + 0.5).
    y, x = (np.floor(v + 0.5).astype(np.int64) for v in (nuclei.y, nuclei.x))
    at_nucleus, at_patch = regions or (np.zeros(len(nuclei), np.uint16), np.zeros(p, np.uint16))
    shapes = {
        "eccentricity": nuclei.eccentricity,
        "solidity": nuclei.solidity,
        "mean_intensity": nuclei.intensity,
        "neighbour_um": neighbour_distance(nuclei) * grid.pixel_size_um,
    }
    codes = {name: _coded(values, STEPS[name]) for name, values in shapes.items()}
    return Patches(
        grid.keys(),
        wanted,
        at_patch,
        grid.row_of(y, x).astype(np.int32),
        at_nucleus,
        {"area_px": nuclei.area_px.astype(np.int32), **codes},
    )


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """A section cut into patches of `size` px from the canvas's corner."""

    section: int
    canvas: tuple[int, int]
    size: int
    pixel_size_um: float

    @property
    def rows(self) -> int:
        """Patches along y, the last cut at the rim."""
        return ceil_div(self.canvas[0], self.size)

    @property
    def columns(self) -> int:
        """Patches along x."""
        return ceil_div(self.canvas[1], self.size)

    def row_of(self, y: npt.ArrayLike, x: npt.ArrayLike) -> Integers:
        """Row-major number of the patch that holds a pixel."""
        return np.asarray(y, np.int64) // self.size * self.columns + np.asarray(x, np.int64) // self.size

    def keys(self) -> Codes:
        """`(p, 3)` section, y0, x0 of all patches."""
        y, x = np.divmod(np.arange(self.rows * self.columns), self.columns)
        return np.stack([np.full_like(y, self.section), y * self.size, x * self.size], axis=1).astype(
            np.int32
        )


def neighbour_distance(nuclei: Nuclei) -> npt.NDArray[np.float64]:
    """`(n,)` px from each centroid to the nearest other one of the section; nan where there is no other."""
    from scipy.spatial import cKDTree

    if len(nuclei) < 2:
        return np.full(len(nuclei), np.nan)
    return np.asarray(cKDTree(nuclei.centroids).query(nuclei.centroids, k=2)[0][:, 1])


def _coded(values: npt.NDArray[np.float64], step: float) -> Codes:
    known = np.isfinite(values)
    return np.where(known, np.rint(np.where(known, values, 0.0) / step), _NONE).astype(np.int32)
