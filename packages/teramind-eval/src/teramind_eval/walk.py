"""Through a brain section by section: in this process or in workers, each value kept on disk once known.

A value depends on its section alone, and values are taken up in the sections' order: a pass that was stopped and goes
on, and any number of workers, give the same numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from teramind_data.errors import StoreError
from teramind_data.workers import runner
from teramind_eval.journal import Journal

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Workers:
    """Where sections are measured: in so many processes (1: this one), or on a dask.distributed scheduler."""

    count: int = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class Walk:
    """How sections are gone through.

    Attributes:
        folder: keeps values, and is where those of an earlier, interrupted pass over the same are found; nothing
            outlives the pass without.
        workers: who works; a scheduler's workers need the stores and `folder` under the same paths.
        done: called after each section, also after one that was there already.
    """

    folder: Path | None = None
    workers: Workers = Workers()
    done: Callable[[], object] | None = None

    def tell(self, sections: int = 1) -> None:
        """Call `done` for so many sections."""
        if self.done is not None:
            for _ in range(sections):
                self.done()


#: In this process, keeping nothing.
HERE = Walk()


def walk_sections(
    measure: Callable[[int], V], kind: Any, sections: int, name: str, walk: Walk = HERE
) -> Iterator[V]:
    """The value of every section, in their order; one at a time is held.

    Args:
        measure: the value of a section; can be sent to a worker where there are any.
        kind: its type, as `Journal.read` needs it.
        sections: how many there are.
        name: of the pass, in the folder that keeps values.
        walk: how to go.
    """
    if walk.folder is None and walk.workers == Workers():
        for section in range(sections):
            value = measure(section)
            walk.tell()
            yield value
        return
    if walk.folder is None:
        with tempfile.TemporaryDirectory(prefix="teramind-eval-") as folder:
            yield from walk_sections(measure, kind, sections, name, replace(walk, folder=Path(folder)))
        return
    kept = _Kept(measure, Journal(walk.folder), name)
    todo = [section for section in range(sections) if kept.journal.read(kept.name_of(section), kind) is None]
    walk.tell(sections - len(todo))
    with runner(walk.workers.count, walk.workers.scheduler) as run:
        for _ in run.map(kept, todo):
            walk.tell()
    for section in range(sections):
        found: V | None = kept.journal.read(kept.name_of(section), kind)
        if found is None:
            raise gone(kept.journal, section)
        yield found


def gone(journal: Journal, section: int) -> StoreError:
    """The error of a section whose value is not kept any more."""
    return StoreError(
        "a measured section has gone",
        where=journal.folder,
        found=f"no {section}",
        remedy="Give the same command again: it measures that section anew",
    )


@dataclass(frozen=True)
class _Kept(Generic[V]):
    """Measures a section and keeps its value; runs anywhere, and twice if need be."""

    measure: Callable[[int], V]
    journal: Journal
    name: str

    def name_of(self, section: int) -> str:
        return f"{self.name}_{section:04d}"

    def __call__(self, section: int) -> None:
        self.journal.write(self.name_of(section), self.measure(section), compressed=True)
