"""`teramind-data import-tiles`: the authors' published per-tile data to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Read the published per-tile data into a store: genes and images to an atlas, genes alone to an expression
store.

GENE_DIR holds sparse arrays (.npz), IMG_DIR zipped Zarr arrays of the same names. Each molecule and pixel is taken
once, from the tile whose core holds it, and keeps its coordinates. Run again, it does nothing where the store was
made from the same files, and continues an unfinished one.

Examples:

  teramind-data import-tiles gene/ img/ main.zarr --panel main_500.csv

  teramind-data import-tiles gene/ genes-only.zarr --panel main_500.csv

  teramind-data import-tiles --generated tiles/ generated.zarr --like main.zarr
"""


def import_tiles(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="GENE_DIR [IMG_DIR] OUT", help="Folders of tiles, and the store to write."),
    ],
    panel: Annotated[
        str | None, typer.Option(help="Names of the tiles' genes in their order: a CSV, or a store.")
    ] = None,
    generated: Annotated[
        bool, typer.Option("--generated", help="The tiles are generated images: TILE_DIR OUT.")
    ] = False,
    like: Annotated[
        str | None,
        typer.Option(help="With --generated: the store that lends canvas, sections, panel and pixel size."),
    ] = None,
    method: Annotated[str, typer.Option(help="With --generated: what made the tiles.")] = "published tiles",
    pixel_size: Annotated[float, typer.Option(help="Pixel size in um.")] = 0.108,
    spacing_um: Annotated[float, typer.Option(help="um between sections.")] = 200.0,
    stains: Annotated[str, typer.Option(help="Stains in the order of the channels.")] = "DAPI,PolyT",
    canvas: Annotated[
        str | None, typer.Option(help="Height,width in px; else the tiles' extent in multiples of 256.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store of ours that is there.")
    ] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.errors import InputError
    from teramind_data.imports.generated_tiles import GeneratedConfig, import_generated
    from teramind_data.imports.output import parse_canvas
    from teramind_data.imports.tiles import TilesConfig
    from teramind_data.imports.tiles import import_tiles as build
    from teramind_data.ingest.tissue import FileTissue

    *words, target = paths
    folders = [Path(word) for word in words]
    if len(folders) not in ((1,) if generated else (1, 2)):
        raise InputError(
            "wrong number of folders",
            expected="TILE_DIR OUT" if generated else "GENE_DIR [IMG_DIR] OUT",
            found=f"{len(paths)} paths",
            remedy="See --help",
        )
    names = tuple(name.strip() for name in stains.split(","))
    size = parse_canvas(canvas)
    if generated:
        if like is not None and size is not None:
            raise InputError("canvas is given twice", "--canvas and --like", remedy="Leave --canvas out")
        done, brain = import_generated(
            GeneratedConfig(
                folders[0], target, like, panel, names, size, pixel_size, spacing_um, method, overwrite
            )
        )
    else:
        if panel is None or like is not None:
            raise InputError(
                "panel is missing" if panel is None else "--like is for generated tiles",
                where="--panel" if panel is None else "--like",
                expected="the names of the tiles' genes in their order" if panel is None else "--generated",
                remedy="Give --panel FILE" if panel is None else "Leave it out",
            )
        images = folders[1] if len(folders) == 2 else None
        done, brain = build(
            TilesConfig(folders[0], images, target, panel, names, size, pixel_size, spacing_um, overwrite),
            FileTissue(),
        )
    if not done:
        print(f"{target}: up to date (made from the same files)")
        return
    molecules = f", {brain.molecules.total:,} transcripts" if brain.has_molecules else ""
    print(
        f"{target}: written, {brain.kind}, {brain.n_sections} sections of {brain.canvas[0]} x {brain.canvas[1]} px "
        f"from {brain.provenance['tiles']} tiles{molecules}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("import-tiles", help=EXAMPLE)(import_tiles)
