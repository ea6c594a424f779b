"""How much device memory a training step takes, computed without the device.

The step runs forward and backward on fake tensors: shapes and types without numbers. Every storage is counted from its
making to its end, so the peak holds what autograd keeps, autocast's copies of the weights, gradients, and what is only
passing. Not in it: the kernels' own work space and the allocator's rounding and gaps, for which to leave a tenth or so.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from teramind_model.network.config import NetworkConfig
from teramind_model.network.recompute import recompute_blocks
from teramind_model.network.unet import TeraMind

__all__ = ["LiveStorages", "TrainingMemory", "step_memory", "training_memory"]


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes. ``weights``, ``optimiser`` (Adam's two moments) and ``average`` are held throughout, in float32.
    ``kept`` is what the forward pass keeps for the backward pass; ``step`` the peak of the step above the weights,
    gradients included."""

    weights: int
    optimiser: int
    average: int
    kept: int
    step: int

    @property
    def peak(self) -> int:
        """All that is held at the worst moment."""
        return self.weights + self.optimiser + self.average + self.step


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of tensors made while it is active, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run ``func`` and count what it made; views share a storage that is known already."""
        out = func(*args, **(kwargs or {}))
        known = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in known:
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def training_memory(
    config: NetworkConfig, batch: int, *, bf16: bool = True, recompute: bool = False
) -> TrainingMemory:
    """Memory of a step on ``batch`` samples at once (a batch's accumulated parts come one after another).

    Parameters
    ----------
    config
        The network.
    batch
        Samples that a device takes at once.
    bf16
        Under bfloat16 autocast; else float32.
    recompute
        With activation checkpointing.
    """
    with FakeTensorMode():
        model = TeraMind(config).train()
        recompute_blocks(model, recompute)
        return step_memory(model, batch, bf16=bf16)


def step_memory(model: TeraMind, batch: int, *, bf16: bool) -> TrainingMemory:
    """Memory of a training step of ``model`` on the CPU, on whatever tensors are made here: fake ones or real."""
    c = model.config
    x = torch.zeros(4 * batch, c.stains * c.image_slices, c.patch, c.patch)
    counts = torch.zeros(4 * batch, c.gene_slices, c.genes, c.bins, c.bins)
    t = torch.zeros(batch, dtype=torch.long)
    weights = sum(p.nbytes for p in model.parameters())
    with LiveStorages() as storages:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            patch, collage = model(x, t, counts)
            loss = patch.square().mean() + collage.square().mean()
        kept = storages.live
        loss.backward()
    return TrainingMemory(weights, 2 * weights, weights, kept, storages.peak)
