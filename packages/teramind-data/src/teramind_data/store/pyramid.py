"""Halving images: the reductions between pyramid levels, and the shapes that follow."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import ceil_div
from teramind_data.store.schema import Reduce

__all__ = ["halve", "level_dtype", "level_shapes"]

#: A level no longer than this on either axis is the last.
_SMALLEST_PX = 256


def level_shapes(shape: tuple[int, int], smallest: int = _SMALLEST_PX) -> tuple[tuple[int, int], ...]:
    """``(y, x)`` shapes of all levels: halved, rounding up, until both axes are at most ``smallest``."""
    shapes = [shape]
    while max(shapes[-1]) > smallest:
        shapes.append((ceil_div(shapes[-1][0], 2), ceil_div(shapes[-1][1], 2)))
    return tuple(shapes)


def level_dtype(dtype: str, level: int, reduce: Reduce) -> str:
    """Type of a level: the image's own, but wide enough that no sum of ``4 ** level`` pixels can overflow."""
    kind = np.dtype(dtype)
    if reduce != "sum" or kind.kind != "u":
        return kind.name
    top = int(np.iinfo(kind).max) * 4**level
    for name in ("uint8", "uint16", "uint32"):
        if np.iinfo(name).max >= max(top, int(np.iinfo(kind).max)):
            return name
    return "uint64"


_WIDER = {"u1": np.uint16, "u2": np.uint32, "i1": np.int16, "i2": np.int32}


def halve(block: NDArray[Any], reduce: Reduce, dtype: str) -> NDArray[Any]:
    """The next level of ``block (..., y, x)``: each 2 x 2 pixels become one, an odd last row or column alone.

    ``mean`` of integers rounds half up (127.5 becomes 128) over the pixels there are; ``mode`` takes the most
    frequent value, the smallest of equals; ``sum`` adds.
    """
    corners = _corners(block, "constant" if reduce == "sum" else "edge")
    if reduce == "mode":
        return _mode(corners).astype(dtype)
    if block.dtype.kind == "f":
        # float16 sums lose digits; float32 holds four of them exactly enough.
        total: NDArray[Any] = corners[0].astype(np.float32)
    else:
        # The narrowest type that holds four pixels and the rounding: half of this work is moving bytes.
        total = corners[0].astype(_WIDER.get(block.dtype.str[1:], np.int64))
    for corner in corners[1:]:
        total += corner
    if reduce == "sum":
        return total.astype(dtype)
    # An odd rim was repeated, so a mean over four is the mean over the pixels there are.
    if block.dtype.kind == "f":
        return (total / np.float32(4)).astype(dtype)
    total += 2
    total >>= 2
    return total.astype(dtype)


def _corners(block: NDArray[Any], rim: Literal["constant", "edge"]) -> list[NDArray[Any]]:
    """The four pixels of each 2 x 2, each ``(..., ceil(y / 2), ceil(x / 2))``; an odd rim repeated, or zeros."""
    odd_y, odd_x = block.shape[-2] % 2, block.shape[-1] % 2
    if odd_y or odd_x:
        block = np.pad(block, [(0, 0)] * (block.ndim - 2) + [(0, odd_y), (0, odd_x)], mode=rim)
    return [block[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]


def _mode(corners: list[NDArray[Any]]) -> NDArray[Any]:
    a, b, c, d = np.sort(np.stack(corners), axis=0)
    # Sorted, so equal values are neighbours. A pair at the front wins its ties by being smaller; otherwise b = c
    # covers three of a kind too, then c = d; all different leaves the smallest.
    return np.where(a == b, a, np.where(b == c, b, np.where(c == d, c, a)))
