"""A straight line through log2 levels with its confidence band, and the density of the blocks that it runs through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teramind_eval.metrics.accumulate import CoMoments, varies

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """Least-squares line y = intercept + slope x with what its confidence band needs."""

    n: int
    slope: float
    intercept: float
    correlation: float
    residual_sd: float
    mean_x: float
    m2_x: float

    @classmethod
    def through(cls, moments: CoMoments) -> Line | None:
        """The line through streamed pairs; None for fewer than three pairs or a constant x."""
        if moments.n < 3 or not varies(moments.n, moments.mean_x, moments.m2_x):
            return None
        slope = moments.c_xy / moments.m2_x
        residual = max(moments.m2_y - slope * moments.c_xy, 0.0)
        told = varies(moments.n, moments.mean_y, moments.m2_y)
        return cls(
            n=moments.n,
            slope=slope,
            intercept=moments.mean_y - slope * moments.mean_x,
            correlation=moments.c_xy / math.sqrt(moments.m2_x * moments.m2_y) if told else math.nan,
            residual_sd=math.sqrt(residual / (moments.n - 2)),
            mean_x=moments.mean_x,
            m2_x=moments.m2_x,
        )

    def at(self, x: npt.ArrayLike) -> FloatArray:
        """The line's y at `x`."""
        return self.intercept + self.slope * np.asarray(x, dtype=np.float64)

    def band(self, x: npt.ArrayLike, level: float = 0.95) -> FloatArray:
        """Half width of the confidence band of the mean response at `x` (Student's t, n - 2 degrees of freedom)."""
        offset = np.asarray(x, dtype=np.float64) - self.mean_x
        error = self.residual_sd * np.sqrt(1.0 / self.n + offset**2 / self.m2_x)
        return np.asarray(self._quantile(level) * error, dtype=np.float64)

    def slope_error(self, level: float = 0.95) -> float:
        """Half width of the confidence interval of the slope (the same t)."""
        return self._quantile(level) * self.residual_sd / math.sqrt(self.m2_x)

    def _quantile(self, level: float) -> float:
        from scipy.stats import t

        return float(t.ppf(0.5 + level / 2, self.n - 2))


@dataclass(frozen=True, slots=True)
class Axis:
    """Equal cells of a density picture: `cells` of `width` from `low` on; what lies outside counts in the outermost."""

    low: float
    width: float
    cells: int

    @property
    def edges(self) -> FloatArray:
        """Their `(cells + 1,)` edges."""
        return self.low + self.width * np.arange(self.cells + 1)

    def cell(self, values: FloatArray) -> npt.NDArray[np.int64]:
        """The cell of each value."""
        index = np.floor((values - self.low) / self.width).astype(np.int64)
        return np.clip(index, 0, self.cells - 1)


#: log2 levels of expression and attention.
LEVELS = Axis(0.0, 0.2, 100)
#: log2 of attention over uniform attention: octaves.
OCTAVES = Axis(-6.0, 0.1, 120)


def density(x: FloatArray, y: FloatArray, across: Axis, up: Axis) -> npt.NDArray[np.int64]:
    """How many pairs fall in each cell, `(across, up)`."""
    cells = across.cell(x) * up.cells + up.cell(y)
    return np.bincount(cells, minlength=across.cells * up.cells).reshape(across.cells, up.cells)
