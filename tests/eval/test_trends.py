"""Attention against expression: the line, its band, and streaming by parts."""

from __future__ import annotations

import numpy as np
import pytest

from teramind_eval.attention.trends import Line, Trend, block_sums, paired_levels


def test_line_and_band_are_the_textbooks() -> None:
    from scipy.stats import linregress, t

    rng = np.random.default_rng(0)
    x = rng.uniform(0, 8, 60)
    y = 0.7 * x + 1 + rng.normal(scale=0.5, size=60)
    line = Trend.of(x, y).line
    assert isinstance(line, Line)
    expected = linregress(x, y)
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert line.correlation == pytest.approx(expected.rvalue)
    # At x = 0 the mean response is the intercept, whose standard error scipy gives too.
    assert line.band(0.0) == pytest.approx(t.ppf(0.975, 58) * expected.intercept_stderr)


def test_parts_merge_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 8, (2, 90))
    whole, merged = Trend.of(x, y), Trend.of(x[:20], y[:20]).merge(Trend()).merge(Trend.of(x[20:], y[20:]))
    assert (merged.density == whole.density).all()
    assert merged.line is not None and whole.line is not None
    assert merged.line.slope == pytest.approx(whole.line.slope)


def test_no_line_through_a_point() -> None:
    assert Trend.of(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])).line is None


def test_blocks_without_counts_are_left_out() -> None:
    counts = np.zeros((4, 6), dtype=np.uint8)
    counts[0, 0], counts[3, 3] = 3, 1
    attention = np.ones((4, 6))
    expression, level = paired_levels(counts, attention, 2)
    assert expression == pytest.approx([2.0, 1.0])
    assert level == pytest.approx(np.log2([5.0, 5.0]))


def test_block_sums_drop_the_rim() -> None:
    assert (block_sums(np.ones((2, 5, 4)), 2) == np.full((2, 2, 2), 4.0)).all()
