"""Activation checkpointing: blocks forget what is inside them and compute it again for the gradient.

Memory for a quarter more work or so (each block's forward runs twice); the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["Recomputable", "recompute_blocks"]


class Recomputable(nn.Module):
    """A module that may run its parts so that only their inputs are kept for the gradient."""

    recompute = False

    def maybe_recomputed(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """``function(*inputs)``; where ``recompute`` is set and gradients are wanted, nothing inside is kept."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


def recompute_blocks(model: nn.Module, enabled: bool = True) -> int:
    """Turn activation checkpointing of ``model``'s blocks on or off; parameters and results do not change.

    Returns:
        How many modules know it.
    """
    blocks = [module for module in model.modules() if isinstance(module, Recomputable)]
    for block in blocks:
        block.recompute = enabled
    return len(blocks)
