"""Pulling and pushing against slow, obvious twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from teramind_data.geometry import Box
from teramind_data.ingest.rasterize import bin_counts, coordinates, pixels_on, pull, pusher, sample
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.transforms import Affine, ThinPlateSpline, Transform, chain, scaling


def rotation(degrees: float, shift: tuple[float, float]) -> Affine:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Affine(np.array([[c, -s, shift[0]], [s, c, shift[1]]]))


def warp(bend: float = 6.0) -> Transform:
    """A spline over 400 x 400 px between two affines, as ABBA writes it."""
    rng = np.random.default_rng(5)
    source = np.stack(np.meshgrid(np.linspace(0, 0.4, 4), np.linspace(0, 0.4, 4)), -1).reshape(-1, 2)
    spline = ThinPlateSpline(source, source + rng.normal(0, bend * 1e-3, source.shape))
    return chain(scaling(1e-3), spline, scaling(1e3), rotation(12, (60, -20)))


@pytest.fixture
def slide_file(tmp_path: Path) -> Path:
    y, x = np.mgrid[:420, :460]
    image = 30000 + 9000 * np.sin(x / 9) + 9000 * np.cos(y / 7) + 5 * x
    file = tmp_path / "s.tif"
    tifffile.imwrite(file, image.astype(np.uint16), tile=(64, 64), photometric="minisblack", metadata=None)
    return file


@pytest.mark.parametrize(
    "transform", [rotation(12, (60, -20)), warp(), warp(25.0)], ids=["affine", "spline", "wild"]
)
def test_coordinates_are_the_transform(transform: Transform) -> None:
    box = Box(16, 300, 5, 333)
    found = coordinates(transform, box)
    y, x = np.mgrid[16:300, 5:333]
    exact = transform.forward(np.column_stack([x.ravel(), y.ravel()]).astype(float))
    error = np.abs(found - np.stack([exact[:, 1], exact[:, 0]]).reshape(found.shape)).max()
    assert error < (1e-9 if isinstance(transform, Affine) else 0.02)


def brute_pull(image: np.ndarray, transform: Transform, box: Box) -> np.ndarray:
    """Bilinear, a pixel at a time; half a pixel of rim repeated."""
    out = np.zeros(box.shape)
    height, width = image.shape
    for row in range(box.height):
        for column in range(box.width):
            ((x, y),) = transform.forward(np.array([[box.x0 + column, box.y0 + row]], float))
            if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
                continue
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
            i, j = min(int(y), height - 2), min(int(x), width - 2)
            u, v = y - i, x - j
            block = image[i : i + 2, j : j + 2].astype(float)
            out[row, column] = (block * np.outer([1 - u, u], [1 - v, v])).sum()
    return out


@pytest.mark.parametrize("transform", [rotation(12, (60, -20)), warp()], ids=["affine", "spline"])
@pytest.mark.parametrize("box", [Box(0, 40, 0, 50), Box(200, 230, 300, 360), Box(-20, 10, -30, 20)])
def test_pull_equals_its_slow_twin(slide_file: Path, transform: Transform, box: Box) -> None:
    image = tifffile.imread(slide_file)
    with Slide(slide_file) as slide:
        found = pull(slide, transform, box)
    expected = brute_pull(image, transform, box)
    both = (found > 0) & (expected > 0)
    assert ((found > 0) != (expected > 0)).sum() <= 2  # the rim of the slide, within the grid's 0.01 px
    tolerance = 0.1 if isinstance(transform, Affine) else 0.02 * 2500  # counts: 0.02 px of the steepest slope
    assert np.abs(found - expected)[both].max(initial=0) < tolerance


def test_blocks_do_not_show(slide_file: Path) -> None:
    transform = rotation(12, (60, -20))
    with Slide(slide_file) as slide:
        whole = pull(slide, transform, Box(0, 256, 0, 256), "cubic")
        for box in (Box(0, 128, 0, 128), Box(128, 256, 64, 256)):
            np.testing.assert_allclose(pull(slide, transform, box, "cubic"), whole[box.slices], atol=0.5)


def test_cubic_is_nearer_than_linear(slide_file: Path) -> None:
    transform = rotation(12, (60.3, -20.4))
    box = Box(100, 250, 100, 250)
    at = coordinates(transform, box)
    truth = 30000 + 9000 * np.sin(at[1] / 9) + 9000 * np.cos(at[0] / 7) + 5 * at[1]
    with Slide(slide_file) as slide:
        linear, cubic = (
            np.abs(pull(slide, transform, box, kind) - truth).mean() for kind in ("linear", "cubic")
        )
    assert cubic < linear / 10


def test_sample_is_the_nearest_pixel(slide_file: Path) -> None:
    image = tifffile.imread(slide_file)
    transform = rotation(12, (60, -20))
    with Slide(slide_file) as slide:
        found = sample(slide, transform, Box(0, 64, 0, 64), 4)
    for row in range(16):
        for column in range(16):
            ((x, y),) = transform.forward(np.array([[4.0 * column, 4.0 * row]]))
            i, j = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            inside = 0 <= i < image.shape[0] and 0 <= j < image.shape[1]
            assert found[row, column] == (image[i, j] if inside else 0)


@pytest.mark.parametrize("transform", [rotation(12, (60, -20)), warp()], ids=["affine", "spline"])
def test_push_undoes_the_slide(transform: Transform) -> None:
    canvas = np.random.default_rng(0).uniform(0, 400, (3000, 2))
    mosaic = Affine(np.array([[2.3, 0, 100], [0, 2.3, -40]]))
    section_um = mosaic.inverse(transform.forward(canvas))
    assert np.abs(pusher(transform, mosaic)(section_um) - canvas).max() < 1e-3


def test_pixels_and_bins() -> None:
    xy = np.array([[-0.51, 0], [-0.5, 0], [15.49, 15.5], [511.49, 255.49], [511.5, 3], [np.nan, 3]])
    y, x, on = pixels_on(xy, (256, 512))
    assert on.tolist() == [False, True, True, True, False, False]
    assert list(zip(y[on].tolist(), x[on].tolist(), strict=True)) == [(0, 0), (16, 15), (255, 511)]
    counts = bin_counts(y[on], x[on], np.array([0, 1, 1]), 2, Box(0, 256, 0, 512))
    assert counts.shape == (2, 16, 32)
    assert counts.sum() == 3
    assert counts[0, 0, 0] == counts[1, 1, 0] == counts[1, 15, 31] == 1
    part = bin_counts(y[on], x[on], np.array([0, 1, 1]), 2, Box(16, 32, 0, 16))
    assert part.shape == (2, 1, 1)
    assert part.sum() == 1
