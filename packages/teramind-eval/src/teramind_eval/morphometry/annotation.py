"""The real brain's annotation under nuclei and patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import BIN_PX, Box, ceil_div, tiles
from teramind_eval.morphometry.patches import PatchGrid
from teramind_eval.morphometry.segment import Nuclei
from teramind_eval.regions import has_regions, read_regions, region_of_most

if TYPE_CHECKING:
    from teramind_eval.part import Part

Regions = npt.NDArray[np.uint16]


def regions_of_patches(real: Part, section: int, grid: PatchGrid) -> Regions:
    """`(p,)` the most frequent region of each patch of the grid, row-major, "none" (0) only where there is no other.

    Labels of one name are one.
    """
    out = np.zeros(grid.rows * grid.columns, np.uint16)
    if not has_regions(real):
        return out
    for band in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), (grid.size, real.canvas[1])):
        values = _read(real, section, band)
        for column in range(grid.columns):
            x0, x1 = column * grid.size, min((column + 1) * grid.size, real.canvas[1])
            here = values[:, x0 // BIN_PX : ceil_div(x1, BIN_PX)]
            out[int(grid.row_of(band.y0, x0))] = region_of_most(here)
    return out


def regions_of_nuclei(real: Part, section: int, nuclei: Nuclei, band_px: int = 1024) -> Regions:
    """`(n,)` the region at each centroid, 0 for none; labels of one name are one."""
    out = np.zeros(len(nuclei), np.uint16)
    if not has_regions(real):
        return out
    # Pixel i covers [i - 0.5, i + 0.5).
    y, x = (np.floor(v + 0.5).astype(np.int64) for v in (nuclei.y, nuclei.x))
    for band in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), (band_px, real.canvas[1])):
        inside = (y >= band.y0) & (y < band.y1)
        if inside.any():
            values = _read(real, section, band)
            out[inside] = values[y[inside] // BIN_PX - band.y0 // BIN_PX, x[inside] // BIN_PX]
    return out


def _read(real: Part, section: int, band: Box) -> npt.NDArray[np.int64]:
    """Annotation of the bins that a band of canvas pixels touches, `(rows, all columns)`."""
    return read_regions(real, section, band.cover(BIN_PX).coarsen(BIN_PX))
