"""Tools that damage a store: a key in it, and what is done to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from teramind_data.store import refresh_metadata
from tests.data.damage.table import Damage

MORPHOLOGY = "images/morphology/ome.zarr"
SHARD = f"{MORPHOLOGY}/0/c/0/1/0/0"
EXPRESSION = "images/expression/ome.zarr"
POINTS = "points/transcripts/points.parquet"
TABLE = "tables/sections"


def delete(key: str) -> Damage:
    def do(root: Path) -> None:
        path = root / key
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def replace(key: str, content: bytes) -> Damage:
    return lambda root: (root / key).write_bytes(content)


def cut(key: str, part: float) -> Damage:
    def do(root: Path) -> None:
        data = (root / key).read_bytes()
        (root / key).write_bytes(data[: int(len(data) * part)])

    return do


def flip(key: str, at: float) -> Damage:
    """One bit, at a part of the file's length (from the end where negative, in bytes)."""

    def do(root: Path) -> None:
        data = bytearray((root / key).read_bytes())
        position = int(len(data) * at) if at >= 0 else len(data) + int(at)
        data[position] ^= 4
        (root / key).write_bytes(data)

    return do


def swap(one: str, other: str) -> Damage:
    def do(root: Path) -> None:
        a, b = (root / one).read_bytes(), (root / other).read_bytes()
        (root / one).write_bytes(b)
        (root / other).write_bytes(a)

    return do


def node(key: str, change: Callable[[dict[str, Any]], Any], *, consolidate: bool = False) -> Damage:
    """Change the JSON of a ``zarr.json``; with ``consolidate`` also the root's copy, so that readers believe it."""

    def do(root: Path) -> None:
        path = root / key / "zarr.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
        if consolidate:
            refresh_metadata(str(root))

    return do


def block(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change the ``teramind`` block of the root."""
    return node("", lambda root: change(root["attributes"]["teramind"]))


def put(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value deep inside JSON."""

    def do(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = to

    return do


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Remove a value deep inside JSON."""

    def do(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    return do


def values(key: str, change: Callable[[np.ndarray], Any]) -> Damage:
    """Change values of an array through zarr, so that every checksum is right."""

    def do(root: Path) -> None:
        array = zarr.open_array(root / key, mode="r+")
        data = array[:]
        changed = change(data)
        array[:] = data if changed is None else changed

    return do


def frame(part: int, change: Callable[[Any], Any]) -> Damage:
    """Change a part of the points."""

    def do(root: Path) -> None:
        import pandas as pd

        path = root / POINTS / f"part.{part}.parquet"
        data = pd.read_parquet(path)
        changed = change(data)
        (data if changed is None else changed).to_parquet(path, index=False)

    return do


def table(change: Callable[[Any], Any]) -> Damage:
    """Change the table of sections through anndata."""

    def do(root: Path) -> None:
        import anndata

        group = zarr.open_group(root / "tables", mode="r+", zarr_format=3, use_consolidated=False)
        attributes = dict(group["sections"].attrs)
        data = anndata.io.read_elem(group["sections"])
        changed = change(data)
        anndata.io.write_elem(group, "sections", data if changed is None else changed)
        group["sections"].attrs.update(attributes)
        refresh_metadata(str(root))

    return do


def link(key: str, target: Callable[[Path], Path]) -> Damage:
    def do(root: Path) -> None:
        goal = target(root)
        if goal.parent == root.parent and (root / key).is_file():
            shutil.copy(root / key, goal)
        (root / key).unlink(missing_ok=True)
        (root / key).symlink_to(goal)

    return do


def new(key: str, content: bytes = b"x") -> Damage:
    def do(root: Path) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(content)

    return do


def some(index: Any, to: Any) -> Callable[[np.ndarray], None]:
    def do(data: np.ndarray) -> None:
        data[index] = to

    return do


def column(name: str, row: int, to: Any) -> Callable[[Any], None]:
    def do(data: Any) -> None:
        data.loc[row, name] = to

    return do


def input_of(**change: Any) -> Damage:
    item = {"path": "a.csv", "bytes": 10, "sha256": "0" * 64, **change}
    item = {key: value for key, value in item.items() if value is not None}
    return block(put("provenance", "inputs", to=[item]))


def empty_list(level: int, ranges: Any) -> Damage:
    return node(
        f"{MORPHOLOGY}/{level}", put("attributes", "teramind", "empty_shards", to=ranges), consolidate=True
    )
