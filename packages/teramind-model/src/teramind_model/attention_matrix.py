"""The gene-gene attention matrix of a network: what the attention maps read (paper, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.network import TeraMind

__all__ = ["gene_gene_attention"]


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
    c = model.config
    expected = (c.gene_slices, c.genes, c.bins, c.bins)
    if counts.dim() != 5 or tuple(counts.shape[1:]) != expected:
        raise InputError(
            "gene counts do not fit the network",
            expected=f"(b, S, n, g, g) = (b, {', '.join(map(str, expected))})",
            found=tuple(counts.shape),
        )
    block = model.gene_gene
    return block.attention.matrix(block.tokens(counts))
