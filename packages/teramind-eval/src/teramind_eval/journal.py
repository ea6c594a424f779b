"""What was measured already, on disk: sums of finished sections, so that a report that was stopped goes on.

A value is a tree of dataclasses, mappings, tuples, numbers, texts and arrays, and is read back by the types that its
dataclasses declare; nothing is pickled. Numbers come back bit by bit. A file is written under another name, synced and
renamed; one that is damaged, or of another version, counts as not there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import types
import typing
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

_TREE = "tree"


def pack(value: Any, arrays: Arrays) -> Any:
    """`value` as plain JSON; its arrays go into `arrays` and are named in their place."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: pack(getattr(value, one.name), arrays) for one in fields(value)}
    if isinstance(value, Mapping):
        return [[key, pack(item, arrays)] for key, item in value.items()]
    if isinstance(value, tuple | list):
        return [pack(item, arrays) for item in value]
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return name
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a journal holds no {type(value).__name__}")


def unpack(kind: Any, value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `pack` was given, where `kind` is its type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if (alias := origin or kind) and hasattr(alias, "__value__"):
        # A name for a type, as numpy's NDArray is one since 2.5: what it names says what the value is.
        origin = typing.get_origin(alias.__value__)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: unpack(hints[name], item, arrays) for name, item in value.items()})
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (some,) = (one for one in inner if one is not type(None))
        return unpack(some, value, arrays)
    if origin in (dict, Mapping):
        return {key: unpack(inner[1], item, arrays) for key, item in value}
    if origin is tuple:
        of_item = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(unpack(one, item, arrays) for one, item in zip(of_item, value, strict=True))
    if origin is list:
        return [unpack(inner[0], item, arrays) for item in value]
    if origin is np.ndarray:
        return arrays[value]
    return float(value) if kind is float else value


@dataclass(frozen=True, slots=True)
class Journal:
    """A folder of values by name."""

    folder: Path

    def write(self, name: str, value: Any, *, compressed: bool = False) -> None:
        """Keep a value under a name, whole or not at all; compressed where its arrays are mostly zeros."""
        arrays: Arrays = {}
        tree = json.dumps(pack(value, arrays))
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.partial"
        with draft.open("wb") as file:
            (np.savez_compressed if compressed else np.savez)(file, **{_TREE: np.array(tree)}, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path(name))

    def read(self, name: str, kind: Any) -> Any | None:
        """The value of a name and type; None where it is not there, or damaged."""
        try:
            with np.load(self._path(name), allow_pickle=False) as held:
                arrays = {key: held[key] for key in held.files}
            return unpack(kind, json.loads(str(arrays[_TREE])), arrays)
        except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile):
            return None

    def has(self, name: str) -> bool:
        """Whether a file of that name is there."""
        return self._path(name).is_file()

    def drop(self, name: str) -> None:
        """Forget a value."""
        self._path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """What is kept, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.npz")) if self.folder.is_dir() else []

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def clear(folder: Path, keep: str | None = None) -> None:
    """Remove the journals in a folder but the one called `keep`, and the folder with them where none is left."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()
