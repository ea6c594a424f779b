"""Loops over pixels and points, compiled: resampling and interpolation in one pass, without arrays of coordinates.

Import inside functions: numba takes a while. Compiled code is kept beside this file, or where numba can write; without
fast-math, so that any machine gives the same numbers. The tests hold each against numpy or scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

#: Pixels done together. A row being made has as much room behind it: what a run writes beyond its end is written again.
_RUN = 16


def _compiled(function: F, **options: Any) -> F:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return cast(F, njit(cache=True, **options)(function))
    except RuntimeError:  # nowhere to keep it: a read-only installation without a home
        return cast(F, njit(**options)(function))


def _inlined(function: F) -> F:
    """For what is called for a few pixels: a call costs as much as they do."""
    return _compiled(function, inline="always")


@_compiled
def _sampled(pixels: NDArray[Any], at: tuple[int, int], shape: tuple[int, int], y: float, x: float) -> float:
    """The slide at (y, x): bilinear, its rim repeated for half a pixel, 0 outside."""
    if not (-0.5 <= y <= shape[0] - 0.5 and -0.5 <= x <= shape[1] - 0.5):
        return 0.0
    bottom, right = pixels.shape[0] - 1, pixels.shape[1] - 1
    y = min(max(y - at[0], 0.0), float(bottom))
    x = min(max(x - at[1], 0.0), float(right))
    i, j = int(y), int(x)
    below, beside = min(i + 1, bottom), min(j + 1, right)
    return _mix(pixels[i, j], pixels[i, beside], pixels[below, j], pixels[below, beside], y - i, x - j)


@_compiled
def _mix(a: float, b: float, c: float, d: float, u: float, v: float) -> float:
    """Bilinear mean of four pixels (a b above c d), ``u`` down and ``v`` to the right."""
    # Differences of unsigned numbers would wrap.
    above = float(a) + (float(b) - float(a)) * v
    return above + (float(c) + (float(d) - float(c)) * v - above) * u


@_compiled
def _steps_below(start: float, slope: float, most: int) -> int:
    """How many of ``start + k * slope`` (k = 0, 1 ...; start in [0, 1)) lie in [0, 1), at most ``most``.

    One on the very edge of the cell may fall to either side by rounding: bilinear means are continuous there.
    """
    if slope > 0.0:
        reach = (1.0 - start) / slope
        return most if reach >= most else max(1, int(np.ceil(reach)))
    if slope < 0.0:
        reach = start / -slope
        return most if reach >= most else int(reach) + 1
    return most


@_inlined
def _line(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    first: tuple[float, float],
    slope: tuple[float, float],
    out: NDArray[np.float32],
    part: tuple[int, int],
) -> None:
    """Fill columns ``part`` (from, to) of ``out`` with the slide at ``first + k * slope`` (its y, x), bilinear.

    Hardly turned or stretched, neighbours on the canvas have neighbours in the same two rows of the slide. Such runs
    are done ``_RUN`` at a time in float32, without branches: vector instructions.
    """
    bottom, right = pixels.shape[0] - 1, pixels.shape[1] - 1
    du, dv = np.float32(slope[0]), np.float32(slope[1] - 1.0)
    column = part[0]
    while column < part[1]:
        along = column - part[0]
        y, x = first[0] + along * slope[0], first[1] + along * slope[1]
        local_y, local_x = y - at[0], x - at[1]
        if not (0.0 <= local_y < bottom and 0.0 <= local_x < right):
            out[column] = _sampled(pixels, at, shape, y, x)
            column += 1
            continue
        i, j = int(local_y), int(local_x)
        n = min(part[1] - column, right - j)
        last_y, last_x = local_y + (n - 1) * slope[0], local_x + (n - 1) * slope[1]
        if not (i <= last_y < i + 1 and j + n - 1 <= last_x < j + n):
            n = _steps_below(local_x - j, slope[1] - 1.0, _steps_below(local_y - i, slope[0], n))
        u, v = np.float32(local_y - i), np.float32(local_x - j)
        done = 0
        while done < n and j + done + _RUN <= right:
            above, below = (
                pixels[i, j + done : j + done + _RUN + 1],
                pixels[i + 1, j + done : j + done + _RUN + 1],
            )
            run = out[column + done : column + done + _RUN]
            for k in range(_RUN):
                step = np.float32(np.int32(done + k))
                run[k] = _mix32(above[k], above[k + 1], below[k], below[k + 1], u + step * du, v + step * dv)
            done += _RUN
        for k in range(done, n):  # close to the right edge of what was read
            step, x0 = np.float32(np.int32(k)), j + k
            out[column + k] = _mix32(
                pixels[i, x0],
                pixels[i, x0 + 1],
                pixels[i + 1, x0],
                pixels[i + 1, x0 + 1],
                u + step * du,
                v + step * dv,
            )
        column += n


@_compiled
def _mix32(a: float, b: float, c: float, d: float, u: np.float32, v: np.float32) -> np.float32:
    """``_mix`` in float32."""
    first, third = np.float32(a), np.float32(c)
    above = first + (np.float32(b) - first) * v
    return above + (third + (np.float32(d) - third) * v - above) * u


@_compiled
def _affine_row(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    matrix: NDArray[np.float64],
    corner: tuple[int, int],
    out: NDArray[np.float32],
) -> None:
    """One row of canvas pixels from ``corner`` (y, x) on; ``out`` has ``_RUN`` more behind it."""
    y = matrix[1, 0] * corner[1] + matrix[1, 1] * corner[0] + matrix[1, 2]
    x = matrix[0, 0] * corner[1] + matrix[0, 1] * corner[0] + matrix[0, 2]
    _line(pixels, at, shape, (y, x), (matrix[1, 0], matrix[0, 0]), out, (0, len(out) - _RUN))


@_compiled
def _nodes_row(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    nodes: NDArray[np.float64],
    step: int,
    place: tuple[int, int],
    out: NDArray[np.float32],
) -> None:
    """One row of canvas pixels from ``place`` (y, x from the first node) on; ``out`` has ``_RUN`` more behind it."""
    n = min(place[0] // step, nodes.shape[1] - 2)
    w = (place[0] - n * step) / step
    width, share = len(out) - _RUN, 1.0 / step
    ya = nodes[0, n, place[1] // step] * (1.0 - w) + nodes[0, n + 1, place[1] // step] * w
    xa = nodes[1, n, place[1] // step] * (1.0 - w) + nodes[1, n + 1, place[1] // step] * w
    for cell in range(place[1] // step, nodes.shape[2] - 1):
        left = cell * step - place[1]
        start, stop = max(left, 0), min(left + step, width)
        if start >= stop:
            break
        yb = nodes[0, n, cell + 1] * (1.0 - w) + nodes[0, n + 1, cell + 1] * w
        xb = nodes[1, n, cell + 1] * (1.0 - w) + nodes[1, n + 1, cell + 1] * w
        slope = ((yb - ya) * share, (xb - xa) * share)
        first = (ya + (start - left) * slope[0], xa + (start - left) * slope[1])
        _line(pixels, at, shape, first, slope, out, (start, stop))
        ya, xa = yb, xb


@_compiled
def _to_levels(counts: NDArray[np.float32], low: float, scale: float, out: NDArray[np.uint8]) -> None:
    """``intensity.Window.apply`` on one row, to the last bit."""
    below, factor = np.float32(low), np.float32(scale)
    top, nothing = np.float32(255.0), np.float32(0.0)
    # Added and taken away, it leaves the nearest whole number, an even one of two: what rint does, in any vector.
    whole = np.float32(12582912.0)
    for k in range(len(out)):
        value = (counts[k] - below) * factor
        value = min(max(value, nothing), top)
        out[k] = np.uint8(np.int32((value + whole) - whole))


@_compiled
def affine_linear(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    matrix: NDArray[np.float64],
    corner: tuple[int, int],
    out: NDArray[np.float32],
) -> None:
    """Pull ``out (h, w)`` through an affine by bilinear interpolation.

    Args:
        pixels: part of a slide, its first pixel at ``at`` (y, x) of the slide.
        at: see ``pixels``.
        shape: of the slide; outside it (half a pixel of rim is inside) ``out`` is 0.
        matrix: 2 x 3, canvas (x, y) to slide (x, y).
        corner: canvas (y, x) of ``out``'s first pixel.
        out: filled.
    """
    line = np.empty(out.shape[1] + _RUN, np.float32)
    for row in range(out.shape[0]):
        _affine_row(pixels, at, shape, matrix, (corner[0] + row, corner[1]), line)
        out[row] = line[: out.shape[1]]


@_compiled
def affine_levels(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    matrix: NDArray[np.float64],
    corner: tuple[int, int],
    window: tuple[float, float],
    out: NDArray[np.uint8],
    place: tuple[int, int, int, int],
) -> None:
    """``affine_linear`` into a part of ``out``, through an intensity window.

    ``window`` is the count that becomes 0, and levels a count; ``place`` is y0, y1, x0, x1 in ``out``. The other
    arguments are those of ``affine_linear``.
    """
    y0, y1, x0, x1 = place
    line = np.empty(x1 - x0 + _RUN, np.float32)
    for row in range(y1 - y0):
        _affine_row(pixels, at, shape, matrix, (corner[0] + row, corner[1]), line)
        _to_levels(line, window[0], window[1], out[y0 + row, x0:x1])


@_compiled
def nodes_linear(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    nodes: NDArray[np.float64],
    step: int,
    first: tuple[int, int],
    corner: tuple[int, int],
    out: NDArray[np.float32],
) -> None:
    """Pull ``out (h, w)`` through a map given at nodes, bilinear between them; otherwise like ``affine_linear``.

    ``nodes (2, ny, nx)`` are slide y and x, ``step`` canvas pixels apart, the first at canvas ``first`` (y, x), at or
    before ``corner``; the others as there.
    """
    offset = (corner[0] - first[0], corner[1] - first[1])
    line = np.empty(out.shape[1] + _RUN, np.float32)
    for row in range(out.shape[0]):
        _nodes_row(pixels, at, shape, nodes, step, (offset[0] + row, offset[1]), line)
        out[row] = line[: out.shape[1]]


@_compiled
def nodes_levels(
    pixels: NDArray[Any],
    at: tuple[int, int],
    shape: tuple[int, int],
    nodes: NDArray[np.float64],
    step: int,
    offset: tuple[int, int],
    window: tuple[float, float],
    out: NDArray[np.uint8],
    place: tuple[int, int, int, int],
) -> None:
    """``nodes_linear`` into a part of ``out``, through an intensity window (see ``affine_levels``).

    ``offset`` (y, x) is from the first node to the first pixel.
    """
    y0, y1, x0, x1 = place
    line = np.empty(x1 - x0 + _RUN, np.float32)
    for row in range(y1 - y0):
        _nodes_row(pixels, at, shape, nodes, step, (offset[0] + row, offset[1]), line)
        _to_levels(line, window[0], window[1], out[y0 + row, x0:x1])


@_compiled
def cubic_at(
    nodes: NDArray[np.float64], step: float, first: tuple[float, float], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A map given at nodes, at points: the cubic through the 4 x 4 nodes around each (Lagrange).

    Args:
        nodes: ``(2, ny, nx)``, at least 4 x 4.
        step: between nodes.
        first: (y, x) of the first node.
        points: ``(n, 2)``, y and x.

    Returns:
        ``(n, 2)``, the two planes of ``nodes`` at the points.
    """
    out = np.empty((len(points), 2))
    wy, wx = np.empty(4), np.empty(4)
    for k in range(len(points)):
        place_y = (points[k, 0] - first[0]) / step
        place_x = (points[k, 1] - first[1]) / step
        i = min(max(int(np.floor(place_y)) - 1, 0), nodes.shape[1] - 4)
        j = min(max(int(np.floor(place_x)) - 1, 0), nodes.shape[2] - 4)
        _lagrange(place_y - i, wy)
        _lagrange(place_x - j, wx)
        for c in range(2):
            total = 0.0
            for a in range(4):
                line = 0.0
                for b in range(4):
                    line += wx[b] * nodes[c, i + a, j + b]
                total += wy[a] * line
            out[k, c] = total
    return out


@_compiled
def _lagrange(t: float, weights: NDArray[np.float64]) -> None:
    """Weights of the values at 0, 1, 2 and 3 in the cubic through them, at ``t``."""
    weights[0] = -(t - 1.0) * (t - 2.0) * (t - 3.0) / 6.0
    weights[1] = t * (t - 2.0) * (t - 3.0) / 2.0
    weights[2] = -t * (t - 1.0) * (t - 3.0) / 2.0
    weights[3] = t * (t - 1.0) * (t - 2.0) / 6.0
