"""Where there is tissue, at the resolution of bins: molecules, smoothed, and the DAPI stain within reach of them.

Worked in strips of rows, with results that do not depend on their height: a canvas of 73,216 x 105,984 px has 30
million bins, and its planes do not fit into a worker's memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX
from teramind_data.ingest.components import components
from teramind_data.ingest.raster import ArrayRows, FileRows, Maker, Rows, strips

SIGMA_UM = 14.0  # bridges the gaps between cells, whatever the pixel size
RELATIVE_DENSITY = 0.25  # of the section's typical density; a straight edge of tissue lies at 0.5
SMALLEST_UM2 = 3000.0  # islands and holes below 55 x 55 um go
_STRIP_BINS = 1 << 19  # of a strip in files: some 20 MB with all that is made of it
_LEAST_ROWS = 32  # as many as are read above and below a strip, at a pixel of 0.108 um
_TRUNCATE = 4.0  # standard deviations of the Gaussian that are summed


def tissue_mask(
    molecules: NDArray[Any], pixel_size_um: float, dapi: NDArray[Any] | None = None, *, rows: int = 1 << 30
) -> NDArray[np.uint8]:
    """Tissue (1) and background (0) of one section.

    Args:
        molecules: counts of all genes in each bin, ``(y/16, x/16)``.
        pixel_size_um: edge of a canvas pixel.
        dapi: mean of DAPI in each bin, same shape, any scale; optional.
        rows: rows worked at once; the mask does not depend on it.

    The molecules are smoothed (Gaussian, 14 um) and compared with a quarter of their typical density (the median over
    bins that hold any). Bins whose smoothed DAPI is above half-way between the medians of the background and of that
    tissue join where they touch it: nuclei with few molecules at the rim. Islands and holes smaller than 3000 um^2 are
    removed. Without molecules the mask is empty.
    """
    stain = None if dapi is None else ArrayRows(np.asarray(dapi))
    work = Work(pixel_size_um, rows, ArrayRows.create)
    found = work.mask(ArrayRows(np.asarray(molecules)), stain)
    return found.read(0, found.shape[0]).astype(np.uint8)


class FileTissue:
    """Masks of planes in files, worked in strips: memory does not grow with the canvas."""

    def plane(self, path: Path, shape: tuple[int, int], dtype: str) -> Rows:
        """A plane of zeros in a file."""
        return FileRows.create(path, shape, dtype)

    def mask(self, molecules: Rows, pixel_size_um: float, dapi: Rows | None, folder: Path) -> Rows:
        """``tissue_mask`` of planes in files; intermediate ones go into ``folder``, which the caller removes."""

        def make(name: str, shape: tuple[int, int], dtype: str) -> Rows:
            return FileRows.create(folder / name, shape, dtype)

        rows = max(_LEAST_ROWS, _STRIP_BINS // molecules.shape[1])
        return Work(pixel_size_um, rows, make).mask(molecules, dapi)


@dataclass(frozen=True)
class Work:
    """How masks are made: scale, height of the strips, and where intermediate planes go."""

    pixel_size_um: float
    rows: int
    make: Maker

    @property
    def sigma(self) -> float:
        """Standard deviation of the smoothing in bins."""
        return SIGMA_UM / (BIN_PX * self.pixel_size_um)

    def mask(self, molecules: Rows, dapi: Rows | None) -> Rows:
        """The mask of one section, uint8; see ``tissue_mask``."""
        rows = min(self.rows, molecules.shape[0])
        density = self._smooth(molecules, self.sigma, "density")

        def occupied() -> Iterator[NDArray[np.float32]]:
            for y0, y1 in strips(molecules.shape[0], rows):
                yield density.read(y0, y1)[molecules.read(y0, y1) > 0]

        typical = _median(occupied)
        mask = self.make("mask", molecules.shape, "uint8")
        if typical is None:
            return mask
        tissue = 0
        for y0, y1 in strips(molecules.shape[0], rows):
            part = density.read(y0, y1) >= RELATIVE_DENSITY * typical
            tissue += int(part.sum())
            mask.write(y0, part)
        if dapi is not None and 0 < tissue < molecules.shape[0] * molecules.shape[1]:
            mask = self._grow_by_stain(mask, dapi, rows)
        return self._without_specks(mask, rows)

    def _smooth(self, plane: Rows, sigma: float, name: str) -> Rows:
        """Gaussian smoothing, rows above and below a strip included, so that strips leave no trace."""
        from scipy import ndimage

        out = self.make(name, plane.shape, "float32")
        halo = int(_TRUNCATE * sigma + 0.5)
        for y0, y1 in strips(plane.shape[0], min(self.rows, plane.shape[0])):
            top, bottom = max(0, y0 - halo), min(plane.shape[0], y1 + halo)
            part = np.asarray(plane.read(top, bottom), np.float32)
            if not part.any():  # most of a canvas; planes are made of zeros
                continue
            smooth = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=_TRUNCATE)
            out.write(y0, smooth[y0 - top : y1 - top])
        return out

    def _grow_by_stain(self, mask: Rows, dapi: Rows, rows: int) -> Rows:
        smooth = self._smooth(dapi, self.sigma / 2, "stain")
        height = mask.shape[0]

        def values(tissue: bool) -> Callable[[], Iterator[NDArray[np.float32]]]:
            return lambda: (
                smooth.read(y0, y1)[(mask.read(y0, y1) != 0) == tissue] for y0, y1 in strips(height, rows)
            )

        inside, outside = _median(values(True)) or 0.0, _median(values(False)) or 0.0
        if inside <= outside:  # the stain does not tell tissue from background here
            return mask
        level = (inside + outside) / 2

        def candidates(y0: int, y1: int) -> NDArray[np.bool_]:
            return (mask.read(y0, y1) != 0) | (smooth.read(y0, y1) > level)

        found = components(candidates, self.make("grown", mask.shape, "int32"), rows)
        touching = np.zeros(found.count + 1, bool)
        for y0, y1 in strips(height, rows):
            touching[found.read(y0, y1)[mask.read(y0, y1) != 0]] = True
        touching[0] = False
        for y0, y1 in strips(height, rows):
            mask.write(y0, touching[found.read(y0, y1)])
        return mask

    def _without_specks(self, mask: Rows, rows: int) -> Rows:
        """Islands and holes below the smallest size removed; the largest island always stays."""
        smallest = SMALLEST_UM2 / (BIN_PX * self.pixel_size_um) ** 2
        islands = components(
            lambda y0, y1: mask.read(y0, y1) != 0, self.make("islands", mask.shape, "int32"), rows
        )
        if islands.count == 0:
            return mask
        sizes = islands.sizes(rows)
        keep = sizes >= smallest
        keep[1 + sizes[1:].argmax()] = True
        keep[0] = False
        for y0, y1 in strips(mask.shape[0], rows):
            mask.write(y0, keep[islands.read(y0, y1)])
        holes = components(
            lambda y0, y1: mask.read(y0, y1) == 0, self.make("holes", mask.shape, "int32"), rows
        )
        fill = holes.sizes(rows) < smallest
        # Background that reaches the canvas's rim goes on outside: it is no hole.
        fill[holes.at_rim()] = False
        fill[0] = False
        for y0, y1 in strips(mask.shape[0], rows):
            mask.write(y0, (mask.read(y0, y1) != 0) | fill[holes.read(y0, y1)])
        return mask


def _median(values: Callable[[], Iterator[NDArray[np.float32]]]) -> float | None:
    """The exact median of a stream of non-negative float32 that is read three times; None where it is empty.

    Such floats are in the order of their bits, so a count of the high halves finds where the middle lies, and a count
    of the low halves there finds it.
    """
    high = np.zeros(1 << 16, np.int64)
    for part in values():
        high += np.bincount(_bits(part) >> 16, minlength=1 << 16)
    total = int(high.sum())
    if not total:
        return None
    before = np.concatenate([[0], np.cumsum(high)])
    middle = []
    for rank in ((total - 1) // 2, total // 2):
        bucket = int(np.searchsorted(before, rank, side="right")) - 1
        low = np.zeros(1 << 16, np.int64)
        for part in values():
            bits = _bits(part)
            low += np.bincount(bits[bits >> 16 == bucket] & 0xFFFF, minlength=1 << 16)
        within = int(np.searchsorted(np.cumsum(low), rank - int(before[bucket]), side="right"))
        middle.append(bucket << 16 | within)
    return float(np.array(middle, np.uint32).view(np.float32).mean())


def _bits(values: NDArray[np.float32]) -> NDArray[np.int64]:
    # Adding zero makes of a negative zero the positive one.
    return (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32).astype(np.int64)
