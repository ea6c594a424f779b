"""`teramind-data export`: a section as OME-TIFF, counts as h5ad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Write a section as a pyramidal OME-TIFF (QuPath, Bio-Formats), or counts as h5ad (AnnData, scanpy).

Examples:

  teramind-data export demo/A.zarr --section 0 --out A0.ome.tif

  teramind-data export demo/A.zarr --section 0 --image expression --channel gene_a --out gene_a.ome.tif

  teramind-data export demo/A.zarr --h5ad sections.h5ad

  teramind-data export demo/A.zarr --bins bins.h5ad --section 0

--h5ad has a row a section and a column a gene; --bins a row a 16-px bin of tissue (32-px at --level 1, ..., on canvases
large enough to have it), of all sections or of the one that --section names.
"""


def export(
    store: Annotated[str, typer.Argument(help="A store (path or URL).")],
    section: Annotated[str | None, typer.Option(help="Section, by index or name.")] = None,
    out: Annotated[Path | None, typer.Option(help="OME-TIFF to write, .ome.tif or .ome.tiff.")] = None,
    image: Annotated[
        str, typer.Option(help="Image of the store (teramind-data info lists them).")
    ] = "morphology",
    channel: Annotated[
        list[str] | None, typer.Option(help="Stain or gene to write; repeat for more. All where not given.")
    ] = None,
    compression: Annotated[
        str, typer.Option(help="deflate, lzw, zstd, none (lossless) or jpeg.")
    ] = "deflate",
    quality: Annotated[int, typer.Option(help="Of jpeg, 1 to 100.")] = 90,
    h5ad: Annotated[Path | None, typer.Option(help="File for the table of sections and genes.")] = None,
    bins: Annotated[Path | None, typer.Option(help="File for counts in bins.")] = None,
    level: Annotated[int, typer.Option(help="Pyramid level of --bins; each doubles the bin.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data import export as write
    from teramind_data.console import progress
    from teramind_data.errors import InputError
    from teramind_data.store import open_brain

    if out is None and h5ad is None and bins is None:
        raise InputError("nothing to write", remedy="Give --section and --out, or --h5ad, or --bins")
    if out is not None and section is None:
        raise InputError("no section given", "--out", remedy="Give --section K, by index or name")
    brain = open_brain(store)
    index = None if section is None else write.find_section(brain, section)
    if out is not None and index is not None:
        options = write.TiffOptions(image, tuple(channel or ()), compression, quality)
        with progress(write.tile_count(brain, index, options), "export", "tiles") as advance:
            write.write_ome_tiff(brain, index, out, options, overwrite=overwrite, advance=advance)
        print(f"{out}: written, {out.stat().st_size / 1e6:,.1f} MB")
    if h5ad is not None:
        write.write_table(brain, h5ad, overwrite=overwrite)
        print(f"{h5ad}: written, {brain.n_sections} sections")
    if bins is not None:
        chosen = None if index is None else (index,)
        with progress(brain.n_sections if chosen is None else 1, "export", "sections") as advance:
            write.write_bins(brain, bins, sections=chosen, level=level, overwrite=overwrite, advance=advance)
        print(f"{bins}: written, {bins.stat().st_size / 1e6:,.1f} MB")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("export", help=EXAMPLE)(export)
