"""Which shards are written, and which of them are empty on purpose.

While a store is being written, one small object a level-0 shard lies under ``.journal/``: it is put there after the
shard and its pyramid, so what has one is done, and it names the levels at which the shard held only zeros and was
therefore not stored. When the store is finished the empty shards go into their array's attributes as ranges of
row-major shard numbers, and the journal is removed. A shard that is absent and in neither place is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from teramind_data.errors import StoreError
from teramind_data.store.layout import ImageLayout
from teramind_data.store.location import Location

__all__ = ["JOURNAL", "Journal", "empty_shards", "in_ranges", "store_empty_shards", "to_ranges"]

#: Folder of the journal in a store.
JOURNAL = ".journal"

Ranges = tuple[tuple[int, int], ...]


def to_ranges(numbers: Iterable[int]) -> Ranges:
    """Sorted inclusive ranges covering exactly ``numbers``."""
    out: list[list[int]] = []
    for number in sorted(set(numbers)):
        if out and number == out[-1][1] + 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return tuple((first, last) for first, last in out)


def in_ranges(ranges: Ranges, number: int) -> bool:
    """Whether ``number`` lies in one of the ranges."""
    return any(first <= number <= last for first, last in ranges)


class Journal:
    """The journal of one image."""

    def __init__(self, location: Location, layout: ImageLayout) -> None:
        self.location = location
        self.layout = layout
        self.prefix = f"{JOURNAL}/{layout.image.path}"

    def mark(self, z: int, iy: int, ix: int, empty_levels: Iterable[int]) -> None:
        """Record that a shard is written at all online levels, and at which it was empty."""
        entry = {"empty": sorted(empty_levels)}
        self.location.write(f"{self.prefix}/{z}.{iy}.{ix}", json.dumps(entry).encode())

    def done(self) -> set[tuple[int, int, int]]:
        """``(z, iy, ix)`` of every shard written so far."""
        found = set()
        for name in self.location.children(self.prefix):
            parts = name.split(".")
            if len(parts) == 3 and all(part.isdigit() for part in parts):
                found.add((int(parts[0]), int(parts[1]), int(parts[2])))
        return found

    def empties(self) -> dict[int, set[int]]:
        """Level to the row-major numbers of its empty shards, from all entries."""
        out: dict[int, set[int]] = {}
        for z, iy, ix in self.done():
            raw = self.location.read(f"{self.prefix}/{z}.{iy}.{ix}")
            for level in json.loads(raw or b"{}").get("empty", []):
                out.setdefault(level, set()).add(self.layout.linear(level, z, iy, ix))
        return out

    def clear(self) -> None:
        """Forget everything."""
        self.location.delete_tree(self.prefix)


def _array_json(location: Location, layout: ImageLayout, level: int) -> dict[str, Any]:
    key = f"{layout.array_path(level)}/zarr.json"
    raw = location.read(key)
    if raw is None:
        raise StoreError(
            "array is missing from the store", where=f"{location}/{key}", remedy="Write the store again"
        )
    data: dict[str, Any] = json.loads(raw)
    return data


def store_empty_shards(location: Location, layout: ImageLayout, level: int, numbers: Iterable[int]) -> None:
    """Put the final list of a level's empty shards into its array's attributes."""
    data = _array_json(location, layout, level)
    ranges = [list(pair) for pair in to_ranges(numbers)]
    data["attributes"] = {**data.get("attributes", {}), "teramind": {"empty_shards": ranges}}
    location.write(f"{layout.array_path(level)}/zarr.json", json.dumps(data).encode())


def empty_shards(attributes: dict[str, Any]) -> Ranges:
    """The list from an array's attributes; nothing listed means nothing is empty."""
    block = attributes.get("teramind", {})
    return tuple((int(a), int(b)) for a, b in block.get("empty_shards", []))
