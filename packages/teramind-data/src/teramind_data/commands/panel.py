"""`teramind-data panel`: what genes there are, which are common, whether a panel fits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHOW = """Show a panel: its genes in order and its fingerprint.

Example:

  teramind-data panel show demo/A.zarr
"""
INTERSECT = """Genes common to stores and panel files, in the order of the first.

Example:

  teramind-data panel intersect demo/A.zarr demo/B.zarr extra.csv --out shared.csv
"""
CHECK = """Check that a store or panel file has all genes of a panel; exit code 2 naming those it lacks.

Example:

  teramind-data panel check demo/C.zarr --panel shared.csv
"""


def show(source: Annotated[str, typer.Argument(help="A store, or a CSV with a column gene.")]) -> None:
    """Run the command (its help is `SHOW`)."""
    from teramind_data.ingest.plan import load_panel

    panel = load_panel(source)
    print("\n".join(panel))
    typer.echo(f"{source}: {len(panel)} genes, fingerprint {panel.fingerprint[:16]}", err=True)


def intersect(
    sources: Annotated[list[str], typer.Argument(help="Stores and CSVs.")],
    out: Annotated[Path | None, typer.Option(help="CSV to write; else the genes are printed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Run the command (its help is `INTERSECT`)."""
    from teramind_data.ingest.plan import load_panel
    from teramind_data.panel import intersect as common
    from teramind_data.panel import write_panel

    panels = [load_panel(source) for source in sources]
    panel = common(panels)
    if out is None:
        print("\n".join(panel))
    else:
        write_panel(out, panel, overwrite=overwrite)
    for source, one in zip(sources, panels, strict=True):
        typer.echo(f"{source}: {len(one)} genes, {len(one) - len(panel)} not common", err=True)
    typer.echo(f"{'common' if out is None else out}: {len(panel)} genes", err=True)


def check(
    source: Annotated[str, typer.Argument(help="A store or CSV.")],
    panel: Annotated[str, typer.Option(help="The panel it must have: a CSV or store.")],
) -> None:
    """Run the command (its help is `CHECK`)."""
    from teramind_data.errors import PanelError
    from teramind_data.ingest.plan import load_panel

    has, needs = load_panel(source), load_panel(panel)
    try:
        has.positions(needs)
    except PanelError as error:
        raise PanelError(error.what, source, error.expected, error.found, error.remedy) from None
    print(f"{source}: has all {len(needs)} genes of {panel} (and {len(has) - len(needs)} more)")


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Gene panels: show, intersect, check."
    )
    group.command("show", help=SHOW)(show)
    group.command("intersect", help=INTERSECT)(intersect)
    group.command("check", help=CHECK)(check)
    app.add_typer(group, name="panel")
