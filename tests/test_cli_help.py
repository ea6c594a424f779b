"""Every command of the three command lines answers `--help` at once, with an example.

The commands are read from the Typer applications, so a new one is tested without being named here.
"""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

LIMIT_S = 0.5
TYPER_S = 0.28
"""What Typer alone takes to load (it brings pydantic) on the machine for which the limit was set."""
ATTEMPTS = 8  # the best counts: a core shared with another hyperthread counts more seconds for the same work
PROGRAMS = {
    "teramind-data": "teramind_data.cli",
    "teramind-model": "teramind_model.cli",
    "teramind-eval": "teramind_eval.cli",
}


def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The command and all below it, as words to type; the flag says whether it is a leaf."""
    children: dict[str, click.Command] = getattr(command, "commands", {})
    yield words, not children
    for name, child in sorted(children.items()):
        yield from walk(child, (*words, name))


def all_commands() -> list[tuple[tuple[str, ...], bool]]:
    """Every command and group of the three programs."""
    found: list[tuple[tuple[str, ...], bool]] = []
    for program, module in PROGRAMS.items():
        app = importlib.import_module(module).app
        found += walk(typer.main.get_command(app), (program,))
    return found


COMMANDS = all_commands()


def run_help(words: tuple[str, ...]) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run `WORDS --help` as a user would; the second value is the CPU seconds (user and system) it took.

    On an idle machine those are the seconds that a user waits; on a busy one they do not grow.
    """
    program = Path(sys.executable).parent / words[0]
    start = cpu_of_children()
    done = subprocess.run(
        [program, *words[1:], "--help"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done, cpu_of_children() - start


def typer_alone() -> float:
    """CPU seconds that loading Typer takes now, nothing of ours."""
    start = cpu_of_children()
    subprocess.run([sys.executable, "-c", "import typer.main, pydantic; pydantic.TypeAdapter"], check=True)
    return cpu_of_children() - start


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_main_job_is_there() -> None:
    names = {" ".join(words) for words, _ in COMMANDS}
    assert names >= {
        "teramind-data phantom",
        "teramind-data ingest",
        "teramind-data panel intersect",
        "teramind-model train",
        "teramind-model generate",
        "teramind-model attention",
        "teramind-model import-checkpoint",
        "teramind-eval report",
    }


@pytest.mark.parametrize(("words", "leaf"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_help_is_quick_and_has_an_example(words: tuple[str, ...], leaf: bool) -> None:
    # Best of some attempts: the first may compile modules, or read them from a cold disk.
    times: list[float] = []
    limit = LIMIT_S
    for _ in range(ATTEMPTS):
        done, seconds = run_help(words)
        times.append(seconds)
        if seconds < limit:
            break
        # A slower core, or one that works for others too, is slower with Typer alone as well.
        limit = LIMIT_S * max(1.0, typer_alone() / TYPER_S)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    if leaf:
        assert "Example" in done.stdout
        example = " ".join(done.stdout.partition("Example")[2].split())  # however the lines were broken
        assert " ".join(words) in example, "the example does not show this command"
    assert min(times) < limit, (
        f"--help took {min(times):.2f} CPU s at best of {len(times)}, {limit:.2f} allowed"
    )
