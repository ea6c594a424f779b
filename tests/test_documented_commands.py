"""Commands shown in scripts and documentation exist, and so do their options."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path.relative_to(CHECKOUT)
    for pattern in (
        "README.md",
        "packages/*/README.md",
        "docs/**/*.md",
        "scripts/demo.sh",
        "scripts/phantom-*.sh",
    )
    for path in CHECKOUT.glob(pattern)
)


def shown_commands(path: Path) -> list[list[str]]:
    """The commands of code blocks (or of a script), as words; lines that a backslash goes on are joined."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```(?:console|sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        start = re.search(r"(?:^|\s)(teramind-(?:data|model|eval) .*)", line)
        if start and not line.lstrip().startswith("#"):
            found.append(shlex.split(start[1], comments=True))
    return found


def complaint(words: list[str]) -> str | None:
    """What is wrong with a command, or None."""
    app = importlib.import_module(words[0].replace("-", "_") + ".cli").app
    command: click.Command = typer.main.get_command(app)
    rest = words[1:]
    while getattr(command, "commands", None):
        if not rest or rest[0] not in command.commands:
            return f"no such command: {rest[:1]}"
        command = command.commands[rest.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")} - {"--help", "--debug"}
    unknown = sorted(given - known)
    return f"no such options: {unknown}" if unknown else None


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_shown_command_exists(source: Path) -> None:
    wrong = {
        shlex.join(words): problem
        for words in shown_commands(CHECKOUT / source)
        if (problem := complaint(words))
    }
    assert not wrong


def test_commands_are_found_where_they_are_known_to_be() -> None:
    demo = [words[:2] for words in shown_commands(CHECKOUT / "scripts" / "demo.sh")]
    assert ["teramind-data", "phantom"] in demo
    assert ["teramind-eval", "report"] in demo
    assert len(shown_commands(CHECKOUT / "README.md")) >= 6


def test_a_wrong_command_or_option_is_noticed() -> None:
    assert complaint(["teramind-data", "no-such"]) == "no such command: ['no-such']"
    assert complaint(["teramind-data", "ingest", "--no-such", "x"]) == "no such options: ['--no-such']"
