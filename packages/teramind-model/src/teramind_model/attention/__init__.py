"""Attention maps: where and how strongly a pathway's genes attend to each other (paper, section 4.4).

For genes G and image slice z of a window, the map of gene a at a bin is
``sum over b in G (a too) of Attn_gg[a, b] * count_b(z, bin)`` on the patches of grid A, and the pathway's map the
sum over a in G. Only the gene-gene block runs; nothing of the image network, and nothing is sampled.

``kernel`` computes a batch of patches, ``units`` cuts the brain into blocks and reads their counts, ``maps`` makes a
unit's maps, ``sums`` and ``table`` the whole matrix by region, ``estimate`` says beforehand what it takes, ``target``
decides what happens to what is there already, ``run`` puts them together.
"""

from __future__ import annotations

from teramind_model.attention.config import AttentionConfig
from teramind_model.attention.kernel import CHANNELS, pathway_maps, slots_kept
from teramind_model.attention.maps import map_attention
from teramind_model.attention.run import AttentionResult, write_attention

__all__ = [
    "CHANNELS",
    "AttentionConfig",
    "AttentionResult",
    "map_attention",
    "pathway_maps",
    "slots_kept",
    "write_attention",
]
