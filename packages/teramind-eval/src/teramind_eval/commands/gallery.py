"""`teramind-eval gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

_HELP = """Sheets of pictures: sections with numbered boxes, each box enlarged, and the atlas's regions laid over.

Boxes are drawn by rule and seed among squares with at least the median number of molecules, or given. Regions are
those of STORE, of --beside, or of --atlas, whichever has them.

Examples:

  teramind-eval gallery C.zarr --beside G.zarr --out gallery

  teramind-eval gallery C.zarr --box section_002:128:256,128:256 --out gallery
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(help=_HELP)
    def gallery(
        store: Annotated[str, typer.Argument(help="Store to show.", metavar="STORE")],
        out: Annotated[
            Path, typer.Option(help="Folder to write; written whole or not at all.", metavar="DIR")
        ],
        beside: Annotated[
            Optional[str],  # noqa: UP045 - typer reads it at run time
            typer.Option(help="A second store on the same canvas.", metavar="STORE"),
        ] = None,
        atlas: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="Store whose regions are laid over.", metavar="STORE"),
        ] = None,
        box: Annotated[
            Optional[list[str]],  # noqa: UP045
            typer.Option(help="A box to enlarge, pixels; may be repeated.", metavar="SECTION:Y0:Y1,X0:X1"),
        ] = None,
        section: Annotated[
            Optional[list[str]],  # noqa: UP045
            typer.Option(help="A section to show, by name; may be repeated.", metavar="NAME"),
        ] = None,
        sections: Annotated[
            int, typer.Option(help="Where none is named: as many, evenly spread.", min=1)
        ] = 3,
        boxes: Annotated[int, typer.Option(help="Boxes drawn in each section.", min=0, max=8)] = 4,
        edge: Annotated[
            Optional[int],  # noqa: UP045
            typer.Option(help="Edge of drawn boxes, pixels (by the canvas, at most 512).", min=16),
        ] = None,
        seed: Annotated[int, typer.Option(help="Draws the boxes.", min=0)] = 0,
        incomplete: Annotated[
            bool, typer.Option("--incomplete", help="Also take stores whose writing never finished.")
        ] = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier gallery.")] = False,
    ) -> None:
        from teramind_eval.gallery.build import GalleryRequest, write_gallery

        request = GalleryRequest(
            store=store,
            out=out,
            beside=beside,
            atlas=atlas,
            boxes=tuple(box or ()),
            sections=tuple(section or ()),
            count=boxes,
            edge=edge,
            most_sections=sections,
            seed=seed,
            incomplete=incomplete,
            overwrite=overwrite,
        )
        page, made = write_gallery(request)
        if not made:
            typer.echo(f"{page.parent}: up to date, nothing to do", err=True)
        typer.echo(page)
