"""The gene-gene attention matrix of a network: what the attention maps read (paper, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.network import TeraMind

__all__ = ["gene_gene_attention", "gene_gene_scores", "gene_queries"]


@torch.inference_mode()
def gene_gene_attention(model: TeraMind, counts: Tensor) -> Tensor:
    """``Attn_gg`` of patches, rows summing to one.

    Args:
        model: any Tera-MIND network; neither its mode nor its image side matters.
        counts: raw gene counts ``(b, S, n, g, g)``, g = P / 16 bins. Slices set to zero are left out of the
            window, as the previous-current and current-next maps do.

    Returns:
        ``(b, n, n)``: how much gene a (row) attends to gene b (column).

    Raises:
        InputError: where the counts do not fit the network.
    """
    _check(model, counts)
    block = model.gene_gene
    return block.attention.matrix(block.tokens(counts))


@torch.inference_mode()
def gene_queries(model: TeraMind, counts: Tensor) -> Tensor:
    """Normalised projections of genes ``(b, n, d)``, at once queries and keys, from counts ``(b, S, n, g, g)``."""
    _check(model, counts)
    attention = model.gene_gene.attention
    queries: Tensor = attention.q_norm(attention.q(model.gene_gene.tokens(counts)))
    return queries


@torch.inference_mode()
def gene_gene_scores(queries: Tensor, rows: Tensor | None = None) -> Tensor:
    """Attention before the softmax, ``q q^T / d``: symmetric, and comparable between panels of any size.

    Args:
        queries: of :func:`gene_queries`, ``(b, n, d)``; in bfloat16 the product is rounded to it.
        rows: genes whose rows are wanted; all where None.

    Returns:
        ``(b, rows, n)`` float32; its softmax over the last axis is those rows of ``Attn_gg``.
    """
    asking = queries if rows is None else queries[:, rows]
    return (asking @ queries.transpose(1, 2)).float() / queries.shape[-1]


def _check(model: TeraMind, counts: Tensor) -> None:
    c = model.config
    expected = (c.gene_slices, c.genes, c.bins, c.bins)
    if counts.dim() != 5 or tuple(counts.shape[1:]) != expected:
        raise InputError(
            "gene counts do not fit the network",
            expected=f"(b, S, n, g, g) = (b, {', '.join(map(str, expected))})",
            found=tuple(counts.shape),
        )
