"""Pathways from files: YAML, CSV (or TSV) and GMT."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from teramind_data.errors import InputError, MissingInputError
from teramind_model.pathways import Pathway

__all__ = ["read_pathways"]

_HEADERS = {"name", "pathway", "gene_set"}

Row = tuple[str, str, int]
"""Pathway, gene, line."""


def read_pathways(path: str | Path) -> tuple[Pathway, ...]:
    """The pathways of a file, in its order.

    - ``*.yaml``, ``*.yml``: a mapping of names to lists of genes (or to one string with commas).
    - ``*.csv``, ``*.tsv``: a name, then its genes in further cells, or in one cell separated by ``;`` or spaces; lines
      of one name belong together, so one gene a line will do too. A first line that begins with ``name``,
      ``pathway`` or ``gene_set`` is a header.
    - ``*.gmt``: a name, a description, then genes, separated by tabs (as gene set collections are published).

    Raises:
        MissingInputError: where there is no such file.
        InputError: naming file, line and gene of what cannot be used.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingInputError("pathways file not found", where=file, remedy="Check the path")
    readers = {".yaml": _yaml, ".yml": _yaml, ".csv": _cells, ".tsv": _cells, ".gmt": _gmt}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InputError(
            "pathways file has an unknown format", file, ", ".join(readers), file.suffix or "no suffix"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("pathways file is not text", file, "UTF-8", f"byte {error.start}") from None
    grouped: dict[str, list[tuple[str, str]]] = {}
    for name, gene, line in reader(text, file):
        where = f"{file} line {line}"
        genes = grouped.setdefault(name, [])
        if gene.lower() in (known.lower() for known, _ in genes):
            raise InputError("pathway names a gene twice", f"{where}, pathway {name}", found=gene)
        genes.append((gene, where))
    if not grouped:
        raise InputError("pathways file names no pathway", where=file, expected="names with genes")
    return tuple(
        Pathway(name, tuple(gene for gene, _ in genes), tuple(where for _, where in genes))
        for name, genes in grouped.items()
    )


def _cells(text: str, file: Path) -> Iterator[Row]:
    reader = csv.reader(text.splitlines(), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    for cells in reader:
        line = reader.line_num
        name, *rest = (cell.strip() for cell in cells) if cells else ("",)
        if not any(cells) or name.startswith("#") or (line == 1 and name.lower() in _HEADERS):
            continue
        yield from _rows(name, [gene for cell in rest for gene in re.split(r"[;\s]+", cell)], line, file)


def _gmt(text: str, file: Path) -> Iterator[Row]:
    for line, row in enumerate(text.splitlines(), 1):
        if row.strip():
            name, _, *genes = [cell.strip() for cell in row.split("\t")] if "\t" in row else [row.strip(), ""]
            yield from _rows(name, genes, line, file)


def _rows(name: str, genes: list[str], line: int, file: Path) -> Iterator[Row]:
    kept = [gene for gene in genes if gene]
    if not name or not kept:
        what = "a name" if not name else f"genes of {name}"
        raise InputError(
            "line of pathways cannot be read", f"{file} line {line}", "a name and genes", f"no {what}"
        )
    for gene in kept:
        yield name, gene, line


def _yaml(text: str, file: Path) -> Iterator[Row]:
    import yaml

    def refuse(node: yaml.Node, expected: str) -> InputError:
        where = f"{file} line {node.start_mark.line + 1}"
        return InputError("pathways cannot be read", where, expected, f"a {node.id}")

    try:
        # Nodes, not values: they know their lines, and a gene called No or 1e5 stays as it is written.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError("pathways file is no YAML", f"{file}{line}", found=problem) from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise refuse(root, "a mapping of names to lists of genes")
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise refuse(key, "a name")
        if isinstance(value, yaml.ScalarNode):
            genes = [part.strip() for part in value.value.split(",")]
            yield from _rows(key.value, genes, value.start_mark.line + 1, file)
            continue
        if not isinstance(value, yaml.SequenceNode):
            raise refuse(value, f"a list of genes of {key.value}")
        if not value.value:
            _ = list(_rows(key.value, [], value.start_mark.line + 1, file))
        for item in value.value:
            if not isinstance(item, yaml.ScalarNode):
                raise refuse(item, f"a gene of {key.value}")
            yield from _rows(key.value, [item.value.strip()], item.start_mark.line + 1, file)
