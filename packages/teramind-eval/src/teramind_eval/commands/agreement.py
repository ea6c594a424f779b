"""`teramind-eval agreement`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

_HELP = """Do the attention maps of two brains agree? Rank correlations over the regions that both reports have.

The brains need no common canvas, only regions of the same names. `attention` is of the regions' mean log2 attention,
in which brains of like expression agree by construction; `beyond uniform` of what is left of it, in octaves.

Example:

  teramind-eval agreement report-male report-female --out agreement.parquet
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(help=_HELP)
    def agreement(
        first: Annotated[Path, typer.Argument(help="Report of one brain.", metavar="REPORT")],
        second: Annotated[Path, typer.Argument(help="Report of the other.", metavar="REPORT")],
        stores: Annotated[
            str,
            typer.Option(help="Labels of the stores in the first report and in the second.", metavar="A,B"),
        ] = "generated,generated",
        out: Annotated[
            Optional[Path],  # noqa: UP045 - typer reads it at run time
            typer.Option(help="Write the numbers as parquet too.", metavar="FILE"),
        ] = None,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
    ) -> None:
        from teramind_eval.attention.agreement import (
            agreement_lines,
            brain_agreement,
            labels,
            write_agreement,
        )

        found = brain_agreement(first, second, labels(stores))
        if out is not None:
            write_agreement(out, found, overwrite=overwrite)
        for line in agreement_lines(found):
            typer.echo(line)
