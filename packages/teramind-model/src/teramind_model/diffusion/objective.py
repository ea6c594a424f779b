"""The training objective: noise predicted by the patch path and by the collage path (paper, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX
from teramind_model.diffusion.schedule import alpha_bar


class NoisePredictor(Protocol):
    """A network of 2 x 2 blocks: ``(x, t, counts) -> (eps_patch, eps_collage)``."""

    def __call__(self, x: Tensor, t: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as in :meth:`teramind_model.network.TeraMind.forward`."""
        ...


class Block(NamedTuple):
    """A 2 x 2 block of patches of each crop, before noising.

    ``image (b, k * Z, 2P, 2P)`` in [-1, 1]; ``noise`` of its shape; ``mask (b, 1, 2P, 2P)`` 0 in the padding
    around the crop, 1 inside; ``counts (b, S, n, 2g, 2g)`` raw, 0 in the padding; ``t (b,)``.
    """

    image: Tensor
    noise: Tensor
    mask: Tensor
    counts: Tensor
    t: Tensor


class Loss(NamedTuple):
    """The two terms apart; their sum is what is minimised."""

    patch: Tensor
    collage: Tensor

    @property
    def total(self) -> Tensor:
        """``patch + collage``."""
        return self.patch + self.collage


def block_loss(model: NoisePredictor, block: Block, *, ratio_cap: float | None = None) -> Loss:
    """``mean((eps - eps_patch)^2 * mask) + mean((eps - eps_collage)^2)``, the second on the central P x P.

    Parameters
    ----------
    ratio_cap
        None, the paper's: every t weighs alike. A number weighs each crop by ``min((1 - a) / a, ratio_cap)``,
        a = alpha_bar(t): the error of x0 instead of the noise's, clipped (min-SNR, arXiv 2303.09556), which
        learns coarse structure first and so suits small budgets.
    """
    eps_patch, eps_collage = model(split_block(noised(block)), block.t, split_block(block.counts))
    weight = weights(block.t, ratio_cap)
    quarter = block.image.shape[-1] // 4
    centre = block.noise[..., quarter:-quarter, quarter:-quarter]
    patch = ((block.noise - join_block(eps_patch)) ** 2 * block.mask).mean(dim=(1, 2, 3))
    collage = ((centre - eps_collage) ** 2).mean(dim=(1, 2, 3))
    return Loss((weight * patch).mean(), (weight * collage).mean())


def noised(block: Block) -> Tensor:
    """``x_t (b, k * Z, 2P, 2P)``: image and noise mixed by t, 0 in the padding."""
    a = _alpha_bar_at(block.t)
    keep, spread = a.sqrt()[:, None, None, None], (1 - a).sqrt()[:, None, None, None]
    return (keep * block.image + spread * block.noise) * block.mask


def weights(t: Tensor, ratio_cap: float | None) -> Tensor:
    """Weight of each sample's loss ``(b,)``, see :func:`block_loss`."""
    a = _alpha_bar_at(t)
    return torch.ones_like(a) if ratio_cap is None else torch.clamp((1 - a) / a, max=ratio_cap)


def _alpha_bar_at(t: Tensor) -> Tensor:
    return torch.tensor(alpha_bar(), device=t.device)[t].float()


def split_block(block: Tensor) -> Tensor:
    """``(b, ..., 2h, 2w)`` to its four quarters ``(b * 4, ..., h, w)``, row-major."""
    height, width = block.shape[-2] // 2, block.shape[-1] // 2
    quarters = block.unflatten(-2, (2, height)).unflatten(-1, (2, width))
    return quarters.movedim((-4, -2), (1, 2)).flatten(0, 2)


def join_block(quarters: Tensor) -> Tensor:
    """Inverse of :func:`split_block`."""
    grid = quarters.unflatten(0, (-1, 2, 2))
    return grid.movedim((1, 2), (-4, -2)).flatten(-4, -3).flatten(-2, -1)


def training_loss(
    model: NoisePredictor, image: Tensor, noise: Tensor, counts: Tensor, t: Tensor, block: tuple[int, int]
) -> Tensor:
    """The paper's loss of whole crops, for the 2 x 2 block whose first patch is ``block`` of the padded grid.

    Parameters
    ----------
    image
        Crops ``(b, k * Z, E, E)`` in [-1, 1]; ``E`` = 4P (2P at P = 128).
    noise
        ``(b, k * Z, E + P, E + P)``, over the crop padded by P/2.
    counts
        ``(b, S, n, E / 16, E / 16)``, raw.
    t
        ``(b,)``.
    block
        Row and column in the padded grid of ``E/P + 1`` patches.
    """
    edge, padded = image.shape[-1], noise.shape[-1]
    patch = padded - edge
    row, column = block
    last = padded // patch - 2
    if not (0 <= row <= last and 0 <= column <= last):
        raise InputError(
            "the block lies outside the padded grid", expected=f"rows, columns 0..{last}", found=block
        )
    half, bins = patch // 2, patch // 2 // BIN_PX
    pad, pad_bins = (half,) * 4, (bins,) * 4
    where = (..., slice(row * patch, (row + 2) * patch), slice(column * patch, (column + 2) * patch))
    g = patch // BIN_PX
    where_bins = (..., slice(row * g, (row + 2) * g), slice(column * g, (column + 2) * g))
    mask = torch.nn.functional.pad(torch.ones_like(image[:, :1]), pad)
    chosen = Block(
        image=torch.nn.functional.pad(image, pad)[where],
        noise=noise[where],
        mask=mask[where],
        counts=torch.nn.functional.pad(counts, pad_bins)[where_bins],
        t=t,
    )
    return block_loss(model, chosen).total
