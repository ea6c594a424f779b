"""Gene panels: read, clean, order, compare and fingerprint."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import MissingInputError, OutputExistsError, PanelError

__all__ = [
    "ALIASES",
    "Panel",
    "canonical",
    "intersect",
    "is_control",
    "read_names",
    "read_panel",
    "write_panel",
]

#: Names the vendor's panels use for genes that the mouse nomenclature has since renamed (lower case to current).
ALIASES: dict[str, str] = {
    "march4": "Marchf4",
    "mfsd4": "Mfsd4a",
    "fam19a1": "Tafa1",
    "fam19a2": "Tafa2",
    "tmem2": "Cemip2",
    "a830018l16rik": "Sbspon",
}

# Blank-1, blank_12 (MERSCOPE); NegControlProbe_00042, NegControlCodeword_0500, UnassignedCodeword_0012,
# antisense_..., BLANK_0006 (Xenium and others).
_CONTROL = re.compile(
    r"^(blank([-_ .]?\d+)?|(neg|negative)[-_ ]?(control|prb|probe).*|unassigned[-_ ]?codeword.*"
    r"|deprecated[-_ ]?codeword.*|antisense[-_].*|falsecode.*)$",
    re.IGNORECASE,
)


def is_control(name: str) -> bool:
    """Whether ``name`` is a blank barcode or a negative control rather than a gene."""
    return _CONTROL.match(name.strip()) is not None


def canonical(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """Key under which two spellings of a gene are the same: lower case, aliases resolved.

    Args:
        name: a gene's name in any case.
        aliases: other name to current name, any case; ``ALIASES`` where None.
    """
    table = ALIASES if aliases is None else {k.lower(): v for k, v in aliases.items()}
    key = name.strip().lower()
    return table.get(key, key).lower()


@dataclass(frozen=True)
class Panel:
    """Genes in a fixed order; the index of a gene here is its channel in arrays and its code in molecules.

    Raises PanelError where empty, where a name is blank, or where two names are the same gene.
    """

    genes: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(str(gene).strip() for gene in self.genes)
        object.__setattr__(self, "genes", names)
        if not names:
            raise PanelError("panel is empty", expected="at least one gene", remedy="Give a panel with genes")
        if "" in names:
            raise PanelError(
                "panel has a blank name", where=f"gene {names.index('') + 1}", remedy="Remove it"
            )
        index: dict[str, int] = {}
        for position, name in enumerate(names):
            key = canonical(name)
            if key in index:
                raise PanelError(
                    "panel names a gene twice",
                    where=f"gene {position + 1}",
                    found=f"{name} after {names[index[key]]}",
                    remedy="Keep one of them",
                )
            index[key] = position
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.genes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.genes)

    def __contains__(self, gene: object) -> bool:
        return isinstance(gene, str) and canonical(gene) in self._index

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the names joined by newlines: same genes in the same order, same fingerprint."""
        return hashlib.sha256("\n".join(self.genes).encode()).hexdigest()

    def positions(self, genes: Sequence[str] | Panel) -> NDArray[np.int64]:
        """Indices in this panel of ``genes``, in their order, shape (len(genes),).

        Names match case-insensitively and through the alias table.

        Raises:
            PanelError: naming the genes this panel lacks.
        """
        names = list(genes)
        missing = [name for name in names if canonical(name) not in self._index]
        if missing:
            shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
            raise PanelError(
                "genes are missing from the panel",
                expected=f"all {len(names)} genes asked for",
                found=f"{len(names) - len(missing)}; missing {shown}",
                remedy="Use a store that measured them, or a panel without them",
            )
        return np.array([self._index[canonical(name)] for name in names], dtype=np.int64)

    def lookup(self, aliases: Mapping[str, str] | None = None) -> dict[str, int]:
        """Canonical name to index, for matching many names (transcript files)."""
        return {canonical(name, aliases): position for position, name in enumerate(self.genes)}


def intersect(panels: Sequence[Panel], aliases: Mapping[str, str] | None = None) -> Panel:
    """Genes common to all panels, in the order (and spelling) of the first; ``aliases`` as in ``canonical``.

    Raises:
        PanelError: where no panel is given or nothing is common.
    """
    if not panels:
        raise PanelError("no panel to intersect", expected="at least one")
    others = [panel.lookup(aliases) for panel in panels[1:]]
    common = tuple(gene for gene in panels[0] if all(canonical(gene, aliases) in other for other in others))
    if not common:
        sizes = ", ".join(str(len(panel)) for panel in panels)
        raise PanelError(
            "panels have no gene in common",
            expected="at least one shared gene",
            found=f"panels of {sizes} genes sharing none",
            remedy="Check that the stores are of one species and that names are gene symbols",
        )
    return Panel(common)


@dataclass(frozen=True)
class Match:
    """How the names of a source fit a panel.

    found: panel's gene to the source's name. missing: the panel's genes that the source lacks. controls: blanks and
    negative controls of the source. extra: its other genes, not in the panel. doubled: names of a gene met before.
    """

    found: Mapping[str, str]
    missing: tuple[str, ...]
    controls: tuple[str, ...]
    extra: tuple[str, ...]
    doubled: tuple[str, ...]

    @property
    def by_case(self) -> Mapping[str, str]:
        """Those found under another case: panel's gene to the source's name."""
        return {g: n for g, n in self.found.items() if g != n and g.lower() == n.lower()}

    @property
    def by_alias(self) -> Mapping[str, str]:
        """Those found under another name."""
        return {g: n for g, n in self.found.items() if g.lower() != n.lower()}


def match(names: Sequence[str], panel: Panel, aliases: Mapping[str, str] | None = None) -> Match:
    """Fit the names of a source (controls included) to a panel; ``aliases`` as in ``canonical``."""
    wanted = {canonical(gene, aliases): gene for gene in panel}
    controls, extra, doubled = [], [], []
    found: dict[str, str] = {}
    met: set[str] = set()
    for name in (name.strip() for name in names):
        key = canonical(name, aliases)
        if not name or is_control(name):
            controls.append(name)
        elif key in met:
            doubled.append(name)
        elif key in wanted:
            found[wanted[key]] = name
        else:
            extra.append(name)
        met.add(key)
    return Match(
        {gene: found[gene] for gene in panel if gene in found},
        tuple(gene for gene in panel if gene not in found),
        tuple(controls),
        tuple(extra),
        tuple(doubled),
    )


def choose(
    own: Panel, wanted: Panel, aliases: Mapping[str, str] | None = None, *, allow_missing: bool = False
) -> tuple[Panel, tuple[str, ...]]:
    """The genes of ``wanted`` (in its order and spelling) that ``own`` has, and those it lacks.

    Lacking genes are left out, never filled with zeros that would read as measured.

    Raises:
        PanelError: where genes are lacking and ``allow_missing`` is not set, or where none is left.
    """
    fit = match(own.genes, wanted, aliases)
    if fit.missing and not (allow_missing and fit.found):
        raise PanelError(
            "brain lacks genes of the panel",
            expected=f"all {len(wanted)} genes asked for",
            found=f"{len(fit.found)}; missing {_shown(fit.missing)}",
            remedy="Take the common genes (teramind-data panel intersect), name aliases, or pass --allow-missing"
            if fit.found
            else "Check that both are of one species and that names are gene symbols",
        )
    return Panel(tuple(fit.found)), fit.missing


def _shown(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_aliases(path: str | os.PathLike[str]) -> dict[str, str]:
    """The alias table with a file's added: a CSV with columns ``alias`` and ``gene`` (current name).

    Raises:
        MissingInputError, PanelError: no such file, no such columns, a name with two genes, or a chain of names.
    """
    file = Path(path)
    rows = _rows(file)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "alias" not in header or "gene" not in header:
        raise PanelError(
            "alias table lacks columns",
            where=file,
            expected="alias, gene",
            found=", ".join(header) or "nothing",
            remedy="Name the columns alias (other name) and gene (current name)",
        )
    at, to = header.index("alias"), header.index("gene")
    own: dict[str, str] = {}
    for row in rows[1:]:
        alias, gene = (row[i].strip() if len(row) > i else "" for i in (at, to))
        if not alias or not gene:
            raise PanelError("alias table has an empty name", where=file, found=", ".join(row))
        if own.setdefault(alias.lower(), gene).lower() != gene.lower():
            raise PanelError("alias table gives a name two genes", where=file, found=alias)
    table = {**ALIASES, **own}
    chained = next(
        (name for name, gene in table.items() if table.get(gene.lower(), gene).lower() != gene.lower()), None
    )
    if chained is not None:
        raise PanelError(
            "alias table leads from name to name",
            where=file,
            found=f"{chained}, {table[chained]}, {table[table[chained].lower()]}",
            remedy="Give each alias the current name",
        )
    return table


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names in a panel file as they are, controls included: a CSV with a column ``gene``, or one name a line.

    ``#`` starts a comment line. Raises MissingInputError or PanelError as ``read_panel``.
    """
    file = Path(path)
    rows = _rows(file)
    if rows:
        header = [cell.strip().lower() for cell in rows[0]]
        if "gene" in header:
            column = header.index("gene")
            rows = [[row[column]] for row in rows[1:] if len(row) > column]
        elif len(header) > 1:
            raise PanelError(
                "panel has no gene column",
                where=file,
                expected="a column named 'gene'",
                found=", ".join(rows[0]),
                remedy="Name the column of gene symbols 'gene'",
            )
    return tuple(name for name in (row[0].strip() for row in rows) if name)


def _rows(file: Path) -> list[list[str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingInputError("panel not found", where=file, remedy="Check the path") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise PanelError("panel is not a text file", where=file, expected="CSV or one gene a line") from None
    try:
        return [row for row in csv.reader(text.splitlines()) if row and not row[0].lstrip().startswith("#")]
    except csv.Error as error:
        raise PanelError("panel is not a text file", where=file, expected="CSV", found=error) from None


def read_panel(path: str | os.PathLike[str]) -> Panel:
    """Read a panel: a CSV with a column ``gene``, or plain text with one gene a line (``#`` starts a comment).

    Controls (blanks) are dropped.

    Raises:
        MissingInputError: where there is no such file.
        PanelError: where it is not readable as text or holds no panel.
    """
    file = Path(path)
    names = read_names(file)
    try:
        return Panel(tuple(name for name in names if not is_control(name)))
    except PanelError as error:
        raise PanelError(error.what, where=file, found=error.found, remedy=error.remedy) from None


def write_panel(path: str | os.PathLike[str], panel: Panel, *, overwrite: bool = False) -> None:
    """Write a panel as a CSV with header ``gene``, whole or not at all.

    Raises:
        OutputExistsError: where the file exists and ``overwrite`` is not set.
    """
    file = Path(path)
    if file.exists() and not overwrite:
        raise OutputExistsError("output exists", where=file, remedy="Choose another name or pass --overwrite")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["gene"])
            writer.writerows([gene] for gene in panel)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
