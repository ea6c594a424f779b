"""What a store says of itself: the root, the ``teramind`` block, consolidated metadata, panel and provenance."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from teramind_data.panel import is_control
from teramind_data.store import BrainSpec, Location
from teramind_data.validate.finding import Finding, describe, difference

__all__ = ["Unusable", "check_block", "check_consolidated", "check_files", "check_provenance"]

_META = "Write the store again, or restore zarr.json from a copy"
_HEX = re.compile(r"[0-9a-f]{64}")


class Unusable(Finding):
    """A finding after which nothing else can be checked."""


def check_files(location: Location) -> Iterator[Finding]:
    """Links that lead out of the store, and what writers leave when they are killed (local stores)."""
    if not location.is_local:
        return
    root = location.path.resolve()
    for folder, folders, names in os.walk(location.path):
        for name in sorted((*folders, *names)):
            path = Path(folder) / name
            key = path.relative_to(location.path).as_posix()
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                yield Finding(
                    key,
                    f"link leads out of the store to {path.resolve()}",
                    "Replace it by the data themselves",
                )
            elif path.is_symlink() and not path.exists():
                yield Finding(key, "link leads nowhere")
            elif name.endswith((".tmp", ".partial")) and path.is_file():
                yield Finding(key, "temporary file of a writer that was stopped", "Delete it")
    if (location.path / ".journal").exists():
        yield Finding(".journal", "journal of writing is left in a complete store", "Delete it")


def check_block(block: dict[str, Any], spec: BrainSpec) -> Iterator[Finding]:
    """The ``teramind`` block against itself: sections, spacing, panel, declared images."""
    z = [section.z_um for section in spec.sections]
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in z):
        yield Unusable("sections", f"z is no length: {z}", _META)
    else:
        for before, after in pairwise(spec.sections):
            if after.z_um == before.z_um:
                yield Finding(
                    "sections", f"{before.name} and {after.name} have the same z, {after.z_um:g} um", _META
                )
            elif after.z_um < before.z_um:
                yield Finding("sections", f"z falls from {before.name} to {after.name}", _META)
        if block.get("z_spacing_um") != spec.z_spacing_um:
            found = block.get("z_spacing_um")
            yield Finding(
                "sections", f"z_spacing_um is {found}, but the sections' median is {spec.z_spacing_um}", _META
            )
    names = [section.name for section in spec.sections]
    for name in sorted({name for name in names if names.count(name) > 1}, key=str):
        yield Finding("sections", f"name {name!r} is used twice", _META)
    if spec.panel is not None:
        if block.get("panel_fingerprint") != spec.panel.fingerprint:
            yield Finding(
                "panel", "fingerprint does not belong to the genes: names or order were changed", _META
            )
        controls = [gene for gene in spec.panel if is_control(gene)]
        if controls:
            yield Finding("panel", f"controls are among the genes: {', '.join(controls[:3])}", "Ingest again")


def check_provenance(spec: BrainSpec) -> Iterator[Finding]:
    """Where the store came from: a tool, and inputs with size and SHA-256 (generated: checkpoint, seed, steps)."""
    provenance = spec.provenance
    remedy = "Write the store again with this version, or accept that its origin is unknown"
    if not (provenance.get("tool") or provenance.get("made_by")):
        yield Finding("provenance", "does not say what made the store", remedy)
    inputs = provenance.get("inputs", [])
    if not isinstance(inputs, list):
        yield Finding("provenance", "inputs are no list", remedy)
        inputs = []
    for number, item in enumerate(inputs):
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            yield Finding("provenance", f"input {number} has no path", remedy)
        elif not isinstance(item.get("bytes"), int) or item["bytes"] < 0:
            yield Finding("provenance", f"input {item['path']} has no size", remedy)
        elif not _HEX.fullmatch(str(item.get("sha256", ""))):
            yield Finding("provenance", f"input {item['path']} has no SHA-256", remedy)
    excluded = provenance.get("excluded", [])
    for item in excluded if isinstance(excluded, list) else [None]:
        if not isinstance(item, dict) or not item.get("name") or not item.get("reason"):
            yield Finding("provenance", "a section was left out without name and reason", remedy)
    if provenance.get("made_by") == "teramind-model generate":
        for key in ("checkpoint", "atlas", "seed", "steps"):
            if key not in provenance:
                yield Finding("provenance", f"generated store does not say its {key}", "Generate again")


def check_consolidated(location: Location, root: dict[str, Any]) -> Iterator[Finding]:
    """The root's copy of all metadata against the ``zarr.json`` of each group and array."""
    if root.get("zarr_format") != 3:
        yield Finding("zarr.json", "root is no Zarr v3 group", _META)
    if "spatialdata_attrs" not in root.get("attributes", {}):
        yield Finding(
            "zarr.json", "spatialdata_attrs are missing, so SpatialData takes the store for an old one", _META
        )
    copy = root.get("consolidated_metadata")
    known = copy.get("metadata") if isinstance(copy, dict) else None
    if not isinstance(known, dict):
        yield Finding(
            "zarr.json", "consolidated metadata is missing", "Run teramind_data.store.refresh_metadata on it"
        )
        return
    seen = set()
    for path, raw in _nodes(location, ""):
        seen.add(path)
        try:
            node = json.loads(raw)
        except ValueError as error:
            yield Finding(f"{path}/zarr.json", f"no JSON: {describe(error)}")
            continue
        if not isinstance(node, dict):
            yield Finding(f"{path}/zarr.json", "no JSON object")
            continue
        if path not in known:
            remedy = "Run teramind_data.store.refresh_metadata on the store"
            yield Finding(path, "is not in the consolidated metadata, so readers do not see it", remedy)
            continue
        found = difference(_bare(known[path]), _bare(node))
        if found:
            remedy = (
                "Restore its zarr.json, or run teramind_data.store.refresh_metadata if the change is meant"
            )
            yield Finding(f"{path}/zarr.json", f"differs from the consolidated metadata: {found}", remedy)
    for path in sorted(set(known) - seen):
        yield Finding(path, "zarr.json is missing")


def _nodes(location: Location, path: str) -> Iterator[tuple[str, bytes]]:
    """Path and ``zarr.json`` of everything below a group; arrays' chunks are not walked."""
    for name in sorted(location.children(path)):
        child = f"{path}/{name}" if path else name
        if name.startswith("."):
            continue
        raw = location.read(f"{child}/zarr.json")
        if raw is None:
            continue
        yield child, raw
        if b'"array"' not in raw or b'"group"' in raw:
            yield from _nodes(location, child)


def _bare(node: Any) -> Any:
    """A node without what only one of the two copies has."""
    if not isinstance(node, dict):
        return node
    # Written by zarr as defaults, and left out by others.
    drop = ("consolidated_metadata", "storage_transformers")
    return {"attributes": {}, **{key: value for key, value in node.items() if key not in drop}}
