"""Morphometry as plain numbers: mean, SD and distance to the real brain of every measure, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from teramind_eval.metrics.accumulate import IntegerDistribution
from teramind_eval.morphometry.bootstrap import Sample, interval, replicate
from teramind_eval.morphometry.measure import MEASURES, Morphometry, step_of
from teramind_eval.results import Distances, Interval, MeasureScores, Statistic

Weights = npt.NDArray[np.uint8]


def measure_scores(
    own: Morphometry,
    real: Morphometry | None,
    weights: Weights,
    pixel_size_um: float,
    region: int | tuple[int, ...] | None = None,
) -> dict[str, MeasureScores]:
    """Scores of all measures, by name, of a section, a region or a brain.

    Args:
        own: of the store.
        real: of the real brain, cut into the same patches; None for the real one itself.
        weights: `(p, replicates)` of those patches, see `bootstrap.patch_weights`.
        pixel_size_um: edge of a pixel.
        region: nuclei in it (in any of several), and patches that are mostly in it; None for all.
    """
    out = {}
    for name in MEASURES:
        sample = Sample(*own.sample(name, region))
        other = None if real is None else Sample(*real.sample(name, region))
        out[name] = _scores(sample, other, weights, step_of(name, pixel_size_um))
    return out


def region_scores(
    own: Morphometry,
    real: Morphometry | None,
    weights: Weights,
    pixel_size_um: float,
    named: Callable[[int], str],
) -> dict[str, dict[str, MeasureScores]]:
    """`measure_scores` by region, those that the real brain has here, each by what it is `named`.

    Regions of one name are one.
    """
    found: dict[str, tuple[int, ...]] = {}
    for value in (real or own).regions():
        name = named(value)
        found[name] = (*found.get(name, ()), value)
    return {name: measure_scores(own, real, weights, pixel_size_um, values) for name, values in found.items()}


def _scores(own: Sample, real: Sample | None, weights: Weights, step: float) -> MeasureScores:
    distribution = IntegerDistribution.of(own.values)
    drawn = replicate(own, real, weights)
    value = Statistic.of(distribution.moments, step)
    mean = Interval.of(*interval(drawn.mean), step)
    sd = Interval.of(*interval(drawn.sd), step)
    if real is None:
        return MeasureScores(value, mean, sd)
    return MeasureScores(
        value,
        mean,
        sd,
        Distances.of(IntegerDistribution.of(real.values), distribution, step),
        Interval.of(*interval(drawn.wasserstein), step),
        Interval.of(*interval(drawn.kolmogorov_smirnov)),
    )
