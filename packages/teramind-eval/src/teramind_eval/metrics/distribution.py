"""Distances between distributions of image features: FID, sFID and KID from sums that stream and merge.

FID (Heusel et al. 2017) is the Frechet distance of Gaussians fitted to the features of real and generated tiles; sFID
(Nash et al. 2021) is the same of features that keep their place in the tile; KID (Binkowski et al. 2018) compares the
features themselves by a kernel and has no bias, which matters where tiles are few. The features come from
`teramind_eval.metrics.inception`; nothing here knows what made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box
from teramind_eval.metrics.accumulate import Moments

#: Tiles whose features a store keeps for KID, and about how many make a block of it.
SAMPLE, BLOCK = 2048, 512

#: With fewer tiles than features a covariance lacks directions, and a Frechet distance is far too large.
FEW = 2048

#: Rows that are gathered before they are added to the sums: one large product instead of many small ones.
_FOLD = 1024

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Features:
    """Features of `t` tiles: `pooled (t, p)` for FID and KID, `spatial (t, q)` for sFID."""

    pooled: Rows
    spatial: Rows


class Extractor(Protocol):
    """What makes features of tiles."""

    def __call__(self, tiles: Sequence[npt.NDArray[np.uint8]]) -> Features:
        """Features of tiles `(3, y, x)` each, of any size."""
        ...


@dataclass(frozen=True)
class FeatureMoments:
    """Count, mean `(d,)` and summed outer products of deviations `(d, d)` of a stream of rows, float64."""

    n: int
    mean: FloatArray
    m2: FloatArray

    @classmethod
    def empty(cls, width: int) -> FeatureMoments:
        """Of no row at all."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, rows: npt.ArrayLike) -> FeatureMoments:
        """Moments of rows `(n, d)`."""
        data = np.asarray(rows, dtype=np.float64)
        if not len(data):
            return cls.empty(data.shape[1])
        mean = data.mean(axis=0)
        deviations = data - mean
        return cls(len(data), mean, deviations.T @ deviations)

    def merge(self, other: FeatureMoments) -> FeatureMoments:
        """Moments of both streams (Chan, Golub and LeVeque 1983)."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        delta = other.mean - self.mean
        m2 = np.multiply.outer(delta * (self.n * other.n / n), delta)
        m2 += self.m2
        m2 += other.m2
        return FeatureMoments(n, self.mean + delta * (other.n / n), m2)

    def factor(self) -> FloatArray:
        """A matrix `(d, r)` whose product with its transpose is the sample covariance; r is its numerical rank.

        By Cholesky's method with pivots, which stops at the rank: few rows are quick, however many features there are.
        """
        from scipy.linalg.lapack import dpstrf

        covariance = self.m2 / (self.n - 1)
        # What lies below is rounding; its square root would not be small.
        least = len(covariance) * np.finfo(np.float64).eps * float(covariance.diagonal().max())
        if least <= 0:
            return np.zeros((len(covariance), 0))
        packed, pivots, rank, _ = dpstrf(covariance, tol=least, lower=1)
        factor = np.empty((len(covariance), rank))
        factor[pivots - 1] = np.tril(packed)[:, :rank]
        return factor


def frechet_distance(a: FeatureMoments, b: FeatureMoments) -> float | None:
    """Squared Frechet distance of two Gaussians (Dowson and Landau 1982); None with fewer than two rows on a side.

    `|m_a - m_b|^2 + tr A + tr B - 2 tr (A B)^(1/2)`, where the last trace is the sum of the square roots of the
    eigenvalues of A B. With A = F F' and B = G G' these roots are the singular values of F' G: real, not negative and
    exact to rounding also where A or B lack rank, which no square root of a matrix product is.
    """
    if a.n < 2 or b.n < 2:
        return None
    return _distance(a, a.factor(), b, b.factor())


def _distance(a: FeatureMoments, a_factor: FloatArray, b: FeatureMoments, b_factor: FloatArray) -> float:
    from scipy.linalg import svdvals

    shared = 0.0
    if a_factor.size and b_factor.size:
        shared = float(svdvals(a_factor.T @ b_factor, overwrite_a=True, check_finite=False).sum())
    difference = a.mean - b.mean
    spread = np.trace(a.m2) / (a.n - 1) + np.trace(b.m2) / (b.n - 1)
    # Equal distributions come out at rounding's distance from 0, on either side of it.
    return max(0.0, float(difference @ difference + spread) - 2 * shared)


@dataclass(frozen=True)
class Sample:
    """Features of the tiles with the smallest keys: a fair draw that does not depend on order, and merges.

    Attributes:
        keys: `(n,)`, ascending.
        rows: `(n, d)`, float32.
    """

    keys: Keys
    rows: Rows

    @classmethod
    def empty(cls, width: int) -> Sample:
        """Of no tile at all."""
        return cls(np.zeros(0, np.uint64), np.zeros((0, width), np.float32))

    @classmethod
    def of(cls, keys: Keys, rows: Rows, most: int = SAMPLE) -> Sample:
        """The `most` rows of the smallest keys."""
        order = np.argsort(keys, kind="stable")[:most]
        return cls(keys[order], np.asarray(rows[order], dtype=np.float32))

    def merge(self, other: Sample, most: int = SAMPLE) -> Sample:
        """The draw from both streams together."""
        return Sample.of(
            np.concatenate([self.keys, other.keys]), np.concatenate([self.rows, other.rows]), most
        )


def tile_keys(section: int, tiles: Sequence[Box], seed: int = 0) -> Keys:
    """A number for each tile that looks random and depends on seed, section and place alone (splitmix64)."""
    corners = np.array([(tile.y0, tile.x0) for tile in tiles], dtype=np.uint64).reshape(-1, 2)
    key = np.zeros(len(tiles), dtype=np.uint64)
    for part in (np.full_like(key, seed), np.full_like(key, section), corners[:, 0], corners[:, 1]):
        key = (key ^ part) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return key


def kernel_distance(a: Sample, b: Sample, block: int = BLOCK) -> Moments:
    """KID: the unbiased squared MMD under k(x, y) = (x'y / d + 1)^3, of blocks of the tiles that both samples hold.

    Real and generated tiles come in pairs from the same places, so k(x_i, y_i) is left out, as in Gretton et al. 2012
    (equation 4): with it the estimate would be too low. Blocks are cut from tiles in the order of their keys, about
    `block` each; the mean over blocks is KID, their spread says how sure it is. Fewer than two tiles give no value.

    Raises
    ------
    ValueError
        where the samples are not of the same tiles.
    """
    if not np.array_equal(a.keys, b.keys):
        raise ValueError("KID compares samples of the same tiles")
    if len(a.keys) < 2:
        return Moments()
    parts = np.array_split(np.arange(len(a.keys)), max(1, len(a.keys) // block))
    return Moments.of([_squared_mmd(a.rows[part], b.rows[part]) for part in parts])


def _squared_mmd(x: Rows, y: Rows) -> float:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n, width = x.shape
    total = 0.0
    for left, right, weight in ((x, x, 1.0), (y, y, 1.0), (x, y, -2.0)):
        kernel = (left @ right.T / width + 1.0) ** 3
        total += weight * float(kernel.sum() - np.trace(kernel))
    return total / (n * (n - 1))


@dataclass(frozen=True)
class FeatureSums:
    """All that FID, sFID and KID need of the tiles of a store; see `Gathered` for how it is filled."""

    pooled: FeatureMoments
    spatial: FeatureMoments
    sample: Sample

    def merge(self, other: FeatureSums) -> FeatureSums:
        """Tiles of both."""
        return FeatureSums(
            self.pooled.merge(other.pooled),
            self.spatial.merge(other.spatial),
            self.sample.merge(other.sample),
        )


@dataclass
class Gathered:
    """Features as they come, added to the sums many at a time."""

    _waiting: list[tuple[Features, Keys]] = field(default_factory=list)
    _sums: FeatureSums | None = None

    def add(self, features: Features, keys: Keys) -> None:
        """Take the features of some tiles, with the tiles' keys."""
        self._waiting.append((features, keys))
        if sum(len(keys) for _, keys in self._waiting) >= _FOLD:
            self._fold()

    def sums(self) -> FeatureSums | None:
        """Sums of all that came; None where nothing did."""
        if self._waiting:
            self._fold()
        return self._sums

    def _fold(self) -> None:
        pooled = np.concatenate([features.pooled for features, _ in self._waiting])
        spatial = np.concatenate([features.spatial for features, _ in self._waiting])
        keys = np.concatenate([keys for _, keys in self._waiting])
        self._waiting.clear()
        new = FeatureSums(FeatureMoments.of(pooled), FeatureMoments.of(spatial), Sample.of(keys, pooled))
        self._sums = new if self._sums is None else self._sums.merge(new)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How far a store's tiles lie from the real ones: FID, sFID, KID by block, and the number of tiles."""

    fid: float | None
    sfid: float | None
    kid: Moments
    n: int


class Reference:
    """The real tiles' sums, factored once for all stores that are compared with them."""

    def __init__(self, real: FeatureSums) -> None:
        self._real = real
        enough = real.pooled.n > 1
        self._pooled = real.pooled.factor() if enough else None
        self._spatial = real.spatial.factor() if enough else None

    def compare(self, other: FeatureSums) -> Distribution:
        """Distances of another store's tiles; None where there are fewer than two."""
        real = self._real
        fid = sfid = None
        if self._pooled is not None and self._spatial is not None and other.pooled.n > 1:
            fid = _distance(real.pooled, self._pooled, other.pooled, other.pooled.factor())
            sfid = _distance(real.spatial, self._spatial, other.spatial, other.spatial.factor())
        return Distribution(fid, sfid, kernel_distance(real.sample, other.sample), other.pooled.n)
