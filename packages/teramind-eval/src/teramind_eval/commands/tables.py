"""`teramind-eval tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_HELP = """Write a report's scores into a store, as AnnData tables that scanpy, squidpy and SpatialData read.

tables/scores has a row a section and store of the report, a column a measure; with --tiles, tables/tile_scores has a
row a tissue tile, with its place in um. STORE is one that the report compared; it may have been moved.

Example:

  teramind-eval tables report C-generated.zarr --tiles
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(help=_HELP)
    def tables(
        report: Annotated[Path, typer.Argument(help="Folder of a report.", metavar="REPORT")],
        store: Annotated[str, typer.Argument(help="Store that gets the tables.", metavar="STORE")],
        tiles: Annotated[
            bool,
            typer.Option("--tiles", help="PSNR and SSIM of every tissue tile too; reads the stores again."),
        ] = False,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace tables that are there.")
        ] = False,
    ) -> None:
        from teramind_eval.scverse.write import write_scores

        for name, (rows, columns) in write_scores(report, store, tiles=tiles, overwrite=overwrite).items():
            typer.echo(f"{store}: tables/{name}, {rows} rows of {columns} measures")
