"""`teramind-eval compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

_HELP = """Lay the reports of many runs side by side: one table, one plot, one page.

REPORT is a folder of `teramind-eval report`, LABEL=REPORT, or a folder of `teramind-model experiment` or `ablate`,
which stands for every report in it. Runs that differ in one number of their making (Z, P, steps, channels, crops)
become a curve along it; the others become bars.

Example:

  teramind-eval compare full=run1/report small=run2/report --out comparison
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(help=_HELP)
    def compare(
        reports: Annotated[list[str], typer.Argument(help="Reports to compare.", metavar="REPORT...")],
        out: Annotated[
            Path, typer.Option(help="Folder to write; written whole or not at all.", metavar="DIR")
        ],
        baseline: Annotated[
            Optional[str],  # noqa: UP045 - typer reads it at run time
            typer.Option(help="Run that arrows tell from (the first over each brain).", metavar="LABEL"),
        ] = None,
        measure: Annotated[
            Optional[list[str]],  # noqa: UP045
            typer.Option(
                help="A column, as named in metrics.parquet; may be repeated.", metavar="NAME[:STAIN]"
            ),
        ] = None,
        axis: Annotated[
            str,
            typer.Option(
                help="Curves along z, patch, steps, channels or crops alone; auto: any; none: bars."
            ),
        ] = "auto",
        controls: Annotated[
            bool, typer.Option("--controls", help="Show the reports' controls as rows too.")
        ] = False,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace an earlier comparison.")
        ] = False,
    ) -> None:
        from teramind_eval.compare.build import Request, write_comparison

        request = Request(tuple(reports), out, baseline, tuple(measure or ()), axis, controls, overwrite)
        page, made = write_comparison(request)
        if not made:
            typer.echo(f"{page.parent}: up to date, nothing to do", err=True)
        typer.echo(page)
