"""The command line ``teramind-data``: raw sections to atlas stores, panels, phantoms."""

from __future__ import annotations

import sys

import typer

from teramind_data.commands import (
    export,
    fetch,
    import_images,
    import_tiles,
    info,
    ingest,
    manifest,
    panel,
    phantom,
    qc,
    validate,
    view,
)
from teramind_data.console import run_cli

app = typer.Typer(
    name="teramind-data",
    help="Raw sections to atlas stores: phantoms, manifests, ingest, panels, export. Add --debug for tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for _command in (
    fetch,
    phantom,
    manifest,
    ingest,
    panel,
    info,
    qc,
    export,
    import_tiles,
    import_images,
    validate,
    view,
):
    _command.register(app)


def main() -> None:
    """Entry point."""
    sys.exit(run_cli(app))


if __name__ == "__main__":
    main()
