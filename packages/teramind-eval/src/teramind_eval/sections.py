"""All sections of all stores: one after the other or in workers, each kept on disk when it is measured.

A section's sums are the same wherever and whenever they are made, and are merged in the sections' order: an interrupted
report that goes on, and any number of workers, give the same numbers. Sums of features are large (33 MB for 2,048
features), so those of the sections so far are merged into one, and only those wait that came out of turn.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from teramind_data.workers import runner
from teramind_eval.evaluate import Features, Measured, Opens, Raw, Task, distances, measure_section
from teramind_eval.journal import Journal
from teramind_eval.metrics.distribution import Extractor, FeatureSums
from teramind_eval.metrics.image_on_device import pick_device, scorer
from teramind_eval.walk import HERE, Walk, gone


def measure_brains(task: Task, walk: Walk = HERE) -> Measured:
    """Measure all sections of all stores.

    Args:
        task: what is measured.
        walk: who works, and where the sums of finished sections are kept.

    Raises
    ------
    StoreError, MissingShardError
        where a store cannot be read.
    """
    if walk.folder is None:
        with tempfile.TemporaryDirectory(prefix="teramind-eval-") as name:
            return measure_brains(task, replace(walk, folder=Path(name)))
    keeper = _Keeper(task, Journal(walk.folder))
    todo = keeper.todo()
    walk.tell(len(keeper.sections) - len(todo))
    with runner(walk.workers.count, walk.workers.scheduler) as run:
        for _ in run.map(_Measure(task, keeper.journal), todo):
            keeper.fold()
            walk.tell()
    return keeper.measured()


@dataclass(frozen=True)
class _Measure:
    """Measures a section and keeps its sums; runs anywhere, and twice if need be."""

    task: Task
    journal: Journal

    def __call__(self, section: int) -> None:
        inception, device = self.task.inception, _device_here(self.task.device)
        extractor = None if inception is None else _opened(inception, device)
        raws, features = measure_section(self.task, section, extractor, scorer(device))
        if extractor is not None:
            self.journal.write(_features(section), features)
        # Last: this file says that the section is done.
        self.journal.write(_section(section), raws)


@lru_cache(maxsize=1)
def _device_here(asked: str) -> str:
    """Looking for a GPU takes as long as importing torch does."""
    return pick_device(asked)


@lru_cache(maxsize=1)
def _opened(inception: Opens, device: str) -> Extractor:
    return inception.open(device)


class _Keeper:
    """What is in the journal: sections that are done, and the features of the first of them merged."""

    def __init__(self, task: Task, journal: Journal) -> None:
        self.task, self.journal = task, journal
        self.sections = range(len(task.stores[0].brain.sections))
        self._with_features = task.inception is not None
        #: How many sections the merged features are of, and these.
        self._folded, self._features = self._newest()

    def _newest(self) -> tuple[int, Features]:
        if self._with_features:
            for count in reversed(range(1, len(self.sections) + 1)):
                found = self.journal.read(_folded(count), dict[str, dict[str, FeatureSums]])
                if found is not None:
                    return count, found
        return 0, {}

    def todo(self) -> list[int]:
        """Sections that are not done."""
        return [index for index in self.sections if not self._done(index)]

    def _done(self, index: int) -> bool:
        if self.journal.read(_section(index), dict[str, Raw]) is None:
            return False
        if not self._with_features or index < self._folded:
            return True
        return self.journal.read(_features(index), dict[str, dict[str, FeatureSums]]) is not None

    def fold(self) -> None:
        """Merge the features of all sections whose turn it is."""
        while self._with_features and self._folded < len(self.sections):
            index = self._folded
            if not self.journal.has(_section(index)):
                return
            found: Features | None = self.journal.read(_features(index), dict[str, dict[str, FeatureSums]])
            if found is None:
                return
            self._features = _merged(self._features, found)
            self._folded += 1
            self.journal.write(_folded(self._folded), self._features)
            self.journal.drop(_folded(index))
            self.journal.drop(_features(index))

    def measured(self) -> Measured:
        """All sums, once all sections are done."""
        self.fold()
        if self._with_features and self._folded < len(self.sections):
            raise gone(self.journal, self._folded)
        found: dict[str, list[Raw]] = {one.label: [] for one in self.task.stores}
        for index in self.sections:
            raws: dict[str, Raw] | None = self.journal.read(_section(index), dict[str, Raw])
            if raws is None:
                raise gone(self.journal, index)
            for label, raw in raws.items():
                found[label].append(raw)
        real, *others = (one.label for one in self.task.stores)
        far = distances(self._features, real, others)
        draws = self.task.draws
        apart = distances(self._features, draws[0], draws[1:]) if len(draws) > 1 else {}
        return Measured({label: tuple(raws) for label, raws in found.items()}, far, apart)


def _section(index: int) -> str:
    return f"section_{index:04d}"


def _features(index: int) -> str:
    return f"features_{index:04d}"


def _folded(count: int) -> str:
    return f"folded_{count:04d}"


def _merged(mine: Features, theirs: Features) -> Features:
    out = {label: dict(groups) for label, groups in mine.items()}
    for label, groups in theirs.items():
        into = out.setdefault(label, {})
        for grouping, sums in groups.items():
            into[grouping] = sums if grouping not in into else into[grouping].merge(sums)
    return out
