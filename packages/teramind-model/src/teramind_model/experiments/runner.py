"""Runs plans: ready steps as child processes, finished ones skipped, stopped and failed ones gone on with next time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO

from teramind_data.console import counted, progress
from teramind_data.errors import MissingInputError, StoreError
from teramind_model.experiments.journal import Journal
from teramind_model.experiments.plan import Plan, Step

__all__ = ["Finished", "RunOptions", "finished_steps", "run_plan"]

_POLL_S = 0.1
_PATIENCE_S = 120.0
"""How long a stopped child may take to keep what it has: training writes a checkpoint."""

Say = Callable[[str], None]
Finished = Callable[[Step], object]


@dataclass(frozen=True)
class RunOptions:
    """``jobs``: steps at a time. ``threads``: of each (OMP_NUM_THREADS); the libraries' choice where None."""

    jobs: int = 1
    threads: int | None = 1


class _Signals:
    """Remembers SIGINT and SIGTERM until the runner looks: it must not be torn out of starting a child."""

    def __init__(self) -> None:
        self.received: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.received = number

    def check(self) -> None:
        """KeyboardInterrupt or SystemExit where one has come."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            _to_stderr("stopped; the same command goes on there")
            raise SystemExit(128 + self.received)


@dataclass
class _Child:
    step: Step
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def finished_steps(plan: Plan) -> tuple[str, ...]:
    """Names of the steps that are done; InputError where one was done with other options. Writes nothing."""
    journal, prints = Journal(plan.root), plan.fingerprints()
    return tuple(step.name for step in plan if journal.is_done(step, prints[step.name]))


def run_plan(
    plan: Plan,
    options: RunOptions | None = None,
    *,
    on_done: Finished | None = None,
    say: Say = _to_stderr,
) -> int:
    """Run the steps that are not done; the number run.

    Each step's output goes to its log. Ctrl-C and SIGTERM stop the children, which keep what they have; running the
    plan again goes on there.

    Args:
        plan: what to do.
        options: how many at a time.
        on_done: called after each step that has been run, and once before the first.
        say: takes the lines for the person at the keyboard.

    Raises:
        StoreError: where a step failed, naming its log; what ran beside it is stopped.
        InputError: where a product was made by another command.
        MissingInputError: where one of our programs is not installed.
    """
    options = RunOptions() if options is None else options
    _check_programs(plan)
    journal, prints = Journal(plan.root), plan.fingerprints()
    with journal.opened():
        done = {step.name for step in plan if journal.is_done(step, prints[step.name])}
        waiting = [step for step in plan if step.name not in done]
        say(f"{plan.root}: {counted(len(plan), 'step')}, {len(done)} of them done before")
        if on_done is not None and done:
            on_done(next(step for step in plan if step.name in done))
        if not waiting:
            return 0
        running: list[_Child] = []
        ran = 0
        with (
            progress(len(waiting), "experiment", "steps") as advance,
            _noted_signals() as signals,
            _ending(running, journal, prints),
        ):
            while waiting or running:
                signals.check()
                for step in _ready(waiting, done)[: max(0, options.jobs - len(running))]:
                    waiting.remove(step)
                    running.append(_start(step, journal, options))
                    say(f"{step.name}: started, log {journal.log(step)}")
                time.sleep(_POLL_S)
                for child in [one for one in running if one.process.poll() is not None]:
                    running.remove(child)
                    _check(child, journal, prints[child.step.name])
                    done.add(child.step.name)
                    ran += 1
                    advance(1)
                    say(f"{child.step.name}: done in {child.seconds:.0f} s")
                    if on_done is not None:
                        on_done(child.step)
    return ran


def _check_programs(plan: Plan) -> None:
    """MissingInputError where a program of the plan is not installed: better now than after hours of training."""
    for program in dict.fromkeys(step.command[0] for step in plan):
        if find_spec(_package(program)) is None:
            raise MissingInputError(
                "a program of the plan is not installed", where=program, remedy=f"Install {program} beside us"
            )


def _package(program: str) -> str:
    return program.replace("-", "_")


def _ready(waiting: list[Step], done: set[str]) -> list[Step]:
    return [step for step in waiting if done.issuperset(step.depends)]


def _start(step: Step, journal: Journal, options: RunOptions) -> _Child:
    program, *words = step.command
    module = f"{_package(program)}.cli"
    # By the interpreter that runs us: the programs of another environment may come first on PATH.
    start = f"import sys; sys.argv[0] = {program!r}; from {module} import main; main()"
    step.product.parent.mkdir(parents=True, exist_ok=True)
    log = journal.log(step).open("ab")
    log.write(f"$ {step.shown}\n".encode())
    log.flush()
    environment = dict(os.environ)
    if options.threads is not None:
        environment |= {name: str(options.threads) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-c", start, *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        # In a group of its own: Ctrl-C reaches it through us alone, once.
        start_new_session=True,
    )
    return _Child(step, process, log, time.monotonic())


def _check(child: _Child, journal: Journal, fingerprint: str) -> None:
    """Record how a child ended; StoreError unless it succeeded and made its product."""
    child.log.close()
    step, code = child.step, child.process.returncode
    made = step.product.exists()
    journal.write(step, fingerprint, child.seconds, done=code == 0 and made)
    if code:
        raise StoreError(
            f"step {step.name} failed",
            where=f"log {journal.log(step)}",
            expected="exit code 0",
            found=f"{code}: {_last_line(journal.log(step))}",
            remedy="Mend what it names; the same command goes on there",
        )
    if not made:
        raise StoreError(
            f"step {step.name} made nothing",
            where=f"log {journal.log(step)}",
            expected=step.product,
            remedy="The same command tries again",
        )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


@contextmanager
def _ending(running: list[_Child], journal: Journal, prints: dict[str, str]) -> Iterator[None]:
    """Leave no child behind, however it ends: asked to stop, waited for, their time recorded."""
    try:
        yield
    finally:
        _stop(running, journal, prints)


def _stop(running: list[_Child], journal: Journal, prints: dict[str, str]) -> None:
    for child in running:
        if child.process.poll() is None:
            child.process.terminate()
    for child in running:
        try:
            child.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.log.close()
        journal.write(child.step, prints[child.step.name], child.seconds, done=False)
    running.clear()


@contextmanager
def _noted_signals() -> Iterator[_Signals]:
    """SIGINT and SIGTERM noted instead of acted upon (outside the main thread neither arrives)."""
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
