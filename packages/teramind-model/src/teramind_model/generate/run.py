"""From an atlas and a checkpoint to a generated store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from teramind_data.console import counted, progress
from teramind_data.errors import InputError
from teramind_data.store import (
    Brain,
    BrainSpec,
    BrainWriter,
    Location,
    open_brain,
    resume_brain,
    store_state,
    tidy_store,
)
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.draws import add_images
from teramind_model.generate.execute import Executor, executor
from teramind_model.generate.job import choose_width, computed, layout_of
from teramind_model.generate.ledger import Ledger
from teramind_model.generate.lock import Hold, hold_output
from teramind_model.generate.output import begin, decide
from teramind_model.generate.parts import Part
from teramind_model.generate.reached import changes_counts
from teramind_model.generate.record import provenance_of, spec_of
from teramind_model.generate.sampling import Sampler
from teramind_model.generate.setting import Setting, prepare
from teramind_model.generate.source import Source
from teramind_model.generate.strips import Done
from teramind_model.generate.units import units
from teramind_model.generate.watch import Preview, Watchers, watchers
from teramind_model.generate.windows import run_windows

__all__ = ["generate"]

Say = Callable[[str], None]
_PATIENCE_S, _GLANCE_S = 600.0, 1.0
"""How long a part waits for the first to begin a store on a server that has no locks."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def generate(config: GenerateConfig, source: Source | None = None, *, say: Say = _to_stderr) -> Brain:
    """Generate the images of an atlas's genes into a store, and open it.

    Stopped anywhere it resumes at the first shards that are not wholly written; the arrays end byte-identical to
    those of an undisturbed run on the same device with the same number of threads. A store that is complete and
    was made from the same request is left as it is. A run of a part of the units completes the store where it is the
    last; the store that it returns is incomplete where it is not.

    Args:
        config: what to generate.
        source: the network, where it is loaded already; ``config.checkpoint`` otherwise. Other processes load that.
        say: takes the lines for the person at the keyboard.

    Raises:
        MissingInputError, InputError, PanelError: where atlas, checkpoint and request do not fit; nothing is
            written then.
        OutputExistsError: where something else is at the output's name, or another run is writing it.
        WorkerError: where processes or workers that make the units die again and again.
    """
    sampler_steps(config.sampler, config.steps)
    _refuse_own_input(config)
    with executor(config) as by:
        device = by.device(config.run.device)
        config = replace(config, run=config.run.on(device, partial(by.memory, device)))
        setting = prepare(config, device, source, by.home)
        run = _Run(setting, choose_width(setting.config, setting.source, setting.atlas, setting.job), by, say)
        if decide(config.out, setting.request, overwrite=config.run.overwrite) == "up to date":
            return run.up_to_date()
        if setting.edits is not None and not changes_counts(setting):
            say(
                f"{config.out}: the edits change no count that the network sees: the brain is as without them"
            )
        with hold_output(config.out, config.hands.part, say) as hold:
            return run.make(hold)


def _refuse_own_input(config: GenerateConfig) -> None:
    """InputError where the output is a store that is read: ``--overwrite`` would destroy it."""
    out = _place(config.out)
    for option, store in (("--atlas", config.atlas), ("--compare-with", config.watch.compare_with)):
        if store is not None and _place(store) == out:
            raise InputError(
                f"--out is the store that {option} reads", where=config.out, remedy="Choose another name"
            )


def _place(url: str) -> str:
    """A store's place, links followed."""
    location = Location(url)
    return str(location.path.resolve()) if location.is_local else location.url


class _Run:
    """One run, from its request to the store that it leaves. ``strip``: width of its units, see ``choose_width``."""

    def __init__(self, setting: Setting, strip: int | None, by: Executor, say: Say) -> None:
        self.setting, self.config, self.out = setting, setting.config, setting.config.out
        self.by, self.say, self.threads = by, say, by.threads()
        self.part = self.config.hands.part
        self.ledger = Ledger(self.out)
        self.strip = strip
        if strip is None and (self.part is not None or not self.config.hands.alone):
            raise InputError(
                "only the wavefront has units to share out",
                expected="one process; or --engine wavefront and a method that has it",
                found=f"{setting.source.method.name}, engine {self.config.run.engine}",
            )

    def up_to_date(self) -> Brain:
        """The store that is there."""
        tidy_store(self.out)  # of what a run had no time for that was killed at its very end
        brain = open_brain(self.out)
        if (file := self.config.watch.preview) is not None:
            Preview(Path(file), brain.spec).show(brain)
        if self.config.watch.compare_with is not None:
            self.say(
                "--compare-with looks at what is being made; `teramind-eval report` compares what is there"
            )
        self.say(f"{self.out}: up to date, nothing to do")
        return brain

    def make(self, hold: Hold) -> Brain:
        """Make what is not there."""
        began = time.monotonic()
        setting, config = self.setting, self.config
        provenance = provenance_of(config, setting.source, setting.atlas, setting.request, setting.counts)
        spec = spec_of(setting.source, setting.atlas, setting.job, provenance)
        watching = watchers(config.watch, spec, setting.job.inside, self.say)
        self._await_first(hold)
        with hold.beginning():
            writer = self._begin(spec)
        if writer is None:
            return self.up_to_date()
        watching.catch_up(writer)
        make = self._windows if self.strip is None else self._units
        made = make(writer, watching, hold)
        brain = self._close(writer, provenance, made, began, hold)
        watching.finish(brain)
        return brain

    def _close(
        self, writer: BrainWriter, provenance: dict[str, Any], made: dict[str, Any], began: float, hold: Hold
    ) -> Brain:
        """Complete the store, unless other parts are to; ``made`` is what this run did since ``began``."""
        run = {
            "wall_time_s": round(time.monotonic() - began, 3),
            **made,
            "device": self.setting.device,
            "threads": self.threads,
            "memory": self.config.run.room,
        }
        if self.part is not None and not self._is_last(self.part, hold, writer, run):
            return open_brain(self.out, incomplete=True)
        hold.check()
        parts = self.ledger.records()
        writer.set_provenance({**provenance, "run": {**run, "parts": parts} if parts else run})
        _write_table(writer, self.say)
        return writer.finish()

    def _begin(self, spec: BrainSpec) -> BrainWriter | None:
        """The writer of a store whose metadata is whole; None where it is complete meanwhile."""
        config, setting = self.config, self.setting
        decision = decide(self.out, setting.request, overwrite=config.run.overwrite)
        if decision == "up to date":
            return None
        agreed = self.ledger.strip() if decision == "resume" and self.part is not None else None
        if agreed is not None:
            return self._join(agreed)
        overwrite = config.run.overwrite
        writer = begin(decision, self.out, spec, setting.atlas, setting.job.first, overwrite=overwrite)
        if config.draws > 1:
            add_images(writer, config.draws)
        if self.part is not None and self.strip is not None:
            self.ledger.begin(self.strip)
        return writer

    def _await_first(self, hold: Hold) -> None:
        """Where nothing keeps two parts from beginning a store at once, the first does it, and others wait for it."""
        if hold.certain or self.part is None or self.part.index == 1:
            return
        end = time.monotonic() + _PATIENCE_S
        while store_state(self.out) != "complete" and self.ledger.strip() is None:
            if time.monotonic() > end:
                raise InputError(
                    "no part has begun this store, which only the first may do where there are no locks",
                    where=self.out,
                    remedy=f"Run --units 1/{self.part.of}",
                )
            time.sleep(_GLANCE_S)

    def _join(self, agreed: int) -> BrainWriter:
        """Write beside other parts, in strips of the width that they agreed on."""
        if self.strip is not None and agreed > self.strip:
            raise InputError(
                "the parts of this store are cut into wider strips than fit this one's memory",
                where=self.out,
                expected=f"strips of at most {self.strip} bands",
                found=agreed,
                remedy="Pass the --memory of the part that began it",
            )
        self.strip = agreed
        return resume_brain(self.out)

    def _windows(self, writer: BrainWriter, watching: Watchers, hold: Hold) -> dict[str, Any]:
        setting, config = self.setting, self.config
        tiles = computed(config, setting.source, setting.job)
        sampler = Sampler(
            setting.source,
            setting.counts,
            tiles,
            setting.atlas.canvas,
            sampler_steps(config.sampler, config.steps),
            config.seed,
            config.run.precision,
            setting.tissue,
        )
        return {"windows": run_windows(writer, sampler, setting.job, watching, hold.check, self.say)}

    def _units(self, writer: BrainWriter, watching: Watchers, hold: Hold) -> dict[str, Any]:
        """Make and write all units of this run that are not wholly written."""
        assert self.strip is not None
        setting = self.setting
        layout = layout_of(setting.source, setting.atlas, setting.job)
        every = units(setting.job.windows, layout, self.strip)
        mine = every if self.part is None else self.part.choose(every)
        strips = setting.strips(watching)
        pending = writer.pending("morphology")
        todo = [unit for unit in mine if strips.shards(pending, unit)]
        steps = sum(strips.count(unit, strips.shards(pending, unit)).decoded for unit in todo)
        if len(todo) < len(mine):
            self.say(
                f"{self.out}: resuming, {len(mine) - len(todo)} of {counted(len(mine), 'unit')} already there"
            )
        done = Done()
        if todo:
            with progress(steps, "generate", "tile-steps") as advance:
                done = self.by.make(setting, writer, todo, watching, advance, hold.check)
        self.say(
            f"{self.out}: {counted(len(todo), 'unit')}, {counted(done.tile_steps, 'tile-step')}; "
            f"{counted(done.bins_read, 'gene bin')} read, {counted(done.shards_written, 'shard')} written"
        )
        return {**asdict(done), "strip": self.strip}

    def _is_last(self, part: Part, hold: Hold, writer: BrainWriter, run: dict[str, Any]) -> bool:
        """Whether this part is to complete the store: everything is written, and nobody else is at work."""
        if run["shards_written"]:
            self.ledger.record(part, run)
        # Before looking at what is left: of parts that look at once, who is still held last must see all.
        last = hold.become_last()
        if store_state(self.out) == "complete":
            return False  # by another part, a moment ago
        left = len(writer.pending("morphology"))
        if left:
            self.say(f"{self.out}: part {part} is made; {counted(left, 'shard')} left to other parts")
            return False
        if not last:
            self.say(
                f"{self.out}: all parts are made; the last at work completes the store, "
                "or the same command without --units"
            )
        return last


def _write_table(writer: BrainWriter, say: Say) -> None:
    """The SpatialData section table, where anndata is installed to write it."""
    if find_spec("anndata") is None:
        say(f"{writer.url}: anndata is not installed, so no tables/sections was written")
        return
    from teramind_data.elements import write_sections_table

    # One may be there from a run that was stopped between here and the end.
    write_sections_table(writer.url, overwrite=True)
