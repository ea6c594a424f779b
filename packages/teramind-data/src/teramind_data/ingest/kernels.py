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

#: Pixels done together where their neighbours lie in a row: such loops become vector instructions, and registrations
#: hardly turn or stretch a section.
_RUN = 16


def _compiled(function: F) -> F:
    try:
        return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # nowhere to keep it: a read-only installation without a home
        return cast(F, njit(nogil=True, error_model="numpy")(function))


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
    total = a * (1.0 - u) * (1.0 - v)
    total += b * (1.0 - u) * v
    total += c * u * (1.0 - v)
    total += d * u * v
    return total


@_compiled
def _within(pixels: NDArray[Any], y: float, x: float) -> bool:
    """Whether all four neighbours are in ``pixels``."""
    return 0.0 <= y < pixels.shape[0] - 1 and 0.0 <= x < pixels.shape[1] - 1


@_compiled
def _straight(pixels: NDArray[Any], y0: float, x0: float, y1: float, x1: float) -> bool:
    """Whether a run of pixels from (y0, x0) to (y1, x1) has its neighbours in two rows of ``_RUN`` + 1 in a row."""
    if not (_within(pixels, y0, x0) and _within(pixels, y1, x1)):
        return False
    return int(y0) == int(y1) and int(x1) - int(x0) == _RUN - 1


@_compiled
def _between(pixels: NDArray[Any], y: float, x: float) -> float:
    """The value at (y, x), all neighbours being in ``pixels``."""
    i, j = int(y), int(x)
    return _mix(pixels[i, j], pixels[i, j + 1], pixels[i + 1, j], pixels[i + 1, j + 1], y - i, x - j)


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
    my, mx = matrix[1], matrix[0]
    for row in range(out.shape[0]):
        canvas_y = float(corner[0] + row)
        for start in range(0, out.shape[1], _RUN):
            stop = min(start + _RUN, out.shape[1])
            canvas_x, last = float(corner[1] + start), float(corner[1] + stop - 1)
            y0 = my[0] * canvas_x + my[1] * canvas_y + my[2] - at[0]
            x0 = mx[0] * canvas_x + mx[1] * canvas_y + mx[2] - at[1]
            y1 = my[0] * last + my[1] * canvas_y + my[2] - at[0]
            x1 = mx[0] * last + mx[1] * canvas_y + mx[2] - at[1]
            if stop == start + _RUN and _straight(pixels, y0, x0, y1, x1):
                i, j = int(y0), int(x0)
                above, below, part = (
                    pixels[i, j : j + _RUN + 1],
                    pixels[i + 1, j : j + _RUN + 1],
                    out[row, start:stop],
                )
                for k in range(_RUN):
                    canvas_x = float(corner[1] + start + k)
                    u = my[0] * canvas_x + my[1] * canvas_y + my[2] - at[0] - i
                    v = mx[0] * canvas_x + mx[1] * canvas_y + mx[2] - at[1] - (j + k)
                    part[k] = _mix(above[k], above[k + 1], below[k], below[k + 1], u, v)
                continue
            within = _within(pixels, y0, x0) and _within(pixels, y1, x1)
            for column in range(start, stop):
                canvas_x = float(corner[1] + column)
                y = my[0] * canvas_x + my[1] * canvas_y + my[2]
                x = mx[0] * canvas_x + mx[1] * canvas_y + mx[2]
                if within:
                    out[row, column] = _between(pixels, y - at[0], x - at[1])
                else:
                    out[row, column] = _sampled(pixels, at, shape, y, x)


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
    count = nodes.shape[2]
    ys, xs = np.empty(count), np.empty(count)
    along = np.arange(step) / step
    for row in range(out.shape[0]):
        place = (corner[0] + row - first[0]) / step
        n = min(int(place), nodes.shape[1] - 2)
        w = place - n
        for k in range(count):
            ys[k] = nodes[0, n, k] * (1.0 - w) + nodes[0, n + 1, k] * w
            xs[k] = nodes[1, n, k] * (1.0 - w) + nodes[1, n + 1, k] * w
        for cell in range(count - 1):
            left = first[1] + cell * step - corner[1]
            start, stop = max(left, 0), min(left + step, out.shape[1])
            ya, yb, xa, xb = ys[cell], ys[cell + 1], xs[cell], xs[cell + 1]
            y0, x0 = ya - at[0], xa - at[1]
            w = along[step - 1]
            y1, x1 = ya * (1.0 - w) + yb * w - at[0], xa * (1.0 - w) + xb * w - at[1]
            if stop == start + _RUN == left + step and _straight(pixels, y0, x0, y1, x1):
                i, j = int(y0), int(x0)
                above, below, part = (
                    pixels[i, j : j + _RUN + 1],
                    pixels[i + 1, j : j + _RUN + 1],
                    out[row, start:stop],
                )
                for k in range(_RUN):
                    u = ya * (1.0 - along[k]) + yb * along[k] - at[0] - i
                    v = xa * (1.0 - along[k]) + xb * along[k] - at[1] - (j + k)
                    part[k] = _mix(above[k], above[k + 1], below[k], below[k + 1], u, v)
                continue
            within = _within(pixels, y0, x0) and _within(pixels, y1, x1)
            for column in range(start, stop):
                w = along[column - left]
                y, x = ya * (1.0 - w) + yb * w, xa * (1.0 - w) + xb * w
                if within:
                    out[row, column] = _between(pixels, y - at[0], x - at[1])
                else:
                    out[row, column] = _sampled(pixels, at, shape, y, x)


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
