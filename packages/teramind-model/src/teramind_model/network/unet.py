"""The gene-morph U-Net with its two paths: patches decoded in place, and the boundary-aware collage."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from teramind_data.errors import InputError
from teramind_model.network.blocks import (
    ResBlock,
    RMSNorm,
    SliceConv,
    TimeEmbedding,
    downsample,
    identity,
    upsample,
)
from teramind_model.network.collage import collage, collage_between
from teramind_model.network.config import NetworkConfig
from teramind_model.network.gene_gene import GeneFeatures, GeneGeneBlock
from teramind_model.network.gene_morph import GeneMorphAttention, ImageAttention
from teramind_model.network.recompute import Recomputable

_LEVELS = 4
_BLOCKS = 2
"""Residual blocks a level in the encoder; the decoder has one more."""


class UNetShape(Protocol):
    """What the U-Net needs to know; see :class:`NetworkConfig`. Gene features may have no channels at a level."""

    @property
    def stains(self) -> int:
        """Image channels."""
        ...

    @property
    def patch(self) -> int:
        """Patch edge P in pixels."""
        ...

    @property
    def bins(self) -> int:
        """Patch edge in gene bins."""
        ...

    @property
    def image_slices(self) -> int:
        """Image slices, Z."""
        ...

    @property
    def channels(self) -> int:
        """Base width."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four levels."""
        ...

    @property
    def gene_channels(self) -> tuple[int, int, int, int]:
        """Channels of gene features ``g_0`` (P/8) .. ``g_3`` (P)."""
        ...

    @property
    def time_width(self) -> int:
        """Width of the time embedding."""
        ...

    @property
    def dropout(self) -> float:
        """Dropout probability."""
        ...

    @property
    def fold_z(self) -> bool:
        """Whether slices are folded into channels."""
        ...

    def has_attention(self, level: int) -> bool:
        """Whether a level carries attention."""
        ...


class Encoded(NamedTuple):
    """What the decoder needs of a batch of patches: the middle's output and the skips, first made first."""

    middle: Tensor
    skips: tuple[Tensor, ...]


class Stage(Recomputable):
    """A residual block on ``concat(features, genes)`` and, at the 16 x 16 level, gene-morph attention."""

    def __init__(self, config: UNetShape, c_in: int, level: int) -> None:
        super().__init__()
        width, gene_width = config.widths[level], config.gene_channels[_LEVELS - 1 - level]
        self.block = ResBlock(
            c_in + gene_width, width, config.time_width, dropout=config.dropout, fold=config.fold_z
        )
        self.attention = _attention(width, gene_width) if config.has_attention(level) else None

    def forward(self, inputs: tuple[Tensor, ...], genes: Tensor, time: Tensor) -> Tensor:
        """``inputs`` and ``genes`` are ``(b, y, x, z, c)`` maps at one resolution."""
        return self.maybe_recomputed(self._run, inputs, genes, time)

    def _run(self, inputs: tuple[Tensor, ...], genes: Tensor, time: Tensor) -> Tensor:
        h = self.block(_concat(*inputs, genes), time)
        return h if self.attention is None else self.attention(h, genes)


def _attention(width: int, gene_width: int) -> nn.Module:
    return GeneMorphAttention(width, gene_width) if gene_width else ImageAttention(width)


class EncoderLevel(Recomputable):
    """A down block (but for the first level), then two stages."""

    def __init__(self, config: UNetShape, level: int) -> None:
        super().__init__()
        width = config.widths[level]
        before = config.widths[max(0, level - 1)]
        self.down = _plain_block(config, before, downsample) if level else None
        self.stages = nn.ModuleList(Stage(config, c_in, level) for c_in in (before, width))

    def forward(self, h: Tensor, genes: Tensor, time: Tensor) -> list[Tensor]:
        """Every output in turn; each is a skip and the last goes on."""
        outputs = []
        if self.down is not None:
            h = self.maybe_recomputed(self.down, h, time)
            outputs.append(h)
        for stage in self.stages:
            h = stage((h,), genes, time)
            outputs.append(h)
        return outputs


class DecoderLevel(Recomputable):
    """Three stages on skips, then an up block (but for the last level)."""

    def __init__(self, config: UNetShape, level: int, c_in: int, skips: tuple[int, ...]) -> None:
        super().__init__()
        width = config.widths[level]
        inputs = [c_in, width, width]
        self.stages = nn.ModuleList(
            Stage(config, c + skip, level) for c, skip in zip(inputs, skips, strict=True)
        )
        self.up = _plain_block(config, width, upsample) if level else None

    def forward(self, h: Tensor, skips: list[Tensor], genes: Tensor, time: Tensor) -> Tensor:
        """Takes its skips off the end of ``skips``."""
        for stage in self.stages:
            h = stage((h, skips.pop()), genes, time)
        return h if self.up is None else self.maybe_recomputed(self.up, h, time)


def _plain_block(config: UNetShape, width: int, resample: Callable[[Tensor], Tensor] = identity) -> ResBlock:
    """A block that keeps its width and reads no genes."""
    return ResBlock(
        width, width, config.time_width, dropout=config.dropout, fold=config.fold_z, resample=resample
    )


class Middle(Recomputable):
    """Residual block on ``concat(h, g_0)``, gene-morph attention, residual block."""

    def __init__(self, config: UNetShape) -> None:
        super().__init__()
        width, gene_width = config.widths[-1], config.gene_channels[0]
        self.block_in = ResBlock(
            width + gene_width, width, config.time_width, dropout=config.dropout, fold=config.fold_z
        )
        self.attention = _attention(width, gene_width)
        self.block_out = _plain_block(config, width)

    def forward(self, h: Tensor, genes: Tensor, time: Tensor) -> Tensor:
        """``h`` and ``genes`` are ``(b, P/8, P/8, z, c)``."""
        return self.maybe_recomputed(self._run, h, genes, time)

    def _run(self, h: Tensor, genes: Tensor, time: Tensor) -> Tensor:
        h = self.attention(self.block_in(_concat(h, genes), time), genes)
        return self.block_out(h, time)


class PatchUNet(nn.Module):
    """A U-Net of patches that predicts the noise of a noised image, given features of the genes under it.

    ``genes`` -> :meth:`gene_features` once an image; ``x, t`` -> :meth:`encode` -> :meth:`decode` every step.
    Encoder, middle and decoder act on patches one by one, so any batch of patches, each with a ``t`` of its
    own, is one call.
    """

    def __init__(self, config: UNetShape, gene_branch: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.time_embedding = TimeEmbedding(config.channels, config.time_width)
        # Made here, in the middle: the order of parameters is the published one, and optimiser states follow it.
        self.gene_gene = gene_branch()
        self.stem = SliceConv(config.stains, config.channels, (1, 3, 3))
        self.encoder = nn.ModuleList(EncoderLevel(config, level) for level in range(_LEVELS))
        self.middle = Middle(config)
        skips = [config.channels]
        for level in range(_LEVELS):
            skips += [widths[level - 1]] if level else []
            skips += [widths[level]] * _BLOCKS
        decoder, c_in = [], widths[-1]
        for level in reversed(range(_LEVELS)):
            taken = tuple(skips.pop() for _ in range(_BLOCKS + 1))
            decoder.append(DecoderLevel(config, level, c_in, taken))
            c_in = widths[level]
        self.decoder = nn.ModuleList(decoder)
        self.head_norm = RMSNorm(config.channels)
        self.head = SliceConv(config.channels, config.stains, (1, 3, 3))

    def gene_features(self, counts: Tensor) -> GeneFeatures:
        """Gene features of patches' raw counts ``(b, S, n, g, g)``; independent of image and time."""
        features: GeneFeatures = self.gene_gene(counts)
        return features

    def encode(self, x: Tensor, t: Tensor, genes: GeneFeatures) -> Encoded:
        """Encoder and middle on patches ``(b, k * Z, P, P)`` (stain slow), each at its own ``t`` ``(b,)``."""
        time = functional.silu(self.time_embedding(t))
        slices = self.config.image_slices
        # The weights' type leads; under autocast it stays float32 and autocast lowers what is worth lowering.
        volume = x.to(self.stem.weight.dtype).unflatten(1, (-1, slices))
        h = self.stem(volume.permute(0, 3, 4, 2, 1).contiguous())
        skips = [h]
        for level, stages in enumerate(self.encoder):
            skips += stages(skips[-1], genes[_LEVELS - 1 - level], time)
        return Encoded(self.middle(skips[-1], genes[0], time), tuple(skips))

    def decode(self, encoded: Encoded, t: Tensor, genes: GeneFeatures) -> Tensor:
        """Noise predicted for patches, ``(b, k * Z, P, P)`` float32."""
        time = functional.silu(self.time_embedding(t))
        h, skips = encoded.middle, list(encoded.skips)
        for stages, level_genes in zip(self.decoder, genes, strict=True):
            h = stages(h, skips, level_genes, time)
        out = self.head(functional.silu(self.head_norm(h)))
        return out.permute(0, 4, 3, 1, 2).flatten(1, 2).float()

    def collage(
        self, encoded: Encoded, genes: GeneFeatures, rows: int, columns: int
    ) -> tuple[Encoded, GeneFeatures]:
        """Re-cut everything the decoder reads from grids of ``rows x columns`` patches (see ``collage``)."""
        cut = Encoded(
            collage(encoded.middle, rows, columns), tuple(collage(s, rows, columns) for s in encoded.skips)
        )
        g_0, g_1, g_2, g_3 = (collage(g, rows, columns) for g in genes)
        return cut, (g_0, g_1, g_2, g_3)

    def collage_between(
        self, rows: tuple[Encoded, Encoded], genes: tuple[GeneFeatures, GeneFeatures]
    ) -> tuple[Encoded, GeneFeatures]:
        """:meth:`collage` of two rows of patches, above and below, without joining them first; gives no gradient."""
        above, below = rows
        skips = zip(above.skips, below.skips, strict=True)
        cut = Encoded(
            collage_between(above.middle, below.middle), tuple(collage_between(*pair) for pair in skips)
        )
        g_0, g_1, g_2, g_3 = (collage_between(*pair) for pair in zip(*genes, strict=True))
        return cut, (g_0, g_1, g_2, g_3)

    def forward(self, x: Tensor, t: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Both paths of the training objective on 2 x 2 blocks of patches.

        Parameters
        ----------
        x
            Noised patches ``(b * 4, k * Z, P, P)``, stain slow; crop by crop, row-major within a crop.
        t
            Time step a crop, ``(b,)``.
        counts
            Raw counts ``(b * 4, S, n, g, g)``.

        Returns
        -------
        ``eps_patch (b * 4, k * Z, P, P)`` and ``eps_collage (b, k * Z, P, P)``.
        """
        genes = self.gene_features(counts)
        t_patch = t.repeat_interleave(4)
        encoded = self.encode(x, t_patch, genes)
        eps_patch = self.decode(encoded, t_patch, genes)
        cut, cut_genes = self.collage(encoded, genes, 2, 2)
        return eps_patch, self.decode(cut, t, cut_genes)


class TeraMind(PatchUNet):
    """The paper's network (section 3): gene-gene attention feeding the gene-morph U-Net."""

    config: NetworkConfig
    gene_gene: GeneGeneBlock

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, lambda: GeneGeneBlock(config))

    def gene_features(self, counts: Tensor) -> GeneFeatures:
        """Gene features of patches' raw counts ``(b, S, n, g, g)``; independent of image and time."""
        c = self.config
        expected = (c.gene_slices, c.genes, c.bins, c.bins)
        if tuple(counts.shape[1:]) != expected:
            raise InputError(
                "gene counts do not fit the network",
                expected=f"(b, S, n, g, g) = (b, {', '.join(map(str, expected))})",
                found=tuple(counts.shape),
            )
        return super().gene_features(counts)


def _concat(*maps: Tensor) -> Tensor:
    # Under autocast the maps may differ in type; a concatenation in the widest would undo the saving.
    dtype = maps[0].dtype
    return torch.cat([m.to(dtype) for m in maps], dim=-1)
