"""Sampling tile by tile, for any network that predicts a tile's noise from the pixels and genes around it.

The plain way: nothing is shared between tiles. Methods with a faster one of their own must equal it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX
from teramind_model.diffusion.ddim import OUTSIDE, Inside, keep_inside
from teramind_model.diffusion.steps import History, Step, as_steps

__all__ = ["TileNoise", "TileShape", "sample_tiles"]


class TileShape(Protocol):
    """Sizes in pixels, multiples of 16."""

    @property
    def patch(self) -> int:
        """Edge of a tile."""
        ...

    @property
    def halo(self) -> int:
        """How far around it pixels and genes take part."""
        ...


TileNoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x (b, k * Z, P + 2 halo, ...), t (b,), counts (b, S, n, ...)) -> (b, k * Z, P, P)``"""


@torch.inference_mode()
def sample_tiles(
    noise: TileNoise,
    shape: TileShape,
    counts: Tensor,
    x_T: Tensor,
    steps: int | Sequence[Step] = 15,
    *,
    batch: int = 16,
    inside: Inside = None,
    on_row: Callable[[int], None] | None = None,
) -> Tensor:
    """Denoise a canvas.

    Args:
        noise: predicts the noise of tiles.
        shape: of tiles.
        counts: raw counts ``(S, n, (H + 2 halo) / 16, (W + 2 halo) / 16)`` over the canvas and the halo around it.
        x_T: start noise ``(k * Z, H, W)``, stain slow; H and W multiples of P.
        steps: how many of DDIM, or a sampler's own (``sampler_steps``).
        batch: tiles predicted at once.
        inside: height and width of the canvas where ``x_T`` was padded to whole tiles, or a mask of pixels ``(H, W)``;
            -1 elsewhere, at every step.
        on_row: called with the number of tiles in each row of tiles as its noise has been predicted.

    Returns:
        ``x_0 (k * Z, H, W)`` float32, not clipped.
    """
    height, width = x_T.shape[-2:]
    _check(shape, counts, (height, width))
    x = keep_inside(x_T.float(), inside)
    history: History = ()
    for step in as_steps(steps):
        padded = functional.pad(x, (shape.halo,) * 4, value=OUTSIDE)
        rows = []
        for y in range(0, height, shape.patch):
            rows.append(_row(noise, shape, padded, counts, y, step.t, batch))
            if on_row is not None:
                on_row(width // shape.patch)
        x, history = step.advance(x, torch.cat(rows, dim=-2), history)
        x = keep_inside(x, inside)
    return x


def _row(
    noise: TileNoise, shape: TileShape, padded: Tensor, counts: Tensor, y: int, t: int, batch: int
) -> Tensor:
    """Noise of a row of tiles, ``(k * Z, P, W)``."""
    edge, step = shape.patch + 2 * shape.halo, shape.patch
    strip = padded[:, y : y + edge].unfold(-1, edge, step).movedim(-2, 0)
    bins = counts[..., y // BIN_PX : (y + edge) // BIN_PX, :]
    genes = bins.unfold(-1, edge // BIN_PX, step // BIN_PX).movedim(-2, 0)
    tiles = [
        noise(x, torch.full((len(x),), t, device=x.device), c)
        for x, c in zip(strip.split(batch), genes.split(batch), strict=True)
    ]
    return torch.cat(tiles).movedim(0, -2).flatten(-2)


def _check(shape: TileShape, counts: Tensor, canvas: tuple[int, int]) -> None:
    if any(edge % shape.patch for edge in canvas):
        raise InputError(
            "the canvas is not whole tiles", expected=f"multiples of {shape.patch}", found=canvas
        )
    expected = tuple((edge + 2 * shape.halo) // BIN_PX for edge in canvas)
    if tuple(counts.shape[-2:]) != expected:
        raise InputError(
            "gene counts do not cover the canvas and its halo",
            expected=expected,
            found=tuple(counts.shape[-2:]),
        )
