"""Names of regions: a CSV or an ontology as atlases ship it, and the compact labels that a store keeps instead of ids.

Atlas ids need not fit the uint16 of ``labels/regions`` (those of the Allen CCF go up to 6e8), so a store has labels
of its own where they do not, and says which id and acronym each stands for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError

LARGEST_LABEL = 65535
LARGEST_ID = 2**32 - 1
_MAX_BYTES = 256 << 20  # the CCF's whole ontology is below one MiB


@dataclass(frozen=True)
class Structure:
    """One region of an annotation: its id there, its name, and its acronym where there is one."""

    id: int
    name: str
    acronym: str = ""


def read_structures(table: Path | None) -> dict[int, Structure]:
    """Regions by id; empty without a file.

    A CSV with columns ``id`` and ``name``, and ``acronym`` where there is one (the Allen CCF's structure tables and
    BrainGlobe's ``structures.csv`` have these); or JSON: the Allen API's structure graph (``msg`` with nested
    ``children``) or a flat list of such objects. Other columns and keys are left alone.

    Raises:
        InputError: not readable so, or an id twice; names the file.
    """
    if table is None:
        return {}
    try:
        if table.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{table.stat().st_size:,} bytes")
        text = table.read_text(encoding="utf-8-sig")
        rows = _graph(json.loads(text)) if table.suffix.lower() == ".json" else _rows(text)
        found: dict[int, Structure] = {}
        for row in rows:
            structure = _structure(row)
            if structure.id in found:
                raise ValueError(f"id {structure.id} twice")
            found[structure.id] = structure
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        raise InputError(
            "region names are not readable",
            where=table,
            expected="columns id (a whole number) and name, or a structure graph as JSON",
            found=f"no {error}" if isinstance(error, KeyError) else error,
            remedy="Write a CSV with these columns",
        ) from error
    return found


def _rows(text: str) -> Iterable[Mapping[str, Any]]:
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        yield {str(key).strip().lower(): value for key, value in row.items() if key is not None}


def _graph(node: Any) -> Iterable[Mapping[str, Any]]:
    """All structures of a graph, parents first."""
    if isinstance(node, dict) and "msg" in node:
        node = node["msg"]
    waiting = list(reversed(node)) if isinstance(node, list) else [node]
    while waiting:
        item = waiting.pop()
        yield item
        waiting.extend(reversed(item.get("children") or []))


def _structure(row: Mapping[str, Any]) -> Structure:
    number = int(row["id"])
    if not 0 <= number <= LARGEST_ID:
        raise ValueError(f"id {number}")
    return Structure(number, str(row["name"]).strip(), str(row.get("acronym") or "").strip())


@dataclass(frozen=True)
class Legend:
    """Which label of the store stands for which id.

    ids: those that occur, rising. labels: theirs, uint16. structures: by label. nameless: ids that the table lacks.
    """

    ids: NDArray[np.uint32]
    labels: NDArray[np.uint16]
    structures: Mapping[int, Structure]
    nameless: tuple[int, ...]

    @property
    def names(self) -> dict[int, str]:
        """Names by label."""
        return {label: structure.name for label, structure in self.structures.items()}

    def attributes(self) -> dict[str, Any]:
        """What ``labels/regions`` says of itself beside the names: id and acronym of each label."""
        return {
            "structures": [
                {"label": label, "id": own.id, "acronym": own.acronym, "name": own.name}
                for label, own in self.structures.items()
            ]
        }

    def encode(self, ids: NDArray[Any]) -> NDArray[np.uint16]:
        """Labels of ids, all of which occur."""
        return self.labels[np.searchsorted(self.ids, ids)]


def make_legend(table: Mapping[int, Structure], present: Iterable[int], where: object) -> Legend:
    """Labels for the ids that occur.

    0 is nothing and stays 0. Ids are the labels where all of them fit; otherwise the table's are numbered 1, 2, ... in
    the order of their ids, so that brains with one table agree whatever part of it they show. Ids that the table
    lacks come after it and are called by their number.

    Raises:
        InputError: more regions than labels; names ``where``.
    """
    ids = sorted({*present})
    unknown = [number for number in ids if number not in table and number != 0]
    same = max([*table, *ids], default=0) <= LARGEST_LABEL
    if same:
        label_of = {number: number for number in [*table, *ids]}
    else:
        ordered = [0, *(number for number in sorted(table) if number != 0), *unknown]
        label_of = {number: label for label, number in enumerate(ordered)}
    if max(label_of.values(), default=0) > LARGEST_LABEL:
        raise InputError(
            "annotation has too many regions",
            where=where,
            expected=f"at most {LARGEST_LABEL}",
            found=len(label_of),
        )
    # A table of modest size is kept whole, as it was given; of a whole ontology only what occurs.
    kept = sorted(table) if len(table) <= 256 else [number for number in ids if number in table]
    structures = {label_of[number]: table[number] for number in kept}
    if table or not same:
        for number in unknown:
            structures[label_of[number]] = Structure(number, f"region {number}")
    return Legend(
        np.array(ids, np.uint32),
        np.array([label_of[number] for number in ids], np.uint16),
        dict(sorted(structures.items())),
        tuple(unknown) if table else (),
    )


def as_ids(values: NDArray[Any], where: object) -> NDArray[np.uint32]:
    """Labels as ids; InputError where one is negative, too large or no whole number."""
    low, high = values.min(initial=0), values.max(initial=0)
    # Not what is in range, so that no number (NaN) is refused too.
    if not (low >= 0 and high <= LARGEST_ID):
        raise InputError(
            "annotation has labels out of range", where, f"0 .. {LARGEST_ID}", f"{low:g} .. {high:g}"
        )
    ids = values.astype(np.uint32)
    if values.dtype.kind == "f" and not np.array_equal(ids, values):
        raise InputError(
            "annotation has labels that are no whole numbers", where, remedy="Save it as integers"
        )
    return ids
