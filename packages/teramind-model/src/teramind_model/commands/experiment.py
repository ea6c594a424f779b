"""``teramind-model experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_HELP = """Run the paper's experiments: train, generate, measure, one table.

NAME is main (both supplementary brains to the main one, on the genes all share), supp-m or supp-f (the other
supplementary brain to the male or the female one, on the full panel), or all, in one table. Brains are phantoms, or the
stores given with --atlas.
Stopped anywhere, the same command goes on; DIR/table.md, .csv and .png show what is there so far.

Example:

    teramind-model experiment main --out DIR --budget small --methods tera-mind,patch-dm,sinfusion-genes
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("experiment", help=_HELP)(experiment)


def experiment(
    name: Annotated[str, typer.Argument(help="main, supp-m, supp-f or all.")],
    out: Annotated[Path, typer.Option(help="Folder of data, runs, reports and table.")],
    budget: Annotated[
        str, typer.Option(help="tiny (minutes), small (hours on two cores) or paper (days on a GPU).")
    ] = "small",
    methods: Annotated[
        str,
        typer.Option(
            help="Methods to compare; METHOD@CHECKPOINT starts from one where its genes are the shared ones."
        ),
    ] = "tera-mind,patch-dm,sinfusion-genes",
    atlas: Annotated[
        list[str] | None, typer.Option(help="Your own: main=, male= and female=STORE instead of phantoms.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of training and generation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each; 0: the libraries' choice.")] = 1,
    evidence: Annotated[
        bool, typer.Option(help="Also seams without collage, and attention of the phantom's pairs.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
) -> None:
    """Make the plan and run it."""
    from teramind_model.experiments.budgets import find_budget
    from teramind_model.experiments.protocols import (
        Data,
        Settings,
        experiment_plan,
        find_protocols,
        parse_atlases,
        parse_variants,
    )
    from teramind_model.experiments.runner import RunOptions, finished_steps, run_plan

    protocols, chosen = find_protocols(name), find_budget(budget)
    data = Data(out, chosen, chosen.sections, parse_atlases(atlas or []))
    settings = Settings(parse_variants(methods), seed, device, evidence)
    plan = experiment_plan(data, protocols, settings)
    if dry_run:
        for line in plan.lines(finished_steps(plan)):
            typer.echo(line)
        return
    from teramind_model.experiments.outcome import write_experiment

    run_plan(
        plan,
        RunOptions(jobs, threads or None),
        on_done=lambda _: write_experiment(data, protocols, settings.variants, plan),
    )
    rows = write_experiment(data, protocols, settings.variants, plan)
    typer.echo(f"{out / 'table.md'}: {rows} rows, budget {chosen.name} ({chosen.note})")
