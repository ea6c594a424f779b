"""A tiny generation in a process of its own, to be killed: forked from one that has torch imported already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from teramind_data.geometry import Box
from teramind_data.store import Brain, resume_brain
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.parts import Hands, parse_part
from tests.model.tiny import tiny_source

STEPS = 2
TILES = (6, 2)
"""Rows and columns of 32-px tiles of the canvas that is generated: three shards, one below the other."""

_context = multiprocessing.get_context("forkserver")
# With what a generation imports on its way, which would take each child some seconds.
_context.set_forkserver_preload(["tests.model.generating", "anndata", "torch._dynamo"])


def config_of(atlas: str, out: str, part: str | None = None) -> GenerateConfig:
    """One section, batches of 8, strips of the whole width."""
    hands = Hands(part=None if part is None else parse_part(part))
    return GenerateConfig(
        atlas, "tiny", out, steps=STEPS, sections=(0, 1), run=RunOptions(batch=8, threads=1), hands=hands
    )


def make(atlas: str, out: str, part: str | None = None) -> Brain:
    """Generate, or go on."""
    return generate(config_of(atlas, out, part), tiny_source(), say=lambda line: None)


def _child(atlas: str, out: str, part: str | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    make(atlas, out, part)


def killed(
    atlas: str, out: str, moment: Callable[[], bool], part: str | None = None, by: int = signal.SIGKILL
) -> bool:
    """Generate in another process and SIGKILL it at a moment, or send another signal; whether it was in time."""
    process = _context.Process(target=_child, args=(atlas, out, part))
    process.start()
    end = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < end and not moment():
        time.sleep(0.001)
    assert process.pid is not None
    with suppress(ProcessLookupError):  # it has ended, and the fork server has taken note
        os.kill(process.pid, by)
    process.join(60)
    stopped = 1 if by == signal.SIGINT else -by  # by its exception, or by the signal
    assert process.exitcode in (0, stopped), "the generation failed"
    return process.exitcode == stopped


def shards_there(out: Path, count: int) -> Callable[[], bool]:
    """The moment when so many shards are in the journal."""
    journal = out / ".journal" / "images" / "morphology"
    return lambda: sum(1 for _ in journal.glob("[0-9]*")) >= count


def seconds_from_now(seconds: float) -> Callable[[], bool]:
    """The moment when so much time has gone."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def work_left(out: Path) -> int:
    """Tile-steps that the journal leaves to do, counted tile by tile: what the unfinished rows of shards depend on."""
    rows = {box.y0 // 32 for _, box in resume_brain(out).pending("morphology")}
    if not rows:
        return 0
    target = Box(min(rows), max(rows) + 2, 0, TILES[1])  # a shard is two tiles
    done = 0
    for step in range(STEPS):
        later = STEPS - 1 - step  # steps to come, each of which looks one tile further
        done += sum(
            target.y0 - later <= y < target.y1 + later for y in range(TILES[0]) for _ in range(TILES[1])
        )
    return done
