"""Frechet and kernel distances against scipy's matrix root and written-out sums; merged parts equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teramind_data.geometry import Box, tiles
from teramind_eval.metrics.distribution import (
    FeatureMoments,
    Features,
    Gathered,
    Reference,
    Sample,
    frechet_distance,
    kernel_distance,
    tile_keys,
)


def _rows(seed: int, n: int, width: int, rank: int | None = None) -> np.ndarray:
    """Rows whose covariance has some rank, its directions of very different size."""
    rng = np.random.default_rng(seed)
    rank = width if rank is None else rank
    mixing = rng.normal(size=(rank, width)) * np.geomspace(1, 0.05, rank)[:, None]
    return (rng.normal(size=(n, rank)) @ mixing + rng.normal(size=width)).astype(np.float32)


def _by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance as pytorch-fid writes it."""
    from scipy.linalg import sqrtm

    one, two = (np.cov(rows.astype(float), rowvar=False) for rows in (a, b))
    difference = a.astype(float).mean(axis=0) - b.astype(float).mean(axis=0)
    root = sqrtm(one @ two)
    return float(difference @ difference + np.trace(one + two) - 2 * np.trace(root).real)


@pytest.mark.parametrize("seed", range(5))
def test_frechet_distance_equals_scipys_square_root(seed: int) -> None:
    a, b = _rows(seed, 300, 40), _rows(seed + 100, 250, 40) * 1.2
    found = frechet_distance(FeatureMoments.of(a), FeatureMoments.of(b))
    assert found == pytest.approx(_by_sqrtm(a, b), rel=1e-6)


def test_frechet_distance_of_known_gaussians() -> None:
    # Diagonal covariances: the sum of the squared differences of means and of standard deviations.
    a = FeatureMoments(101, np.array([0.0, 2.0, 5.0]), np.diag([100.0, 400.0, 0.0]))
    b = FeatureMoments(11, np.array([1.0, 0.0, 5.0]), np.diag([90.0, 0.0, 10.0]))
    assert frechet_distance(a, b) == pytest.approx((1 + 4) + (1 - 3) ** 2 + (2 - 0) ** 2 + (0 - 1) ** 2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    ranks=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_frechet_distance_is_a_number_whatever_the_rank(
    seed: int, sizes: tuple[int, int], ranks: tuple[int, int], scale: float
) -> None:
    a, b = (_rows(seed + i, sizes[i], 12, ranks[i]) * scale for i in (0, 1))
    one, two = FeatureMoments.of(a), FeatureMoments.of(b)
    found = frechet_distance(one, two)
    assert found is not None
    assert np.isfinite(found)
    assert found >= 0
    size = float(np.trace(one.m2) / (one.n - 1) + np.trace(two.m2) / (two.n - 1))
    assert frechet_distance(two, one) == pytest.approx(found, rel=1e-6, abs=1e-9 * (size + found))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9 * size)


def test_frechet_distance_without_rank_equals_that_of_the_rows() -> None:
    # Five rows a side in 64 dimensions: the trace of the root is the nuclear norm of the product of centred rows.
    a, b = _rows(1, 5, 64).astype(float), _rows(2, 5, 64).astype(float)
    x, y = a - a.mean(axis=0), b - b.mean(axis=0)
    cross = np.linalg.svd(x @ y.T / 4, compute_uv=False).sum()
    expected = (
        np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + ((x**2).sum() + (y**2).sum()) / 4 - 2 * cross
    )
    assert frechet_distance(FeatureMoments.of(a), FeatureMoments.of(b)) == pytest.approx(expected, rel=1e-9)


def test_one_row_has_no_distance() -> None:
    one, two = FeatureMoments.of(_rows(1, 1, 4)), FeatureMoments.of(_rows(2, 9, 4))
    assert frechet_distance(one, two) is None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 50), max_size=4))
def test_moments_of_parts_merge_to_those_of_the_whole(seed: int, cuts: list[int]) -> None:
    rows = _rows(seed, 50, 6).astype(np.float64) + 1000.0
    merged = FeatureMoments.empty(6)
    for part in np.split(rows, sorted(cuts)):
        merged = merged.merge(FeatureMoments.of(part))
    assert merged.n == 50
    assert merged.mean == pytest.approx(rows.mean(axis=0))
    assert merged.m2 / 49 == pytest.approx(np.cov(rows, rowvar=False), rel=1e-8, abs=1e-8)


def _plain_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of pairs, written out (Gretton et al. 2012, equation 4)."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n = len(x)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    values = [
        kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i]) for i, j in pairs
    ]
    return float(np.mean(values))


def test_kernel_distance_equals_the_sum_written_out() -> None:
    keys = np.arange(23, dtype=np.uint64)
    x, y = (_rows(seed, 23, 8).astype(np.float64) for seed in (1, 2))
    samples = [Sample.of(keys, rows.astype(np.float32)) for rows in (x, y)]
    whole = kernel_distance(*samples)
    assert whole.n == 1
    assert whole.mean == pytest.approx(_plain_mmd(x, y), rel=1e-5)
    blocks = kernel_distance(*samples, block=7)
    parts = [_plain_mmd(x[part], y[part]) for part in np.array_split(np.arange(23), 3)]
    assert blocks.n == 3
    assert blocks.mean == pytest.approx(np.mean(parts), rel=1e-5)
    assert blocks.sd == pytest.approx(np.std(parts, ddof=1), rel=1e-4)


def test_kernel_distance_has_no_bias() -> None:
    # Both sides from one distribution: 0 on average, however few the tiles.
    keys = np.arange(6, dtype=np.uint64)
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(4000, 2, 6, 4)).astype(np.float32)
    values = [kernel_distance(Sample.of(keys, x), Sample.of(keys, y)).mean for x, y in draws]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_kernel_distance_wants_the_same_tiles() -> None:
    rows = _rows(1, 4, 3)
    one = Sample.of(np.arange(4, dtype=np.uint64), rows)
    with pytest.raises(ValueError, match="same tiles"):
        kernel_distance(one, Sample.of(np.arange(1, 5, dtype=np.uint64), rows))
    assert kernel_distance(Sample.empty(3), Sample.empty(3)).n == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 30), most=st.integers(1, 40))
def test_samples_of_parts_merge_to_that_of_the_whole(seed: int, cut: int, most: int) -> None:
    boxes = list(tiles(Box(0, 96, 0, 80), 16))
    keys = tile_keys(2, boxes, seed)
    rows = _rows(seed, 30, 3)
    whole = Sample.of(keys, rows, most)
    merged = Sample.of(keys[cut:], rows[cut:], most).merge(Sample.of(keys[:cut], rows[:cut], most), most)
    assert np.array_equal(merged.keys, whole.keys)
    assert np.array_equal(merged.rows, whole.rows)
    assert np.array_equal(whole.keys, np.sort(keys)[:most])


def test_keys_tell_tiles_apart_and_draw_evenly() -> None:
    boxes = list(tiles(Box(0, 4096, 0, 4096), 64))
    keys = np.concatenate([tile_keys(section, boxes, seed) for section in range(3) for seed in range(2)])
    assert len(np.unique(keys)) == len(keys) == 6 * 4096
    drawn = np.argsort(tile_keys(0, boxes))[:1024]
    quarters = [np.count_nonzero(drawn // 64 // 32 * 2 + drawn % 64 // 32 == q) for q in range(4)]
    # Binomial (1024, 1/4): standard deviation 14.
    assert all(abs(count - 256) < 60 for count in quarters)


def test_gathered_features_are_those_of_all_tiles() -> None:
    rng = np.random.default_rng(4)
    gathered = Gathered()
    parts = []
    for n in (700, 0, 500, 3):
        features = Features(_rows(n, n, 5), _rows(n + 1, n, 4))
        keys = rng.integers(0, 2**63, n, dtype=np.uint64)
        gathered.add(features, keys)
        parts.append((features, keys))
    sums = gathered.sums()
    assert sums is not None
    pooled = np.concatenate([one.pooled for one, _ in parts])
    assert sums.pooled.n == 1203
    assert sums.pooled.m2 / 1202 == pytest.approx(np.cov(pooled.astype(float), rowvar=False))
    assert np.array_equal(sums.sample.keys, np.sort(np.concatenate([keys for _, keys in parts])))
    same = Reference(sums).compare(sums)
    assert (same.fid, same.sfid) == pytest.approx((0, 0), abs=1e-9)
    assert same.n == 1203
    assert Gathered().sums() is None
