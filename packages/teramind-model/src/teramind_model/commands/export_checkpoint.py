"""``teramind-model export-checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: teramind-model export-checkpoint RUN tera-mind.ckpt"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export-checkpoint", epilog=EPILOG)(export_checkpoint)


def export_checkpoint(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint or run of ours, or 'phantom'.")],
    out: Annotated[Path, typer.Argument(help="Lightning file to make, OUT.ckpt.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write weights as the paper's authors publish them, for their programs: a Lightning file, their parameter names.

    The inverse of 'import-checkpoint', bit for bit. To hand a model to other users of teramind, use 'export'.
    """
    from teramind_model.checkpoint import load_checkpoint
    from teramind_model.export_published import export_published

    count = export_published(load_checkpoint(checkpoint), out, overwrite=overwrite)
    typer.echo(
        f"{count} parameters under published names, float32: {out}, {out.stat().st_size / 2**20:.1f} MiB"
    )
