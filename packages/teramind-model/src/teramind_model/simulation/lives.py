"""Generations in a process of their own, watched from outside, and killed at a moment."""

from __future__ import annotations

import math
import multiprocessing
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teramind_data.console import note
from teramind_data.errors import TeramindError
from teramind_data.store import Location
from teramind_data.store.journal import JOURNAL
from teramind_data.workers import WorkerError
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.run import generate
from teramind_model.generate.source import Source

__all__ = ["Life", "Moment", "Sample", "live", "moments"]

_GLANCE_S, _IDLE = 0.02, 50
"""Between looks at the journal, at least; and so many times as long as a look takes."""

_context: Any = multiprocessing.get_context("spawn")
"""Starts processes with nothing of this one's in their memory."""

Moment = Callable[[int], bool]
"""Whether to kill now, told how many shards are finished."""


@dataclass(frozen=True)
class Sample:
    """Shards finished so far, and the process's resident memory in bytes; ``closing``: all shards are made."""

    shards: int
    resident: int
    closing: bool


@dataclass(frozen=True)
class Life:
    """One process: whether it was killed, how long it lived in seconds, and what was seen of it."""

    killed: bool
    seconds: float
    samples: tuple[Sample, ...]

    @property
    def peak(self) -> int:
        """Largest resident memory that was seen; 0 where none was."""
        return max((sample.resident for sample in self.samples), default=0)


def live(config: GenerateConfig, source: Source, total: int, moment: Moment | None = None) -> Life:
    """Generate, or go on, in a new process; SIGKILL it at the moment, where it lives that long.

    Raises:
        WorkerError: where it ends before its work by itself.
    """
    process = _context.Process(target=_make, args=(config, source))
    began = time.monotonic()
    samples: list[Sample] = []
    process.start()
    looked, reached = 0.0, False
    try:
        while process.is_alive():
            process.join(max(_GLANCE_S, _IDLE * looked))
            look = time.monotonic()
            shards = finished(config.out)
            most = max(shards, samples[-1].shards if samples else 0)  # the journal goes at the very end
            if (resident := _resident(process.pid)) is not None:
                samples.append(Sample(most, resident, most == total))
            looked = time.monotonic() - look
            if moment is not None and moment(shards):
                reached = True
                break
    finally:
        process.kill()
        process.join()
    if process.exitcode and not (reached and process.exitcode == -signal.SIGKILL):
        raise WorkerError(
            "the simulated generation ended before its work",
            where=config.out,
            found=f"exit code {process.exitcode}",
            remedy="Look at what it said above; killed, it had no memory most often",
        )
    return Life(process.exitcode != 0, time.monotonic() - began, tuple(samples))


def moments(total: int, restarts: int, seed: int) -> list[Moment]:
    """Moments at random, in order: so many shards are finished, and then a part of a shard's time is over."""
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(1, total), restarts))
    return [_moment(shards, rng.random()) for shards in chosen]


def _moment(shards: int, part: float) -> Moment:
    before: int | None = None
    first: tuple[float, int] | None = None
    at = math.inf

    def reached(done: int) -> bool:
        nonlocal before, first, at
        now = time.monotonic()
        before = done if before is None else before
        if first is None and done > before:  # the time that the process took to start is no shard's
            first = now, done
        if math.isinf(at) and done >= shards:
            made = 0 if first is None else done - first[1]
            at = now + (part * (now - first[0]) / made if first is not None and made else 0)
        return now >= at

    return reached


def finished(out: str) -> int:
    """Shards of the morphology that are in the journal."""
    return sum(name[0].isdigit() for name in Location(out).children(f"{JOURNAL}/images/morphology"))


def _make(config: GenerateConfig, source: Source) -> None:
    """In the new process."""
    try:
        generate(config, source, say=note)
    except TeramindError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _resident(pid: int | None) -> int | None:
    """A process's resident memory; None where the system does not tell (it must be Linux), or it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return None
    match = re.search(r"^VmRSS:\s*(\d+) kB$", status, re.MULTILINE)
    return None if match is None else int(match[1]) << 10
