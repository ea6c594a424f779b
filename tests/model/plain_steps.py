"""Grids of patches and time steps of the plain second implementation (see `plain_reference`)."""

from __future__ import annotations

import torch
from torch import Tensor

TRAIN_STEPS = 1000


def cut(x: Tensor, size: int) -> Tensor:
    """Blocks `(B, ..., 2*size, 2*size)` to their four patches `(B*4, ..., size, size)`, row by row."""
    patches = []
    for crop in x:
        for row in (0, 1):
            for col in (0, 1):
                y, x_ = row * size, col * size
                patches.append(crop[..., y : y + size, x_ : x_ + size])
    return torch.stack(patches)


def collage(x: Tensor) -> Tensor:
    """Four patches a block laid side by side, half a patch dropped at the rim: `(B*4, ...)` to `(B, ...)`."""
    half = x.shape[-1] // 2
    blocks = []
    for first in range(0, len(x), 4):
        upper = torch.cat([x[first], x[first + 1]], dim=-1)
        lower = torch.cat([x[first + 2], x[first + 3]], dim=-1)
        blocks.append(torch.cat([upper, lower], dim=-2)[..., half:-half, half:-half])
    return torch.stack(blocks)


def four_neighbours(upper: Tensor, lower: Tensor) -> Tensor:
    """Two rows of a grid, `(columns, ...)` each, to the four patches around each corner between them."""
    blocks = []
    for col in range(len(upper) - 1):
        blocks += [upper[col], upper[col + 1], lower[col], lower[col + 1]]
    return torch.stack(blocks)


def enlarge(x: Tensor) -> Tensor:
    """Nearest x2 in y and x."""
    return x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)


def shrink(x: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels in y and x."""
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def alphas_cumprod() -> Tensor:
    """The share of signal left at each of the 1000 training steps, linear betas, float64."""
    betas = torch.linspace(1e-4, 2e-2, TRAIN_STEPS, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)


def ddim_timesteps(steps: int) -> list[int]:
    """The times of the smallest integer stride that leaves exactly `steps` of 0 .. 999."""
    for stride in range(1, TRAIN_STEPS + 1):
        times = list(range(0, TRAIN_STEPS, stride))
        if len(times) == steps:
            return times
    raise ValueError(f"no integer stride leaves {steps} of {TRAIN_STEPS} time steps")
