"""``teramind-model ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_HELP = """Change one number at a time, as the paper's Figure 6: slices of a window, patch edge, DDIM steps.

Every network is trained on as many image pixels; the axis of steps needs no training of its own. Stopped anywhere, the
same command goes on; DIR/ablation.md, .csv and .png show what is there so far.

Example:

    teramind-model ablate --axis steps --out DIR --budget small
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ablate", help=_HELP)(ablate)


def ablate(
    out: Annotated[Path, typer.Option(help="Folder of data, runs, reports and table.")],
    axis: Annotated[str, typer.Option(help="z, patch, steps, or all.")] = "all",
    protocol: Annotated[
        str, typer.Option(help="Experiment whose brains are used: main, supp-m or supp-f.")
    ] = "main",
    budget: Annotated[
        str, typer.Option(help="tiny (minutes), small (hours on two cores) or paper (days on a GPU).")
    ] = "small",
    atlas: Annotated[
        list[str] | None, typer.Option(help="Your own: main=, male= and female=STORE instead of phantoms.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of training and generation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each; 0: the libraries' choice.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
) -> None:
    """Make the plan and run it."""
    from teramind_data.errors import InputError
    from teramind_model.experiments.ablation import AXES, ablation_plan
    from teramind_model.experiments.budgets import find_budget
    from teramind_model.experiments.protocols import Data, Settings, find_protocols, parse_atlases
    from teramind_model.experiments.runner import RunOptions, finished_steps, run_plan

    chosen = find_budget(budget)
    data = Data(out, chosen, chosen.ablation_sections, parse_atlases(atlas or []))
    found = find_protocols(protocol)
    if len(found) > 1:
        raise InputError("ablations are on one experiment's brains", where="--protocol", found=protocol)
    axes = AXES if axis == "all" else (axis,)
    plan = ablation_plan(data, found[0], axes, Settings((), seed, device))
    if dry_run:
        for line in plan.lines(finished_steps(plan)):
            typer.echo(line)
        return
    from teramind_model.experiments.outcome import write_ablation

    run_plan(
        plan,
        RunOptions(jobs, threads or None),
        on_done=lambda _: write_ablation(data, found[0], axes, plan),
    )
    rows = write_ablation(data, found[0], axes, plan)
    typer.echo(f"{out / 'ablation.md'}: {rows} rows, budget {chosen.name} ({chosen.note})")
