"""The store contract: one Zarr v3 directory that SpatialData and OME-Zarr readers both open.

Layout, metadata and promises are described in ``docs/store-format.md``; ``open_brain`` reads, ``create_brain``
writes.
"""

from __future__ import annotations

from teramind_data.store.location import Location
from teramind_data.store.molecules import TILE_PX, Molecules
from teramind_data.store.reader import Brain, open_brain
from teramind_data.store.schema import SCHEMA_VERSION, BrainSpec, ImageSpec, Section
from teramind_data.store.writer import (
    BrainWriter,
    append_image,
    create_brain,
    refresh_metadata,
    resume_brain,
    store_state,
)

__all__ = [
    "SCHEMA_VERSION",
    "TILE_PX",
    "Brain",
    "BrainSpec",
    "BrainWriter",
    "ImageSpec",
    "Location",
    "Molecules",
    "Section",
    "append_image",
    "create_brain",
    "open_brain",
    "refresh_metadata",
    "resume_brain",
    "store_state",
]
