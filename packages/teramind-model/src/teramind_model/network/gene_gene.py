"""Gene-gene attention and the gene feature pyramid (paper, equation 1). None of it depends on the time step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from teramind_model.network.attention_kernels import single_head
from teramind_model.network.blocks import MLP, RMSNorm, SliceConv, fold_weight, upsample
from teramind_model.network.config import NetworkConfig

GeneFeatures = tuple[Tensor, Tensor, Tensor, Tensor]
"""``g_0`` (resolution P/8) .. ``g_3`` (P), each ``(b, y, x, z, c)``."""


class GeneGeneAttention(nn.Module):
    """Single-head attention between genes. One projection and one norm serve queries and keys, so the matrix
    before the softmax is symmetric (the paper writes a W_k of its own; the published weights have none)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.q_norm = RMSNorm(width)
        self.out = nn.Linear(width, width)

    def matrix(self, tokens: Tensor) -> Tensor:
        """``Attn_gg``: softmax(q q^T / d) over genes, ``(b, n, n)`` from ``(b, n, d)``; explicit, for recording."""
        q = self.q_norm(self.q(tokens))
        return torch.softmax(q @ q.transpose(1, 2) / tokens.shape[-1], dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix ``(b, n, d)`` across genes."""
        q = self.q_norm(self.q(tokens))
        return self.out(single_head(q, q, self.v(tokens)))


class GeneGeneBlock(nn.Module):
    """Gene counts of a patch to gene features at the four resolutions of the U-Net."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.gene_slices * config.bins**2
        self.attention = GeneGeneAttention(width)
        self.norm = RMSNorm(width)
        self.mlp = MLP(width)
        self.fold = config.fold_z
        kernel = (config.kernel_z, 3, 3)
        self.to_image_slices = nn.Conv3d(config.genes, config.genes, kernel, padding=(0, 1, 1))
        channels = config.gene_channels
        self.stages = nn.ModuleList(SliceConv(c_in, c_out, (1, 3, 3)) for c_in, c_out in pairwise(channels))

    def tokens(self, counts: Tensor) -> Tensor:
        """``(b, S, n, g, g)`` counts as ``(b, n, S * g * g)``, features ordered (z, y, x)."""
        return counts.to(self.mlp.inner.weight.dtype).transpose(1, 2).flatten(2)

    def forward(self, counts: Tensor) -> GeneFeatures:
        """Gene features of raw counts ``(b, S, n, g, g)``."""
        batch, slices, genes, edge, _ = counts.shape
        h = self.mlp(self.norm(self.attention(self.tokens(counts))))
        features = [upsample(self._to_image_slices(h.view(batch, genes, slices, edge, edge)))]
        for stage in self.stages:
            features.append(upsample(stage(functional.silu(features[-1]))))
        g_0, g_1, g_2, g_3 = features
        return g_0, g_1, g_2, g_3

    def _to_image_slices(self, h: Tensor) -> Tensor:
        """``(b, n, S, g, g)`` to ``(b, g, g, Z, n)``: the middle slices, each from those around it."""
        if not self.fold and h.shape[2] > 1:
            return self.to_image_slices(h).permute(0, 3, 4, 2, 1).contiguous()
        weight, bias = self.to_image_slices.weight, self.to_image_slices.bias
        genes, slices = h.shape[1:3]
        folded = fold_weight(weight, slices, pad=0)
        flat = h.permute(0, 3, 4, 2, 1).flatten(3).permute(0, 3, 1, 2)
        out = functional.conv2d(flat, folded, _repeated(bias, len(folded) // genes), padding=1)
        return out.permute(0, 2, 3, 1).unflatten(3, (-1, genes)).contiguous()


def _repeated(bias: Tensor | None, slices: int) -> Tensor | None:
    return None if bias is None else bias.repeat(slices)
