"""By whom units are made: by this process, by others of this machine, or by the workers of a dask cluster.

All run :func:`make_units`, which goes by the store's journal alone: what a dead worker had finished is not made again,
and who makes a unit changes no byte of it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.console import Advance, note, told
from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_data.store import BrainWriter, open_brain, resume_brain
from teramind_data.workers import Cluster, Pool, Runner, place, runner
from teramind_model.checkpoint import means_shipped
from teramind_model.generate.behind import WriteBehind
from teramind_model.generate.config import GenerateConfig, memory_of
from teramind_model.generate.meter import metered
from teramind_model.generate.output import check_still_for
from teramind_model.generate.setting import Setting, prepare
from teramind_model.generate.source import pick_device
from teramind_model.generate.strips import Done, Strips
from teramind_model.generate.units import Unit
from teramind_model.generate.watch import Watchers

__all__ = ["Executor", "MakeUnit", "executor", "make_units"]

_LOOK_S = 2.0
"""Between looks at the journal while others work."""

Shard = tuple[int, Box]
Check = Callable[[], None]


def make_units(writer: BrainWriter, strips: Strips, todo: Iterable[Unit], advance: Advance) -> Done:
    """Make what of some units is not written yet, and write it beside: one unit's end while the next is begun."""
    done = Done()
    pending = writer.pending("morphology")
    device = next(strips.source.model.parameters()).device
    with metered(done.taken, device), WriteBehind() as behind:
        for unit in todo:
            if shards := strips.shards(pending, unit):
                strips.run(writer, behind, unit, shards, done, advance)
    return done


class Executor(Protocol):
    """Makes units."""

    def device(self, asked: str) -> str:
        """The device that ``asked`` (``auto``, say) is where the work is done; InputError where there is none."""
        ...

    def memory(self, device: str) -> int:
        """Bytes that a unit may take there where nobody says: of the smallest device, shared by who works on it."""
        ...

    @property
    def home(self) -> str:
        """Where this process loads the network to, where that is not the device itself; else empty."""
        ...

    def threads(self) -> int:
        """CPU threads of whoever makes a unit."""
        ...

    def make(
        self,
        setting: Setting,
        writer: BrainWriter,
        todo: Sequence[Unit],
        watching: Watchers,
        advance: Advance,
        check: Check,
    ) -> Done:
        """Make the units; what they read, asked of the network, and wrote. ``check`` raises what is to end it."""
        ...


@dataclass(frozen=True)
class _Here:
    config: GenerateConfig
    home: str = ""

    def device(self, asked: str) -> str:
        return pick_device(asked)

    def memory(self, device: str) -> int:
        return memory_of(device)

    def threads(self) -> int:
        if self.config.run.threads is not None:
            torch.set_num_threads(self.config.run.threads)
        return torch.get_num_threads()

    def make(
        self,
        setting: Setting,
        writer: BrainWriter,
        todo: Sequence[Unit],
        watching: Watchers,
        advance: Advance,
        check: Check,
    ) -> Done:
        def tell(n: float = 1) -> None:
            check()
            advance(n)

        def checked() -> Iterator[Unit]:
            for unit in todo:  # one of background alone tells of no tiles
                check()
                yield unit

        return make_units(writer, setting.strips(watching), checked(), tell)


@dataclass(frozen=True)
class _Elsewhere:
    config: GenerateConfig
    runner: Runner
    home: str = "cpu"

    def device(self, asked: str) -> str:
        hands = self.config.hands
        if hands.devices:
            if asked not in ("auto", "cuda"):
                raise InputError("--device and --devices exclude each other", remedy="Give one of them")
            for number in hands.devices:
                pick_device(f"cuda:{number}")
            return "cuda"
        if not isinstance(self.runner, Cluster):
            return pick_device(asked)
        found = self.runner.ask(partial(pick_device, asked))
        kinds = sorted({device.split(":")[0] for device in found.values()})
        if len(kinds) > 1:
            raise InputError(
                "workers have devices of different kinds, which round differently",
                where=hands.scheduler,
                found=", ".join(kinds),
                remedy="Pass --device, or start workers of one kind",
            )
        return kinds[0]

    def memory(self, device: str) -> int:
        if numbers := self.config.hands.devices:
            return min(memory_of(f"cuda:{number}") for number in numbers)
        if isinstance(self.runner, Cluster):
            return min(self.runner.ask(partial(memory_of, device)).values())
        share = self.runner.workers if isinstance(self.runner, Pool) and device.startswith("cuda") else 1
        return memory_of(device) // share

    def threads(self) -> int:
        if self.config.run.threads is not None:
            return self.config.run.threads
        # Those of several workers together as many as there are cores; dask's own workers have one each.
        return max(1, (os.cpu_count() or 1) // self.runner.workers) if isinstance(self.runner, Pool) else 1

    def make(
        self,
        setting: Setting,
        writer: BrainWriter,
        todo: Sequence[Unit],
        watching: Watchers,
        advance: Advance,
        check: Check,
    ) -> Done:
        strips = setting.strips(watching)
        request = json.dumps(setting.request, sort_keys=True)
        task = MakeUnit(_anywhere(setting, writer), request, self.threads())
        done = Done()
        with _following(writer, strips, todo, watching, advance):
            for _, made in self.runner.map(task, todo, check):
                done.add(made)
        return done


@contextmanager
def executor(config: GenerateConfig) -> Iterator[Executor]:
    """Who makes the units of a generation."""
    hands = config.hands
    if hands.alone:
        yield _Here(config)
        return
    if config.out.startswith("memory:"):
        raise InputError("a store in memory belongs to one process", config.out, remedy="Write elsewhere")
    places = [f"cuda:{number}" for number in hands.devices]
    with runner(hands.workers, hands.scheduler, places) as where:
        yield _Elsewhere(config, where)


def _anywhere(setting: Setting, writer: BrainWriter) -> GenerateConfig:
    """The same for a process that works in another folder."""
    config = setting.config

    def absolute(name: str) -> str:
        return str(Path(name).absolute()) if Path(name).exists() else name

    region = config.edit_region
    return replace(
        config,
        atlas=setting.atlas.url,
        out=writer.url,
        checkpoint=config.checkpoint if means_shipped(config.checkpoint) else absolute(config.checkpoint),
        # A mask's file; a region's name stays one, whatever lies here under it.
        edit_region=absolute(region) if region is not None and region.endswith(".npy") else region,
    )


@dataclass(frozen=True)
class MakeUnit:
    """A task for a worker: one unit of a generation. ``request`` is the driver's, as JSON; ``threads`` of the CPU."""

    config: GenerateConfig
    request: str
    threads: int

    def __call__(self, unit: Unit) -> Done:
        """Make it."""
        torch.set_num_threads(self.threads)
        strips = _strips_here(self.config, self.request, place())
        strips.check()
        return make_units(resume_brain(self.config.out), strips, [unit], _silent)


@lru_cache(maxsize=1)
def _strips_here(config: GenerateConfig, request: str, device: str | None) -> Strips:
    """What makes units in this worker process, loaded once for all of a run's.

    Raises:
        InputError: where this worker finds another atlas or checkpoint than the driver, or has another kind of device.
    """
    setting = prepare(config, pick_device(config.run.device) if device is None else device)
    mine, asked = json.loads(json.dumps(setting.request)), json.loads(request)
    different = [key for key in asked if mine.get(key) != asked[key]]
    if different:
        raise InputError(
            f"a worker finds another {different[0].replace('_', ' ')} than was asked for",
            expected=asked[different[0]],
            found=mine.get(different[0]),
            remedy="Give paths that lead to the same files everywhere, and workers of one kind",
        )
    return replace(setting.strips(_unseen), check=partial(check_still_for, config.out, asked))


def _silent(n: float = 1) -> None:
    """Progress of a unit made elsewhere: the driver sees it in the journal."""


def _unseen(z: int, box: Box, block: NDArray[np.uint8]) -> None:
    """A shard written elsewhere: the driver reads it back, where somebody wants to look."""


@contextmanager
def _following(
    writer: BrainWriter, strips: Strips, todo: Sequence[Unit], watching: Watchers, advance: Advance
) -> Iterator[None]:
    """A scope in which progress and watchers follow the journal, whoever writes it."""
    follower = _Follower(writer, strips, todo, watching, advance)
    ended = threading.Event()

    def follow() -> None:
        try:
            while not ended.wait(_LOOK_S):
                follower.look()
        except BaseException as error:  # noqa: BLE001  raised where the scope ends
            failures.append(error)
            note(
                f"progress stops here, and looking with it; the units do not, the run fails at its end: {told(error)}"
            )

    failures: list[BaseException] = []
    thread = threading.Thread(target=follow, name="journal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
    follower.look()


class _Follower:
    """Tells of shards as they come into the journal: to the progress display their share of a unit's work."""

    def __init__(
        self, writer: BrainWriter, strips: Strips, todo: Sequence[Unit], watching: Watchers, advance: Advance
    ) -> None:
        self._writer, self._watching, self._advance = writer, watching, advance
        pending = writer.pending("morphology")
        self._left: dict[Shard, float] = {}
        for unit in todo:
            shards = strips.shards(pending, unit)
            share = strips.count(unit, shards).decoded / len(shards)
            self._left |= dict.fromkeys(shards, share)

    def look(self) -> None:
        """Tell of what is new."""
        pending = set(self._writer.pending("morphology"))
        new = sorted(
            (shard for shard in self._left if shard not in pending), key=lambda s: (s[0], s[1].y0, s[1].x0)
        )
        brain = open_brain(self._writer.url, incomplete=True) if new and self._watching.anybody else None
        for z, box in new:
            self._advance(self._left.pop((z, box)))
            if brain is not None:
                self._watching(z, box, brain.read("morphology", z, box))
