"""The tissue mask on shapes that are known, and the intensity window against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.ingest.intensity import Histogram, Window
from teramind_data.ingest.tissue import tissue_mask

PIXEL_UM = 0.108  # bins of 1.73 um


def disc(shape: tuple[int, int], radius: float, centre: tuple[float, float]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_disc_with_a_ventricle() -> None:
    rng = np.random.default_rng(0)
    tissue = disc((300, 400), 120, (150, 180)) & ~disc((300, 400), 45, (150, 200))
    counts = rng.poisson(np.where(tissue, 0.8, 0.002))
    found = tissue_mask(counts, PIXEL_UM).astype(bool)
    assert overlap(found, tissue) > 0.85
    assert not found[150, 200]
    assert not found[:20].any()


def test_specks_and_holes_go_but_the_rim_stays_open() -> None:
    rng = np.random.default_rng(1)
    tissue = disc((300, 300), 200, (0, 150))
    counts = rng.poisson(np.where(tissue, 1.0, 0.0))
    counts[280, 40] = 3
    counts[60:66, 150:156] = 0
    found = tissue_mask(counts, PIXEL_UM).astype(bool)
    assert not found[270:290, 30:50].any()
    assert found[60:66, 150:156].all()
    # A corner smaller than the smallest hole is background all the same.
    counts = np.ones((64, 64), int)
    counts[:24, :24] = 0
    assert not tissue_mask(counts, PIXEL_UM * 4)[0, 0]


def test_stain_adds_the_rim_without_molecules() -> None:
    tissue = disc((200, 200), 80, (100, 100))
    counts = disc((200, 200), 60, (100, 100)).astype(int) * 2
    dapi = np.where(tissue, 120.0, 6.0)
    with_stain = tissue_mask(counts, PIXEL_UM, dapi).astype(bool)
    assert overlap(with_stain, tissue) > 0.9
    assert overlap(tissue_mask(counts, PIXEL_UM).astype(bool), tissue) < 0.8
    # A stain that does not tell tissue from background changes nothing.
    np.testing.assert_array_equal(
        tissue_mask(counts, PIXEL_UM, np.ones((200, 200))), tissue_mask(counts, PIXEL_UM)
    )


def test_no_molecules_no_tissue() -> None:
    assert not tissue_mask(np.zeros((20, 20), int), PIXEL_UM, np.ones((20, 20))).any()


def test_percentiles_and_window() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(3, 400, 100_000).astype(np.uint16)
    whole, parts = Histogram(), Histogram()
    whole.add(values)
    for part in np.array_split(values, 7):
        parts.add(part)
    np.testing.assert_array_equal(whole.levels, parts.levels)
    for percent in (0.1, 1, 50, 99.9, 100):
        level = whole.percentile(percent)
        rank = round(percent * 1000)  # of 100,000 pixels
        assert (values <= level).sum() >= rank > (values < level).sum()
    window = whole.window("DAPI")
    scaled = window.apply(values)
    assert scaled.dtype == np.uint8
    expected = np.clip(
        np.rint(255 * (values.astype(float) - window.low) / (window.high - window.low)), 0, 255
    )
    assert np.abs(scaled - expected).max() <= 1
    assert 0.0005 < (scaled == 255).mean() < 0.003


def test_window_ends() -> None:
    assert Window(100, 355).apply(np.array([0, 99, 100, 101, 227, 355, 65535])).tolist() == [
        0,
        0,
        0,
        1,
        127,
        255,
        255,
    ]


def test_nothing_to_stretch() -> None:
    with pytest.raises(InputError, match="no tissue pixel of DAPI"):
        Histogram().window("DAPI")
    flat = Histogram()
    flat.add(np.full(10, 7))
    with pytest.raises(InputError, match=r"PolyT images are flat.*manifest"):
        flat.window("PolyT")
