"""`teramind-data import-images`: images that another method generated to a store that can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Read images that another method generated into a store, to compare it with others in a report.

SRC is a folder of <section>_<stain>.tif (OME-TIFF, TIFF, PNG, JPEG; <section>/<stain>.tif too), or a CSV with columns
section, stain, path. Canvas, sections and panel come from --like, and every image must have the canvas's size.

Examples:

  teramind-data import-images results/ gan.zarr --like C.zarr --method COCO-GAN

  teramind-data import-images rgb/ gan.zarr --like C.zarr --method InfinityGAN --rgb DAPI=b,PolyT=g
"""


def import_images(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images, or CSV.")],
    out: Annotated[str, typer.Argument(help="Store to write (path or URL).")],
    like: Annotated[str, typer.Option(help="Store that the images are compared with.")],
    method: Annotated[str, typer.Option(help="Name of what made the images.")],
    rgb: Annotated[
        str | None, typer.Option(help="The images are RGB, one a section: stain=r|g|b, separated by commas.")
    ] = None,
    stains: Annotated[
        str | None, typer.Option(help="Stains there are images of; else all of --like.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store of ours that is there.")
    ] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.errors import InputError
    from teramind_data.imports.images import ImagesConfig, parse_rgb
    from teramind_data.imports.images import import_images as build

    if not method.strip():
        raise InputError("method has no name", "--method", "such as COCO-GAN", repr(method))
    if rgb is not None and stains is not None:
        raise InputError("stains are given twice", "--rgb and --stains", remedy="Leave --stains out")
    names = None if stains is None else tuple(name.strip() for name in stains.split(","))
    done, brain = build(ImagesConfig(source, like, out, method.strip(), parse_rgb(rgb), names, overwrite))
    if not done:
        print(f"{out}: up to date (made from the same files)")
        return
    print(
        f"{out}: written, {brain.n_sections} sections of {brain.canvas[0]} x {brain.canvas[1]} px by {method}, "
        f"{', '.join(brain.stains)}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("import-images", help=EXAMPLE)(import_images)
