"""Attention against expression: the line and its band, streamed products, the sample for ranks, blocks as rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from teramind_eval.attention.blocks import Variables, block_majority, block_rows, block_sums
from teramind_eval.attention.sample import Sample, block_keys
from teramind_eval.attention.scatter import Scatter
from teramind_eval.attention.trends import LEVELS, OCTAVES, Line, density


def pairs(n: int = 60, seed: int = 0) -> np.ndarray:
    """Rows of three variables: x, a noisy line on it, something else."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 8, n)
    return np.stack([x, 0.7 * x + 1 + rng.normal(scale=0.5, size=n), rng.normal(size=n)], axis=1)


def test_line_and_band_are_the_textbooks() -> None:
    from scipy.stats import linregress, t

    rows = pairs()
    line = Line.through(Scatter.of(rows).pair(0, 1))
    assert line is not None
    expected = linregress(rows[:, 0], rows[:, 1])
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert line.correlation == pytest.approx(expected.rvalue)
    # At x = 0 the mean response is the intercept, whose standard error scipy gives too.
    quantile = t.ppf(0.975, 58)
    assert line.band(0.0) == pytest.approx(quantile * expected.intercept_stderr)
    assert line.slope_error() == pytest.approx(quantile * expected.stderr)


def test_band_is_that_of_a_plain_loop() -> None:
    from scipy.stats import t

    rows = pairs(25, 3)
    x, y = rows[:, 0].tolist(), rows[:, 1].tolist()
    n, mean_x, mean_y = len(x), sum(x) / len(x), sum(y) / len(y)
    sxx = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sxx
    left = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    line = Line.through(Scatter.of(rows).pair(0, 1))
    assert line is not None
    for at in (-2.0, 3.3, 9.0):
        error = math.sqrt(left / (n - 2) * (1 / n + (at - mean_x) ** 2 / sxx))
        assert float(line.at(at)) == pytest.approx(mean_y + slope * (at - mean_x))
        assert float(line.band(at, 0.9)) == pytest.approx(t.ppf(0.95, n - 2) * error)


def test_no_line_through_a_point() -> None:
    rows = np.array([[2.0, 1.0], [2.0, 2.0], [2.0, 3.0]])
    assert Line.through(Scatter.of(rows).pair(0, 1)) is None


def test_rounding_is_no_slope_and_no_correlation() -> None:
    near = np.array([0.1, np.nextafter(0.1, 1), 0.1, 0.1])
    rows = np.stack([near, np.array([1.0, 5.0, 2.0, 3.0])], axis=1)
    scatter = Scatter.of(rows)
    assert scatter.pair(0, 1).m2_x > 0
    assert Line.through(scatter.pair(0, 1)) is None
    assert math.isnan(scatter.correlation(0, 1))
    flat = Line.through(scatter.pair(1, 0))
    assert flat is not None
    assert flat.slope == pytest.approx(0)
    assert math.isnan(flat.correlation)


def test_streamed_products_are_those_of_the_whole() -> None:
    rows = pairs(90, 1)
    merged = Scatter().merge(Scatter.of(rows[:20])).merge(Scatter.of(rows[:0])).merge(Scatter.of(rows[20:]))
    assert merged.n == 90
    assert merged.mean == pytest.approx(rows.mean(axis=0))
    assert merged.products == pytest.approx(np.cov(rows, rowvar=False) * 89)
    for x, y in ((0, 1), (1, 2)):
        assert merged.correlation(x, y) == pytest.approx(np.corrcoef(rows[:, x], rows[:, y])[0, 1])
        gap = rows[:, x] - rows[:, y]
        assert merged.difference(x, y).mean == pytest.approx(gap.mean())
        assert merged.difference(x, y).sd == pytest.approx(gap.std(ddof=1))
        other = 3 - x - y
        assert merged.difference_correlation(x, y, other) == pytest.approx(
            np.corrcoef(gap, rows[:, other])[0, 1]
        )


def test_what_another_variable_does_not_tell() -> None:
    rows = pairs(50, 2)
    slope, intercept = np.polyfit(rows[:, 0], rows[:, 1], 1)
    left = rows[:, 1] - intercept - slope * rows[:, 0]
    scatter = Scatter.of(np.column_stack([rows, np.full(50, 3.0)]))
    assert scatter.left_sd(1, 0) == pytest.approx(left.std(ddof=1))
    # A constant tells nothing.
    assert scatter.left_sd(1, 3) == pytest.approx(rows[:, 1].std(ddof=1))
    assert math.isnan(scatter.correlation(1, 3))


def test_keys_are_the_hash_written_out_and_never_meet() -> None:
    rows, columns = (grid.ravel() for grid in np.indices((40, 50)))
    keys = block_keys(7, 3, rows, columns)
    assert len(set(keys.tolist())) == 2000

    def mixed(value: int) -> int:
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    start = mixed(7 + 0x9E3779B97F4A7C15)
    expected = [
        mixed((3 << 48 | r << 24 | c) ^ start) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    assert keys.tolist() == expected
    assert not np.array_equal(keys, block_keys(8, 3, rows, columns))
    assert not set(keys.tolist()) & set(block_keys(7, 4, rows, columns).tolist())


def test_sample_is_the_same_in_any_order_and_in_parts() -> None:
    rng = np.random.default_rng(0)
    rows, keys = pairs(500, 4), block_keys(0, 0, np.arange(500), np.zeros(500, int))
    whole = Sample.of(keys, rows, 100)
    assert whole.keys.tolist() == sorted(keys.tolist())[:100]
    parts = [Sample.of(keys[part], rows[part], 100) for part in np.array_split(rng.permutation(500), 7)]
    merged = Sample()
    for part in parts:
        merged = merged.merge(part, 100)
    assert np.array_equal(merged.keys, whole.keys)
    assert np.array_equal(merged.rows, whole.rows)


def test_sample_of_all_gives_scipys_spearman() -> None:
    from scipy.stats import spearmanr

    rows = np.round(pairs(80, 5), 1)  # with ties
    sample = Sample.of(block_keys(0, 0, np.arange(80), np.zeros(80, int)), rows)
    assert sample.rank_correlations() == pytest.approx(spearmanr(rows).statistic)
    constant = Sample(sample.keys, np.column_stack([rows[:, 0], np.ones(80)]))
    assert np.isnan(constant.rank_correlations()[0, 1])
    assert np.isnan(Sample.of(sample.keys[:2], rows[:2]).rank_correlations()).all()


def test_a_sample_is_near_the_whole() -> None:
    from scipy.stats import spearmanr

    rows = pairs(20_000, 6)
    keys = block_keys(1, 0, *np.divmod(np.arange(20_000), 200))
    sampled = Sample.of(keys, rows).rank_correlations()
    assert Sample.of(keys, rows).n == 4096
    assert sampled == pytest.approx(spearmanr(rows).statistic, abs=0.05)


def test_rows_are_the_formula() -> None:
    # Two genes, two stores, one channel, two blocks.
    counts = np.array([[3.0, 0.0], [1.0, 7.0]])
    levels = np.array([[[16.0, 7.0]], [[8.0, 28.0]]])
    v = Variables(("a", "b"), ("run", "blank"), ("window",))
    rows = block_rows(counts, levels)
    assert rows.shape == (2, v.count)
    assert v.expressions == ("together", "a", "b")
    assert rows[:, v.expression("together")] == pytest.approx(np.log2([5, 8]))
    assert rows[:, v.expression("a")] == pytest.approx([2, 0])
    assert rows[:, v.attention("blank", "window")] == pytest.approx(np.log2([9, 29]))
    # Uniform attention: two genes attend to each count.
    assert rows[:, v.uniform] == pytest.approx(np.log2([9, 15]))
    assert rows[:, v.beyond("run", "window")] == pytest.approx([1, -1])
    assert rows[:, v.beyond("blank", "window")] == pytest.approx([0, 1])


def test_a_gene_alone_is_not_said_twice() -> None:
    v = Variables(("a",), ("run",), ("window",))
    assert v.expressions == ("together",)
    assert block_rows(np.array([[1.0]]), np.array([[[2.0]]])).tolist() == [[1.0, np.log2(3), 1.0, 1.0]]


def test_block_sums_drop_the_rim() -> None:
    assert (block_sums(np.ones((2, 5, 4), np.uint8), 2) == np.full((2, 2, 2), 4.0)).all()


def test_majority_is_that_of_a_count() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (13, 18)).astype(np.uint16) * 7
    found = block_majority(labels, 3)
    assert found.shape == (4, 6)
    for i in range(4):
        for j in range(6):
            block = labels[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].ravel().tolist()
            assert found[i, j] == min(set(block), key=lambda value: (-block.count(value), value))


def test_density_counts_each_pair_once() -> None:
    x, y = np.array([0.0, 0.1, 3.3, 99.0]), np.array([-9.0, -5.95, 0.0, 9.0])
    cells = density(x, y, LEVELS, OCTAVES)
    expected = np.zeros((100, 120), int)
    for i, j in ((0, 0), (0, 0), (16, 60), (99, 119)):
        expected[i, j] += 1
    assert np.array_equal(cells, expected)
    assert LEVELS.edges[16] <= 3.3 < LEVELS.edges[17]
