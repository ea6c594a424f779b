"""``teramind-model attention``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from teramind_data.console import counted

if TYPE_CHECKING:
    from teramind_model.attention import AttentionResult
    from teramind_model.pathways import Pathway

__all__ = ["register"]

_HELP = """Map the gene-gene attention of pathways over a brain, and tabulate that of all genes.

Adds images/attention_NAME to the store at OUT, all in one pass: one generated from the atlas, or a new one of maps
alone. Without any pathway named: GLUT, DOPA and BLOD, as far as the panel has their genes. With --matrix also the
whole gene-by-gene matrix, averaged over the brain, each region and each section. Stopped anywhere, the same command
goes on where it was.

Example:

    teramind-model attention --atlas C.zarr --checkpoint RUN --pathway GLUT --out G.zarr
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("attention", help=_HELP)(command)


def command(
    atlas: Annotated[str, typer.Option(help="Store whose genes are read (from teramind-data ingest).")],
    checkpoint: Annotated[
        str, typer.Option(help="Checkpoint, run folder, or 'phantom' for the shipped one.")
    ],
    out: Annotated[
        str | None, typer.Option(help="Store to add the maps to; none with --matrix alone.")
    ] = None,
    pathway: Annotated[list[str] | None, typer.Option(help="GLUT, DOPA or BLOD; may be repeated.")] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="Two genes, for example Slc17a6:Slc17a7; may be repeated.")
    ] = None,
    genes: Annotated[str | None, typer.Option(help="Any genes, comma-separated; needs --name.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the map of --genes.")] = None,
    pathways_file: Annotated[
        list[str] | None, typer.Option(help="Named groups of genes: .yaml, .csv, .tsv or .gmt.")
    ] = None,
    matrix: Annotated[
        str | None, typer.Option(help="Table of all gene pairs by region to write: .parquet or .csv.")
    ] = None,
    sections: Annotated[
        str | None, typer.Option(help="Only these of the atlas's sections, FIRST:END.")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(help="Only this part, y0:y1,x0:x1 px, grown to 16-px bins.")
    ] = None,
    tissue_only: Annotated[
        bool, typer.Option(help="Skip patches without molecules, where maps are zero anyway.")
    ] = True,
    batch: Annotated[int | None, typer.Option(help="Patches computed at once; chosen by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; torch's choice by default.")] = None,
    memory: Annotated[str, typer.Option(help="What the job may take; refused before any work.")] = "4GiB",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace maps and table of these names.")
    ] = False,
) -> None:
    """Parse, run, and say where the result is."""
    from teramind_data.errors import InputError
    from teramind_model.generate.config import parse_memory, parse_roi, parse_sections

    if name is not None and genes is None:
        raise InputError("--name names the map of --genes", found="no --genes", remedy="Leave --name out")
    chosen = _chosen(pathway or (), pair or (), None if genes is None else (genes, name), pathways_file or ())
    from teramind_model.attention.config import AttentionConfig

    config = AttentionConfig(
        atlas=atlas,
        checkpoint=checkpoint,
        out=out,
        pathways=chosen or None,
        matrix=matrix,
        sections=None if sections is None else parse_sections(sections),
        roi=None if roi is None else parse_roi(roi),
        tissue_only=tissue_only,
        batch=batch,
        device=device,
        precision=precision,  # type: ignore[arg-type]
        threads=threads,
        memory=parse_memory(memory),
        overwrite=overwrite,
    )
    from teramind_model.attention import write_attention

    _report(out, write_attention(config))


def _chosen(
    names: list[str] | tuple[()],
    pairs: list[str] | tuple[()],
    genes: tuple[str, str | None] | None,
    files: list[str] | tuple[()],
) -> tuple[Pathway, ...]:
    from teramind_model import pathways
    from teramind_model.pathway_files import read_pathways

    return (
        *(pathways.named(name) for name in names),
        *(pathways.pair(text) for text in pairs),
        *(() if genes is None else (pathways.custom(*genes),)),
        *(found for file in files for found in read_pathways(file)),
    )


def _report(out: str | None, result: AttentionResult) -> None:
    for image in result.images:
        print(f"{out}: images/{image}")
    for file in result.files:
        print(file)
    if result.pairs:
        print(
            "strongest pairs, times uniform attention in patches that hold both genes (and in all), and mean score:"
        )
        for pair in result.pairs:
            where = counted(pair.patches, "patch", "patches")
            print(
                f"  {pair.gene_a} -> {pair.gene_b}  {pair.both:.2f} ({pair.relative:.2f})  {pair.score:.3f}  {where}"
            )
