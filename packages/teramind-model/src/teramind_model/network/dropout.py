"""Dropout keyed by sample: what a sample loses depends on the sample, not on its place in a batch or on the process.

A mask is a hash of (key of the sample, layer, element), so that one process with a batch and two with half of it each
drop the same numbers, and recomputing a layer drops them again without any generator's state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["KeyedDropout", "set_dropout_keys"]

_PLACES = 5
"""Maps of a layer for one sample: four patches of its block, then their collage."""


class KeyedDropout(nn.Module):
    """``functional.dropout`` until keys are set, then masks that depend on them alone."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.layer = 0
        self.keys: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of ``(b * m, ...)``, for b keys: m = 4 maps a sample are patches, m = 1 is their collage."""
        if not self.training or self.p == 0:
            return x
        if self.keys is None:
            return functional.dropout(x, self.p)
        return torch.where(self._kept(x.shape, self.keys), x / (1 - self.p), x.new_zeros(()))

    def _kept(self, shape: torch.Size, keys: Tensor) -> Tensor:
        maps = shape[0] // len(keys)
        first = _PLACES - 1 if maps == 1 else 0
        place = torch.arange(first, first + maps, device=keys.device, dtype=torch.int32)
        element = torch.arange(shape[1:].numel(), device=keys.device, dtype=torch.int32)
        start = _mix(keys[:, None] ^ _mix(place + _PLACES * self.layer + 1)).flatten()
        bits = _mix(start[:, None] ^ _mix(element))
        # int32 is signed: p of all its values lie below this.
        return (bits >= int((self.p - 0.5) * 2**32)).view(shape)


def _mix(x: Tensor) -> Tensor:
    """A bijection of int32 that spreads every bit over all others (Wellons' lowbias32)."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * -0x7B935975
    return x ^ ((x >> 16) & 0xFFFF)


def set_dropout_keys(network: nn.Module, keys: Tensor) -> None:
    """Key all of a network's :class:`KeyedDropout` for the next batch by ``keys (b,)`` int32, one a sample."""
    layers = [module for module in network.modules() if isinstance(module, KeyedDropout)]
    for layer, module in enumerate(layers):
        module.layer, module.keys = layer, keys
