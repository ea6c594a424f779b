"""Write one image shard by shard, with its pyramid."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from teramind_data.errors import IncompleteStoreError, InputError, StoreError
from teramind_data.geometry import Box, tiles
from teramind_data.store.journal import Journal, store_empty_shards
from teramind_data.store.layout import ImageLayout, Level, codecs_of_writers, create_level, open_for_writing
from teramind_data.store.location import Location
from teramind_data.store.metadata import group_json, spatialdata_attributes, strict_attributes
from teramind_data.store.pyramid import halve

if TYPE_CHECKING:
    import zarr

__all__ = ["ImageWriter"]


class ImageWriter:
    """Writes one image: level 0 by whole shards, its online levels with them, the others at the end.

    In a local store a shard is encoded in a folder of this writer's own and renamed when it is whole: under its own
    name it is never half-written, not even where two processes repeat the same work.
    """

    def __init__(self, location: Location, layout: ImageLayout) -> None:
        self.location = location
        self.layout = layout
        self.journal = Journal(location, layout)
        self._arrays: dict[int, zarr.Array] = {}
        self._staged: dict[int, zarr.Array] = {}
        self._staging = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}, "_staged": {}, "_staging": ""}

    def create(self) -> None:
        """Metadata of both flavours and arrays without data; what an earlier attempt left goes."""
        self.location.delete_tree(self.layout.array_group)
        self.location.write(
            f"{self.layout.image.path}/zarr.json", group_json(spatialdata_attributes(self.layout))
        )
        self.location.write(
            f"{self.layout.array_group}/zarr.json", group_json(strict_attributes(self.layout))
        )
        for level in self.layout.levels:
            with self.location.small_arrays(self.layout.array_path(level.index)) as store:
                create_level(store, self.layout, level)

    def _array(self, level: int) -> zarr.Array:
        if level not in self._arrays:
            self._arrays[level] = open_for_writing(
                self.location.zarr_store(read_only=False),
                self.layout.array_path(level),
                local=self.location.is_local,
            )
        return self._arrays[level]

    def _staged_array(self, level: int) -> zarr.Array:
        """The same array with nothing in it, in this writer's folder under the journal."""
        if level not in self._staged:
            from zarr import Array, AsyncArray
            from zarr.storage import LocalStore, StorePath

            if not self._staging:
                self._staging = f"{self.journal.prefix}/staging-{os.getpid()}-{os.urandom(4).hex()}"
            array = self._array(level)
            store = LocalStore(self.location.path / self._staging)
            with codecs_of_writers(local=True):
                self._staged[level] = Array(
                    AsyncArray(array.metadata, StorePath(store, self.layout.array_path(level)))
                )
        return self._staged[level]

    def pending(self) -> list[tuple[int, Box]]:
        """Shards without a journal entry."""
        edge = self.layout.levels[0].shard
        done = self.journal.done()
        return [(z, b) for z, b in self.layout.shards() if (z, b.y0 // edge, b.x0 // edge) not in done]

    def write(self, z: int, box: Box | None, values: ArrayLike) -> None:
        """Write a union of whole shards of section ``z``; see ``BrainWriter.write``."""
        first = self.layout.levels[0]
        box = first.box if box is None else box
        self.layout.check_unit(z, box)
        block = self._checked(np.asarray(values), box)
        for part in tiles(box, first.shard):
            inner = part.shift(-box.y0, -box.x0).slices
            self._write_shard(z, part.y0 // first.shard, part.x0 // first.shard, block[(..., *inner)])

    def _checked(self, block: NDArray[Any], box: Box) -> NDArray[Any]:
        image = self.layout.image
        expected = box.shape if image.labels else (len(image.channels), *box.shape)
        if block.shape != expected:
            raise InputError("block has another shape than its box", image.name, expected, block.shape)
        if block.dtype != np.dtype(image.dtype):
            raise InputError(
                "block has another type than its image",
                where=image.name,
                expected=image.dtype,
                found=block.dtype,
                remedy="Convert it, looking at its range first",
            )
        return block

    def _write_shard(self, z: int, iy: int, ix: int, block: NDArray[Any]) -> None:
        empty = []
        nothing = not block.any()
        for level in self.layout.levels:
            if not level.online:
                break
            if nothing:
                self.location.delete(self.layout.chunk_key(level.index, z, iy, ix))
                empty.append(level.index)
                continue
            if level.index:
                block = halve(block, self.layout.image.reduce, level.dtype)
            if not self._put(level, z, iy, ix, block):
                empty.append(level.index)
        self.journal.mark(z, iy, ix, empty)

    def _put(self, level: Level, z: int, iy: int, ix: int, block: NDArray[Any]) -> bool:
        """Store one shard, or nothing where it holds only zeros; whether it was stored."""
        key = self.layout.chunk_key(level.index, z, iy, ix)
        where = (..., z, *level.shard_box(iy, ix).slices)
        if not block.any():
            self.location.delete(key)
            return False
        if not self.location.is_local:
            # What is there would be merged with a shard at the rim.
            self.location.delete(key)
            self._array(level.index)[where] = block
            return True
        staged = self._staged_array(level.index)
        file = self.location.path / self._staging / key
        file.unlink(missing_ok=True)  # of a write that failed
        staged[where] = block
        self.location.adopt(file, key)
        return True

    def finish(self) -> None:
        """Build the coarser levels, check that every shard is there, and list the empty ones."""
        empties = self.journal.empties()
        for level in self.layout.levels:
            numbers = set(empties.get(level.index, ())) if level.online else self._coarse(level)
            self._verify(level, numbers)
            store_empty_shards(self.location, self.layout, level.index, numbers)

    def _coarse(self, level: Level) -> set[int]:
        """Build one level from the one below, a shard at a time; the numbers of its empty shards."""
        source = self._array(level.index - 1)
        empty = set()
        for z in range(self.layout.brain.n_sections):
            for iy, ix in level.shards(level.box):
                block = self._halved(source, z, level.shard_box(iy, ix), level)
                if not self._put(level, z, iy, ix, block):
                    empty.add(self.layout.linear(level.index, z, iy, ix))
                del block  # before the next is made
        return empty

    def _halved(self, source: zarr.Array, z: int, shard: Box, level: Level) -> NDArray[Any]:
        """A shard's pixels from the level below, a row of chunks at a time: sums are wider than what they are of."""
        out = np.empty((*source.shape[:-3], *shard.shape), level.dtype)
        for y0 in range(0, shard.height, level.chunk):
            strip = Box(shard.y0 + y0, min(shard.y0 + y0 + level.chunk, shard.y1), shard.x0, shard.x1)
            box = strip.refine(2).intersect(self.layout.levels[level.index - 1].box)
            if box is None:
                raise StoreError("pyramid levels do not fit", where=self.layout.array_path(level.index))
            pixels = np.asarray(source[(..., z, *box.slices)])
            out[..., y0 : y0 + strip.height, :] = halve(pixels, self.layout.image.reduce, level.dtype)
        return out

    def _verify(self, level: Level, empty: set[int]) -> None:
        """MissingShard-like check before anybody relies on the store: stored and empty shards are all shards."""
        found = self.location.keys(f"{self.layout.array_path(level.index)}/c")
        prefix = f"{self.layout.array_path(level.index)}/c/"
        for z in range(self.layout.brain.n_sections):
            for iy, ix in level.shards(level.box):
                key = self.layout.chunk_key(level.index, z, iy, ix)
                listed = self.layout.linear(level.index, z, iy, ix) in empty
                if not listed and key.removeprefix(prefix) not in found:
                    raise IncompleteStoreError(
                        "shard was written and is gone",
                        where=f"{self.location}/{key}",
                        remedy="Check the disk and write the store again",
                    )
