"""Cutting and joining rows of patches, and what the network makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from teramind_model.generate.runs import Runs
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded

__all__ = [
    "PatchRow",
    "cut_patches",
    "each_level",
    "join_genes",
    "join_patches",
    "narrow_genes",
    "own_patches",
    "spread",
    "taken",
]


@dataclass(frozen=True)
class PatchRow:
    """What was encoded of a row of patches, and which columns those are."""

    encoded: Encoded
    runs: Runs

    def cut(self, first: int, count: int) -> Encoded:
        """Some neighbouring patches."""
        start = self.runs.position(first)
        return cut_patches(self.encoded, start, start + count)


def taken(row: Tensor, runs: Runs, columns: range) -> Tensor:
    """What is made of a row ``(columns, ...)``."""
    if runs.fills(columns):
        return row
    return torch.cat([row[r.start - columns.start : r.stop - columns.start] for r in runs])


def spread(made: Tensor, runs: Runs, columns: range) -> Tensor:
    """The reverse of :func:`taken`, zeros between."""
    if runs.fills(columns):
        return made
    row = made.new_zeros((len(columns), *made.shape[1:]))
    for part, r in zip(made.split([len(r) for r in runs]), runs, strict=True):
        row[r.start - columns.start : r.stop - columns.start] = part
    return row


def each_level(function: Callable[[Tensor], Tensor], genes: GeneFeatures) -> GeneFeatures:
    """A function of the features of each resolution."""
    g_0, g_1, g_2, g_3 = (function(g) for g in genes)
    return g_0, g_1, g_2, g_3


def narrow_genes(genes: GeneFeatures, first: int, count: int) -> GeneFeatures:
    """Features of some neighbouring patches."""
    return each_level(lambda g: g[first : first + count], genes)


def cut_patches(encoded: Encoded, first: int, last: int) -> Encoded:
    """Patches ``first`` .. ``last - 1``; a view."""
    return Encoded(encoded.middle[first:last], tuple(skip[first:last] for skip in encoded.skips))


def join_patches(pieces: Sequence[Encoded]) -> Encoded:
    """Patches one after the other; a single piece as it is."""
    if len(pieces) == 1:
        return pieces[0]
    skips = zip(*(piece.skips for piece in pieces), strict=True)
    return Encoded(torch.cat([p.middle for p in pieces]), tuple(torch.cat(group) for group in skips))


def own_patches(pieces: Sequence[Encoded]) -> Encoded:
    """As :func:`join_patches`, but a single piece is copied where it is a part of something larger, all of which would
    be kept with it."""
    if len(pieces) > 1 or _is_whole(pieces[0].middle):
        return join_patches(pieces)
    return Encoded(pieces[0].middle.clone(), tuple(skip.clone() for skip in pieces[0].skips))


def _is_whole(piece: Tensor) -> bool:
    return piece.nbytes == piece.untyped_storage().nbytes()


def join_genes(pieces: Sequence[GeneFeatures]) -> GeneFeatures:
    """As :func:`join_patches`, of gene features."""
    if len(pieces) == 1:
        return pieces[0]
    g_0, g_1, g_2, g_3 = (torch.cat(group) for group in zip(*pieces, strict=True))
    return g_0, g_1, g_2, g_3
