"""``teramind-model attention``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["register"]

_HELP = """Map the gene-gene attention of a pathway over a brain.

Adds images/attention_NAME to the store at OUT: one generated from the atlas, or a new one of maps alone.

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
    out: Annotated[str, typer.Option(help="Store to add the maps to.")],
    pathway: Annotated[str | None, typer.Option(help="GLUT, DOPA or BLOD.")] = None,
    pair: Annotated[str | None, typer.Option(help="Two genes, for example Slc17a6:Slc17a7.")] = None,
    genes: Annotated[str | None, typer.Option(help="Any genes, comma-separated; needs --name.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the map of --genes.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a map of this name.")] = False,
) -> None:
    """Parse, run, and say where the result is."""
    from teramind_data.errors import InputError
    from teramind_model import pathways

    if sum(option is not None for option in (pathway, pair, genes)) != 1:
        raise InputError("say whose attention to map", remedy="Give one of --pathway, --pair and --genes")
    if name is not None and genes is None:
        raise InputError("--name names the map of --genes", found="no --genes", remedy="Leave --name out")
    if pathway is not None:
        chosen = pathways.named(pathway)
    elif pair is not None:
        chosen = pathways.pair(pair)
    else:
        chosen = pathways.custom(genes or "", name)
    from teramind_model.attention import AttentionConfig, write_attention

    write_attention(AttentionConfig(atlas, checkpoint, out, chosen, device, overwrite))
    print(f"{out}: images/{chosen.image}")
