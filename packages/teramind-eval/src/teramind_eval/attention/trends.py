"""Attention against expression: log2 levels by block of bins, a straight line through them, its band.

The unit is a block of expression bins, as large as a tile of the image scores, because attention is one number a gene
pair and patch: single bins of a patch would be counted as if they were independent. Blocks without any count of the
pathway's genes are left out: attention multiplies by expression, so they are zero by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from teramind_eval.metrics.accumulate import CoMoments

FloatArray = npt.NDArray[np.float64]

#: Edges of the density picture, log2 units, the same for both axes.
LEVEL_EDGES: FloatArray = np.linspace(0.0, 16.0, 161)


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
        if moments.n < 3 or moments.m2_x <= 0:
            return None
        slope = moments.c_xy / moments.m2_x
        residual = max(moments.m2_y - slope * moments.c_xy, 0.0)
        spread = math.sqrt(moments.m2_x * moments.m2_y)
        return cls(
            n=moments.n,
            slope=slope,
            intercept=moments.mean_y - slope * moments.mean_x,
            correlation=moments.c_xy / spread if spread > 0 else math.nan,
            residual_sd=math.sqrt(residual / (moments.n - 2)),
            mean_x=moments.mean_x,
            m2_x=moments.m2_x,
        )

    def at(self, x: npt.ArrayLike) -> FloatArray:
        """The line's y at `x`."""
        return self.intercept + self.slope * np.asarray(x, dtype=np.float64)

    def band(self, x: npt.ArrayLike, level: float = 0.95) -> FloatArray:
        """Half width of the confidence band of the mean response at `x` (Student's t, n - 2 degrees of freedom)."""
        from scipy.stats import t

        offset = np.asarray(x, dtype=np.float64) - self.mean_x
        error = self.residual_sd * np.sqrt(1.0 / self.n + offset**2 / self.m2_x)
        return np.asarray(t.ppf(0.5 + level / 2, self.n - 2) * error, dtype=np.float64)


@dataclass(frozen=True)
class Trend:
    """Streamed relation of expression (x) and attention (y), log2 levels: moments and a density picture."""

    moments: CoMoments = field(default_factory=CoMoments)
    density: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((LEVEL_EDGES.size - 1,) * 2, dtype=np.int64)
    )

    @classmethod
    def of(cls, expression: FloatArray, attention: FloatArray) -> Trend:
        """Of paired log2 levels, `(n,)` each."""
        last = LEVEL_EDGES[-1]
        pairs = np.clip(expression, 0, last), np.clip(attention, 0, last)
        density = np.histogramdd(np.stack(pairs, axis=1), bins=(LEVEL_EDGES, LEVEL_EDGES))[0]
        return cls(CoMoments.of(expression, attention), density.astype(np.int64))

    def merge(self, other: Trend) -> Trend:
        """Both together."""
        return Trend(self.moments.merge(other.moments), self.density + other.density)

    @property
    def line(self) -> Line | None:
        """Least-squares line, where there is one."""
        return Line.through(self.moments)


def block_sums(values: npt.NDArray[np.generic], edge: int) -> FloatArray:
    """Sums of `edge` x `edge` blocks of `(..., y, x)`, float64; a rim that fills no block is left out."""
    rows, columns = values.shape[-2] // edge, values.shape[-1] // edge
    cut = values[..., : rows * edge, : columns * edge].astype(np.float64)
    return cut.reshape(*cut.shape[:-2], rows, edge, columns, edge).sum(axis=(-3, -1))


def paired_levels(
    counts: npt.NDArray[np.generic], attention: FloatArray, edge: int
) -> tuple[FloatArray, FloatArray]:
    """log2 levels by block: expression `log2(counts + 1)`, attention `log2(level + 1)`, blocks with counts only.

    Args:
        counts: `(y, x)` summed counts of the pathway's genes in bins.
        attention: `(y, x)` attention level in the same bins, linear scale.
        edge: bins along a block's edge.
    """
    expression, level = block_sums(counts, edge).ravel(), block_sums(attention, edge).ravel()
    seen = expression > 0
    return np.log2(expression[seen] + 1), np.log2(np.maximum(level[seen], 0.0) + 1)
