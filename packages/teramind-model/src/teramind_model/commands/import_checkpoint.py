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
    panel: Annotated[Path, typer.Option(help="The genes it was trained on, in its order (CSV).")],
    stain: Annotated[
        list[str] | None, typer.Option(help="Its stains, in order.  [default: DAPI PolyT]")
    ] = None,
    pixel_size: Annotated[float, typer.Option(help="Its pixels, in um.")] = 0.108,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")
    ] = False,
) -> None:
    """Convert published weights to a checkpoint of ours: same numbers, our names.

    Sizes are inferred from the weights and printed. The file is read without unpickling anything but tensors.
    """
    from teramind_data.panel import read_panel
    from teramind_model.checkpoint import save_checkpoint
    from teramind_model.import_published import converted

    info, weights = converted(src, read_panel(panel), tuple(stain or ("DAPI", "PolyT")), pixel_size)
    save_checkpoint(out, info, weights, overwrite=overwrite)
    n = info.network
    typer.echo(
        f"{len(weights)} parameters: n={n.genes} S={n.gene_slices} Z={n.image_slices} P={n.patch} C={n.channels} "
        f"k={n.stains}; written to {out}"
    )
