"""The store contract: one Zarr v3 directory that SpatialData and OME-Zarr readers both open.

::

    brain.zarr/zarr.json                             SpatialData's attributes, the "teramind" block, all metadata
    brain.zarr/images/NAME/zarr.json                 SpatialData's flavour; datasets "ome.zarr/0", "ome.zarr/1", ...
    brain.zarr/images/NAME/ome.zarr/zarr.json        OME-Zarr 0.5, strict; datasets "0", "1", ...
    brain.zarr/images/NAME/ome.zarr/0                the arrays: sharded, one section deep, CRC32C on every chunk
    brain.zarr/labels/NAME/...                       the same without channels
    brain.zarr/molecules/{y,x,gene,offsets}          transcripts by section and 256-px tile
    brain.zarr/.journal/                             while writing: shards done, and those empty on purpose

Positions are um from the canvas's corner; pixel ``i`` covers ``[i, i + 1)`` times its size on every axis (z: the
median spacing), so a pixel's centre is at ``(i + 0.5)`` sizes at every pyramid level and for 16-px bins alike.

``complete: true`` in the root's ``teramind`` block is written last, with all metadata, as one object. ``open_brain``
reads, ``create_brain`` writes, ``resume_brain`` continues, ``append_image`` adds to a complete store.
"""

from __future__ import annotations

from teramind_data.store.append import Addition, append_image, begin_addition, refresh_metadata, tidy_store
from teramind_data.store.crops import CropReader
from teramind_data.store.location import Location, is_url
from teramind_data.store.molecules import TILE_PX, Molecules
from teramind_data.store.reader import Brain, open_brain
from teramind_data.store.schema import SCHEMA_VERSION, BrainSpec, ImageSpec, Section
from teramind_data.store.writer import BrainWriter, create_brain, discard_store, resume_brain, store_state

__all__ = [
    "SCHEMA_VERSION",
    "TILE_PX",
    "Addition",
    "Brain",
    "BrainSpec",
    "BrainWriter",
    "CropReader",
    "ImageSpec",
    "Location",
    "Molecules",
    "Section",
    "append_image",
    "begin_addition",
    "create_brain",
    "discard_store",
    "is_url",
    "open_brain",
    "refresh_metadata",
    "resume_brain",
    "store_state",
    "tidy_store",
]
