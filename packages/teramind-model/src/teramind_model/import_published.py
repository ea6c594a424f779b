"""A published checkpoint and its panel as one of ours, every parameter accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teramind_data.errors import InputError, PanelError
from teramind_data.panel import Panel
from teramind_model.checkpoint import ModelInfo, load_weights
from teramind_model.importer import convert, infer_config, our_name, published_name
from teramind_model.network import TeraMind
from teramind_model.panel_source import fitting_panel
from teramind_model.published_file import OURS_KEY, UNSEEN, read_published

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Imported", "Meaning", "import_published"]


@dataclass(frozen=True)
class Meaning:
    """What a published file does not say of itself. None: as in a file that we exported, else the paper's.

    panels: where the panel may be found (see ``panel_source``).
    """

    panels: Sequence[str] = ()
    stains: tuple[str, ...] | None = None
    pixel_size_um: float | None = None


@dataclass(frozen=True)
class Imported:
    """A converted checkpoint, and lines on what was chosen and left out."""

    info: ModelInfo
    weights: dict[str, Tensor]
    notes: tuple[str, ...]


def import_published(source: Path, meaning: Meaning, *, averaged: bool = True) -> Imported:
    """Convert ``source``: ModelInfo and weights under our names, float32.

    Args:
        source: as for ``read_published``.
        meaning: panel, stains and pixel size.
        averaged: the average where there are both it and the last weights.

    Raises:
        MissingInputError, InputError: where it cannot be read, or a parameter is missing, left over or misshapen.
        PanelError: where no panel is known or none has as many genes as the weights.
    """
    file = read_published(source, averaged=averaged)
    published = file.weights
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
    left_over = [*file.left_over, *(name for name in published if not _is_ours(name))]
    if left_over:
        shown = ", ".join(left_over[:5]) + (f" and {len(left_over) - 5} more" if len(left_over) > 5 else "")
        raise InputError("checkpoint has left-over parameters", where=source, found=shown)
    ours = _checked(file.ours, source)
    network = replace(network, **{name: ours[name] for name in UNSEEN if name in ours})
    panel, named = _panel(ours, meaning.panels, network.genes, source)
    weights = convert(published)
    load_weights(TeraMind(network), weights, source, partial(published_name, config=network))
    info = ModelInfo(
        network,
        panel,
        meaning.stains or tuple(ours.get("stains", ("DAPI", "PolyT"))),
        ours.get("pixel_size_um", 0.108) if meaning.pixel_size_um is None else meaning.pixel_size_um,
        {"lineage": [*ours.get("lineage", []), _stage(source, ours.get("averaged", file.averaged))]},
    )
    return Imported(info, weights, (f"panel: {named}", *file.notes, *_precision_note(published)))


def _checked(ours: dict[str, Any], where: Path) -> dict[str, Any]:
    """The block of a file that we exported; anyone may have written it."""
    inside = {"panel": str, "stains": str, "lineage": dict}
    lists = [(ours[key], kind) for key, kind in inside.items() if key in ours]
    plain = {"pixel_size_um": float, "averaged": bool | None, "dropout": float | int, "fold_z": bool}
    if not all(isinstance(ours[key], kind) for key, kind in plain.items() if key in ours) or not all(
        isinstance(values, list) and all(isinstance(value, kind) for value in values)
        for values, kind in lists
    ):
        raise InputError(f"block {OURS_KEY!r} holds values of the wrong kind", where=where)
    return ours


def _panel(ours: dict[str, Any], sources: Sequence[str], genes: int, where: Path) -> tuple[Panel, str]:
    if sources:
        return fitting_panel(sources, genes, where)
    if "panel" in ours:
        return Panel(tuple(ours["panel"])), "as exported"
    raise PanelError(
        "the checkpoint does not name its genes",
        where=where,
        expected=f"--panel with the {genes} genes that it was trained on",
        remedy="Give a panel file, a store, or a folder of panel files",
    )


def _stage(source: Path, averaged: bool | None) -> dict[str, Any]:
    with source.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"imported_from": source.name, "sha256": digest, "averaged": averaged}


def _precision_note(published: dict[str, Tensor]) -> list[str]:
    types = sorted({str(t.dtype).removeprefix("torch.") for t in published.values()} - {"float32"})
    return [f"stored as {', '.join(types)}, kept as float32"] if types else []


def _is_ours(name: str) -> bool:
    try:
        our_name(name)
    except InputError:
        return False
    return True
