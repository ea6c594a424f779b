"""Images and label images: both flavours of metadata, arrays, shards, and (deep) every value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from teramind_data.errors import TeramindError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, Location
from teramind_data.store.journal import empty_shards, in_ranges
from teramind_data.store.layout import ImageLayout, Level
from teramind_data.store.metadata import spatialdata_attributes, strict_attributes
from teramind_data.store.pyramid import halve
from teramind_data.validate.finding import READ_ERRORS, Finding, describe, difference

__all__ = ["check_expression", "check_image", "check_values"]

_META = "Restore its zarr.json from a copy, or write the store again"


def check_image(location: Location, layout: ImageLayout) -> Iterator[Finding]:
    """Metadata and shards of one image; reads no pixels."""
    for group, expected in (
        (layout.image.path, spatialdata_attributes(layout)),
        (layout.array_group, strict_attributes(layout)),
    ):
        node = _json(location, f"{group}/zarr.json")
        if isinstance(node, Finding):
            yield node
            continue
        attributes = node.get("attributes", {})
        # Others may add attributes of their own; what we wrote must be as it was.
        ours = {key: attributes[key] for key in expected if key in attributes}
        found = difference(json.loads(json.dumps(expected)), ours)
        if found:
            yield Finding(f"{group}/zarr.json", found, _META)
    for level in layout.levels:
        node = _json(location, f"{layout.array_path(level.index)}/zarr.json")
        if isinstance(node, Finding):
            yield node
            continue
        problems = list(_array(layout, level, node))
        yield from problems
        if not problems:
            yield from _shards(location, layout, level, node)


def _json(location: Location, key: str) -> dict[str, Any] | Finding:
    raw = location.read(key)
    if raw is None:
        return Finding(key, "is missing")
    try:
        node = json.loads(raw)
    except ValueError as error:
        return Finding(key, f"no JSON: {describe(error)}")
    return node if isinstance(node, dict) else Finding(key, "no JSON object")


def _array(layout: ImageLayout, level: Level, node: dict[str, Any]) -> Iterator[Finding]:
    """An array's metadata against what the layout says."""
    key = f"{layout.array_path(level.index)}/zarr.json"
    try:
        codecs = node["codecs"][0]
        shard, chunk = node["chunk_grid"]["configuration"], codecs["configuration"]
        names = [codec["name"] for codec in chunk["codecs"]]
        found = {
            "shape": node["shape"],
            "data_type": node["data_type"],
            "fill_value": node["fill_value"],
            "shard": shard["chunk_shape"],
            "chunk": chunk["chunk_shape"],
            "dimension_names": node.get("dimension_names"),
            "checksum": "crc32c" in names and "crc32c" in [c["name"] for c in chunk["index_codecs"]],
        }
        empty_shards(node.get("attributes", {}))
    except READ_ERRORS as error:
        yield Finding(key, f"array metadata is damaged: {describe(error)}", _META)
        return
    expected = {
        "shape": list(layout.array_shape(level)),
        "data_type": level.dtype,
        "fill_value": 0,
        "shard": list(layout.block_shape(level.shard)),
        "chunk": list(layout.block_shape(level.chunk)),
        "dimension_names": list("zyx" if layout.image.labels else "czyx"),
        "checksum": True,
    }
    problem = difference(expected, found)
    if problem:
        yield Finding(key, problem, _META)


def _shards(location: Location, layout: ImageLayout, level: Level, node: dict[str, Any]) -> Iterator[Finding]:
    """Every shard is stored or listed as empty, and nothing else lies there."""
    prefix = f"{layout.array_path(level.index)}/c"
    stored = location.keys(prefix)
    listed = empty_shards(node.get("attributes", {}))
    rows, columns = level.grid
    # 16 bytes a chunk and a checksum; a shard without any chunk is listed and not stored.
    shortest = 16 * (level.shard // level.chunk) ** 2 + 4
    total = layout.brain.n_sections * rows * columns
    for first, last in listed:
        if not 0 <= first <= last < total:
            yield Finding(
                layout.array_path(level.index),
                f"list of empty shards is damaged: {first}..{last} of {total}",
                _META,
            )
    for z in range(layout.brain.n_sections):
        for iy in range(rows):
            for ix in range(columns):
                key = layout.chunk_key(level.index, z, iy, ix)
                name = key.removeprefix(f"{prefix}/")
                empty = in_ranges(listed, layout.linear(level.index, z, iy, ix))
                if name not in stored and not empty:
                    yield Finding(key, "shard is missing and not listed as empty")
                elif name in stored and empty:
                    yield Finding(key, "shard is stored but listed as empty", "Delete the one that is wrong")
                elif name in stored and (size := location.size(key)) <= shortest:
                    # Worth its own check: zarr reads an object of no bytes as zeros.
                    yield Finding(key, f"shard is cut: {size} bytes, but its index alone takes {shortest}")
                stored.discard(name)
    for name in sorted(stored):
        yield Finding(f"{prefix}/{name}", "is no shard of this array", "Delete it")


def check_values(brain: Brain, layout: ImageLayout) -> Iterator[Finding]:
    """Deep: every chunk with its checksum, values that make sense, and each level against the one below."""
    name = layout.image.name
    for level in layout.levels:
        for z in range(brain.n_sections):
            for iy in range(level.grid[0]):
                for ix in range(level.grid[1]):
                    key = layout.chunk_key(level.index, z, iy, ix)
                    try:
                        yield from _shard_values(brain, layout, level, (z, iy, ix))
                    except TeramindError as error:
                        if not _is_missing_shard(error):
                            yield Finding(key, str(error))
                    except READ_ERRORS as error:
                        yield Finding(
                            key, f"{name} cannot be read here, the shard is damaged: {describe(error)}"
                        )


def _is_missing_shard(error: TeramindError) -> bool:
    """Whether it is one that the shallow checks have told of already."""
    from teramind_data.errors import MissingShardError

    return isinstance(error, MissingShardError)


def _shard_values(
    brain: Brain, layout: ImageLayout, level: Level, at: tuple[int, int, int]
) -> Iterator[Finding]:
    z, iy, ix = at
    name, box = layout.image.name, level.shard_box(iy, ix)
    key = layout.chunk_key(level.index, z, iy, ix)
    values = brain.read(name, z, box, level=level.index)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        yield Finding(key, "holds values that are no numbers")
    if name == "regions" and level.index == 0:
        unknown = sorted({int(v) for v in np.unique(values)} - {0} - set(brain.region_names))
        if unknown:
            yield Finding(key, f"regions without a name: {unknown[:5]}", "Give the names in region_names")
    if level.index:
        below = layout.levels[level.index - 1]
        source = Box(2 * box.y0, min(2 * box.y1, below.shape[0]), 2 * box.x0, min(2 * box.x1, below.shape[1]))
        made = halve(brain.read(name, z, source, level=below.index), layout.image.reduce, level.dtype)
        if not np.array_equal(made, values):
            number = int(np.count_nonzero(made != values))
            yield Finding(
                key, f"level {level.index} is not made from level {below.index}: {number} values differ"
            )


def check_expression(brain: Brain) -> Iterator[Finding]:
    """Deep: the bins of ``expression`` against the molecules, a shard at a time."""
    layout = brain.layout("expression")
    level = layout.levels[0]
    for z in range(brain.n_sections):
        for iy in range(level.grid[0]):
            for ix in range(level.grid[1]):
                box = level.shard_box(iy, ix)
                try:
                    bins = brain.read("expression", z, box)
                    counted = brain.molecules.counts(z, box.refine(BIN_PX))
                except (*READ_ERRORS, TeramindError):
                    # Told of by the checks of either.
                    continue
                if not np.array_equal(bins, counted):
                    number = int(np.count_nonzero(bins != counted))
                    yield Finding(
                        layout.chunk_key(0, z, iy, ix),
                        f"counts differ from the molecules in {number} bins",
                        "Ingest again: one of the two is not what was measured",
                    )
