"""`teramind-data ingest`: one brain's raw sections to an atlas store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Read one brain's raw section folders into an atlas store (SpatialData and OME-Zarr 0.5).

Sections are taken from --manifest, else RAW/manifest.yaml, else from the folders there are. Inputs are checked before
the store is begun. Run again, it does nothing where the store was made from the same inputs, and continues an
unfinished one.

Example:

  teramind-data ingest demo/phantom/raw/A demo/A.zarr

  teramind-data ingest RAW OUT.zarr --manifest manifest.yaml --panel shared.csv

  teramind-data ingest RAW OUT.zarr --workers 8 --memory 3GiB

  teramind-data ingest RAW OUT.zarr --scheduler tcp://host:8786
"""


def ingest(
    raw: Annotated[Path, typer.Argument(help="Folder of one brain: one folder a section.")],
    out: Annotated[str, typer.Argument(help="Store to write (path or URL).")],
    manifest: Annotated[Path | None, typer.Option(help="YAML that lists the sections.")] = None,
    panel: Annotated[
        Path | None, typer.Option(help="Genes to keep, in this order: a CSV, or another store.")
    ] = None,
    aliases: Annotated[
        Path | None, typer.Option(help="CSV of further gene names: columns alias, gene.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without genes of --panel that the brain lacks.")
    ] = False,
    section_spacing: Annotated[
        float, typer.Option(help="um between sections, where no manifest gives z.")
    ] = 100.0,
    memory: Annotated[str, typer.Option(help="What each worker may take; no canvas needs more.")] = "2GiB",
    workers: Annotated[int, typer.Option(help="Processes of this machine.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on this dask.distributed cluster instead (tcp://host:8786).")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="For intermediate files, seen by all workers [beside OUT].")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store of ours that is there.")
    ] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.ingest.build import ingest as build
    from teramind_data.ingest.memory import parse_bytes
    from teramind_data.ingest.plan import IngestConfig

    config = IngestConfig(
        raw=raw,
        out=out,
        manifest=manifest,
        panel=panel,
        aliases=aliases,
        allow_missing=allow_missing,
        section_spacing_um=section_spacing,
        overwrite=overwrite,
        memory=parse_bytes(memory),
        workers=workers,
        scheduler=scheduler,
        scratch=scratch,
    )
    outcome, brain = build(config)
    for note in brain.provenance["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if outcome == "up to date":
        print(f"{out}: up to date (made from the same inputs)")
        return
    genes = 0 if brain.panel is None else len(brain.panel)
    print(
        f"{out}: written, {brain.n_sections} sections of {brain.canvas[0]} x {brain.canvas[1]} px, {genes} genes, "
        f"{brain.molecules.total:,} transcripts"
    )


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("ingest", help=EXAMPLE)(ingest)
