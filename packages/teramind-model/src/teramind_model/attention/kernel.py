"""Attention of a batch of patches: maps of several pathways at once, and the whole matrix where it is wanted.

A version of ``Attn_gg`` is computed once a patch, whatever the number of pathways; sections of one window share the
version that sees the whole window, and those that happen to see the same gene slices. Maps need only the rows of the
pathways' genes, a small part of the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teramind_model.attention_matrix import gene_gene_scores, gene_queries

if TYPE_CHECKING:
    from teramind_model.generate.config import Precision
    from teramind_model.network import TeraMind

__all__ = ["CHANNELS", "Batch", "Kernel", "pathway_maps", "slots_kept"]

CHANNELS = ("previous-current", "current-next", "window")
"""The three versions, by which gene slices the block is fed; the others are zero."""


def slots_kept(slot: int, gene_slices: int) -> tuple[tuple[int, ...], ...]:
    """Gene slices of a window that each of :data:`CHANNELS` is fed, for the image slice at ``slot`` among them."""
    before = tuple(s for s in (slot - 1, slot) if s >= 0)
    after = tuple(s for s in (slot, slot + 1) if s < gene_slices)
    return before, after, tuple(range(gene_slices))


@dataclass(frozen=True)
class Batch:
    """What came of some patches.

    Attributes:
        maps: before the logarithm, ``(slots, pathways, 3, b, g, g)`` float32.
        scores: of the whole window before the softmax, ``(b, n, n)`` float32; None where not asked for.
        attention: their softmax.
    """

    maps: Tensor
    scores: Tensor | None
    attention: Tensor | None


class Kernel:
    """Computes batches for fixed pathways.

    Args:
        model: the network.
        pathways: genes of each, as channels of the network; there may be none.
        precision: ``bfloat16`` rounds the normalised projections before their product; softmax and maps are float32.
    """

    def __init__(
        self, model: TeraMind, pathways: Sequence[NDArray[np.int64]], precision: Precision = "float32"
    ) -> None:
        self.model = model
        self.pathways = len(pathways)
        self.device = next(model.parameters()).device
        self.half = precision == "bfloat16"
        union = np.unique(np.concatenate(pathways)) if pathways else np.zeros(0, np.int64)
        members = np.zeros((len(pathways), len(union)), np.float32)
        for row, genes in zip(members, pathways, strict=True):
            row[np.searchsorted(union, genes)] = 1
        self.union = union
        self._genes = torch.from_numpy(union).to(self.device)
        self._members = torch.from_numpy(members).to(self.device)

    @torch.inference_mode()
    def run(self, counts: Tensor, slots: Sequence[int], *, full: bool = False) -> Batch:
        """Maps of patches and, where ``full``, their matrices.

        Args:
            counts: raw counts ``(b, S, n, g, g)`` on the model's device.
            slots: which of the S gene slices are the image slices mapped.
            full: also return scores and attention of the whole window.
        """
        counts = counts.float()
        edge = counts.shape[-1]
        maps = counts.new_empty((len(slots), self.pathways, len(CHANNELS), len(counts), edge, edge))
        window = slots_kept(0, counts.shape[1])[2]
        scores = attention = None
        rows: dict[tuple[int, ...], Tensor] = {}
        if full:
            scores = gene_gene_scores(self._queries(counts, window))
            attention = torch.softmax(scores, dim=-1)
            rows[window] = attention[:, self._genes][:, :, self._genes]
        if self.pathways:
            for number, slot in enumerate(slots):
                expressed = counts[:, slot, self._genes].flatten(2)
                for version, kept in enumerate(slots_kept(slot, counts.shape[1])):
                    if kept not in rows:
                        rows[kept] = self._rows(counts, kept)
                    maps[number, :, version] = self._maps(rows[kept], expressed, edge)
        return Batch(maps, scores, attention)

    def _queries(self, counts: Tensor, kept: tuple[int, ...]) -> Tensor:
        fed = counts
        if len(kept) < counts.shape[1]:
            fed = torch.zeros_like(counts)
            fed[:, kept] = counts[:, kept]
        queries = gene_queries(self.model, fed)
        return queries.bfloat16() if self.half else queries

    def _rows(self, counts: Tensor, kept: tuple[int, ...]) -> Tensor:
        """``Attn_gg`` among the pathways' genes ``(b, union, union)``; each row is normalised over the whole panel."""
        scores = gene_gene_scores(self._queries(counts, kept), self._genes)
        return torch.softmax(scores, dim=-1)[:, :, self._genes]

    def _maps(self, rows: Tensor, expressed: Tensor, edge: int) -> Tensor:
        """``(pathways, b, g, g)`` from attention ``(b, union, union)`` and counts ``(b, union, g * g)``."""
        # Summed over the attending genes a first: one weight for each gene b attended to.
        weights = (self._members @ rows) * self._members
        return (weights @ expressed).unflatten(-1, (edge, edge)).transpose(0, 1)


def pathway_maps(model: TeraMind, counts: Tensor, slot: int, genes: Tensor) -> Tensor:
    """Maps of one pathway on patches, before the logarithm.

    Args:
        model: the network.
        counts: raw counts of patches ``(b, S, n, g, g)``.
        slot: which of the S gene slices is the image slice mapped.
        genes: the pathway's genes, as channels of the network.

    Returns:
        ``(3, b, g, g)`` float32, the versions in the order of :data:`CHANNELS`.
    """
    return Kernel(model, [genes.cpu().numpy()]).run(counts, (slot,)).maps[0, 0]
