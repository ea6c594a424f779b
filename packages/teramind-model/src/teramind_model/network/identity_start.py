"""A start for small budgets: a network whose first prediction is that all it sees is noise, ``eps(x) = x``.

At high t the noise is almost the whole image, and what the genes say is a few per cent of it: a network drawn at random
must first learn to copy its input to a few parts in a thousand before genes can lower the loss at all. Here the copy is
laid into the weights that are there anyway (stem, last skip, head), and training starts with what is left to learn.

Nothing of the architecture changes; the published recipe starts at random, and that is the default.
"""

from __future__ import annotations

import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.network.unet import PatchUNet, UNetShape

_ANCHOR = 16.0
"""Value of the constant channels. The head's norm divides by the root mean square over channels; constants far above
the image make that a constant too, and the copy linear to about x^2 / (4 * 16^2)."""

_ANCHORS = 2


@torch.no_grad()
def start_as_identity(model: PatchUNet, config: UNetShape) -> None:
    """Set the stem, the last decoder block's skip and the head so that both paths predict ``eps = x``.

    Each stain takes two channels, ``x`` and ``-x``, through which ``silu(x) - silu(-x) = x``; two more are constant.

    Raises
    ------
    InputError
        Where the base width has no room for them.
    """
    copies, width = 2 * config.stains, config.channels
    if width < copies + _ANCHORS:
        raise InputError(
            "the network is too narrow to start as the identity",
            expected=f"channels >= {copies + _ANCHORS}",
            found=width,
        )
    signs = torch.tensor([1.0, -1.0]).repeat(config.stains)
    stain = torch.arange(config.stains).repeat_interleave(2)
    channel = torch.arange(copies)

    stem = model.stem.weight
    stem[:copies] = 0
    stem[channel, stain, 0, 1, 1] = signs
    model.stem.bias[:copies] = 0

    skip = _last_skip(model)
    weight, bias = skip
    weight[: copies + _ANCHORS] = 0
    bias[: copies + _ANCHORS] = 0
    # The block reads concat(h, skip, genes), and the last skip is the stem's output.
    weight[channel, width + channel, 0, 0, 0] = 1
    bias[copies : copies + _ANCHORS] = _ANCHOR

    root_mean_square = _ANCHOR * (_ANCHORS / width) ** 0.5
    model.head_norm.weight[:copies] = root_mean_square
    model.head.weight.zero_()
    model.head.bias.zero_()
    model.head.weight[stain, channel, 0, 1, 1] = signs


def _last_skip(model: PatchUNet) -> tuple[Tensor, Tensor]:
    parameters = dict(model.named_parameters())
    place = f"decoder.{len(model.decoder) - 1}.stages.2.block.skip"
    return parameters[f"{place}.weight"], parameters[f"{place}.bias"]
