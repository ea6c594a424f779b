"""Arrays of a store: level shapes, shards and chunks, codecs, and which shard a key names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from teramind_data.errors import GeometryError, InputError
from teramind_data.geometry import Box, ceil_div, tiles
from teramind_data.store.pyramid import level_dtype, level_shapes
from teramind_data.store.schema import BrainSpec, ImageSpec

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

__all__ = ["ImageLayout", "Level", "codecs_for", "codecs_of_writers", "create_level", "open_for_writing"]

#: Nested group with the strict OME-Zarr flavour and the arrays.
OME_GROUP = "ome.zarr"


@dataclass(frozen=True)
class Level:
    """One array of a pyramid.

    Attributes:
        index: 0 is full resolution.
        shape: ``(y, x)``.
        shard, chunk: edges in this level's pixels.
        online: written together with level 0 (its shards lie whole inside level-0 shards).
    """

    index: int
    shape: tuple[int, int]
    shard: int
    chunk: int
    dtype: str
    online: bool

    @property
    def box(self) -> Box:
        """The whole plane."""
        return Box.from_shape(self.shape)

    @property
    def grid(self) -> tuple[int, int]:
        """Shards in y and x."""
        return ceil_div(self.shape[0], self.shard), ceil_div(self.shape[1], self.shard)

    def shards(self, box: Box) -> Iterator[tuple[int, int]]:
        """Shard coordinates ``(iy, ix)`` that ``box`` touches, row-major."""
        for iy in range(box.y0 // self.shard, ceil_div(box.y1, self.shard)):
            for ix in range(box.x0 // self.shard, ceil_div(box.x1, self.shard)):
                yield iy, ix

    def shard_box(self, iy: int, ix: int) -> Box:
        """Pixels of a shard, cut at the rim."""
        box = Box.from_shape((self.shard, self.shard), (iy * self.shard, ix * self.shard)).intersect(self.box)
        if box is None:
            raise GeometryError(
                "no such shard", where=f"level {self.index}", found=(iy, ix), expected=self.grid
            )
        return box


@dataclass(frozen=True)
class ImageLayout:
    """How one image of a brain lies in its store."""

    image: ImageSpec
    brain: BrainSpec

    @property
    def array_group(self) -> str:
        """Group that holds the levels, e.g. ``images/morphology/ome.zarr``."""
        return f"{self.image.path}/{OME_GROUP}"

    def array_path(self, level: int) -> str:
        """Path of a level's array."""
        return f"{self.array_group}/{level}"

    def chunk_key(self, level: int, z: int, iy: int, ix: int) -> str:
        """Store key of a shard (Zarr v3 default chunk key encoding)."""
        channel = "" if self.image.labels else "0/"
        return f"{self.array_path(level)}/c/{channel}{z}/{iy}/{ix}"

    def linear(self, level: int, z: int, iy: int, ix: int) -> int:
        """Row-major number of a shard, as used in lists of empty shards."""
        ny, nx = self.levels[level].grid
        return (z * ny + iy) * nx + ix

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """All levels, finest first."""
        height, width = (n // self.image.step for n in self.brain.canvas)
        shard0 = self.brain.shard_px // self.image.step
        # Labels and maps have few values a pixel: a chunk of 16 bins would be all overhead.
        many = len(self.image.channels) > 8
        chunk0 = self.brain.chunk // self.image.step if self.image.step == 1 or many else self.brain.chunk
        out: list[Level] = []
        for index, shape in enumerate(level_shapes((height, width))):
            shard = shard0 >> index
            # Below the chunk edge shards would be crumbs: those levels are built at the end, in larger ones.
            online = index == 0 or shard >= chunk0
            if not online:
                shard = 4 * chunk0
            dtype = level_dtype(self.image.dtype, index, self.image.reduce)
            out.append(Level(index, shape, shard, min(chunk0, shard), dtype, online))
        return tuple(out)

    def shards(self) -> list[tuple[int, Box]]:
        """Units of writing: section and box in level-0 pixels."""
        level = self.levels[0]
        return [(z, box) for z in range(self.brain.n_sections) for box in tiles(level.box, level.shard)]

    def check_unit(self, z: int, box: Box) -> None:
        """InputError unless ``box`` is a union of whole shards of an existing section."""
        level = self.levels[0]
        if not 0 <= z < self.brain.n_sections:
            raise InputError("no such section", self.image.name, f"0..{self.brain.n_sections - 1}", z)
        whole = level.box.contains(box) and all(
            edge % level.shard == 0 or edge == end
            for edge, end in ((box.y0, 0), (box.x0, 0), (box.y1, level.shape[0]), (box.x1, level.shape[1]))
        )
        if not whole:
            raise InputError(
                "box is no union of whole shards",
                where=self.image.name,
                expected=f"multiples of {level.shard} inside {level.box}",
                found=box,
                remedy="Write whole shards (BrainWriter.shards lists them)",
            )

    def array_shape(self, level: Level) -> tuple[int, ...]:
        """``(c, z, y, x)``, labels ``(z, y, x)``."""
        channels = () if self.image.labels else (len(self.image.channels),)
        return (*channels, self.brain.n_sections, *level.shape)

    def block_shape(self, edge: int) -> tuple[int, ...]:
        """A chunk or shard of ``edge``: all channels, one section deep."""
        channels = () if self.image.labels else (len(self.image.channels),)
        return (*channels, 1, edge, edge)


def codecs_for(dtype: str) -> list[Any]:
    """Compression of a chunk, then CRC32C over what is stored."""
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    if dtype in ("uint8", "int8"):
        return [ZstdCodec(level=1), Crc32cCodec()]
    # Wider numbers have quiet high bytes: shuffled together they nearly vanish.
    size = {"16": 2, "32": 4, "64": 8}[dtype[-2:]]
    return [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=size), Crc32cCodec()]


def create_level(store: Store, layout: ImageLayout, level: Level) -> zarr.Array:
    """Create one level's array, without data."""
    import zarr

    return zarr.create_array(
        store=store,
        name=layout.array_path(level.index),
        shape=layout.array_shape(level),
        chunks=layout.block_shape(level.chunk),
        shards=layout.block_shape(level.shard),
        dtype=level.dtype,
        compressors=codecs_for(level.dtype),
        fill_value=0,
        dimension_names=["z", "y", "x"] if layout.image.labels else ["c", "z", "y", "x"],
        overwrite=True,
    )


def open_for_writing(store: Store, path: str, *, local: bool) -> zarr.Array:
    """An existing array, with the ``zarrs`` codec pipeline where that is installed and the store is local.

    Only for writing: its threads do not survive the fork of a data loader's worker. And with one thread: with more,
    chunks lie in a shard in the order in which they happened to be done, and no two runs give the same bytes.
    """
    import zarr

    array = zarr.open_array(store=store, path=path, mode="r+")
    with codecs_of_writers(local=local):
        return zarr.Array(zarr.AsyncArray(metadata=array.metadata, store_path=array.store_path))


def codecs_of_writers(*, local: bool) -> AbstractContextManager[object]:
    """A scope in which arrays made get the writers' codec pipeline. Nothing may be read or written in it.

    (zarr would size its own thread pool, once for all, by the setting.)
    """
    import zarr

    if not local or find_spec("zarrs") is None:
        return nullcontext()
    return zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1})
