"""What the commands share: errors as one line, and progress that a log can hold too."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, NoReturn, Protocol, TextIO

from teramind_data.errors import TeramindError

if TYPE_CHECKING:
    import typer

__all__ = ["Advance", "counted", "duration", "note", "progress", "run_cli", "told"]

_PLAIN_INTERVAL_S = 5.0
_INTERRUPTED = "error: interrupted"


class Advance(Protocol):
    """Tells the progress display that ``n`` more units are done."""

    def __call__(self, n: float = 1) -> None:
        """Count ``n`` more units as done."""


def run_cli(app: typer.Typer, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a Typer app and leave the process (SystemExit) with its exit code.

    A TeramindError, or the file system's word on a named file, becomes ``error: <one line>`` on stderr and exit
    code 2. ``--debug`` anywhere in the arguments, or TERAMIND_DEBUG=1, adds the traceback. Ctrl-C exits 130 with
    one line. Wrong usage and Typer's own exits keep Typer's codes.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("TERAMIND_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        # Standalone mode: Typer itself prints usage errors and always leaves by SystemExit.
        _narrowed(app, arguments)(args=arguments)
    except TeramindError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # Of the file system, and with the file's name: no permission, disk full, a file where a folder should be.
        # Anything else is ours to mend, and shows its traceback.
        if debug or error.filename is None:
            raise
        print(
            f"error: {error.strerror}: {error.filename}. Check the path, its rights and the disk",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        raise SystemExit(130) from None
    except SystemExit as leaving:
        # Typer leaves with 130 and not a word where it was interrupted.
        if leaving.code == 130 and _was_interrupted(leaving):
            if debug:
                traceback.print_exc()
            print(_INTERRUPTED, file=sys.stderr)
        raise
    raise SystemExit(0)


def _narrowed(app: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """The app with the command that is asked for and one more, where the first argument names a command of its own.

    Typer reads the signatures of all commands before it runs one, which is a sixth of the time of ``--help``. A lone
    command it would take for the whole program, hence one more.
    """
    commands = app.registered_commands
    named = [command for command in commands if command.name == arguments[0]] if arguments else []
    if not named or len(commands) < 2:
        return app
    narrow = copy(app)
    narrow.registered_commands = [named[0], next(one for one in commands if one is not named[0])]
    narrow.registered_groups = []
    return narrow


def note(text: str) -> None:
    """Tell the person something on stderr, at once."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def _was_interrupted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def progress(
    total: float | None, description: str, unit: str = "items", *, stream: TextIO | None = None
) -> Iterator[Advance]:
    """Show the progress of ``total`` units of work; yields ``advance(n=1)``.

    On a terminal a rich bar with rate and time left; elsewhere plain lines, at most one every five seconds and
    one at the end, so that logs stay readable. ``total`` None means unknown.
    """
    out = sys.stderr if stream is None else stream
    if out.isatty():
        with _rich_bar(total, description, unit, out) as advance:
            yield advance
    else:
        yield from _plain_lines(total, description, unit, out)


@contextmanager
def _rich_bar(total: float | None, description: str, unit: str, out: TextIO) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    begin = time.monotonic()
    done = 0.0
    with Progress(*columns, console=Console(file=out)) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(n: float = 1) -> None:
            nonlocal done
            done += n
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, advance=n, rate=f"{rate:,.3g} {unit}/s")

        yield advance


def _plain_lines(total: float | None, description: str, unit: str, out: TextIO) -> Iterator[Advance]:
    begin = last = time.monotonic()
    done = 0.0

    def line() -> str:
        seconds = max(time.monotonic() - begin, 1e-9)
        rate = done / seconds
        text = f"{description}: {done:g}"
        if total is not None:
            text += f"/{total:g}"
        text += f" {unit}, {rate:,.3g} {unit}/s, {_clock(seconds)} elapsed"
        if total is not None and 0 < done < total:
            text += f", {_clock((total - done) / rate)} left"
        return text

    def advance(n: float = 1) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= _PLAIN_INTERVAL_S:
            last = now
            print(line(), file=out, flush=True)

    # Not in a finally: after an error the error itself is the last line.
    yield advance
    print(line(), file=out, flush=True)


def told(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``"1 step"``, ``"2,000 steps"``; ``plural`` where an s does not make it."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """A duration as people say it: seconds, from 90 on minutes, from 90 of them on hours."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _clock(seconds: float) -> str:
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
