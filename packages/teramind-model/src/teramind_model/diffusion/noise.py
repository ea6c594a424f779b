"""Start noise as a function of place: the same pixel of the same section always gets the same value.

Each 256-px block of each section and stain is one counter range of a Philox generator (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), so neither the box asked for, nor order, nor batch size can change
what a pixel gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box, ceil_div

__all__ = ["BLOCK_PX", "start_noise"]

BLOCK_PX = 256
"""Edge of the blocks that the noise is keyed by, whatever the patch size."""

_STREAM = 0x7465_7261_6E6F_6973
"""Second word of every key: sets this noise apart from other uses of the same seed."""

_BIAS = 1 << 31
"""Added to block coordinates, which may be negative; they fill half a counter word each."""


def start_noise(seed: int, sections: Sequence[int], stains: Sequence[int], box: Box) -> NDArray[np.float32]:
    """Standard normal noise ``(len(stains), len(sections), h, w)`` of a box of the canvas.

    Args:
        seed: 0 .. 2^64 - 1.
        sections: indices of sections, from 0, counted in the whole brain (also beyond its last one).
        stains: indices of stains in the network's order.
        box: canvas pixels; may lie partly or wholly outside the canvas.

    Raises:
        InputError: where seed, section or stain is negative or too large.
    """
    if not 0 <= seed < 1 << 64:
        raise InputError("seed is out of range", expected="0 .. 2^64 - 1", found=seed)
    if min(*sections, *stains, 0) < 0:
        raise InputError("noise is keyed by sections and stains from 0", found=(list(sections), list(stains)))
    out = np.empty((len(stains), len(sections), *box.shape), dtype=np.float32)
    for row in range(box.y0 // BLOCK_PX, ceil_div(box.y1, BLOCK_PX)):
        for column in range(box.x0 // BLOCK_PX, ceil_div(box.x1, BLOCK_PX)):
            block = Box.from_shape((BLOCK_PX, BLOCK_PX), (row * BLOCK_PX, column * BLOCK_PX))
            common = block.intersect(box)
            if common is None:  # the ranges above only name blocks that meet the box
                continue
            inside = common.shift(-block.y0, -block.x0).slices
            target = common.shift(-box.y0, -box.x0).slices
            for i, stain in enumerate(stains):
                for j, section in enumerate(sections):
                    out[(i, j, *target)] = _block(seed, section, stain, row, column)[inside]
    return out


def _block(seed: int, section: int, stain: int, row: int, column: int) -> NDArray[np.float32]:
    """One block ``(256, 256)``. The counter's lowest word counts draws; the others say which block this is."""
    place = (row + _BIAS) << 32 | (column + _BIAS)
    counter = np.array([0, place, section, stain], dtype=np.uint64)
    key = np.array([seed, _STREAM], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(counter=counter, key=key))
    return generator.standard_normal((BLOCK_PX, BLOCK_PX), dtype=np.float32)
