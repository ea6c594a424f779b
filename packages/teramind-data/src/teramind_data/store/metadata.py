"""The two flavours of image metadata over one set of arrays, and consolidated metadata.

Coordinates are um from the corner of the canvas, on all three axes by the half-open convention: pixel ``i`` covers
``[i, i + 1)`` times its size, section ``i`` covers ``[i, i + 1)`` times the median spacing.

SpatialData maps pixel *corners*: its transformation to ``global`` is a bare scale, and levels follow from shapes.
OME-Zarr 0.5 maps pixel *centres* (index 0 is the centre of the first pixel), so each strict level has a
translation of half its own scale; the two agree at every level and for bins.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from teramind_data.errors import StoreError
from teramind_data.store.layout import OME_GROUP, ImageLayout
from teramind_data.store.location import Location

__all__ = [
    "consolidated",
    "group_json",
    "read_root",
    "spatialdata_attributes",
    "strict_attributes",
    "write_root",
]

#: Version strings that SpatialData 0.7 writes and needs (container 0.2, raster 0.3).
SPATIALDATA_CONTAINER = {"version": "0.2", "spatialdata_software_version": "0.7.3"}
_SPATIALDATA_OME = "0.5-dev-spatialdata"
_SPATIALDATA_RASTER = {"version": "0.3"}

_COLORS = ("0000FF", "00FF00", "FF0000", "FFFF00", "FF00FF", "00FFFF", "FFFFFF")


def group_json(attributes: dict[str, Any]) -> bytes:
    """``zarr.json`` of a group."""
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=1).encode()


def _axes(layout: ImageLayout, unit: str | None) -> list[dict[str, str]]:
    space = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    return space if layout.image.labels else [{"name": "c", "type": "channel"}, *space]


def _scale(layout: ImageLayout, level: int) -> list[float]:
    edge = layout.brain.pixel_size_um * layout.image.step * 2**level
    return [*([] if layout.image.labels else [1.0]), layout.brain.z_spacing_um, edge, edge]


def _omero(layout: ImageLayout) -> dict[str, Any]:
    if layout.image.labels:
        return {}
    kind = np.dtype(layout.image.dtype)
    # Display range: the whole of uint8 pictures; a few counts a bin; maps as they come.
    top = 255.0 if layout.image.reduce == "mean" and kind == np.uint8 else 4.0
    limit = float(np.iinfo(kind).max) if kind.kind == "u" else top
    channels = [
        {
            "label": name,
            "color": _COLORS[number % len(_COLORS)],
            "window": {"min": 0.0, "max": limit, "start": 0.0, "end": min(top, limit)},
            # Viewers would blend hundreds of genes at once.
            "active": number < 3,
        }
        for number, name in enumerate(layout.image.channels)
    ]
    return {"omero": {"channels": channels}}


def strict_attributes(layout: ImageLayout) -> dict[str, Any]:
    """Attributes of the nested group: OME-Zarr 0.5, as its specification has it."""
    datasets = []
    for level in layout.levels:
        scale = _scale(layout, level.index)
        half = [0.5 * s for s in scale]
        if not layout.image.labels:
            half[0] = 0.0
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": half}]
        datasets.append({"path": str(level.index), "coordinateTransformations": transforms})
    multiscale = {
        "name": layout.image.name,
        "axes": _axes(layout, "micrometer"),
        "datasets": datasets,
        "type": {"mean": "mean", "sum": "sum", "mode": "mode"}[layout.image.reduce],
    }
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale], **_omero(layout)}
    if layout.image.labels:
        ome["image-label"] = {}
    return {"ome": ome}


def spatialdata_attributes(layout: ImageLayout) -> dict[str, Any]:
    """Attributes of the element's group: SpatialData's flavour, its datasets inside the nested group."""
    axes = _axes(layout, None)
    relative = [
        [*([] if layout.image.labels else [1.0]), 1.0, 2.0**level.index, 2.0**level.index]
        for level in layout.levels
    ]
    named = [{**axis, **({"unit": "unit"} if axis["type"] == "space" else {})} for axis in axes]
    to_global = {
        "type": "scale",
        "scale": _scale(layout, 0),
        "input": {"name": "".join(axis["name"] for axis in axes), "axes": named},
        "output": {"name": "global", "axes": named},
    }
    multiscale = {
        "name": layout.image.name,
        "axes": axes,
        "datasets": [
            {
                "path": f"{OME_GROUP}/{level.index}",
                "coordinateTransformations": [{"type": "scale", "scale": relative[level.index]}],
            }
            for level in layout.levels
        ],
        "coordinateTransformations": [to_global],
    }
    return {
        "ome": {"version": _SPATIALDATA_OME, "multiscales": [multiscale], **_omero(layout)},
        "spatialdata_attrs": _SPATIALDATA_RASTER,
    }


def read_root(location: Location) -> dict[str, Any] | None:
    """The root ``zarr.json``, or None where there is none; StoreError where it is no JSON object."""
    raw = location.read("zarr.json")
    if raw is None:
        return None
    try:
        root = json.loads(raw)
        if not isinstance(root, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise StoreError(
            "store metadata is not readable",
            f"{location}/zarr.json",
            "a JSON object",
            error,
            "Write the store again",
        ) from None
    return root


def write_root(location: Location, block: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Write the root ``zarr.json`` as one object: SpatialData's attributes, ours, and consolidated metadata."""
    old = read_root(location) or {}
    attributes = {**old.get("attributes", {}), "spatialdata_attrs": SPATIALDATA_CONTAINER, "teramind": block}
    root: dict[str, Any] = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    if metadata is not None:
        root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    location.write("zarr.json", json.dumps(root).encode())


def consolidated(location: Location, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Metadata of every group and array below the root by path, leaving out the groups named in ``skip``."""
    found: dict[str, Any] = {}

    def visit(path: str) -> None:
        for name in sorted(location.children(path)):
            child = f"{path}/{name}" if path else name
            if name.startswith(".") or child in skip:
                continue
            raw = location.read(f"{child}/zarr.json")
            if raw is None:
                continue
            try:
                node = json.loads(raw)
            except ValueError as error:
                raise StoreError(
                    "metadata is not readable", f"{location}/{child}/zarr.json", "JSON", error
                ) from None
            # A nested group's own consolidated copy would only grow stale inside ours.
            node.pop("consolidated_metadata", None)
            if node.get("node_type") == "group":
                node["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
                found[child] = node
                visit(child)
            else:
                found[child] = node

    visit("")
    return found
