"""Intervals by a bootstrap over patches: how far a mean or a distance would wander had other places been looked at.

Nuclei of one patch are alike, so patches are drawn, not nuclei. Each patch gets a weight from a Poisson distribution of
mean 1 in each replicate (the Poisson bootstrap, Hanley and MacGibbon 2006), drawn from the seed and the patch's place
alone: neither other patches nor other sections nor the order of work change it, and real and generated nuclei of a
patch come and go together.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Replicates, and the share of them that an interval holds.
REPLICATES = 200
SHARE = 0.95

#: Replicates computed at once: bounds what a brain's areas take to some tens of MB.
_AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class Sample:
    """Values `(n,)` in whole steps, and the row of the patch that each comes from."""

    values: npt.NDArray[np.int64]
    patch: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Replicates:
    """What each replicate gave, `(replicates,)` each, in steps, distances to the real; nan where nothing was drawn."""

    mean: Floats
    sd: Floats
    wasserstein: Floats
    kolmogorov_smirnov: Floats


def patch_weights(
    seed: int, keys: npt.NDArray[np.int32], replicates: int = REPLICATES
) -> npt.NDArray[np.uint8]:
    """`(p, replicates)` weights of patches.

    Args:
        seed: of the report.
        keys: `(p, 3)` section, y0, x0.
        replicates: how many.
    """
    out = np.empty((len(keys), replicates), np.uint8)
    for row, key in enumerate(keys.tolist()):
        out[row] = np.random.Generator(np.random.Philox([seed, *key])).poisson(1.0, replicates)
    return out


def replicate(own: Sample, real: Sample | None, weights: npt.NDArray[np.uint8]) -> Replicates:
    """Mean, SD and distances to the real values in each replicate; nan where all come from a single patch.

    Args:
        own: values of a store.
        real: those of the real one; None leaves the distances out.
        weights: `(p, replicates)`, see `patch_weights`.
    """
    samples = [own] if real is None else [own, real]
    nothing = np.full(weights.shape[1], np.nan)
    if len(np.unique(np.concatenate([one.patch for one in samples]))) < 2:
        # Drawn as often as it may be, one place gives one and the same answer, which is no certainty.
        return Replicates(nothing, nothing, nothing, nothing)
    support = np.unique(np.concatenate([one.values for one in samples]))
    parts = []
    for first in range(0, weights.shape[1], _AT_ONCE):
        some = weights[:, first : first + _AT_ONCE]
        drawn = [_drawn(one, support, some) for one in samples]
        parts.append(np.stack([*_moments(support, drawn[0]), *_distances(support, drawn)]))
    return Replicates(*np.concatenate(parts, axis=1))


def interval(values: Floats) -> tuple[float, float]:
    """The middle `SHARE` of what the replicates gave; nan where there is nothing to give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all nan
        low, high = np.nanquantile(values, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def _drawn(sample: Sample, support: npt.NDArray[np.int64], weights: npt.NDArray[np.uint8]) -> Floats:
    """`(values, replicates)` how often each value of the support was drawn."""
    from scipy.sparse import coo_matrix

    where = np.searchsorted(support, sample.values)
    ones = np.ones(len(where))
    counts = coo_matrix((ones, (where, sample.patch)), shape=(len(support), len(weights))).tocsr()
    return np.asarray(counts @ weights.astype(np.float64))


def _moments(support: npt.NDArray[np.int64], drawn: Floats) -> tuple[Floats, Floats]:
    total = drawn.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = support @ drawn / total
        square = np.square(support[:, None] - mean)
        sd = np.sqrt((square * drawn).sum(axis=0) / (total - 1))
    return np.where(total > 0, mean, np.nan), np.where(total > 1, sd, np.nan)


def _distances(support: npt.NDArray[np.int64], drawn: list[Floats]) -> tuple[Floats, Floats]:
    nothing = np.full(drawn[0].shape[1], np.nan)
    if len(drawn) < 2 or not len(support):
        return nothing, nothing
    with np.errstate(invalid="ignore", divide="ignore"):
        own, real = (np.cumsum(one, axis=0) / one.sum(axis=0) for one in drawn)
    gap = np.abs(own - real)
    # Between two values of the support the cumulative shares stand still.
    return np.diff(support) @ gap[:-1], gap.max(axis=0)
