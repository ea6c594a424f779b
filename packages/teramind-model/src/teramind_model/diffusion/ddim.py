"""A canvas held in memory, denoised one step after the other: the straightforward sampler.

DDIM unless other steps are given. Faster engines must equal this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.diffusion.steps import History, Step, as_steps
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded, PatchUNet

OUTSIDE = -1.0
"""What the image is outside the canvas, at every step, as published."""

Inside = tuple[int, int] | Tensor | None
"""What of ``x (..., H, W)`` is not -1 at every step: the upper left ``(height, width)``, a mask ``(H, W)``, or all."""


@torch.inference_mode()
def sample_canvas(
    model: PatchUNet,
    counts: Tensor,
    x_T: Tensor,
    steps: int | Sequence[Step] = 15,
    *,
    inside: Inside = None,
    on_step: Callable[[int, Tensor], None] | None = None,
    on_row: Callable[[int], None] | None = None,
) -> Tensor:
    """Denoise a canvas through the boundary-aware path.

    Parameters
    ----------
    counts
        Raw counts ``(S, n, H/16 + g, W/16 + g)`` over the canvas and half a patch on each side.
    x_T
        Start noise ``(k * Z, H, W)``, stain slow; H and W multiples of P.
    steps
        How many of DDIM, or a sampler's own (``sampler_steps``).
    inside
        Height and width of the canvas where ``x_T`` was padded below and to the right to whole tiles, or a mask of
        pixels ``(H, W)``: all else is -1 at every step.
    on_step
        Called with the number of steps done (1 .. steps) and ``x`` after them.
    on_row
        Called with the number of tiles in each row of tiles as its noise has been predicted.

    Returns
    -------
    ``x_0``, ``(k * Z, H, W)`` float32, not clipped.
    """
    config = model.config
    rows, columns = _grid(config.patch, config.bins, counts, x_T)
    was_training = model.training
    model.eval()
    try:
        genes = [_row_genes(model, counts, row, columns) for row in range(rows)]
        x = keep_inside(x_T.float(), inside)
        history: History = ()
        for done, step in enumerate(as_steps(steps), start=1):
            x, history = step.advance(x, _predict(model, x, step.t, genes, on_row), history)
            x = keep_inside(x, inside)
            if on_step is not None:
                on_step(done, x)
    finally:
        model.train(was_training)
    return x


def to_uint8(x: Tensor) -> Tensor:
    """``clip((x + 1) * 127.5)`` to 0 .. 255, truncated as the published code's cast does."""
    return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def _grid(patch: int, bins: int, counts: Tensor, x: Tensor) -> tuple[int, int]:
    """Rows and columns of grid A, offset by half a patch so that tiles (collage patches) cover the canvas."""
    height, width = x.shape[-2:]
    if height % patch or width % patch:
        raise InputError(
            "the canvas is not whole tiles", expected=f"multiples of {patch}", found=(height, width)
        )
    rows, columns = height // patch + 1, width // patch + 1
    if tuple(counts.shape[-2:]) != (rows * bins, columns * bins):
        raise InputError(
            "gene counts do not cover the canvas and half a patch around it",
            expected=(rows * bins, columns * bins),
            found=tuple(counts.shape[-2:]),
        )
    return rows, columns


def _row_genes(model: PatchUNet, counts: Tensor, row: int, columns: int) -> GeneFeatures:
    bins = model.config.bins
    strip = counts[..., row * bins : (row + 1) * bins, :]
    return model.gene_features(strip.unflatten(-1, (columns, bins)).movedim(-2, 0))


def keep_inside(x: Tensor, inside: Inside) -> Tensor:
    """``x`` with -1 where it is not inside."""
    if isinstance(inside, Tensor):
        return torch.where(inside, x, OUTSIDE)
    if inside is None or inside == tuple(x.shape[-2:]):
        return x
    height, width = inside
    padding = (0, x.shape[-1] - width, 0, x.shape[-2] - height)
    return torch.nn.functional.pad(x[..., :height, :width], padding, value=OUTSIDE)


def _predict(
    model: PatchUNet,
    x: Tensor,
    t: int,
    genes: list[GeneFeatures],
    on_row: Callable[[int], None] | None = None,
) -> Tensor:
    """Noise of the whole canvas at ``t``, one row of patches at a time: each is encoded once, its skips wait
    for the row below."""
    patch = model.config.patch
    padded = torch.nn.functional.pad(x, (patch // 2,) * 4, value=OUTSIDE)
    columns = padded.shape[-1] // patch
    times = torch.full((columns,), t, device=x.device)
    tiles, above = [], None
    for row, row_genes in enumerate(genes):
        strip = padded[:, row * patch : (row + 1) * patch]
        patches = strip.unflatten(-1, (columns, patch)).movedim(-2, 0)
        encoded = model.encode(patches, times, row_genes)
        if above is not None:
            both = _stack(above[0], encoded)
            both_genes = _stack_maps(above[1], row_genes)
            cut, cut_genes = model.collage(both, both_genes, 2, columns)
            tiles.append(model.decode(cut, times[1:], cut_genes).movedim(0, -2).flatten(-2))
            if on_row is not None:
                on_row(columns - 1)
        above = (encoded, row_genes)
    return torch.cat(tiles, dim=-2)


def _stack(upper: Encoded, lower: Encoded) -> Encoded:
    middle = torch.cat((upper.middle, lower.middle))
    return Encoded(middle, tuple(torch.cat(pair) for pair in zip(upper.skips, lower.skips, strict=True)))


def _stack_maps(upper: GeneFeatures, lower: GeneFeatures) -> GeneFeatures:
    g_0, g_1, g_2, g_3 = (torch.cat(pair) for pair in zip(upper, lower, strict=True))
    return g_0, g_1, g_2, g_3
