"""A bounded sample of blocks for what cannot be streamed: ranks.

Every block has a key, a hash of (seed, section, row, column); a sample keeps the blocks of the smallest keys, at most
so many. So it does not depend on the order in which blocks come, merging the samples of two parts gives the sample
of the whole, and every map of a brain is sampled at the same places. Up to the bound it holds all blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
KeyArray = npt.NDArray[np.uint64]

#: Blocks kept of a group. Of so many the standard error of a rank correlation is about 0.016, less near 1.
MOST_BLOCKS = 4096

_SECTION_BITS, _PLACE_BITS = 16, 24


def block_keys(seed: int, section: int, rows: npt.ArrayLike, columns: npt.ArrayLike) -> KeyArray:
    """Keys `(n,)` of blocks at `rows`, `columns` (of the coarse grid) in a section of the store.

    SplitMix64's finaliser, one to one on 64 bits, of the place, moved by the finaliser of the seed: no two blocks of
    a brain share a key.
    """
    place = (np.asarray(rows, dtype=np.uint64) << np.uint64(_PLACE_BITS)) | np.asarray(columns, np.uint64)
    place |= np.uint64(section % (1 << _SECTION_BITS)) << np.uint64(2 * _PLACE_BITS)
    start = _mixed(np.array([seed % (1 << 64)], dtype=np.uint64) + np.uint64(_GAMMA))
    return _mixed(place ^ start)


_GAMMA = 0x9E3779B97F4A7C15


def _mixed(values: KeyArray) -> KeyArray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class Sample:
    """The blocks of the smallest keys, in their order: keys `(n,)` and variables `(n, v)`."""

    keys: KeyArray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    rows: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def of(cls, keys: KeyArray, rows: FloatArray, most: int = MOST_BLOCKS) -> Sample:
        """Of blocks in any order."""
        order = np.argsort(keys)[:most]
        return cls(keys[order], rows[order])

    def merge(self, other: Sample, most: int = MOST_BLOCKS) -> Sample:
        """The sample of both together."""
        if not len(self.keys) or not len(other.keys):
            return self if len(self.keys) else other
        return Sample.of(
            np.concatenate([self.keys, other.keys]), np.concatenate([self.rows, other.rows]), most
        )

    @property
    def n(self) -> int:
        """Blocks held."""
        return len(self.keys)

    def rank_correlations(self) -> FloatArray:
        """Spearman's of every two variables, `(v, v)`; nan for fewer than three blocks or a constant variable."""
        from scipy.stats import rankdata

        variables = self.rows.shape[1]
        if self.n < 3:
            return np.full((variables, variables), math.nan)
        ranks = rankdata(self.rows, axis=0) - (self.n + 1) / 2
        spread = np.sqrt(np.square(ranks).sum(axis=0))
        spread[spread == 0] = math.nan
        scaled = ranks / spread
        return np.asarray(scaled.T @ scaled, dtype=np.float64)
