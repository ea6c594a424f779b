"""The command line `teramind-eval`."""

from __future__ import annotations

import typer

from teramind_data.console import run_cli
from teramind_eval.commands import agreement, compare, gallery, nuclei, report, tables, video

app = typer.Typer(
    name="teramind-eval",
    help="Measure generated brains against real ones and show the outcome.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich renders markup at the price of 0.2 s a start
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Measure generated brains against real ones and show the outcome."""


report.register(app)
compare.register(app)
agreement.register(app)
video.register(app)
gallery.register(app)
tables.register(app)
nuclei.register(app)


def main() -> None:
    """Entry point of the console script."""
    run_cli(app)
