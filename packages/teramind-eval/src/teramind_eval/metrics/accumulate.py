"""Statistics that stream and merge: a brain is read once, tile by tile, in any order.

Every class here is a frozen value with `of(...)` and `merge(other)`; merging the parts equals computing the whole
(Chan, Golub and LeVeque 1983 for the moments; exactly, for the integer distributions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and summed squared deviation of a stream of numbers (Welford)."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Moments:
        """Moments of `values` (any shape); an empty array gives the empty moments."""
        data = np.asarray(values, dtype=np.float64).ravel()
        if data.size == 0:
            return cls()
        mean = float(data.mean())
        return cls(int(data.size), mean, float(np.square(data - mean).sum()))

    def merge(self, other: Moments) -> Moments:
        """Moments of both streams together."""
        n = self.n + other.n
        if n == 0:
            return Moments()
        delta = other.mean - self.mean
        mean = self.mean + delta * other.n / n
        return Moments(n, mean, self.m2 + other.m2 + delta * delta * self.n * other.n / n)

    @property
    def sd(self) -> float:
        """Sample standard deviation (n - 1 below the line); nan for fewer than two numbers."""
        return math.sqrt(self.m2 / (self.n - 1)) if self.n > 1 else math.nan


#: Variance, relative to the square of the mean (or to 1 where that is less), that is rounding.
ROUNDING = 1e-18


def varies(n: int, mean: float, m2: float) -> bool:
    """Whether `n` numbers of this mean and summed squared deviation differ by more than rounding."""
    return m2 > ROUNDING * n * max(1.0, mean * mean)


@dataclass(frozen=True, slots=True)
class CoMoments:
    """Means, squared deviations and their product for a stream of pairs (x, y): all that a regression needs."""

    n: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    m2_x: float = 0.0
    m2_y: float = 0.0
    c_xy: float = 0.0

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> CoMoments:
        """Co-moments of two equally long arrays."""
        xs = np.asarray(x, dtype=np.float64).ravel()
        ys = np.asarray(y, dtype=np.float64).ravel()
        if xs.size == 0:
            return cls()
        dx, dy = xs - xs.mean(), ys - ys.mean()
        return cls(
            int(xs.size), float(xs.mean()), float(ys.mean()), float(dx @ dx), float(dy @ dy), float(dx @ dy)
        )

    def merge(self, other: CoMoments) -> CoMoments:
        """Co-moments of both streams together."""
        n = self.n + other.n
        if n == 0:
            return CoMoments()
        dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.n * other.n / n
        return CoMoments(
            n,
            self.mean_x + dx * other.n / n,
            self.mean_y + dy * other.n / n,
            self.m2_x + other.m2_x + dx * dx * weight,
            self.m2_y + other.m2_y + dy * dy * weight,
            self.c_xy + other.c_xy + dx * dy * weight,
        )


@dataclass(frozen=True, slots=True)
class IntegerDistribution:
    """How often each non-negative integer was seen: nuclear areas in pixels, nuclei in a patch.

    Exact and mergeable however many values pass through, so distances between distributions need no samples.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, values: npt.ArrayLike) -> IntegerDistribution:
        """Distribution of `values`, non-negative integers of any shape."""
        data = np.asarray(values).ravel().astype(np.int64)
        return cls(np.bincount(data).astype(np.int64) if data.size else np.zeros(0, dtype=np.int64))

    def merge(self, other: IntegerDistribution) -> IntegerDistribution:
        """Both streams together."""
        size = max(self.counts.size, other.counts.size)
        return IntegerDistribution(_padded(self.counts, size) + _padded(other.counts, size))

    @property
    def n(self) -> int:
        """Number of values seen."""
        return int(self.counts.sum())

    @property
    def values(self) -> npt.NDArray[np.int64]:
        """The values in order, each as often as it was seen (for plots of small distributions)."""
        return np.repeat(np.arange(self.counts.size, dtype=np.int64), self.counts)

    @property
    def moments(self) -> Moments:
        """Count, mean and squared deviation, from the counts."""
        n = self.n
        if n == 0:
            return Moments()
        support = np.arange(self.counts.size, dtype=np.float64)
        mean = float(support @ self.counts) / n
        return Moments(n, mean, float(np.square(support - mean) @ self.counts))

    def quantile(self, q: float) -> float:
        """Smallest value that at least the share `q` of all values does not exceed; nan when empty."""
        if self.n == 0:
            return math.nan
        return float(np.searchsorted(np.cumsum(self.counts), q * self.n, side="left"))

    def distances(self, other: IntegerDistribution) -> tuple[float, float]:
        """(Wasserstein-1 distance in the values' unit, Kolmogorov-Smirnov statistic); nan where either is empty.

        On integers both follow from the two cumulative shares: their summed and their largest absolute difference.
        """
        if self.n == 0 or other.n == 0:
            return math.nan, math.nan
        size = max(self.counts.size, other.counts.size)
        mine = np.cumsum(_padded(self.counts, size)) / self.n
        theirs = np.cumsum(_padded(other.counts, size)) / other.n
        gap = np.abs(mine - theirs)
        return float(gap.sum()), float(gap.max())


def _padded(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    return np.pad(counts, (0, size - counts.size))
