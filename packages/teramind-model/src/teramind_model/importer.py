"""Published checkpoints' parameter names and ours.

The authors' Lightning checkpoints hold a flat ``state_dict``, each name after the prefix ``model.`` (and perhaps
``ema_model.`` twins). Only names differ: every tensor is the same, in the same shape but for the norms, whose
weights are ``(1, c, 1, 1)`` there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from teramind_data.errors import InputError
from teramind_model.network.config import NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor

_FIXED = {
    "time_embed.time_embed.0": "time_embedding.inner",
    "time_embed.time_embed.2": "time_embedding.outer",
    "rna_blocks.0.0.attn": "gene_gene.attention",
    "rna_blocks.0.0.norm2": "gene_gene.norm",
    "rna_blocks.0.0.mlp": "gene_gene.mlp",
    "rna_blocks.0.0.down_z": "gene_gene.to_image_slices",
    "rna_blocks.1.1": "gene_gene.stages.0",
    "rna_blocks.2.1": "gene_gene.stages.1",
    "rna_blocks.3.1": "gene_gene.stages.2",
    "input_blocks.0.0": "stem",
    "middle_block.0": "middle.block_in",
    "middle_block.1": "middle.attention",
    "middle_block.2": "middle.block_out",
    "out.0": "head_norm",
    "out.2": "head",
}
_RESIDUAL = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "emb_layers.1": "modulation",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
    "skip_connection": "skip",
}
_ATTENTION = {
    "attn.proj": "attention.out",
    "attn": "attention",
    "norm1": "norm_attention",
    "norm2": "norm_mlp",
    "mlp.fc1": "mlp.inner",
    "mlp.fc2": "mlp.outer",
    "adaLN_modulation.1": "modulation",
}
_NORMS = ("norm_in.weight", "norm_out.weight", "head_norm.weight")


def our_name(published: str) -> str:
    """Our name of a published parameter (without its ``model.`` prefix).

    Raises
    ------
    InputError
        Where the published network has no such parameter.
    """
    for theirs, ours in _FIXED.items():
        if published == theirs or published.startswith(theirs + "."):
            return _inside(ours + published[len(theirs) :])
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", published)
    if match is None:
        raise InputError("not a parameter of the published network", found=published)
    side, block, part, rest = match[1], int(match[2]), int(match[3]), match[4]
    level, stage = divmod(block, 3)
    is_attention = rest.startswith(("attn.", "norm1.", "norm2.", "mlp.", "adaLN"))
    if side == "input":
        # Blocks 3, 6 and 9 go down; block 0 is the stem.
        place = f"encoder.{level}.down" if stage == 0 else f"encoder.{level}.stages.{stage - 1}"
        if stage == 0:
            return _inside(f"{place}.{rest}")
    else:
        place = f"decoder.{level}.stages.{stage}"
        if part and not is_attention:
            return _inside(f"decoder.{level}.up.{rest}")
    return _inside(f"{place}.{'attention' if is_attention else 'block'}.{rest}")


def _inside(name: str) -> str:
    if name.startswith("gene_gene."):
        return name.replace(".proj.", ".out.").replace("mlp.fc1", "mlp.inner").replace("mlp.fc2", "mlp.outer")
    for table in (_RESIDUAL, _ATTENTION):
        for theirs, ours in table.items():
            if f".{theirs}." in name:
                return name.replace(f".{theirs}.", f".{ours}.", 1)
    return name


def published_name(ours: str, config: NetworkConfig) -> str:
    """The published name of our parameter ``ours`` in a network of ``config``; inverse of :func:`our_name`.

    Raises
    ------
    InputError
        Where our network has no such parameter.
    """
    for theirs, fixed in _FIXED.items():
        if ours == fixed or ours.startswith(fixed + "."):
            return _outside(theirs + ours[len(fixed) :], gene_gene=fixed.startswith("gene_gene"))
    match = re.fullmatch(
        r"(encoder|decoder)\.(\d)\.(?:(down|up)|stages\.(\d)\.(block|attention))\.(.+)", ours
    )
    if match is None:
        raise InputError("not a parameter of our network", found=ours)
    side, level, moves, stage, kind, rest = match.groups()
    first = 3 * int(level)
    if side == "encoder":
        place = f"input_blocks.{first + (0 if moves else int(stage) + 1)}"
        part = 1 if kind == "attention" else 0
    elif moves:
        # The decoder begins with the coarsest level, and puts its up block after what else the last stage has.
        attends = config.has_attention(len(config.widths) - 1 - int(level))
        place, part = f"output_blocks.{first + 2}", 2 if attends else 1
    else:
        place, part = f"output_blocks.{first + int(stage)}", 1 if kind == "attention" else 0
    return _outside(f"{place}.{part}.{rest}", attention=kind == "attention")


def _outside(name: str, *, gene_gene: bool = False, attention: bool = False) -> str:
    """Names inside a block as published."""
    if gene_gene:
        name = name.replace(".out.", ".proj.")
        return name.replace("mlp.inner", "mlp.fc1").replace("mlp.outer", "mlp.fc2")
    table = _ATTENTION if attention or name.startswith("middle_block.1.") else _RESIDUAL
    if not name.startswith(("input_blocks.0.", "time_embed.", "out.")):
        for theirs, ours in table.items():
            head, found, tail = name.partition(f".{ours}.")
            if found:
                return f"{head}.{theirs}.{tail}"
    return name


def to_published(weights: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Weights under published names and in their shapes; inverse of :func:`convert`."""
    published = {}
    for ours, tensor in weights.items():
        shaped = tensor.reshape(1, -1, 1, 1) if ours.endswith(_NORMS) else tensor
        published[published_name(ours, config)] = shaped
    return published


def convert(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names, norms flattened to ``(c,)``."""
    converted = {}
    for name, tensor in published.items():
        ours = our_name(name)
        converted[ours] = tensor.flatten() if ours.endswith(_NORMS) else tensor
    return converted


def infer_config(published: Mapping[str, Tensor]) -> NetworkConfig:
    """S, P, n, stains and width of a published state dict, from its shapes alone."""
    try:
        genes = published["rna_blocks.0.0.down_z.weight"].shape[0]
        kernel_z = published["rna_blocks.0.0.down_z.weight"].shape[2]
        token = published["rna_blocks.0.0.attn.q.weight"].shape[0]
        channels, stains = published["input_blocks.0.0.weight"].shape[:2]
        time_width = published["time_embed.time_embed.2.weight"].shape[0]
        gene_widths = tuple(published[f"rna_blocks.{i}.1.weight"].shape[0] for i in (1, 2, 3))
    except KeyError as missing:
        raise InputError(
            "not a published checkpoint: a parameter is missing", expected=missing.args[0]
        ) from None
    except (IndexError, ValueError):
        # A shape with too few axes.
        raise InputError("not a published checkpoint: a parameter has another shape") from None
    slices = {1: 1, 3: 4, 5: 8, 9: 16}.get(kernel_z)
    if slices is None:
        raise InputError("unknown depth of down_z", expected="1, 3, 5 or 9", found=kernel_z)
    bins = round((token / slices) ** 0.5)
    return NetworkConfig(
        genes=genes,
        gene_slices=slices,
        stains=stains,
        patch=16 * bins,
        channels=channels,
        gene_widths=(gene_widths[0], gene_widths[1], gene_widths[2]),
        time_width=time_width,
    )
