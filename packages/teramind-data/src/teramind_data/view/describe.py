"""What the page needs to know about a store, as ``view.json``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from teramind_data.store import Brain

__all__ = ["describe", "mount_name"]

#: Where the page's own files lie; a store of this name is served under another.
PAGE_FOLDER = "-"


def mount_name(brain: Brain) -> str:
    """The first segment of the addresses of a store: the last one of its path."""
    name = brain.url.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return name if name not in ("", PAGE_FOLDER, ".", "..", "view.json") else "store"


def describe(brain: Brain) -> dict[str, Any]:
    """A store in JSON: canvas, sections, images with their levels. Paths are relative to the page."""
    name = mount_name(brain)
    return {
        "name": name,
        "url": f"{quote(name)}/",
        "kind": brain.kind,
        "complete": brain.complete,
        "canvas": list(brain.canvas),
        "pixel_size_um": brain.pixel_size_um,
        "stains": list(brain.stains),
        "genes": 0 if brain.panel is None else len(brain.panel),
        "sections": [{"name": section.name, "z_um": section.z_um} for section in brain.sections],
        "region_names": {str(value): text for value, text in brain.region_names.items()},
        "images": [_image(brain, image) for image in (*brain.images, *brain.labels)],
    }


def _image(brain: Brain, name: str) -> dict[str, Any]:
    layout = brain.layout(name)
    image = layout.image
    return {
        "name": name,
        "path": layout.array_group,
        "labels": image.labels,
        "channels": list(image.channels),
        "dtype": image.dtype,
        "step": image.step,
        "reduce": image.reduce,
        "levels": [{"path": str(level.index), "shard": level.shard} for level in layout.levels],
    }
