"""``teramind-model plan --simulate``: what it is asked, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from teramind_data.console import counted
from teramind_data.errors import InputError, OutputExistsError

if TYPE_CHECKING:
    from teramind_model.generate.config import GenerateConfig
    from teramind_model.simulation.run import Outcome

__all__ = ["Simulated", "simulate_plan"]

Size = Callable[[int], str]


@dataclass(frozen=True)
class Simulated:
    """Options of ``plan`` that are the simulation's alone.

    Attributes:
        canvas: of an atlas made for it, ``SECTIONSxHEIGHTxWIDTH``; the paper's, two sections, where None.
        restarts: processes killed.
        out: folder for what it writes, kept; where None, one in the working folder that is removed at the end.
    """

    canvas: str | None = None
    restarts: int = 3
    out: str | None = None


def simulate_plan(config: GenerateConfig, asked: Simulated, as_json: bool, size: Size) -> None:
    """Simulate the generation that is planned, and print what it took.

    Args:
        config: ``atlas`` and ``checkpoint`` are empty where they are to be made up.
        asked: further options.
        as_json: print JSON.
        size: bytes as text.
    """
    if bool(config.atlas) != bool(config.checkpoint):
        raise InputError(
            "--simulate needs both --atlas and --checkpoint, or neither", remedy="Give both, or neither"
        )
    if config.atlas and asked.canvas is not None:
        raise InputError("--canvas and --atlas exclude each other", remedy="Give one of them")
    outcome = _simulate_own(config, asked) if config.atlas else _simulate_made_up(config, asked)
    if as_json:
        typer.echo(json.dumps(_plain(outcome), indent=1))
        return
    for label, text in _lines(outcome, size):
        typer.echo(f"{label:<10}{text}")


def _folder(out: str | None) -> AbstractContextManager[str]:
    if out is None:
        return TemporaryDirectory(prefix="simulated-", dir=".")
    try:
        Path(out).mkdir()
    except FileExistsError:
        raise OutputExistsError("output exists", where=out, remedy="Choose another name") from None
    return nullcontext(out)


def _simulate_own(config: GenerateConfig, asked: Simulated) -> Outcome:
    from teramind_model.generate.source import load_source
    from teramind_model.simulation.null import null_source
    from teramind_model.simulation.run import simulate

    planned = load_source(config.checkpoint)
    null = null_source(planned)
    with _folder(asked.out) as folder:
        return simulate(_into(folder, config), planned, null, restarts=asked.restarts)


def _simulate_made_up(config: GenerateConfig, asked: Simulated) -> Outcome:
    from teramind_data.console import note
    from teramind_model.simulation.atlas import (
        PAPER_CANVAS,
        paper_source,
        parse_canvas,
        sparse_atlas,
        sparse_spec,
    )
    from teramind_model.simulation.null import null_source
    from teramind_model.simulation.run import check_unmade, simulate

    canvas = PAPER_CANVAS if asked.canvas is None else parse_canvas(asked.canvas)
    planned = paper_source()
    # The atlas takes long to make: nothing of it where what is asked for is refused.
    check_unmade(config, planned, sparse_spec(canvas), asked.restarts)
    with _folder(asked.out) as folder:
        sections, height, width = canvas
        note(f"making an atlas: {counted(sections, 'section')} of {height:,} x {width:,} px")
        made = sparse_atlas(str(Path(folder, "atlas.zarr")), canvas)
        null = null_source(planned, made.panel)
        return simulate(
            _into(folder, replace(config, atlas=made.url)), planned, null, restarts=asked.restarts
        )


def _into(folder: str, config: GenerateConfig) -> GenerateConfig:
    return replace(config, out=str(Path(folder, "generated.zarr")))


def _plain(outcome: Outcome) -> dict[str, Any]:
    """Plain values; sizes in bytes."""
    lives = [{"killed": life.killed, "seconds": life.seconds, "peak": life.peak} for life in outcome.lives]
    return {
        **asdict(replace(outcome, lives=())),
        "plan": outcome.plan.to_dict(),
        "lives": lives,
        "restarts": outcome.restarts,
        "resident": {"quarters": outcome.quarters, "closing": outcome.closing},
    }


def _lines(outcome: Outcome, size: Size) -> list[tuple[str, str]]:
    plan, shards = outcome.plan, outcome.shards
    *peaks, closing = (size(peak) if peak else "–" for peak in (*outcome.quarters, outcome.closing))
    memory = f"peak {', '.join(peaks)} in the quarters of the shards, {closing} while closing"
    left = outcome.last
    return [
        (
            "units",
            f"{plan.units:,} of {plan.units:,} planned: {counted(plan.strips, 'strip')} of "
            f"{counted(plan.strip_tiles, 'tile')}",
        ),
        (
            "tiles",
            f"{plan.tiles_made:,} of {plan.tiles:,}, {counted(plan.steps, 'step')}; "
            f"{counted(plan.counts.decoded, 'tile-step')} planned, "
            f"{left.decoded:,} made after the last start, as many as were left",
        ),
        (
            "shards",
            f"{shards:,} written once: {outcome.stored:,} stored, {shards - outcome.stored:,} empty and listed",
        ),
        (
            "pixels",
            f"{outcome.compared:,} blocks, one of each stored shard, are what the start noise makes them",
        ),
        ("store", f"{size(outcome.size)}; {size(plan.bytes_out)} before compression"),
        ("restarts", f"{outcome.restarts} after SIGKILL"),
        ("memory", memory if any(outcome.quarters) else "not told by this system"),
        ("time", f"{outcome.seconds:,.0f} s, {outcome.cpu_seconds:,.0f} CPU s"),
    ]
