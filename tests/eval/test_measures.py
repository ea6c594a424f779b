"""Shapes of nuclei, their patches and regions, and the bootstrap: each against the plain way to say the same."""

from __future__ import annotations

import numpy as np
import pytest

from teramind_data.geometry import Box, tiles
from teramind_eval.morphometry.bootstrap import Sample, interval, patch_weights, replicate
from teramind_eval.morphometry.measure import MEASURES, Morphometry, measure, step_of
from teramind_eval.morphometry.patches import PatchGrid, neighbour_distance
from teramind_eval.morphometry.scores import measure_scores, region_scores
from teramind_eval.morphometry.segment import Nuclei, find_nuclei, measure_labels, owned
from teramind_eval.morphometry.watershed import NucleiSettings, Watershed
from tests.eval.drawn import PIXEL_UM, draw_nuclei


def _ellipse(shape: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    y, x = np.indices(shape)
    return ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 < 1


def test_shapes_are_those_that_were_drawn() -> None:
    labels = np.zeros((80, 200), np.int32)
    labels[_ellipse(labels.shape, (40, 30), (20, 20))] = 1
    labels[_ellipse(labels.shape, (40, 90), (12, 24))] = 2
    # A crescent: a disc with another bitten out of it.
    labels[_ellipse(labels.shape, (40, 160), (24, 24)) & ~_ellipse(labels.shape, (40, 175), (20, 20))] = 3
    image = (labels * 40 + np.indices(labels.shape)[1] % 2).astype(np.uint8)
    found = measure_labels(labels, image, (1000, 500))
    assert found.y[:2] == pytest.approx([1040, 1040])
    assert found.x[:2] == pytest.approx([530, 590])
    assert found.area_px.tolist() == [np.count_nonzero(labels == k) for k in (1, 2, 3)]
    assert found.eccentricity[:2] == pytest.approx([0, np.sqrt(1 - 0.25)], abs=0.02)
    assert found.solidity[:2] == pytest.approx([1, 1], abs=0.03)
    assert found.solidity[2] < 0.8
    assert found.intensity == pytest.approx([image[labels == k].mean() for k in (1, 2, 3)])


def test_nearest_neighbours_equal_all_pairs() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.uniform(0, 300, (2, 60))
    found = neighbour_distance(_nuclei(y, x))
    for index in range(60):
        others = [np.hypot(y[index] - y[k], x[index] - x[k]) for k in range(60) if k != index]
        assert found[index] == pytest.approx(min(others))
    assert np.isnan(neighbour_distance(_nuclei([3.0], [4.0]))).all()


@pytest.mark.parametrize("block_px", [64, 97, 200])
def test_a_nucleus_counts_once_however_the_section_is_cut(block_px: int) -> None:
    image, _ = draw_nuclei(5)

    def found(edge: int) -> Nuclei:
        segmenter = Watershed(NucleiSettings(block_px=edge))
        return find_nuclei(lambda box: image[box.slices], image.shape, PIXEL_UM, segmenter)

    whole, parts = found(384), found(block_px)
    order = [np.lexsort((one.x, one.y)) for one in (whole, parts)]
    for name in ("y", "x", "area_px", "eccentricity", "solidity", "intensity"):
        one, other = (getattr(n, name)[k] for n, k in zip((whole, parts), order, strict=True))
        assert one == pytest.approx(other)


def test_a_block_keeps_whole_the_nuclei_whose_centroids_it_holds() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 14:22], labels[10:20, 24:34] = 1, 2
    image = np.full(labels.shape, 9, np.uint8)
    # The first one's centroid is at x 17.5, so it belongs to the block that begins at pixel 18.
    left = owned(labels, image, Box(0, 40, 0, 18), Box(0, 40, 0, 40))
    right = owned(labels, image, Box(0, 40, 18, 40), Box(0, 40, 0, 40))
    assert len(left.nuclei) == 0
    assert right.nuclei.area_px.tolist() == [80, 100]
    assert (right.labels == labels).all()


def _nuclei(y: object, x: object, **columns: object) -> Nuclei:
    y, x = np.asarray(y, float), np.asarray(x, float)
    rng = np.random.default_rng(int(abs(y.sum()) * 1000))
    values = {
        "area_px": rng.integers(50, 900, len(y)),
        "eccentricity": rng.uniform(0, 1, len(y)),
        "solidity": rng.uniform(0.7, 1, len(y)),
        "intensity": rng.uniform(0, 255, len(y)),
    }
    return Nuclei(y, x, **{**values, **columns})  # type: ignore[arg-type]


def _scene(seed: int, section: int = 0) -> tuple[Nuclei, Morphometry, PatchGrid]:
    rng = np.random.default_rng(seed)
    grid = PatchGrid(section, (96, 80), 32, 0.5)
    y, x = rng.uniform(-0.5, 95.49, 70), rng.uniform(-0.5, 79.49, 70)
    nuclei = _nuclei(y, x)
    boxes = [box for index, box in enumerate(tiles(Box(0, 96, 0, 80), 32)) if index != 4]
    at_nuclei = (1 + (nuclei.x > 40)).astype(np.uint16)
    at_patches = np.array([1, 1, 2] * 3, np.uint16)
    return nuclei, measure(nuclei, boxes, grid, (at_nuclei, at_patches)), grid


def test_patches_and_regions_equal_a_plain_loop() -> None:
    nuclei, found, grid = _scene(0)
    counts = {(y, x): 0 for y in range(3) for x in range(3)}
    areas: dict[int, list[int]] = {1: [], 2: []}
    for y, x, area in zip(nuclei.y, nuclei.x, nuclei.area_px, strict=True):
        counts[int(y + 0.5) // 32, int(x + 0.5) // 32] += 1
        areas[2 if x > 40 else 1].append(int(area))
    tissue = {place: n for place, n in counts.items() if place != (1, 1)}
    assert found.sample("per_patch")[0].tolist() == list(tissue.values())
    assert found.sample("per_patch", 2)[0].tolist() == [n for (_, x), n in tissue.items() if x == 2]
    for region, values in areas.items():
        assert found.sample("area_um2", region)[0].tolist() == values
    assert found.regions() == [1, 2]
    assert found.per_patch.n == 8
    for name, values in (("eccentricity", nuclei.eccentricity), ("mean_intensity", nuclei.intensity)):
        step = step_of(name, grid.pixel_size_um)
        assert found.sample(name)[0] * step == pytest.approx(values, abs=step / 2 + 1e-9)
    near = neighbour_distance(nuclei) * grid.pixel_size_um
    assert found.sample("neighbour_um")[0] * 0.01 == pytest.approx(near, abs=0.0051)


def test_a_merged_brain_is_its_sections() -> None:
    one, other = _scene(1, 0)[1], _scene(2, 1)[1]
    both = one.merge(other)
    for name in MEASURES:
        parts = [part.sample(name)[0] for part in (one, other)]
        assert both.sample(name)[0].tolist() == np.concatenate(parts).tolist()
    assert (
        Morphometry.empty().merge(one).sample("per_patch")[0].tolist() == one.sample("per_patch")[0].tolist()
    )
    assert (both.patches.keys[both.patches.patch[len(one.patches.patch) :], 0] == 1).all()


def test_replicates_equal_a_plain_loop() -> None:
    from scipy.stats import ks_2samp, wasserstein_distance

    own, real = (Sample(*_scene(seed)[1].sample("area_um2")) for seed in (3, 4))
    weights = patch_weights(7, _scene(3)[1].patches.keys, 30)
    found = replicate(own, real, weights)
    for index in range(30):
        mine, theirs = (np.repeat(one.values, weights[one.patch, index]) for one in (own, real))
        assert found.mean[index] == pytest.approx(mine.mean())
        assert found.sd[index] == pytest.approx(mine.std(ddof=1))
        assert found.wasserstein[index] == pytest.approx(wasserstein_distance(mine, theirs))
        assert found.kolmogorov_smirnov[index] == pytest.approx(ks_2samp(mine, theirs).statistic)


def test_a_single_patch_has_no_interval() -> None:
    own, real = (Sample(*_scene(seed)[1].sample("area_um2")) for seed in (3, 4))
    weights = patch_weights(7, _scene(3)[1].patches.keys, 30)
    single = [Sample(one.values[one.patch == 2], one.patch[one.patch == 2]) for one in (own, real)]
    assert len(single[0].values) > 1
    for sample in (replicate(single[0], None, weights), replicate(*single, weights)):
        assert np.isnan(interval(sample.mean)).all()
        assert np.isnan(interval(sample.wasserstein)).all()
    two = Sample(own.values[own.patch < 2], own.patch[own.patch < 2])
    assert np.ptp(interval(replicate(two, None, weights).mean)) > 0


def test_weights_belong_to_a_place_and_a_seed() -> None:
    keys = _scene(0)[1].patches.keys
    weights = patch_weights(3, keys)
    assert (patch_weights(3, keys[::-1]) == weights[::-1]).all()
    assert (patch_weights(3, keys[4:5]) == weights[4]).all()
    assert (patch_weights(4, keys) != weights).any()
    moved = keys + np.array([1, 0, 0], np.int32)
    assert (patch_weights(3, moved) != weights).any()
    many = patch_weights(0, keys, 20_000)
    assert many.mean() == pytest.approx(1, abs=0.01)
    assert many.var() == pytest.approx(1, abs=0.02)


def test_an_interval_holds_what_it_should() -> None:
    # Means of 64 patches of one value each: SD of the mean is 1 / 8, so 95 % lie within 1.96 of those.
    rng = np.random.default_rng(0)
    keys = np.stack([np.zeros(64), np.arange(64), np.zeros(64)], axis=1).astype(np.int32)
    values = np.rint(1000 * rng.normal(size=64)).astype(np.int64)
    sample = Sample(values, np.arange(64, dtype=np.int32))
    low, high = interval(replicate(sample, None, patch_weights(0, keys, 2000)).mean)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std(ddof=1) / 8, rel=0.08)
    assert low < values.mean() < high
    assert np.isnan(interval(np.full(5, np.nan))).all()


def test_scores_of_every_measure_and_region() -> None:
    (_, own, grid), (_, real, _) = _scene(5), _scene(6)
    weights = patch_weights(0, own.patches.keys)
    alone = measure_scores(own, None, weights, grid.pixel_size_um)
    assert set(alone) == set(MEASURES)
    assert all(one.to_real is None and one.value.n for one in alone.values())
    beside = measure_scores(own, real, weights, grid.pixel_size_um)
    same = measure_scores(own, own, weights, grid.pixel_size_um)
    for name in MEASURES:
        far, near = beside[name], same[name]
        assert far.value == alone[name].value
        assert far.mean_interval.low <= far.value.mean <= far.mean_interval.high  # type: ignore[operator]
        assert far.to_real is not None and far.to_real.wasserstein > 0  # type: ignore[operator]
        assert near.to_real is not None and near.to_real.wasserstein == 0
        assert near.wasserstein_interval is not None and near.wasserstein_interval.high == 0
    by_region = region_scores(own, real, weights, grid.pixel_size_um, ["none", "left", "right"].__getitem__)
    assert list(by_region) == ["left", "right"]
    assert sum(one["area_um2"].value.n for one in by_region.values()) == alone["area_um2"].value.n


def test_regions_of_one_name_are_one() -> None:
    (_, own, grid), (_, real, _) = _scene(5), _scene(6)
    weights = patch_weights(0, own.patches.keys)
    by_region = region_scores(own, real, weights, grid.pixel_size_um, lambda _: "layer")
    assert list(by_region) == ["layer"]
    # Everything lies in one of the two.
    assert by_region["layer"] == measure_scores(own, real, weights, grid.pixel_size_um)


def test_a_region_without_nuclei_has_no_numbers() -> None:
    own = _scene(5)[1]
    weights = patch_weights(0, own.patches.keys)
    nothing = measure_scores(own, own, weights, 0.5, region=9)
    assert all(one.value.n == 0 and one.mean_interval.low is None for one in nothing.values())
    assert nothing["area_um2"].to_real is not None and nothing["area_um2"].to_real.wasserstein is None
