"""``teramind-model import-checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: teramind-model import-checkpoint main.ckpt main/ --panel shared_229.csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import-checkpoint", epilog=EPILOG)(import_checkpoint)


def import_checkpoint(
    src: Annotated[Path, typer.Argument(help="Published .ckpt, or .npz or .safetensors of the same names.")],
    out: Annotated[Path, typer.Argument(help="Checkpoint directory to make.")],
    panel: Annotated[
        list[str] | None,
        typer.Option(
            help="The genes it was trained on, in its order: a CSV, a store, a checkpoint, or a folder of CSVs "
            "of which one has as many genes as the weights. May be repeated."
        ),
    ] = None,
    stain: Annotated[
        list[str] | None, typer.Option(help="Its stains, in order.  [default: DAPI PolyT]")
    ] = None,
    pixel_size: Annotated[float | None, typer.Option(help="Its pixels, in um.  [default: 0.108]")] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Where there are averaged and last weights, take the last.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")
    ] = False,
) -> None:
    """Convert published weights to a checkpoint of ours: same numbers, our names.

    Sizes are inferred from the weights and printed. Every parameter is accounted for: what is chosen and what is left
    out is said, what is unknown is an error. Nothing but tensors and plain values is read from the file.
    'export-checkpoint' goes back.
    """
    from teramind_model.checkpoint import save_checkpoint
    from teramind_model.import_published import Meaning, import_published

    meaning = Meaning(tuple(panel or ()), tuple(stain) if stain else None, pixel_size)
    imported = import_published(src, meaning, averaged=not last)
    save_checkpoint(out, imported.info, imported.weights, overwrite=overwrite)
    for note in imported.notes:
        typer.echo(note, err=True)
    n = imported.info.network
    typer.echo(
        f"{len(imported.weights)} parameters: n={n.genes} S={n.gene_slices} Z={n.image_slices} P={n.patch} "
        f"C={n.to_dict()['channels']} k={n.stains}; written to {out}"
    )
