"""Several draws of one brain: where they agree, the genes decide; where they differ, the noise does.

Draw d starts from the noise of seed + d, so that each could be made again alone. The store holds the first draw as its
``morphology`` and beside it the mean and the standard deviation of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import Box
from teramind_data.store import BrainWriter, ImageSpec

__all__ = ["MEAN", "SD", "add_images", "mean_and_sd", "write_shard"]

MEAN, SD = "morphology_mean", "morphology_sd"
_ROWS = 64


def add_images(writer: BrainWriter, draws: int) -> None:
    """Declare the two images, unless an earlier run did."""
    for name in (MEAN, SD):
        if name not in writer.names:
            attrs = {"draws": draws, "of": "morphology"}
            writer.add_image(ImageSpec(name, writer.spec.stains, "float16", attrs=attrs))


def write_shard(writer: BrainWriter, z: int, box: Box, draws: Sequence[NDArray[np.uint8]]) -> None:
    """Write a shard of all images, ``draws`` of ``(stains, h, w)``.

    The morphology last: its journal tells what is done, for all of them.
    """
    if len(draws) > 1:
        for name, values in zip((MEAN, SD), mean_and_sd(draws), strict=True):
            writer.write(name, z, box, values)
    writer.write("morphology", z, box, draws[0])


def mean_and_sd(draws: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Mean and sample standard deviation (over K - 1) of two or more images, in uint8 levels.

    Exact in integers until the last division; float16 keeps 0.13 levels at worst. Some rows at a time: what passes is
    wide.
    """
    mean, sd = (np.empty(draws[0].shape, np.float16) for _ in range(2))
    for y in range(0, mean.shape[-2], _ROWS):
        rows = np.s_[..., y : y + _ROWS, :]
        mean[rows], sd[rows] = _moments([draw[rows] for draw in draws])
    return mean, sd


def _moments(draws: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = len(draws)
    total = np.zeros(draws[0].shape, np.int64)
    squares = np.zeros(draws[0].shape, np.int64)
    for draw in draws:
        wide = draw.astype(np.int64)
        total += wide
        squares += wide * wide
    variance = (count * squares - total * total) / (count * (count - 1))
    return total / count, np.sqrt(variance)
