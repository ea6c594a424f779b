"""Published checkpoints' parameter names and ours.

The authors' Lightning checkpoints hold a flat ``state_dict``, each name after the prefix ``model.`` (and perhaps
``ema_model.`` twins). Only names differ: every tensor is the same, in the same shape but for the norms, whose
weights are ``(1, c, 1, 1)`` there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from teramind_data.errors import InputError, MissingInputError
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


def read_published(path: Path) -> dict[str, Tensor]:
    """Tensors of a published checkpoint: Lightning ``.ckpt`` (read with ``weights_only=True``), ``.npz`` or
    ``.safetensors``. The prefix ``model.`` is taken off; ``ema_model.`` twins win where there are any.

    Raises
    ------
    MissingInputError, InputError
        Where there is no such file, or it is not such a checkpoint.
    """
    if not path.is_file():
        raise MissingInputError("no checkpoint to import", where=path, remedy="Check the path")
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    return _strip_prefix(readers.get(path.suffix, _read_lightning)(path))


def _read_npz(path: Path) -> dict[str, Tensor]:
    import zipfile

    import numpy as np
    import torch

    try:
        # As a zip archive, or NumPy would take a single array, or a pickle, under the same name.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            "not an .npz of arrays of numbers", where=path, found=error, remedy="Copy the file again"
        ) from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            "not a safetensors file", where=path, found=error, remedy="Copy the file again"
        ) from None


def _read_lightning(path: Path) -> dict[str, Tensor]:
    import torch

    from teramind_model.plain_load import load_plain

    content = load_plain(
        path,
        "not a checkpoint that can be read safely",
        "Copy it again if it is damaged; if you trust it, save its state_dict as .safetensors and import that",
    )
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in tensors.items()
    ):
        raise InputError(
            "the checkpoint holds no state_dict of tensors",
            where=path,
            expected="state_dict: {name: tensor}",
            found=type(tensors or content).__name__,
        )
    return tensors


def _strip_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ("ema_model.", "model."):
        chosen = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if chosen:
            return chosen
    return dict(tensors)
