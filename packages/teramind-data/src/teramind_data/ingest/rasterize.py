"""From a section to the canvas: images pulled block by block through S, transcripts pushed through its inverse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from teramind_data.geometry import BIN_PX, Box, ceil_div, tiles
from teramind_data.ingest.grids import SMALL_PX, Nodes, Tabulated, nodes_over
from teramind_data.ingest.intensity import Window
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.transforms import Affine, Points, Transform

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

    Exact for affines. Splines are interpolated between the nodes of a grid, checked to 0.01 px (see ``grids``).
    """
    if isinstance(transform, Affine):
        return _affine_coordinates(transform, box)
    nodes = nodes_over(transform.forward, box)
    if nodes is not None:
        return _interpolate(nodes, box)
    if max(box.shape) <= SMALL_PX:
        return _everywhere(transform, box)
    out = np.empty((2, *box.shape))
    for part in _quarters(box):
        out[(slice(None), *part.shift(-box.y0, -box.x0).slices)] = coordinates(transform, part)
    return out


def _affine_coordinates(affine: Affine, box: Box, step: int = 1) -> NDArray[np.float64]:
    m = affine.matrix
    y = np.arange(box.y0, box.y1, step, dtype=np.float64)[:, None]
    x = np.arange(box.x0, box.x1, step, dtype=np.float64)[None, :]
    return np.stack([m[1, 0] * x + m[1, 1] * y + m[1, 2], m[0, 0] * x + m[0, 1] * y + m[0, 2]])


def _everywhere(transform: Transform, box: Box) -> NDArray[np.float64]:
    x, y = np.meshgrid(np.arange(box.x0, box.x1, dtype=float), np.arange(box.y0, box.y1, dtype=float))
    xy = transform.forward(np.stack([x, y], axis=-1).reshape(-1, 2))
    return np.ascontiguousarray(xy.T[::-1].reshape(2, *box.shape))


def _interpolate(nodes: Nodes, box: Box) -> NDArray[np.float64]:
    """Bilinear interpolation from the nodes to every pixel, separably."""
    i, u = _weights(np.arange(box.y0, box.y1) - nodes.first[0], nodes.step, nodes.values.shape[1])
    j, v = _weights(np.arange(box.x0, box.x1) - nodes.first[1], nodes.step, nodes.values.shape[2])
    values = nodes.values
    along_y = values[:, i] * (1 - u)[None, :, None] + values[:, i + 1] * u[None, :, None]
    return along_y[:, :, j] * (1 - v) + along_y[:, :, j + 1] * v


def _weights(
    offset: NDArray[np.int64], step: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    index = np.minimum(offset // step, count - 2)
    return index, (offset - index * step) / step


def pull(slide: Slide, transform: Transform, box: Box, interpolation: str = "linear") -> NDArray[np.float32]:
    """The slide as seen on a canvas box: float32 ``(h, w)`` in the slide's own counts, 0 outside the slide.

    ``interpolation``: ``linear`` or ``cubic`` (spline of third order). Worked in strips of rows, so memory follows
    the box and not the slide.
    """
    out = np.zeros(box.shape, np.float32)
    for part in _parts(slide, transform, box, interpolation):
        out[part.box.shift(-box.y0, -box.x0).slices] = part.counts(interpolation)
    return out


def pull_levels(
    slide: Slide,
    transform: Transform,
    box: Box,
    window: Window,
    out: NDArray[np.uint8],
    interpolation: str = "linear",
) -> None:
    """``window.apply(pull(...))`` into ``out (h, w)``, in one pass where the interpolation is linear."""
    out[...] = window.apply(np.zeros((), np.float32)) if window.low < 0 else 0
    for part in _parts(slide, transform, box, interpolation):
        place = part.box.shift(-box.y0, -box.x0)
        if interpolation == "linear" and part.way is not None:
            part.levels(window, out, place)
        else:
            out[place.slices] = window.apply(part.counts(interpolation))


@dataclass(frozen=True)
class _Part:
    """A box of the canvas and the slide's ``pixels`` at ``source`` that it shows.

    ``at``: slide coordinates ``(2, h, w)`` where ``way`` has no shorter form for them.
    """

    box: Box
    pixels: NDArray[Any]
    source: Box
    shape: tuple[int, int]  # of the slide
    way: Affine | Nodes | None
    at: NDArray[np.float64] | None = None

    def counts(self, interpolation: str) -> NDArray[np.float32]:
        """The box in the slide's own counts."""
        from teramind_data.ingest.kernels import affine_linear, nodes_linear

        if interpolation != "linear" or self.way is None:
            return _at_coordinates(self.pixels, self.source, self.shape, self._coordinates(), interpolation)
        out = np.empty(self.box.shape, np.float32)
        at, corner = (self.source.y0, self.source.x0), (self.box.y0, self.box.x0)
        way = self.way
        if isinstance(way, Affine):
            affine_linear(self.pixels, at, self.shape, way.matrix, corner, out)
        else:
            nodes_linear(self.pixels, at, self.shape, way.values, way.step, way.first, corner, out)
        return out

    def levels(self, window: Window, out: NDArray[np.uint8], place: Box) -> None:
        """The box through an intensity window, linearly, into ``out`` at ``place``."""
        from teramind_data.ingest.kernels import affine_levels, nodes_levels

        at, corner, way = (self.source.y0, self.source.x0), (self.box.y0, self.box.x0), self.way
        scale = (float(window.low), float(window.scale))
        where = (place.y0, place.y1, place.x0, place.x1)
        if isinstance(way, Affine):
            affine_levels(self.pixels, at, self.shape, way.matrix, corner, scale, out, where)
        elif way is not None:
            offset = (corner[0] - way.first[0], corner[1] - way.first[1])
            nodes_levels(self.pixels, at, self.shape, way.values, way.step, offset, scale, out, where)

    def _coordinates(self) -> NDArray[np.float64]:
        if self.at is not None:
            return self.at
        if isinstance(self.way, Nodes):
            return _interpolate(self.way, self.box)
        if self.way is None:
            raise ValueError("a part has coordinates or a way to them")
        return _affine_coordinates(self.way, self.box)


def blank(slide: Slide, transform: Transform, box: Box, interpolation: str = "linear") -> bool:
    """Whether a canvas box is known, without reading pixels, to show nothing of the slide (affines only)."""
    if not isinstance(transform, Affine):
        return False
    source = _source_box(_corners(transform, box), slide.shape, _MARGIN[interpolation])
    return source is None or slide.blank(source)


def _parts(slide: Slide, transform: Transform, box: Box, interpolation: str) -> Iterator[_Part]:
    """The parts of a canvas box that show anything of the slide; memory follows a part, not the box."""
    if max(box.shape) > _BLOCK_ROWS:
        if not blank(slide, transform, box, interpolation):
            for part in tiles(box, _BLOCK_ROWS):
                yield from _parts(slide, transform, part, interpolation)
        return
    # An affine's extremes are at the corners, and an interpolated map's at its nodes.
    way = transform if isinstance(transform, Affine) else nodes_over(transform.forward, box)
    at = None
    if isinstance(way, Affine):
        reach = _corners(way, box)
    elif way is not None:
        reach = way.values
    elif max(box.shape) > SMALL_PX:
        yield from _quartered(slide, transform, box, interpolation)
        return
    else:
        reach = at = _everywhere(transform, box)
    source = _source_box(reach, slide.shape, _MARGIN[interpolation])
    if source is None:
        return
    if source.area > _LARGEST_SOURCE and min(box.shape) > 1:
        yield from _quartered(slide, transform, box, interpolation)
        return
    if slide.blank(source):
        return
    pixels = slide.read(source)
    if pixels.max():  # many times quicker than any()
        yield _Part(box, pixels, source, slide.shape, way, at)


def _at_coordinates(
    pixels: NDArray[Any], source: Box, shape: tuple[int, int], at: NDArray[np.float64], interpolation: str
) -> NDArray[np.float32]:
    """The slide's ``pixels`` at ``source``, interpolated at slide coordinates ``at (2, h, w)``."""
    from scipy import ndimage

    inside = _inside(at, shape)
    at = at - np.array([source.y0, source.x0], np.float64)[:, None, None]
    order = {"linear": 1, "cubic": 3}[interpolation]
    out: NDArray[np.float32] = ndimage.map_coordinates(
        pixels.astype(np.float32), at, output=np.float32, order=order, mode="nearest"
    )
    out[~inside] = 0
    # A cubic overshoots at edges; counts are not negative.
    return np.maximum(out, 0, out=out) if order > 1 else out


def _corners(transform: Affine, box: Box) -> NDArray[np.float64]:
    """Image coordinates ``(2, 2, 2)`` of the four corner pixels of a box."""
    x, y = np.meshgrid([box.x0, box.x1 - 1], [box.y0, box.y1 - 1])
    xy = transform.forward(np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64))
    return xy[:, ::-1].T.reshape(2, 2, 2)


def _quartered(slide: Slide, transform: Transform, box: Box, interpolation: str) -> Iterator[_Part]:
    """Of a box's quarters, where a registration makes it large on the slide or is rough."""
    for part in _quarters(box):
        yield from _parts(slide, transform, part, interpolation)


def _quarters(box: Box) -> Iterator[Box]:
    return tiles(box, (ceil_div(box.height, 2), ceil_div(box.width, 2)))


def _inside(at: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which coordinates lie on the slide's pixels, half a pixel of rim included."""
    y, x = at
    return (y >= -0.5) & (y <= shape[0] - 0.5) & (x >= -0.5) & (x <= shape[1] - 0.5)


def _source_box(at: NDArray[np.float64], shape: tuple[int, int], margin: int) -> Box | None:
    """The slide's pixels needed for these coordinates, margin included and cut at the slide; None where none."""
    # Reduced before converting: far outside, a spline's coordinates need not fit an integer.
    low = np.floor(np.clip(at.min(axis=(1, 2)), -1e9, 1e9)).astype(int) - margin
    high = np.ceil(np.clip(at.max(axis=(1, 2)), -1e9, 1e9)).astype(int) + margin + 1
    return Box(int(low[0]), int(high[0]), int(low[1]), int(high[1])).clip(shape)


def sample(slide: Slide, transform: Transform, box: Box, step: int) -> NDArray[Any]:
    """Every ``step``-th pixel of a canvas box, each the nearest pixel of the slide (0 outside): for statistics."""
    if isinstance(transform, Affine):
        at = _affine_coordinates(transform, box, step)
    else:
        at = coordinates(transform, box)[:, ::step, ::step]
    source = _source_box(at, slide.shape, 1)
    out = np.zeros(at.shape[1:], slide.dtype)
    if source is None:
        return out
    pixels = slide.read(source)
    inside = _inside(at, slide.shape)
    row = np.clip(np.floor(at[0][inside] + 0.5).astype(np.int64) - source.y0, 0, source.height - 1)
    column = np.clip(np.floor(at[1][inside] + 0.5).astype(np.int64) - source.x0, 0, source.width - 1)
    out[inside] = pixels[row, column]
    return out


def push(transform: Transform, micron_to_mosaic: Affine, xy_um: Points) -> Points:
    """Canvas coordinates ``(n, 2)`` x, y of points given in section um: through the image and S's inverse, exactly."""
    return transform.inverse(micron_to_mosaic.forward(xy_um))


def pusher(transform: Transform, micron_to_mosaic: Affine) -> Callable[[Points], Points]:
    """``push`` for very many points: of transforms that are no affine the inverse is tabulated (see ``grids``).

    Within 1e-3 px of ``push``.
    """
    if isinstance(transform, Affine):
        return transform.inverted().after(micron_to_mosaic).forward
    inverse = Tabulated(transform.inverse)
    return lambda xy_um: inverse(micron_to_mosaic.forward(xy_um))


def pixels_on(
    xy: NDArray[np.float64], canvas: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Canvas pixels (y, x) of continuous coordinates (whole numbers are centres), and which are on the canvas."""
    with np.errstate(invalid="ignore"):
        y, x = np.floor(xy[:, 1] + 0.5), np.floor(xy[:, 0] + 0.5)
        on = (y >= 0) & (y < canvas[0]) & (x >= 0) & (x < canvas[1])
    return np.where(on, y, 0).astype(np.int32), np.where(on, x, 0).astype(np.int32), on


def bin_counts(
    y: NDArray[Any], x: NDArray[Any], gene: NDArray[Any], genes: int, box: Box, dtype: DTypeLike = np.int64
) -> NDArray[Any]:
    """Counts ``(genes, h/16, w/16)`` of molecules (canvas pixels) in the bins of an aligned box; others ignored.

    Costs follow the molecules: of a shard's bins of all genes a hundredth holds any. Counts must fit ``dtype``.
    """
    bins = box.coarsen(BIN_PX)
    keep = (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
    row = y[keep].astype(np.int64) // BIN_PX - bins.y0
    column = x[keep].astype(np.int64) // BIN_PX - bins.x0
    flat = (gene[keep].astype(np.int64) * bins.height + row) * bins.width + column
    flat.sort()
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    out = np.zeros(genes * bins.area, dtype)
    out[flat[starts]] = np.diff(starts, append=len(flat))
    return out.reshape(genes, bins.height, bins.width)
