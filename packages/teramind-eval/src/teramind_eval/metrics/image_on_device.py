"""PSNR, SSIM and MS-SSIM of image tiles on a GPU: the convention and, to rounding, the numbers of `metrics.image`.

In float64: a variance is the small difference of two squares (Wang et al. 2004, equation 13).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from teramind_data.console import note
from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_eval.metrics.image import (
    C1,
    C2,
    MS_SMALLEST,
    MS_WEIGHTS,
    WINDOW,
    TileScores,
    gaussian,
    psnr_of_mse,
    score_tiles,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_AT_ONCE = 1 << 21
"""Pixels of all stains of the tiles that are scored together: some 0.5 GB of intermediates."""


class Scorer(Protocol):
    """Scores tiles, as `metrics.image.score_tiles` does."""

    def __call__(
        self, reference: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8], tiles: Sequence[Box]
    ) -> TileScores:
        """All scores of `tiles` of `(c, y, x)` images."""
        ...


def pick_device(name: str) -> str:
    """`auto` as a device that is there (a GPU needs torch).

    Raises
    ------
    InputError
        for a device that is not known or not there.
    """
    check_name(name)
    if name == "cpu":
        return name
    there = 0
    if find_spec("torch") is not None:
        import torch

        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if there and _usable("cuda") else "cpu"
    if int(name.partition(":")[2] or 0) >= there:
        raise InputError(
            "no such device here", "--device", found=name, remedy="Use --device cpu; a GPU needs torch"
        )
    return name


def check_name(name: str) -> None:
    """InputError for what is no device's name."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise InputError("unknown device", "--device", "auto, cpu, cuda or cuda:N", name)


def _usable(device: str) -> bool:
    """Whether a GPU that is there also works: it may be full, another's alone, or too old for this torch."""
    import torch

    black = np.zeros((1, WINDOW, WINDOW), np.uint8)
    try:
        DeviceScorer(device)(black, black, [Box(0, WINDOW, 0, WINDOW)])
    except (RuntimeError, InputError) as error:  # torch's own are RuntimeErrors
        first = str(error).splitlines()[0]
        note(f"the GPU cannot be used, so tiles are scored on the CPU: {first}")
        torch.cuda.empty_cache()
        return False
    return True


def scorer(device: str) -> Scorer:
    """What scores tiles on a device that `pick_device` gave."""
    return score_tiles if device == "cpu" else DeviceScorer(device)


@dataclass(frozen=True)
class DeviceScorer:
    """A `Scorer` on a torch device, many tiles at a time."""

    device: str

    def __call__(
        self, reference: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8], tiles: Sequence[Box]
    ) -> TileScores:
        """All scores of `tiles` of `(c, y, x)` images; see `metrics.image.score_tiles`."""
        import torch

        channels = len(reference)
        out = TileScores(*(np.full((len(tiles), channels + 1), np.nan) for _ in range(3)))
        with _memory(self.device), torch.inference_mode():
            pair = torch.from_numpy(np.stack([reference, image])).to(self.device)
            for chosen in _alike(tiles, channels):
                both = torch.stack([pair[(..., *tiles[index].slices)] for index in chosen], 1).double()
                error, similarity, scales = (values.cpu().numpy() for values in _scores(*both))
                out.psnr[chosen] = psnr_of_mse(np.column_stack([error, error.mean(axis=1)]))
                out.ssim[chosen, :channels], out.ms_ssim[chosen, :channels] = similarity, scales
        for values in (out.ssim, out.ms_ssim):
            values[:, channels] = values[:, :channels].mean(axis=1)
        return out


@contextmanager
def _memory(device: str) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the device's memory is full", device, found=error, remedy="Use fewer --workers, or --device cpu"
        ) from error


def _alike(tiles: Sequence[Box], channels: int) -> Iterator[list[int]]:
    """Tiles of one shape, as many as are scored together."""
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, tile in enumerate(tiles):
        by_shape[tile.shape].append(index)
    for (height, width), alike in by_shape.items():
        step = max(1, _AT_ONCE // (channels * height * width))
        for start in range(0, len(alike), step):
            yield alike[start : start + step]


def _scores(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean square error, SSIM and MS-SSIM (nan where tiles are too small) of `(t, c, y, x)`, `(t, c)` each."""
    import torch
    from torch.nn.functional import avg_pool2d

    error = (x - y).square().mean(dim=(-2, -1))
    first, contrast = _means(x, y)
    if min(x.shape[-2:]) < MS_SMALLEST:
        return error, first, torch.full_like(first, torch.nan)
    likeness, product = first, torch.ones_like(first)
    for scale, weight in enumerate(MS_WEIGHTS):
        if scale:
            x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
            likeness, contrast = _means(x, y)
        last = scale == len(MS_WEIGHTS) - 1
        product = product * (likeness if last else contrast).clamp_min(0) ** weight
    return error, first, product


def _means(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Structural similarity, and its contrast and structure alone, of `(t, c, y, x)`, `(t, c)` each."""
    import torch

    mean_x, mean_y, squares, products = _blur(torch.stack([x, y, x * x + y * y, x * y]))
    means, squared = mean_x * mean_y, mean_x.square() + mean_y.square()
    contrast = (2 * (products - means) + C2) / (squares - squared + C2)
    similarity = contrast * (2 * means + C1) / (squared + C1)
    return similarity.mean(dim=(-2, -1)), contrast.mean(dim=(-2, -1))


def _blur(values: Tensor) -> Tensor:
    """Windows that lie wholly inside, weighted."""
    import torch
    from torch.nn.functional import conv2d

    weights: torch.Tensor = torch.from_numpy(gaussian()).to(values.device)
    flat = values.flatten(0, -3)[:, None]
    flat = conv2d(conv2d(flat, weights[None, None, None, :]), weights[None, None, :, None])
    return flat[:, 0].unflatten(0, values.shape[:-2])
