"""`teramind-data qc`: the quality of a store's sections, as a table and a picture sheet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from teramind_data.store import Brain

EXAMPLE = """The quality of a store's sections: what stands out, as a table, a picture sheet, a CSV.

Transcripts in tissue, density, intensity, focus, coverage, and how each section lies against its neighbours.
Stores that do not keep these numbers (generated, imported, or of an earlier version) are measured now.

Examples:

  teramind-data qc demo/A.zarr

  teramind-data qc demo/A.zarr --out A-qc.png --csv A-qc.csv
"""


def qc(
    store: Annotated[str, typer.Argument(help="A store (path or URL).")],
    out: Annotated[Path | None, typer.Option("--out", help="Picture sheet to write (PNG).")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Table to write, with every number.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure now, even where the store keeps its numbers.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.qc.table import to_csv, to_text
    from teramind_data.store import open_brain

    for file in (out, csv):
        if file is not None:
            _check_output(file, overwrite)
    brain = open_brain(store)
    numbers = _numbers(store, brain, measure)
    for line in to_text(brain, numbers):
        print(line)
    if csv is not None:
        _write(csv, to_csv(brain, numbers))
    if out is not None:
        from teramind_data.qc.sheet import sheet

        title = f"{Path(store.rstrip('/')).name}: quality of {brain.kind} sections"
        _write(out, sheet(brain, numbers, title))


def _numbers(store: str, brain: Brain, again: bool) -> list[dict[str, Any]]:
    from teramind_data.console import progress
    from teramind_data.qc import measure_brain, stored

    kept = None if again else stored(brain)
    if kept is not None:
        return kept
    if not again:
        print(f"note: {store} does not keep these numbers; measured now", file=sys.stderr)
    with progress(brain.n_sections, "quality", "sections") as advance:
        return measure_brain(brain, advance)


def _check_output(file: Path, overwrite: bool) -> None:
    from teramind_data.errors import InputError, OutputExistsError

    if file.exists() and not overwrite:
        raise OutputExistsError("output exists", where=file, remedy="Pass --overwrite to replace it")
    if not file.parent.is_dir():
        raise InputError("folder of the output does not exist", file.parent, remedy="Make it first")


def _write(file: Path, content: bytes) -> None:
    from teramind_data.store import Location

    Location(file.parent).write(file.name, content)
    print(f"{file}: written")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("qc", help=EXAMPLE)(qc)
