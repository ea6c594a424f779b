"""From a section to the canvas: images pulled block by block through S, transcripts pushed through its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box, ceil_div, tiles
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.transforms import Affine, Transform

_GRID_STEPS = (32, 16, 8, 4)  # px between exact evaluations of a spline, coarsest that is exact enough
_GRID_TOLERANCE = 0.01  # image px: under the 0.02 px promised, checked between the grid's nodes
_BLOCK_ROWS = 512  # canvas rows warped at once: bounds the coordinate arrays
_LARGEST_SOURCE = (
    1 << 22
)  # slide pixels read for a block: bounds memory where the slide is finer than the canvas
_MARGIN = {
    "linear": 2,
    "cubic": 14,
}  # source px read around a block; the cubic prefilter's tail is below 1e-7 there


def coordinates(transform: Transform, box: Box) -> NDArray[np.float64]:
    """Image coordinates ``(2, h, w)``, y then x, of the pixel centres of a canvas box.

    Exact for affines. Splines are evaluated on a grid and interpolated bilinearly where that is within 0.01 px at the
    cells' centres (where a smooth map errs most); otherwise the grid is made finer, at last every pixel.
    """
    if isinstance(transform, Affine):
        return _affine_coordinates(transform, box)
    for step in _GRID_STEPS:
        ys, xs = _nodes(box.y0, box.y1, step), _nodes(box.x0, box.x1, step)
        nodes = _evaluate(transform, ys, xs)
        between = _evaluate(transform, (ys[:-1] + ys[1:]) / 2, (xs[:-1] + xs[1:]) / 2)
        guess = (nodes[:, :-1, :-1] + nodes[:, 1:, :-1] + nodes[:, :-1, 1:] + nodes[:, 1:, 1:]) / 4
        if np.abs(guess - between).max() <= _GRID_TOLERANCE:
            return _interpolate(nodes, ys, xs, box)
    return _evaluate(
        transform, np.arange(box.y0, box.y1, dtype=float), np.arange(box.x0, box.x1, dtype=float)
    )


def _nodes(start: int, stop: int, step: int) -> NDArray[np.float64]:
    return np.arange(start, stop + step, step, dtype=np.float64)


def _affine_coordinates(affine: Affine, box: Box) -> NDArray[np.float64]:
    m = affine.matrix
    y = np.arange(box.y0, box.y1, dtype=np.float64)[:, None]
    x = np.arange(box.x0, box.x1, dtype=np.float64)[None, :]
    return np.stack([m[1, 0] * x + m[1, 1] * y + m[1, 2], m[0, 0] * x + m[0, 1] * y + m[0, 2]])


def _evaluate(transform: Transform, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.float64]:
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    xy = transform.forward(grid).reshape(len(ys), len(xs), 2)
    return np.stack([xy[..., 1], xy[..., 0]])


def _interpolate(
    nodes: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64], box: Box
) -> NDArray[np.float64]:
    """Bilinear interpolation from the nodes to every pixel, separably."""
    rows = _weights(np.arange(box.y0, box.y1), ys)
    columns = _weights(np.arange(box.x0, box.x1), xs)
    (i, u), (j, v) = rows, columns
    along_y = nodes[:, i] * (1 - u)[None, :, None] + nodes[:, i + 1] * u[None, :, None]
    return along_y[:, :, j] * (1 - v) + along_y[:, :, j + 1] * v


def _weights(at: NDArray[Any], nodes: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    position = (at - nodes[0]) / (nodes[1] - nodes[0])
    index = np.minimum(position.astype(np.int64), len(nodes) - 2)
    return index, position - index


def pull(slide: Slide, transform: Transform, box: Box, interpolation: str = "linear") -> NDArray[np.float32]:
    """The slide as seen on a canvas box: float32 ``(h, w)`` in the slide's own counts, 0 outside the slide.

    ``interpolation``: ``linear`` or ``cubic`` (spline of third order). Worked in strips of rows, so memory follows
    the box and not the slide.
    """
    out = np.zeros(box.shape, np.float32)
    for start in range(box.y0, box.y1, _BLOCK_ROWS):
        for left in range(box.x0, box.x1, _BLOCK_ROWS):
            part = Box(start, min(start + _BLOCK_ROWS, box.y1), left, min(left + _BLOCK_ROWS, box.x1))
            out[part.shift(-box.y0, -box.x0).slices] = _pull_block(slide, transform, part, interpolation)
    return out


def _pull_block(slide: Slide, transform: Transform, box: Box, interpolation: str) -> NDArray[np.float32]:
    from scipy import ndimage

    margin = _MARGIN[interpolation]
    # An affine's extremes are at the corners: what lies on empty slide costs no more than a look.
    nodes = _corners(transform, box) if isinstance(transform, Affine) else coordinates(transform, box)
    source = _source_box(nodes, slide.shape, margin)
    if source is None:
        return np.zeros(box.shape, np.float32)
    if source.area > _LARGEST_SOURCE and min(box.shape) > 1:
        return _quartered(
            np.zeros(box.shape, np.float32),
            box,
            lambda part: _pull_block(slide, transform, part, interpolation),
        )
    read = slide.read(source)
    if not read.any():
        return np.zeros(box.shape, np.float32)
    pixels = read.astype(np.float32)
    at = coordinates(transform, box) if isinstance(transform, Affine) else nodes
    at[0] -= source.y0
    at[1] -= source.x0
    order = {"linear": 1, "cubic": 3}[interpolation]
    inside = _inside(at, source, slide.shape)
    out = ndimage.map_coordinates(pixels, at, output=np.float32, order=order, mode="nearest")
    out[~inside] = 0
    # A cubic overshoots at edges; counts are not negative.
    return np.maximum(out, 0, out=out) if order > 1 else out


def _corners(transform: Affine, box: Box) -> NDArray[np.float64]:
    """Image coordinates ``(2, 2, 2)`` of the four corner pixels of a box."""
    x, y = np.meshgrid([box.x0, box.x1 - 1], [box.y0, box.y1 - 1])
    xy = transform.forward(np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64))
    return xy[:, ::-1].T.reshape(2, 2, 2)


def _quartered(out: NDArray[Any], box: Box, make: Callable[[Box], NDArray[Any]]) -> NDArray[Any]:
    """A box made of its quarters, where a registration makes it large on the slide."""
    for part in tiles(box, (ceil_div(box.height, 2), ceil_div(box.width, 2))):
        out[part.shift(-box.y0, -box.x0).slices] = make(part)
    return out


def _inside(at: NDArray[np.float64], source: Box, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which coordinates (relative to ``source``) lie on the slide's pixels, half a pixel of rim included."""
    y, x = at[0] + source.y0, at[1] + source.x0
    return (y >= -0.5) & (y <= shape[0] - 0.5) & (x >= -0.5) & (x <= shape[1] - 0.5)


def _source_box(at: NDArray[np.float64], shape: tuple[int, int], margin: int) -> Box | None:
    """The slide's pixels needed for these coordinates, margin included and cut at the slide; None where none."""
    # Reduced before converting: far outside, a spline's coordinates need not fit an integer.
    low = np.floor(np.clip(at.min(axis=(1, 2)), -1e9, 1e9)).astype(int) - margin
    high = np.ceil(np.clip(at.max(axis=(1, 2)), -1e9, 1e9)).astype(int) + margin + 1
    return Box(int(low[0]), int(high[0]), int(low[1]), int(high[1])).clip(shape)


def sample(slide: Slide, transform: Transform, box: Box, step: int) -> NDArray[Any]:
    """Every ``step``-th pixel of a canvas box, each the nearest pixel of the slide (0 outside): for statistics."""
    at = coordinates(transform, box)[:, ::step, ::step]
    source = _source_box(at, slide.shape, 1)
    out = np.zeros(at.shape[1:], slide.dtype)
    if source is None:
        return out
    pixels = slide.read(source)
    inside = _inside(at, Box(0, 1, 0, 1), slide.shape)
    row = np.clip(np.floor(at[0][inside] + 0.5).astype(np.int64) - source.y0, 0, source.height - 1)
    column = np.clip(np.floor(at[1][inside] + 0.5).astype(np.int64) - source.x0, 0, source.width - 1)
    out[inside] = pixels[row, column]
    return out


def push(transform: Transform, micron_to_mosaic: Affine, xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Canvas coordinates ``(n, 2)`` x, y of points given in section um: through the image and S's inverse."""
    return transform.inverse(micron_to_mosaic.forward(xy_um))


def pixels_on(
    xy: NDArray[np.float64], canvas: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Canvas pixels (y, x) of continuous coordinates (whole numbers are centres), and which are on the canvas."""
    with np.errstate(invalid="ignore"):
        y, x = np.floor(xy[:, 1] + 0.5), np.floor(xy[:, 0] + 0.5)
        on = (y >= 0) & (y < canvas[0]) & (x >= 0) & (x < canvas[1])
    return np.where(on, y, 0).astype(np.int32), np.where(on, x, 0).astype(np.int32), on


def bin_counts(
    y: NDArray[Any], x: NDArray[Any], gene: NDArray[Any], genes: int, box: Box
) -> NDArray[np.int64]:
    """Counts ``(genes, h/16, w/16)`` of molecules (canvas pixels) in the bins of an aligned box; others ignored."""
    bins = box.coarsen(BIN_PX)
    keep = (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
    row = y[keep].astype(np.int64) // BIN_PX - bins.y0
    column = x[keep].astype(np.int64) // BIN_PX - bins.x0
    flat = (gene[keep].astype(np.int64) * bins.height + row) * bins.width + column
    return np.bincount(flat, minlength=genes * bins.area).reshape(genes, bins.height, bins.width)
