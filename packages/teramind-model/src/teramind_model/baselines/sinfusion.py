"""SinFusion (arXiv 2211.11743): a purely convolutional denoiser with a small receptive field, trained on crops.

As there, nothing is ever scaled down, so the network sees no farther than its convolutions reach and cannot learn where
things stand in a whole image. ``sinfusion`` sees no genes; ``sinfusion-genes`` gets the counts of the bins as further
channels of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, ceil_div
from teramind_model.baselines.patch_dm import BinEmbedding
from teramind_model.baselines.shape import BaselineShape, shape_from
from teramind_model.diffusion.objective import Block, noised, weights
from teramind_model.network.blocks import ResBlock, RMSNorm, SliceConv, TimeEmbedding
from teramind_model.network.recompute import Recomputable

__all__ = ["METHOD", "WITH_GENES", "SinFusion", "SinFusionMethod", "SinFusionShape"]


@dataclass(frozen=True)
class SinFusionShape(BaselineShape):
    """Shape of a SinFusion network: ``depth`` residual blocks of ``channels`` each, two convolutions a block."""

    depth: int = 7
    fold_z: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1 or self.halo > self.patch // 2:
            raise InputError(
                "network.depth is out of range",
                expected=f"1 .. {(self.patch // 2 - 2) // 2} at P = {self.patch}",
                found=self.depth,
            )

    @property
    def reach(self) -> int:
        """Pixels that the convolutions see beyond a pixel."""
        return 2 * self.depth + 2

    @property
    def halo(self) -> int:
        """The reach, rounded up to whole bins."""
        return BIN_PX * ceil_div(self.reach, BIN_PX)


class SinFusion(Recomputable):
    """Stem, residual blocks of one width, head."""

    def __init__(self, config: SinFusionShape) -> None:
        super().__init__()
        self.config = config
        width, fold = config.channels, config.fold_z
        self.time_embedding = TimeEmbedding(width, config.time_width)
        self.genes = BinEmbedding(config) if config.gene_width else None
        self.stem = SliceConv(config.stains + config.gene_width, width, (1, 3, 3))
        self.blocks = nn.ModuleList(
            ResBlock(width, width, config.time_width, dropout=config.dropout, fold=fold)
            for _ in range(config.depth)
        )
        self.head_norm = RMSNorm(width)
        self.head = SliceConv(width, config.stains, (1, 3, 3))
        # The first prediction is that all is noise, as for the other methods' identity start.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """Noise of ``x (b, k * Z, h, w)`` (stain slow) at ``t (b,)`` given ``counts (b, S, n, h / 16, w / 16)``, of
        the shape of ``x``; true but for a rim of ``reach`` pixels, where the surroundings are missing."""
        time = functional.silu(self.time_embedding(t))
        volume = x.to(self.stem.weight.dtype).unflatten(1, (-1, self.config.image_slices))
        h = volume.permute(0, 3, 4, 2, 1)
        if self.genes is not None:
            h = torch.cat((h, self.genes(counts).to(h.dtype)), dim=-1)
        h = self.stem(h.contiguous())
        for block in self.blocks:
            h = self.maybe_recomputed(block, h, time)
        out = self.head(functional.silu(self.head_norm(h)))
        return x.float() + out.permute(0, 4, 3, 1, 2).flatten(1, 2).float()


class SinFusionMethod:
    """See :class:`teramind_model.methods.protocol.Method`."""

    terms = ("noise",)
    starts = ("random",)
    options = ("gene_slices", "patch", "channels", "time_width", "dropout", "fold_z")

    def __init__(self, name: str, *, genes: bool) -> None:
        self.name = name
        self._genes = genes

    def shape(self, values: Mapping[str, Any]) -> SinFusionShape:
        """The network's shape."""
        return shape_from(SinFusionShape, values, genes=self._genes)

    def build(self, shape: SinFusionShape, start: str = "random") -> SinFusion:
        """The network."""
        if start not in self.starts:
            raise InputError("unknown start", expected=", ".join(self.starts), found=start)
        return SinFusion(shape)

    def loss(
        self, network: Callable[..., Any], block: Block, *, ratio_cap: float | None = None
    ) -> dict[str, Tensor]:
        """``mean((eps - predicted)^2 * mask)`` over the middle of the block, where all that is seen lies in it."""
        rim = block.image.shape[-1] // 4
        middle = (..., slice(rim, -rim), slice(rim, -rim))
        predicted = network(noised(block), block.t, block.counts)
        error = ((block.noise - predicted) ** 2 * block.mask)[middle].mean(dim=(1, 2, 3))
        return {"noise": (weights(block.t, ratio_cap) * error).mean()}

    def noise(self, network: nn.Module, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """The middle of what is predicted for a tile with its halo."""
        edge = x.shape[-1]
        assert isinstance(network, SinFusion)
        halo = network.config.halo
        predicted: Tensor = network(x, t, counts)
        return predicted[..., halo : edge - halo, halo : edge - halo]


METHOD = SinFusionMethod("sinfusion", genes=False)
WITH_GENES = SinFusionMethod("sinfusion-genes", genes=True)
