"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Ema", "ema_decay"]


def ema_decay(decay: float, step: int) -> float:
    """Decay of step ``step`` (0 the first): rises from 1/10, so that a short run is not an average of its start."""
    return min(decay, (1 + step) / (10 + step))


class Ema:
    """Running average of a module's state, float32, on the module's device."""

    def __init__(self, module: nn.Module, decay: float, start: Mapping[str, Tensor] | None = None) -> None:
        self.decay = decay
        self._source = dict(module.state_dict())
        begin = self._source if start is None else start
        self.weights = {
            name: begin[name].detach().to(tensor.device, torch.float32, copy=True)
            for name, tensor in self._source.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the module's present weights after step ``step``."""
        share = 1 - ema_decay(self.decay, step)
        torch._foreach_lerp_(list(self.weights.values()), list(self._source.values()), share)
