"""Grids of patches and time steps of the plain second implementation (see `plain_reference`)."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def even_snr_timesteps(steps: int) -> list[int]:
    """Times from 999 to 0 whose log SNR is nearest to evenly spaced values; noise first."""
    a = alphas_cumprod()
    log_snr = torch.log(a / (1 - a))
    first, last = log_snr[-1].item(), log_snr[0].item()
    times = []
    for i in range(steps):
        wanted = first + (last - first) * i / max(1, steps - 1)
        times.append(min(range(TRAIN_STEPS), key=lambda t: abs(log_snr[t].item() - wanted)))
    if len(set(times)) < steps:
        raise ValueError(f"{steps} steps fall on the same times")
    return times


def dpmpp_2m(
    noise: Callable[[Tensor, int], Tensor],
    x: Tensor,
    steps: int,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Algorithm 2 of arXiv 2211.01095 (data prediction), each clean image clamped to [-1, 1].

    The last time leads to a clean image (sigma 0), where lambda is infinite: it is the clean image itself.
    """
    shares = alphas_cumprod()
    times = even_snr_timesteps(steps)
    alpha = [math.sqrt(shares[t].item()) for t in times]
    sigma = [math.sqrt(1 - shares[t].item()) for t in times]
    lambda_ = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    before = x
    for i, t in enumerate(times):
        clean = ((x - sigma[i] * noise(x, t)) / alpha[i]).clamp(-1, 1)
        if i == steps - 1:
            x = clean
        else:
            h = lambda_[i + 1] - lambda_[i]
            aim = clean
            if i > 0:
                r = (lambda_[i] - lambda_[i - 1]) / h
                aim = (1 + 1 / (2 * r)) * clean - 1 / (2 * r) * before
            x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (math.exp(-h) - 1) * aim
        before = clean
        if on_step is not None:
            on_step(i + 1, x)
    return x
