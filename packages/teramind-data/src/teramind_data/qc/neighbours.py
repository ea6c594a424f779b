"""How a section lies against its neighbours: by how much it would have to move to fit, and how far tissues overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import Box
from teramind_data.qc.bins import SectionBins
from teramind_data.qc.section import MeasuredSection, Number, rounded
from teramind_data.store import Brain

__all__ = ["Shift", "correlation", "dice", "displacement", "neighbour_numbers"]

_REACH = 0.25  # of the canvas's edges: no farther is searched
_TISSUE_SIGMA, _SIGNAL_SIGMA = (
    1.0,
    3.0,
)  # cells: cells are other cells in the next section, only structure stays
_STRIP = 256

Shift = tuple[float, float]


def correlation(fixed: NDArray[np.floating], moving: NDArray[np.floating]) -> NDArray[np.float64]:
    """Normalised cross-correlation of two planes for every shift, over what then overlaps (Padfield, IEEE Trans. Image
    Process. 21:2706, 2012, with everything valid).

    Entry ``(dy, dx)`` (negative ones from the end) is the correlation coefficient of ``fixed[y + dy, x + dx]`` and
    ``moving[y, x]``. Tissue that a shift pushed off the canvas does not count against it, as it would in a circular
    correlation.
    """
    from scipy import fft

    height, width = fixed.shape
    size = (fft.next_fast_len(2 * height, real=True), fft.next_fast_len(2 * width, real=True))

    def ahead(plane: NDArray[np.floating]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfft2(plane.astype(np.float64), size))

    def back(first: NDArray[np.complex128], second: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.asarray(fft.irfft2(first * np.conj(second), size))

    # Centred first: differences of large sums lose digits.
    f, m = fixed - fixed.mean(), moving - moving.mean()
    ones = ahead(np.ones(fixed.shape))
    ff, mm = ahead(f), ahead(m)
    count = np.maximum(np.round(back(ones, ones)), 1)
    sum_f, sum_m = back(ff, ones), back(ones, mm)
    both = back(ff, mm) - sum_f * sum_m / count
    var_f = back(ahead(f * f), ones) - sum_f**2 / count
    var_m = back(ones, ahead(m * m)) - sum_m**2 / count
    scale = np.sqrt(np.maximum(var_f, 0) * np.maximum(var_m, 0))
    enough = scale > 1e-9 * max(float(scale.max()), 1e-300)
    out: NDArray[np.float64] = np.where(enough, both / np.where(enough, scale, 1), 0.0)
    return out


def displacement(section: MeasuredSection, other: MeasuredSection) -> Shift | None:
    """By how many um ``(y, x)`` a section lies away from where it fits another best; None where either is empty.

    The peak of the sum of two normalised cross-correlations: of the tissue (outline) and of the square root of the
    molecules' density (inner structure), both smoothed; refined by a parabola through the peak's neighbours.
    """
    if not all(plane.any() for plane in (section.tissue, other.tissue)):
        return None
    surface = correlation(_smooth(section.tissue, _TISSUE_SIGMA), _smooth(other.tissue, _TISSUE_SIGMA))
    surface = surface + correlation(
        _smooth(np.sqrt(section.signal), _SIGNAL_SIGMA), _smooth(np.sqrt(other.signal), _SIGNAL_SIGMA)
    )
    reach = tuple(max(1, int(_REACH * n)) for n in section.tissue.shape)
    near = np.roll(surface, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    i, j = (int(n) for n in np.unravel_index(int(near.argmax()), near.shape))
    y = i - reach[0] + _parabola(near[:, j], i)
    x = j - reach[1] + _parabola(near[i], j)
    return rounded(y * section.cell_um), rounded(x * section.cell_um)


def _smooth(plane: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(plane.astype(np.float64), sigma, mode="nearest"))


def _parabola(line: NDArray[np.float64], at: int) -> float:
    """Where between its neighbours the top of a line lies, in -0.5..0.5."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, top, after = (float(v) for v in line[at - 1 : at + 2])
    bend = before - 2 * top + after
    return 0.0 if bend >= 0 else min(0.5, max(-0.5, (before - after) / (2 * bend)))


def dice(brain: Brain, first: int, second: int, rows: int = _STRIP) -> float | None:
    """Overlap of two sections' tissue, bin by bin: twice the common by the sum of both; None where both are empty."""
    bins = [SectionBins(brain, z) for z in (first, second)]
    common = total = 0
    for y0 in range(0, bins[0].shape[0], rows):
        box = Box(y0, min(y0 + rows, bins[0].shape[0]), 0, bins[0].shape[1])
        a, b = (part.mask(box) for part in bins)
        common += int((a & b).sum())
        total += int(a.sum()) + int(b.sum())
    return rounded(2 * common / total) if total else None


@dataclass(frozen=True)
class _Pair:
    """A section against one of another index."""

    shift: Shift | None
    dice: float | None

    @property
    def um(self) -> float | None:
        return None if self.shift is None else math.hypot(*self.shift)


def neighbour_numbers(brain: Brain, measured: list[MeasuredSection]) -> list[dict[str, Number]]:
    """Shifts and overlaps of each section against the one before and the one after, and its residue.

    The residue is the smaller of the two shifts: a section that lies wrong does so against both, its neighbours only
    against it. The first and the last section are compared with the two nearest for it.
    """
    last = len(measured) - 1
    known: dict[tuple[int, int], _Pair] = {}

    def pair(z: int, other: int) -> _Pair:
        low, high = sorted((z, other))
        if (low, high) not in known:
            shift = displacement(measured[low], measured[high])
            known[low, high] = _Pair(shift, dice(brain, low, high))
        found = known[low, high]
        if z == low or found.shift is None:
            return found
        return _Pair((-found.shift[0] + 0.0, -found.shift[1] + 0.0), found.dice)

    out = []
    for z in range(last + 1):
        numbers: dict[str, Number] = {}
        for name, other in (("previous", z - 1), ("next", z + 1)):
            if 0 <= other <= last:
                numbers |= _numbers(pair(z, other), name)
        two = [
            n for n in ((z - 1, z + 1) if 0 < z < last else (z - 2, z - 1, z + 1, z + 2)) if 0 <= n <= last
        ]
        pairs = [pair(z, other) for other in two]
        shifts = [um for um in (p.um for p in pairs) if um is not None]
        overlaps = [p.dice for p in pairs if p.dice is not None]
        numbers["residue_um"] = rounded(min(shifts)) if shifts else None
        numbers["dice"] = max(overlaps) if overlaps else None
        out.append(numbers)
    return out


def _numbers(pair: _Pair, name: str) -> dict[str, Number]:
    return {
        f"shift_{name}_y_um": None if pair.shift is None else pair.shift[0],
        f"shift_{name}_x_um": None if pair.shift is None else pair.shift[1],
        f"shift_{name}_um": None if pair.um is None else rounded(pair.um),
        f"dice_{name}": pair.dice,
    }
