"""Plans: commands that make things, each once, in an order that their dependencies allow."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from teramind_data.errors import InputError

__all__ = ["PROGRAMS", "Plan", "Step"]

PROGRAMS = ("teramind-data", "teramind-model", "teramind-eval")
"""What the steps of a plan may run: our own command lines, as child processes."""


@dataclass(frozen=True)
class Step:
    """One command and what it makes.

    Attributes:
        name: unique, parts separated by ``/``.
        command: its words, the first one of :data:`PROGRAMS`.
        product: file or folder that is there once the command has succeeded.
        depends: names of the steps whose products it reads.
    """

    name: str
    command: tuple[str, ...]
    product: Path
    depends: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.command or self.command[0] not in PROGRAMS:
            raise InputError(
                "step runs no program of ours",
                self.name,
                " or ".join(PROGRAMS),
                self.command[:1] or "nothing",
            )

    @property
    def shown(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class Plan:
    """Steps below one folder, each after those it depends on.

    Raises InputError on a name used twice, or a dependency that is missing or comes later.
    """

    root: Path
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for step in self.steps:
            if step.name in seen:
                raise InputError("two steps have one name", found=step.name)
            missing = [name for name in step.depends if name not in seen]
            if missing:
                raise InputError("step depends on none before it", where=step.name, found=", ".join(missing))
            seen.add(step.name)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def merged(cls, root: Path, parts: Iterable[Iterable[Step]]) -> Plan:
        """One plan of several lists of steps; a step that several of them have counts once.

        Raises InputError where steps of one name differ.
        """
        steps: dict[str, Step] = {}
        for part in parts:
            for step in part:
                if steps.setdefault(step.name, step) != step:
                    raise InputError("steps of one name differ", where=step.name)
        return cls(root, tuple(steps.values()))

    def fingerprints(self) -> dict[str, str]:
        """What each step's product depends on, as a hash: its command and, by theirs, all steps before it.

        The plan's folder is left out, so that it can be moved.
        """
        found: dict[str, str] = {}
        for step in self.steps:
            words = [word.replace(str(self.root), "ROOT") for word in step.command]
            text = json.dumps([words, [found[name] for name in step.depends]])
            found[step.name] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def lines(self, done: Iterable[str] = ()) -> Iterator[str]:
        """The plan as text: a line a step, marked where it is done."""
        finished = set(done)
        for number, step in enumerate(self.steps, start=1):
            mark = " (done)" if step.name in finished else ""
            yield f"[{number}/{len(self.steps)}] {step.name}{mark}"
            yield f"    {step.shown}"
