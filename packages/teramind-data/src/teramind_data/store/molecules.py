"""Transcripts of a brain, sorted so that any box is found without scanning.

``molecules/`` is a plain Zarr group: ``y``, ``x`` (int32, canvas pixels), ``gene`` (uint16, index in the panel), one
entry a molecule, sorted by section, then 256-px tile (row-major), then y, x, gene; and ``offsets`` (int64), where
entry ``section * tiles + tile`` is the first molecule of a tile and the last entry the number of molecules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from teramind_data.errors import GeometryError, InputError, MissingShardError
from teramind_data.geometry import BIN_PX, Box, ceil_div
from teramind_data.store.layout import codecs_for
from teramind_data.store.location import Location
from teramind_data.store.schema import BrainSpec

if TYPE_CHECKING:
    import zarr

__all__ = ["COLUMNS", "TILE_PX", "Molecules", "binned", "write_molecules"]

#: Edge of the tiles by which molecules are sorted.
TILE_PX = 256

_GROUP = "molecules"
#: Columns of the table, with their types.
COLUMNS = {"y": "int32", "x": "int32", "gene": "uint16"}
_CHUNK = 1 << 16
_SHARD = 1 << 20

Batch = tuple[int, ArrayLike, ArrayLike, ArrayLike]


def _tile_grid(canvas: tuple[int, int]) -> tuple[int, int]:
    return ceil_div(canvas[0], TILE_PX), ceil_div(canvas[1], TILE_PX)


class _Column:
    """Appends to a one-dimensional array, whole shards at a time."""

    def __init__(self, location: Location, name: str, dtype: str) -> None:
        import zarr

        self.array = zarr.create_array(
            store=location.zarr_store(read_only=False),
            name=f"{_GROUP}/{name}",
            shape=(0,),
            chunks=(_CHUNK,),
            shards=(_SHARD,),
            dtype=dtype,
            compressors=codecs_for(dtype),
            fill_value=0,
            overwrite=True,
            # A run of zeros (gene 0) is data like any other: every shard must exist.
            config={"write_empty_chunks": True},
        )
        self._held: list[NDArray[Any]] = []
        self._count = 0

    def append(self, values: NDArray[Any]) -> None:
        self._held.append(values)
        self._count += len(values)
        if self._count >= _SHARD:
            whole = self._count // _SHARD * _SHARD
            joined = np.concatenate(self._held)
            self._write(joined[:whole])
            self._held, self._count = [joined[whole:]], self._count - whole

    def close(self) -> None:
        if self._count:
            self._write(np.concatenate(self._held))

    def _write(self, values: NDArray[Any]) -> None:
        start = self.array.shape[0]
        self.array.resize((start + len(values),))
        self.array[start:] = values


def write_molecules(location: Location, spec: BrainSpec, batches: Iterable[Batch]) -> int:
    """Write ``molecules/`` from batches ``(section, y, x, gene)`` of equally long integer arrays; returns how many.

    Tiles of a batch must come after those of the batches before it, in the order (section, tile row-major): a batch
    may hold a whole section, a row of tiles, or one tile. Inside a batch the order is free.

    Raises:
        InputError: where a molecule lies outside the canvas or its gene outside the panel, or batches are out of
            order.
    """
    rows, columns = _tile_grid(spec.canvas)
    per_section = rows * columns
    counts = np.zeros(spec.n_sections * per_section + 1, np.int64)
    out = {name: _Column(location, name, dtype) for name, dtype in COLUMNS.items()}
    last = -1
    for section, *values in batches:
        y, x, gene = _checked(spec, section, *values)
        if not len(y):
            continue
        key = (y.astype(np.int64) // TILE_PX) * columns + x // TILE_PX + section * per_section
        order = np.lexsort((gene, x, y, key))
        key = key[order]
        if key[0] <= last:
            raise InputError(
                "molecules are not in order",
                where=f"section {section}",
                expected=f"tiles after {last}",
                found=int(key[0]),
                remedy="Give whole tiles, ordered by section and row-major tile",
            )
        last = int(key[-1])
        tile, number = np.unique(key, return_counts=True)
        counts[tile + 1] += number
        for column, column_values in zip(out.values(), (y, x, gene), strict=True):
            column.append(column_values[order])
    for column in out.values():
        column.close()
    _finish(location, np.cumsum(counts))
    return int(counts.sum())


def _checked(spec: BrainSpec, section: int, *values: ArrayLike) -> tuple[NDArray[Any], ...]:
    genes = 0 if spec.panel is None else len(spec.panel)
    if not 0 <= section < spec.n_sections:
        raise InputError("molecules of an unknown section", None, f"0..{spec.n_sections - 1}", section)
    arrays = [np.asarray(v) for v in values]
    if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1:
        raise InputError(
            "molecule columns differ in length", f"section {section}", found=[a.shape for a in arrays]
        )
    for array, name, limit in zip(arrays, COLUMNS, (*spec.canvas, genes), strict=True):
        if array.size and array.dtype.kind not in "ui":
            raise InputError("molecule column is no integer", f"section {section}, {name}", found=array.dtype)
        if array.size and (int(array.min()) < 0 or int(array.max()) >= limit):
            raise InputError(
                "molecule is out of range",
                where=f"section {section}, {name}",
                expected=f"0..{limit - 1}",
                found=f"{int(array.min())}..{int(array.max())}",
                remedy="Drop molecules outside the canvas and genes outside the panel first",
            )
    return tuple(array.astype(dtype) for array, dtype in zip(arrays, COLUMNS.values(), strict=True))


def _finish(location: Location, offsets: NDArray[np.int64]) -> None:
    import zarr

    array = zarr.create_array(
        store=location.zarr_store(read_only=False),
        name=f"{_GROUP}/offsets",
        shape=offsets.shape,
        chunks=(_CHUNK,),
        shards=(_SHARD,),
        dtype="int64",
        compressors=codecs_for("int64"),
        fill_value=0,
        overwrite=True,
        config={"write_empty_chunks": True},
    )
    array[:] = offsets
    attributes = {"teramind": {"tile_px": TILE_PX, "order": "section, tile (row-major), y, x, gene"}}
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    location.write(f"{_GROUP}/zarr.json", json.dumps(group).encode())


class Molecules:
    """Reads molecules of a box, or their counts in 16-px bins from any corner."""

    def __init__(self, location: Location, spec: BrainSpec, root: zarr.Group) -> None:
        self._location = location
        self._spec = spec
        arrays = {name: root[f"{_GROUP}/{name}"] for name in (*COLUMNS, "offsets")}
        self._arrays: dict[str, Any] = arrays
        self._present: set[str] = set()
        # 8 bytes a tile of 256 px: 1 MB a section of the largest canvas there is, so that a whole brain's are kept.
        self._offsets = lru_cache(maxsize=64)(self._read_offsets)

    @property
    def total(self) -> int:
        """Number of molecules of the brain."""
        return int(self._arrays["y"].shape[0])

    def _read_offsets(self, section: int) -> NDArray[np.int64]:
        rows, columns = _tile_grid(self._spec.canvas)
        start = section * rows * columns
        return self._column("offsets", start, start + rows * columns + 1)

    def check(self, name: str, start: int, stop: int) -> None:
        """MissingShardError unless all shards are there that hold entries ``start`` to ``stop`` of a column."""
        for shard in range(start // _SHARD, ceil_div(stop, _SHARD)):
            key = f"{_GROUP}/{name}/c/{shard}"
            if key not in self._present:
                if not self._location.exists(key):
                    raise MissingShardError(
                        "molecules are missing from the store",
                        where=f"{self._location}/{key}",
                        remedy="Restore the object or ingest again",
                    )
                self._present.add(key)

    def _column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        self.check(name, start, stop)
        values: NDArray[Any] = self._arrays[name][start:stop]
        return values

    def _check_section(self, section: int) -> None:
        if not 0 <= section < self._spec.n_sections:
            raise GeometryError("no such section", None, f"0..{self._spec.n_sections - 1}", section)

    def runs(self, section: int, box: Box) -> Iterator[tuple[int, int]]:
        """Ranges of entries that hold the box's tiles: one a row of tiles, which lie together."""
        inside = box.clip(self._spec.canvas)
        if inside is None:
            return
        offsets = self._offsets(section)
        columns = _tile_grid(self._spec.canvas)[1]
        cover = inside.cover(TILE_PX).coarsen(TILE_PX)
        for row in range(cover.y0, cover.y1):
            start, stop = int(offsets[row * columns + cover.x0]), int(offsets[row * columns + cover.x1])
            if stop > start:
                yield start, stop

    def read(self, section: int, box: Box) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]:
        """Molecules of ``section`` inside ``box``: canvas ``y``, ``x`` and gene, each (n,), in store order.

        The box may stick out of the canvas, where there are none.

        Raises:
            GeometryError: where there is no such section.
            MissingShardError: where part of the table is missing.
        """
        self._check_section(section)
        parts: list[list[NDArray[Any]]] = []
        for start, stop in self.runs(section, box):
            y, x = self._column("y", start, stop), self._column("x", start, stop)
            keep = (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
            parts.append([y[keep], x[keep], self._column("gene", start, stop)[keep]])
        if not parts:
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint16)
        y, x, gene = (np.concatenate(column) for column in zip(*parts, strict=True))
        return y, x, gene

    def batches(
        self, section: int, rows: int = _SHARD
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]]:
        """All molecules of a section as ``read`` gives them, in store order, ``rows`` at a time."""
        self._check_section(section)
        offsets = self._offsets(section)
        end = int(offsets[-1])
        for start in range(int(offsets[0]), end, rows):
            stop = min(start + rows, end)
            yield (
                self._column("y", start, stop),
                self._column("x", start, stop),
                self._column("gene", start, stop),
            )

    def totals(self, section: int) -> NDArray[np.int64]:
        """Molecules of each gene in a section, (genes,), streamed."""
        self._check_section(section)
        offsets = self._offsets(section)
        genes = 0 if self._spec.panel is None else len(self._spec.panel)
        out = np.zeros(genes, np.int64)
        for start in range(int(offsets[0]), int(offsets[-1]), _SHARD):
            out += np.bincount(
                self._column("gene", start, min(start + _SHARD, int(offsets[-1]))), minlength=genes
            )
        return out

    def counts(
        self, section: int, box: Box, genes: Sequence[int] | NDArray[np.int64] | None = None
    ) -> NDArray[np.uint16]:
        """Molecules in 16-px bins from the box's own corner: (genes, height / 16, width / 16).

        Args:
            section: index along z.
            box: canvas pixels, any corner, sides multiples of 16; outside the canvas counts are zero.
            genes: panel indices to return, in this order (``Panel.positions``); all where None.

        Raises:
            GeometryError: where the sides are no multiples of 16 or there is no such section.
        """
        if box.height % BIN_PX or box.width % BIN_PX:
            raise GeometryError("box does not hold whole bins", None, f"sides of multiples of {BIN_PX}", box)
        total = 0 if self._spec.panel is None else len(self._spec.panel)
        chosen = np.arange(total) if genes is None else np.asarray(genes, dtype=np.int64)
        y, x, gene = self.read(section, box)
        return binned(y, x, gene, box, chosen, total)


def binned(
    y: NDArray[Any], x: NDArray[Any], gene: NDArray[Any], box: Box, chosen: NDArray[np.int64], total: int
) -> NDArray[np.uint16]:
    """Molecules inside ``box`` in 16-px bins from its corner: (chosen, height / 16, width / 16).

    Args:
        y: (n,) canvas pixels; what lies outside the box does not count.
        x: the same.
        gene: (n,) panel indices; genes that are not chosen do not count.
        box: sides multiples of 16.
        chosen: panel indices in the order wanted.
        total: genes of the panel.
    """
    rank = np.full(total, -1, np.int32)
    rank[chosen] = np.arange(len(chosen), dtype=np.int32)
    rows, columns = box.height // BIN_PX, box.width // BIN_PX
    # Below the corner the unsigned difference is huge: one comparison does for both edges.
    down, right = (v.astype(np.int32) - np.int32(edge) for v, edge in ((y, box.y0), (x, box.x0)))
    inside = (down.view(np.uint32) < box.height) & (right.view(np.uint32) < box.width)
    channel = rank[gene]
    keep = np.flatnonzero(inside & (channel >= 0))
    flat = (channel[keep].astype(np.int64) * rows + down[keep] // BIN_PX) * columns + right[keep] // BIN_PX
    counted = np.bincount(flat, minlength=len(chosen) * rows * columns)
    if counted.size and int(counted.max()) > np.iinfo(np.uint16).max:
        raise InputError("a bin holds too many molecules", str(box), "<= 65535", int(counted.max()))
    return counted.reshape(len(chosen), rows, columns).astype(np.uint16)
