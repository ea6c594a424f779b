"""Patch-DM (arXiv 2308.01316): patches made consistent by a collage of their features.

The part of it that the comparison needs: the U-Net's patch path and feature collage, with the paper's objective, and no
gene branch. ``patch-dm`` sees no genes at all. ``patch-dm-genes`` gets the counts of a patch's own bins as further
feature maps at full resolution, without attention between genes or of the image to them: what the gene branch is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from teramind_data.geometry import BIN_PX
from teramind_model.baselines.shape import BaselineShape, shape_from
from teramind_model.methods.two_paths import TwoPathMethod
from teramind_model.network.config import ATTENTION_EDGE, LEVEL_MULTIPLIERS
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import PatchUNet

__all__ = ["METHOD", "WITH_GENES", "PatchDM", "PatchDMMethod", "PatchDMShape"]


@dataclass(frozen=True)
class PatchDMShape(BaselineShape):
    """Shape of a Patch-DM network; ``channels`` is the base width, as in the paper's network."""

    fold_z: bool = False

    @property
    def halo(self) -> int:
        """Pixels around a tile that its noise depends on, P / 2."""
        return self.patch // 2

    @property
    def bins(self) -> int:
        """Edge of a patch in gene bins."""
        return self.patch // BIN_PX

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four levels."""
        return tuple(self.channels * m for m in LEVEL_MULTIPLIERS)

    @property
    def gene_channels(self) -> tuple[int, int, int, int]:
        """Genes take part at full resolution only."""
        return (0, 0, 0, self.gene_width)

    def has_attention(self, level: int) -> bool:
        """Whether ``level`` carries attention: the one of 16 x 16 feature maps."""
        return self.patch >> level == ATTENTION_EDGE


class BinEmbedding(nn.Module):
    """Counts to feature maps: ``log(count + 1)`` of a bin's genes in all S slices, mapped to each image slice."""

    def __init__(self, shape: BaselineShape) -> None:
        super().__init__()
        self.slices, self.width = shape.image_slices, shape.gene_width
        self.linear = nn.Linear(shape.gene_slices * shape.genes, self.slices * self.width)

    def forward(self, counts: Tensor) -> Tensor:
        """``(b, S, n, by, bx)`` to ``(b, 16 by, 16 bx, Z, width)``, the same value all over a bin."""
        tokens = torch.log1p(counts.to(self.linear.weight.dtype)).flatten(1, 2).movedim(1, -1)
        embedded = self.linear(tokens).unflatten(-1, (self.slices, self.width))
        wide: Tensor = embedded.repeat_interleave(BIN_PX, dim=1).repeat_interleave(BIN_PX, dim=2)
        return wide


class _Features(nn.Module):
    """Gene features with channels at full resolution only (none at all without genes)."""

    def __init__(self, shape: PatchDMShape) -> None:
        super().__init__()
        self.slices = shape.image_slices
        self.embedding = BinEmbedding(shape) if shape.gene_width else None

    def forward(self, counts: Tensor) -> GeneFeatures:
        """``g_0`` .. ``g_3`` of ``(b, S, n, g, g)``."""
        batch, edge = counts.shape[0], counts.shape[-1] * BIN_PX
        empty = [
            counts.new_zeros((batch, edge >> level, edge >> level, self.slices, 0), dtype=torch.float32)
            for level in (3, 2, 1, 0)
        ]
        last = empty[3] if self.embedding is None else self.embedding(counts)
        return empty[0], empty[1], empty[2], last


class PatchDM(PatchUNet):
    """Predicts the noise of 2 x 2 blocks of patches on both paths, as :class:`teramind_model.network.TeraMind`."""

    def __init__(self, config: PatchDMShape) -> None:
        super().__init__(config, lambda: _Features(config))


class PatchDMMethod(TwoPathMethod):
    """See :class:`teramind_model.methods.protocol.Method`."""

    options = ("gene_slices", "patch", "channels", "time_width", "dropout", "fold_z")

    def __init__(self, name: str, *, genes: bool) -> None:
        self.name = name
        self._genes = genes

    def shape(self, values: Mapping[str, Any]) -> PatchDMShape:
        """The network's shape."""
        return shape_from(PatchDMShape, values, genes=self._genes)

    def network(self, shape: PatchDMShape) -> PatchDM:
        """Patch-DM's network."""
        return PatchDM(shape)


METHOD = PatchDMMethod("patch-dm", genes=False)
WITH_GENES = PatchDMMethod("patch-dm-genes", genes=True)
