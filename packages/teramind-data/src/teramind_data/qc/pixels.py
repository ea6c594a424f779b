"""Intensities and focus of a section's stains, from a sample of blocks of full resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.qc.bins import SectionBins
from teramind_data.store import Brain

__all__ = ["BLOCKS", "BLOCK_PX", "Pixels", "chosen_blocks", "percentile", "sharpness"]

#: Edge of a block in canvas pixels, and how many of a section's are looked at.
BLOCK_PX = 256
BLOCKS = 64

PERCENTILES = (1, 50, 99)

_FULL = 0.5  # share of tissue from which a block tells the focus
_DARK = 1.0  # mean grey level below which there is nothing to be sharp


def chosen_blocks(tissue: NDArray[np.int64], canvas: tuple[int, int]) -> list[Box]:
    """Blocks to look at, in canvas pixels: all that hold tissue, or ``BLOCKS`` spread evenly over them.

    ``tissue``: bins of tissue in each block, ``(rows, columns)``.
    """
    found = np.argwhere(tissue > 0)
    if len(found) > BLOCKS:
        found = found[np.arange(BLOCKS) * len(found) // BLOCKS]
    boxes = (Box.from_shape((BLOCK_PX, BLOCK_PX), (int(i) * BLOCK_PX, int(j) * BLOCK_PX)) for i, j in found)
    return [box for box in (box.clip(canvas) for box in boxes) if box is not None]


def sharpness(plane: NDArray[Any], mask: NDArray[np.bool_], pixel_size_um: float) -> float | None:
    """Relative intensity gradient of the pixels in ``mask``, per um: RMS of the Sobel gradient / mean intensity.

    The Tenengrad (Tenenbaum 1970; Krotkov, Int. J. Comput. Vision 1:223, 1988; "GRA6" in Pertuz et al., Pattern
    Recognition 46:1415, 2013) as a root mean square and divided by the mean, so that neither exposure nor bleaching
    changes it. The mean itself and the one-pixel rim of ``plane`` are left out; None where it is dark.
    """
    values = plane.astype(np.int32)
    across = values[:, 2:] - values[:, :-2]
    down = values[2:] - values[:-2]
    gx = across[:-2] + 2 * across[1:-1] + across[2:]
    gy = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    inner = mask[1:-1, 1:-1]
    count = int(inner.sum())
    if not count:
        return None
    energy = int((gx * gx + gy * gy)[inner].sum(dtype=np.int64))
    mean = int(values[1:-1, 1:-1][inner].sum(dtype=np.int64)) / count
    if mean < _DARK:
        return None
    # A ramp of one grey level a pixel has a Sobel response of 8.
    return float(np.sqrt(energy / count) / 8 / mean / pixel_size_um)


def percentile(histogram: NDArray[np.int64], percent: float) -> int | None:
    """The smallest level with at least ``percent`` of the counts at or below it; None of an empty histogram."""
    total = int(histogram.sum())
    if not total:
        return None
    return int(np.searchsorted(np.cumsum(histogram), max(1, np.ceil(total * percent / 100)), side="left"))


class Pixels:
    """Adds up a section's blocks; ``numbers`` says what came out."""

    def __init__(self, brain: Brain, bins: SectionBins) -> None:
        self._brain, self._bins = brain, bins
        self._levels = np.zeros((len(bins.stains), 256), np.int64)
        self._sharp: list[list[tuple[bool, float]]] = [[] for _ in bins.stains]

    def add(self, box: Box) -> None:
        """Look at one block, a box of canvas pixels."""
        pixels = self._brain.read("morphology", self._bins.z, box)
        bins = self._bins.mask(box.coarsen(BIN_PX))
        mask = bins.repeat(BIN_PX, 0).repeat(BIN_PX, 1)
        full = float(bins.mean()) >= _FULL
        for stain, plane in enumerate(pixels):
            self._levels[stain] += np.bincount(plane[mask], minlength=256)
            sharp = sharpness(plane, mask, self._brain.pixel_size_um)
            if sharp is not None:
                self._sharp[stain].append((full, sharp))

    def numbers(self) -> dict[str, int | float | None]:
        """Percentiles and saturation of each stain over tissue, focus as the median over blocks.

        Blocks of half tissue tell the focus; where there are none, all do.
        """
        out: dict[str, int | float | None] = {}
        for name, levels, sharp in zip(self._bins.stains, self._levels, self._sharp, strict=True):
            # A section that is black throughout has no image: its levels are not to be compared with others'.
            levels = levels if levels[1:].any() else np.zeros_like(levels)
            total = int(levels.sum())
            for percent in PERCENTILES:
                out[f"{name}_p{percent}"] = percentile(levels, percent)
            out[f"{name}_saturated"] = float(f"{levels[255] / total:.6g}") if total else None
            good = [value for full, value in sharp if full] or [value for _, value in sharp]
            out[f"{name}_focus"] = float(f"{np.median(good):.6g}") if good else None
        return out
