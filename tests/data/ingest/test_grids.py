"""Compiled resampling and tabulated maps against their slow twins: scipy, numpy and the maps themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from teramind_data.errors import RegistrationError
from teramind_data.geometry import Box
from teramind_data.ingest.grids import FORWARD_TOLERANCE, SMALL_PX, Nodes, Tabulated, nodes_over
from teramind_data.ingest.intensity import Window
from teramind_data.ingest.kernels import affine_levels, affine_linear, cubic_at, nodes_levels, nodes_linear
from teramind_data.ingest.rasterize import bin_counts, pull, pull_levels, push, pusher
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.transforms import Affine, Points, ThinPlateSpline, chain

SHAPE = (300, 340)  # of the slide


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> Affine:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return Affine(np.array([[c, -s, shift[0]], [s, c, shift[1]]]))


def spline(bend: float, edge: float = 3000.0) -> ThinPlateSpline:
    marks = np.stack(np.meshgrid(np.linspace(0, edge, 5), np.linspace(0, edge, 5)), -1).reshape(-1, 2)
    return ThinPlateSpline(marks, 1.01 * marks + np.random.default_rng(3).normal(0, bend, marks.shape))


def slow(pixels: np.ndarray, at: np.ndarray, corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """scipy, at slide coordinates ``at``: ``pixels`` begin at ``corner`` of a slide of ``shape``."""
    local = at - np.array(corner)[:, None, None]
    out = ndimage.map_coordinates(
        pixels.astype(np.float32), local, output=np.float32, order=1, mode="nearest"
    )
    y, x = at
    out[(y < -0.5) | (y > shape[0] - 0.5) | (x < -0.5) | (x > shape[1] - 0.5)] = 0
    return out


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "affine",
    [
        turned(0, 1, (0, 0)),  # whole pixels
        turned(0, 1, (-40.5, 12.5)),  # ties at the rim
        turned(0.4, 1.003, (3, 4)),  # runs of 16
        turned(33, 0.9, (90, -70)),
        turned(180, 1.0, (300, 290)),
        Affine(np.array([[-1.0, 0.01, 320.0], [0.02, 1.0, 1.0]])),  # turned over
    ],
)
def test_an_affine_pulls_what_scipy_does(affine: Affine, dtype: str) -> None:
    slide = np.random.default_rng(0).integers(0, 256, SHAPE).astype(dtype) * (255 if dtype == "uint16" else 1)
    slide = slide.astype(dtype)
    for corner, source in (((-9, -20), Box(0, 300, 0, 340)), ((100, 110), Box(90, 280, 60, 330))):
        out = np.full((120, 133), np.nan, np.float32)
        part = np.ascontiguousarray(slide[source.slices])
        affine_linear(part, (source.y0, source.x0), SHAPE, affine.matrix, corner, out)
        y, x = np.mgrid[corner[0] : corner[0] + 120, corner[1] : corner[1] + 133].astype(float)
        xy = affine.forward(np.column_stack([x.ravel(), y.ravel()]))
        at = xy.T[::-1].reshape(2, *out.shape)
        expected = slow(part, at, (source.y0, source.x0), SHAPE)
        # A coordinate on the very rim may round to either side of it.
        rim = np.abs(
            np.abs(at - (np.array(SHAPE)[:, None, None] - 1) / 2) * 2 - np.array(SHAPE)[:, None, None]
        )
        sure = (rim > 1e-9).all(axis=0)
        np.testing.assert_allclose(out[sure], expected[sure], rtol=2e-6, atol=0.02)


@pytest.mark.parametrize(("step", "bend"), [(16, 0.3), (8, 2.0), (4, 2.0)])
def test_nodes_pull_what_scipy_does(step: int, bend: float) -> None:
    slide = np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)
    rng = np.random.default_rng(step)
    corner, shape = (37, -10), (150, 170)
    first = (32, -16)
    ny, nx = (corner[0] + shape[0] - first[0]) // step + 2, (corner[1] + shape[1] - first[1]) // step + 2
    y, x = np.mgrid[:ny, :nx] * step
    values = np.stack([y + first[0], x + first[1]]) + rng.normal(0, bend, (2, ny, nx))
    out = np.full(shape, np.nan, np.float32)
    nodes_linear(slide, (0, 0), SHAPE, values, step, first, corner, out)
    rows, columns = np.mgrid[corner[0] : corner[0] + shape[0], corner[1] : corner[1] + shape[1]]
    where = [(rows - first[0]) / step, (columns - first[1]) / step]
    at = np.stack([ndimage.map_coordinates(plane, where, order=1) for plane in values])
    np.testing.assert_allclose(out, slow(slide, at, (0, 0), SHAPE), atol=0.05)


@pytest.mark.parametrize("window", [Window(200.0, 50_000.0), Window(-3000.0, 3000.0), Window(1.0, 256.0)])
def test_levels_are_the_window_of_what_is_pulled(window: Window) -> None:
    rng = np.random.default_rng(5)
    slide = rng.integers(0, 65536, SHAPE).astype(np.uint16)
    affine, corner, shape, scale = turned(1.2, 1.01, (3, -40)), (-20, 5), (90, 117), float(window.scale)
    counts = np.empty(shape, np.float32)
    affine_linear(slide, (0, 0), SHAPE, affine.matrix, corner, counts)
    out = np.full((200, 300), 77, np.uint8)
    place = (10, 100, 33, 150)
    affine_levels(slide, (0, 0), SHAPE, affine.matrix, corner, (window.low, scale), out, place)
    np.testing.assert_array_equal(out[10:100, 33:150], window.apply(counts))
    out[10:100, 33:150] = 77
    assert (out == 77).all()
    y, x = np.mgrid[:9, :10] * 16
    values = np.stack([y - 32.0, x - 16.0]) + rng.normal(0, 0.5, (2, 9, 10))
    nodes_linear(slide, (0, 0), SHAPE, values, 16, (-32, -16), corner, counts)
    offset = (corner[0] + 32, corner[1] + 16)
    nodes_levels(slide, (0, 0), SHAPE, values, 16, offset, (window.low, scale), out, place)
    np.testing.assert_array_equal(out[10:100, 33:150], window.apply(counts))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_levels_of_a_slide_are_the_window_of_what_is_pulled(tmp_path: Path, interpolation: str) -> None:
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 60000, (700, 900)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256))
    box = Box(-40, 660, 100, 1000)  # several blocks, and beyond the slide
    with Slide(tmp_path / "a.tif") as slide:
        for to_image in (turned(1.2, 1.01, (3, -40)), spline(8.0)):
            for window in (Window(200.0, 50_000.0), Window(-100.0, 900.0)):
                out = np.full(box.shape, 99, np.uint8)
                pull_levels(slide, to_image, box, window, out, interpolation)
                expected = window.apply(pull(slide, to_image, box, interpolation))
                np.testing.assert_array_equal(out, expected)


def test_cubics_are_exact_for_cubics() -> None:
    def cubic(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.stack([1 + y - 2 * y**2 * x + x**3, x * y + 0.5 * y**3 - x**2])

    y, x = np.mgrid[-1:2:0.5, 2:5:0.5]
    points = np.random.default_rng(0).uniform([-1, 2], [1.5, 4.5], (200, 2))
    found = cubic_at(cubic(y, x), 0.5, (-1.0, 2.0), points)
    np.testing.assert_allclose(found, cubic(*points.T).T, atol=1e-10)


@pytest.mark.parametrize("bend", [1.0, 8.0, 60.0])
@pytest.mark.parametrize("box", [Box(0, 512, 0, 512), Box(700, 764, 720, 784), Box(100, 117, 2000, 2512)])
def test_nodes_are_the_map(bend: float, box: Box) -> None:
    forward = spline(bend).forward
    nodes = nodes_over(forward, box)
    if nodes is None:
        assert bend == 60.0 or max(box.shape) > SMALL_PX  # rough, and better halved
        return
    y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1].astype(float)
    exact = forward(np.column_stack([x.ravel(), y.ravel()])).T[::-1].reshape(2, *box.shape)
    where = [(y - nodes.first[0]) / nodes.step, (x - nodes.first[1]) / nodes.step]
    found = np.stack(
        [ndimage.map_coordinates(plane, where, order=1, mode="nearest") for plane in nodes.values]
    )
    assert np.abs(found - exact).max() < 2 * FORWARD_TOLERANCE


@pytest.mark.parametrize("bend", [5.0, 40.0])
def test_tabulated_inverses_are_the_inverse(bend: float) -> None:
    transform = chain(spline(bend), turned(3, 1.0, (100, -50)))
    rng = np.random.default_rng(1)
    points = rng.uniform(-200, 2000, (1500, 2))
    exact = transform.inverse(points)
    inverse = Tabulated(transform.inverse)
    found = inverse(points)
    assert sum(nodes is not None for nodes in inverse._tiles.values()) > 10
    assert np.abs(found - exact).max() < 1e-3
    # Whatever company a point comes in.
    alone = np.concatenate([Tabulated(transform.inverse)(part) for part in np.array_split(points[:40], 3)])
    np.testing.assert_allclose(alone, found[:40], rtol=0, atol=1e-9)
    mosaic = Affine(np.array([[9.26, 0, 10], [0, 9.26, -4]]))
    section_um = mosaic.inverse(points)
    pushed = push(transform, mosaic, section_um)
    np.testing.assert_allclose(pushed, exact, atol=1e-6)
    assert np.abs(pusher(transform, mosaic)(section_um) - pushed).max() < 1e-3
    assert inverse(np.zeros((0, 2))).shape == (0, 2)


def test_a_map_that_no_grid_follows_is_evaluated_at_the_points() -> None:
    def rough(xy: Points) -> Points:
        return xy + np.sin(xy * 2)

    points = np.random.default_rng(1).uniform(0, 900, (50, 2))
    np.testing.assert_array_equal(Tabulated(rough)(points), points + np.sin(points * 2))
    assert nodes_over(rough, Box(0, 64, 0, 64)) is None


def test_points_where_nodes_have_no_value_keep_theirs() -> None:
    def half(xy: Points) -> Points:
        if (xy[:, 0] < 500).any():
            raise RegistrationError("spline has no inverse", where="there")
        return xy * 2

    table = Tabulated(half)
    np.testing.assert_array_equal(table(np.array([[600.0, 3.0]])), [[1200.0, 6.0]])
    with pytest.raises(RegistrationError, match="no inverse"):
        table(np.array([[600.0, 3.0], [400.0, 3.0]]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_bins_are_counted(dtype: type) -> None:
    rng = np.random.default_rng(0)
    y, x, gene = rng.integers(-50, 400, 5000), rng.integers(0, 900, 5000), rng.integers(0, 7, 5000)
    box = Box(32, 320, 16, 640)
    expected = np.zeros((7, 18, 39), dtype)
    for i, j, g in zip(y, x, gene, strict=True):
        if 32 <= i < 320 and 16 <= j < 640:
            expected[g, (i - 32) // 16, (j - 16) // 16] += 1
    found = bin_counts(y, x, gene, 7, box, dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_nodes_hold_what_they_say() -> None:
    linear: Callable[[Points], Points] = turned(5, 1.1, (7, 9)).forward
    nodes = nodes_over(linear, Box(5, 100, 300, 390))
    assert isinstance(nodes, Nodes)
    corner = linear(np.array([[float(nodes.first[1]), float(nodes.first[0])]]))[0]
    np.testing.assert_allclose(nodes.values[:, 0, 0], corner[::-1])
    assert nodes.first[0] <= 5
    assert nodes.first[1] <= 300
