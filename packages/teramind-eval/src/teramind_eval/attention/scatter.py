"""Means and products of many variables at once, streamed and merged: every line and correlation of some blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from teramind_eval.metrics.accumulate import ROUNDING, CoMoments, Moments, varies

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scatter:
    """Number, means and summed products of deviations of rows of `v` variables.

    Attributes:
        n: rows.
        mean: `(v,)`.
        products: `(v, v)`, sum over rows of (x_i - mean_i)(x_j - mean_j).
    """

    n: int = 0
    mean: FloatArray = field(default_factory=lambda: np.zeros(0))
    products: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def of(cls, rows: FloatArray) -> Scatter:
        """Of rows `(n, v)`; none give the empty scatter."""
        if not len(rows):
            return cls()
        mean = rows.mean(axis=0)
        deviations = rows - mean
        return cls(len(rows), mean, deviations.T @ deviations)

    def merge(self, other: Scatter) -> Scatter:
        """Both streams together (Chan, Golub and LeVeque 1983)."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        products = self.products + other.products + np.outer(delta, delta) * (self.n * other.n / n)
        return Scatter(n, mean, products)

    def pair(self, x: int, y: int) -> CoMoments:
        """What a regression of variable `y` on variable `x` needs."""
        if not self.n:
            return CoMoments()
        return CoMoments(
            self.n,
            float(self.mean[x]),
            float(self.mean[y]),
            float(self.products[x, x]),
            float(self.products[y, y]),
            float(self.products[x, y]),
        )

    def moments(self, x: int) -> Moments:
        """Of one variable."""
        return Moments(self.n, float(self.mean[x]), float(self.products[x, x])) if self.n else Moments()

    def difference(self, x: int, y: int) -> Moments:
        """Of variable `x` minus variable `y`."""
        if not self.n:
            return Moments()
        square = self.products[x, x] + self.products[y, y] - 2 * self.products[x, y]
        return Moments(self.n, float(self.mean[x] - self.mean[y]), max(float(square), 0.0))

    def correlation(self, x: int, y: int) -> float:
        """Pearson's; nan for fewer than three rows or where either does not vary."""
        if self.n < 3 or not (self._varies(x) and self._varies(y)):
            return math.nan
        return float(self.products[x, y] / math.sqrt(self.products[x, x] * self.products[y, y]))

    def difference_correlation(self, x: int, y: int, other: int) -> float:
        """Pearson's of variable `x` minus variable `y` with another; nan where either does not vary."""
        spread = self.difference(x, y).m2
        if self.n < 3 or not self._varies(other) or spread <= ROUNDING * self.n:
            return math.nan
        product = self.products[x, other] - self.products[y, other]
        return float(product / math.sqrt(spread * self.products[other, other]))

    def left_sd(self, x: int, given: int) -> float:
        """SD of variable `x` that a line through variable `given` does not tell; all of it where that is constant."""
        own, shared = self.moments(x).sd, self.correlation(x, given)
        return own if math.isnan(shared) else own * math.sqrt(max(0.0, 1 - shared * shared))

    def _varies(self, x: int) -> bool:
        return varies(self.n, float(self.mean[x]), float(self.products[x, x]))
