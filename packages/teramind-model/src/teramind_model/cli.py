"""``teramind-model``: train, generate, read attention, convert checkpoints."""

from __future__ import annotations

import typer

from teramind_data.console import run_cli
from teramind_model.commands import (
    ablate,
    attention,
    evidence,
    experiment,
    export,
    export_checkpoint,
    generate,
    import_checkpoint,
    info,
    perturb,
    plan,
    train,
)

app = typer.Typer(
    help="Train the Tera-MIND network on atlas stores, generate brains from genes, map gene attention.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    train,
    generate,
    perturb,
    attention,
    info,
    plan,
    export,
    import_checkpoint,
    export_checkpoint,
    experiment,
    ablate,
    evidence,
):
    command.register(app)


def main() -> None:
    """Entry point."""
    run_cli(app)


if __name__ == "__main__":
    main()
