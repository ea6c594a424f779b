"""``teramind-model export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from teramind_data.console import counted

EPILOG = "Example: teramind-model export RUN model/ --float16"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=EPILOG)(export)


def export(
    run: Annotated[Path, typer.Argument(help="Run directory or checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Checkpoint directory to make.")],
    float16: Annotated[bool, typer.Option("--float16", help="Half the size; loaded as float32.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")
    ] = False,
) -> None:
    """Write the newest checkpoint of a run for others: averaged weights, configuration and model card, nothing more.

    It is a checkpoint of ours, for every command that takes one. For the authors' programs, use 'export-checkpoint'.
    """
    from teramind_model.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(run)
    save_checkpoint(out, checkpoint.info, checkpoint.weights(), half=float16, overwrite=overwrite)
    size = sum(file.stat().st_size for file in out.iterdir())
    steps = counted(checkpoint.training.get("steps", 0), "step")
    typer.echo(f"{checkpoint.path.name} of {steps}: {out}, {size / 2**20:.1f} MiB")
