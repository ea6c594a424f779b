"""Merged parts equal the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teramind_eval.metrics.accumulate import CoMoments, IntegerDistribution, Moments

numbers = st.lists(st.floats(-1e4, 1e4, allow_nan=False), max_size=30)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers, numbers)
def test_moments_merge_in_any_grouping(a: list[float], b: list[float], c: list[float]) -> None:
    whole = Moments.of(a + b + c)
    for merged in (
        Moments.of(a).merge(Moments.of(b)).merge(Moments.of(c)),
        Moments.of(c).merge(Moments.of(b).merge(Moments.of(a))),
    ):
        assert merged.n == whole.n
        assert merged.mean == pytest.approx(whole.mean, abs=1e-6)
        assert merged.m2 == pytest.approx(whole.m2, rel=1e-9, abs=1e-4)


def test_moments_are_numpys() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=(7, 11))
    moments = Moments.of(values)
    assert moments.mean == pytest.approx(values.mean())
    assert moments.sd == pytest.approx(values.std(ddof=1))
    assert math.isnan(Moments.of([4.0]).sd)


def test_comoments_merge_to_numpys_covariance() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = 2 * x + rng.normal(size=200)
    merged = CoMoments.of(x[:31], y[:31]).merge(CoMoments()).merge(CoMoments.of(x[31:], y[31:]))
    assert merged.c_xy / 199 == pytest.approx(np.cov(x, y)[0, 1])
    assert merged.m2_x / 199 == pytest.approx(np.var(x, ddof=1))
    assert (merged.mean_x, merged.mean_y) == pytest.approx((x.mean(), y.mean()))


def test_integer_distribution_equals_scipy() -> None:
    from scipy.stats import ks_2samp, wasserstein_distance

    rng = np.random.default_rng(2)
    a, b = rng.poisson(20, 300), rng.poisson(26, 170)
    left = IntegerDistribution.of(a[:100]).merge(IntegerDistribution.of(a[100:]))
    earth, gap = left.distances(IntegerDistribution.of(b))
    assert earth == pytest.approx(wasserstein_distance(a, b))
    assert gap == pytest.approx(ks_2samp(a, b).statistic)
    assert left.moments.mean == pytest.approx(a.mean())
    assert left.moments.sd == pytest.approx(a.std(ddof=1))
    assert (left.values == np.sort(a)).all()
    assert left.quantile(0.5) == pytest.approx(np.quantile(a, 0.5, method="inverted_cdf"))


def test_empty_distribution_has_no_distance() -> None:
    assert all(math.isnan(value) for value in IntegerDistribution().distances(IntegerDistribution.of([3])))
