"""A published checkpoint and its panel as one of ours, every parameter accounted for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from teramind_data.errors import InputError, PanelError
from teramind_data.panel import Panel
from teramind_model.checkpoint import ModelInfo, load_weights
from teramind_model.importer import convert, infer_config, our_name, read_published
from teramind_model.network import TeraMind

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["converted"]


def converted(
    source: Path, panel: Panel, stains: tuple[str, ...], pixel_size_um: float
) -> tuple[ModelInfo, dict[str, Tensor]]:
    """What ``source`` holds: ModelInfo and weights under our names.

    Raises:
        MissingInputError, InputError: where it cannot be read, or a parameter is missing, left over or misshapen.
        PanelError: where the panel has another number of genes than the weights.
    """
    published = read_published(source)
    try:
        network = infer_config(published)
    except InputError as error:
        raise InputError(
            error.what,
            where=source,
            expected=error.expected,
            found=error.found,
            remedy="Give a checkpoint of the published network, its names as published",
        ) from None
    whole = [name for name, tensor in published.items() if not tensor.is_floating_point()]
    if whole:
        raise InputError("weights are not floating-point numbers", where=source, found=", ".join(whole[:5]))
    if len(panel) != network.genes:
        raise PanelError(
            "panel does not fit the weights",
            where=source,
            expected=f"{network.genes} genes",
            found=len(panel),
            remedy="Give the panel that it was trained on, in its order",
        )
    left_over = [name for name in published if not _is_ours(name)]
    if left_over:
        shown = ", ".join(left_over[:5]) + (f" and {len(left_over) - 5} more" if len(left_over) > 5 else "")
        raise InputError("checkpoint has left-over parameters", where=source, found=shown)
    weights = convert(published)
    load_weights(TeraMind(network), weights, source)
    with source.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    stage = {"imported_from": source.name, "sha256": digest}
    return ModelInfo(network, panel, stains, pixel_size_um, {"lineage": [stage]}), weights


def _is_ours(name: str) -> bool:
    try:
        our_name(name)
    except InputError:
        return False
    return True
