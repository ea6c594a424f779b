"""The real brain's annotation under nuclei and patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import BIN_PX, Box, ceil_div, tiles
from teramind_eval.morphometry.patches import PatchGrid
from teramind_eval.morphometry.segment import Nuclei

if TYPE_CHECKING:
    from teramind_eval.part import Part

Regions = npt.NDArray[np.uint16]

_LABEL = "regions"


def region_names(real: Part) -> dict[int, str]:
    """Names of the annotation's values; empty where the brain has no annotation."""
    return real.brain.region_names if _LABEL in real.brain.labels else {}


def regions_of_patches(real: Part, section: int, grid: PatchGrid) -> Regions:
    """`(p,)` the most frequent region of each patch of the grid, row-major, "none" (0) only where there is no other."""
    out = np.zeros(grid.rows * grid.columns, np.uint16)
    if _LABEL not in real.brain.labels:
        return out
    for band in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), (grid.size, real.canvas[1])):
        values = _read(real, section, band)
        for column in range(grid.columns):
            x0, x1 = column * grid.size, min((column + 1) * grid.size, real.canvas[1])
            counts = np.bincount(values[:, x0 // BIN_PX : ceil_div(x1, BIN_PX)].ravel(), minlength=2)
            if counts[1:].any():
                out[int(grid.row_of(band.y0, x0))] = 1 + np.argmax(counts[1:])
    return out


def regions_of_nuclei(real: Part, section: int, nuclei: Nuclei, band_px: int = 1024) -> Regions:
    """`(n,)` the region at each centroid, 0 for none."""
    out = np.zeros(len(nuclei), np.uint16)
    if _LABEL not in real.brain.labels:
        return out
    # Pixel i covers [i - 0.5, i + 0.5).
    y, x = (np.floor(v + 0.5).astype(np.int64) for v in (nuclei.y, nuclei.x))
    for band in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), (band_px, real.canvas[1])):
        inside = (y >= band.y0) & (y < band.y1)
        if inside.any():
            values = _read(real, section, band)
            out[inside] = values[y[inside] // BIN_PX - band.y0 // BIN_PX, x[inside] // BIN_PX]
    return out


def _read(real: Part, section: int, band: Box) -> Regions:
    """Annotation of the bins that a band of canvas pixels touches, `(rows, all columns)`."""
    return np.asarray(real.read(_LABEL, section, band.cover(BIN_PX).coarsen(BIN_PX)))
