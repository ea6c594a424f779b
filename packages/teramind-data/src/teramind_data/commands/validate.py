"""`teramind-data validate`: whether a store is whole."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLE = """Check a store: structure, completeness, metadata, panel, provenance, OME-Zarr 0.5 and SpatialData.

Each finding is one line, element, problem and remedy; exit code 2 where there is any. --deep reads every value:
checksums, pyramid levels against each other, bins, points and table against the molecules.

Examples:

  teramind-data validate demo/A.zarr

  teramind-data validate demo/A.zarr --deep
"""


def validate(
    store: Annotated[str, typer.Argument(help="A store (path or URL).")],
    deep: Annotated[bool, typer.Option("--deep", help="Read and check every value.")] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.console import progress
    from teramind_data.validate import skipped
    from teramind_data.validate import validate as check

    with progress(None, "validate", "elements") as advance:
        findings = check(store, deep=deep, advance=advance)
    for text in skipped():
        typer.echo(text, err=True)
    for finding in findings:
        print(finding)
    if findings:
        typer.echo(f"{store}: {len(findings)} finding{'s' if len(findings) > 1 else ''}", err=True)
        raise typer.Exit(2)
    print(f"{store}: sound{'' if deep else ' (checksums and values were not read: --deep)'}")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("validate", help=EXAMPLE)(validate)
