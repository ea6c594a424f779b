"""A generation at its planned size without the network: made, killed and continued, and looked at."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

from teramind_data.console import counted, note
from teramind_data.errors import InputError, StoreError
from teramind_data.geometry import Box, tiles
from teramind_data.store import (
    Brain,
    BrainSpec,
    Location,
    create_brain,
    open_brain,
    resume_brain,
    store_state,
)
from teramind_model.generate.budget import unit_memory
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.counting import Counts
from teramind_model.generate.job import Job, choose_width, layout_of, plan_job, work_of
from teramind_model.generate.plan import Plan, make_plan
from teramind_model.generate.setting import Setting, prepare
from teramind_model.generate.source import Source
from teramind_model.generate.strips import Strips
from teramind_model.generate.units import Unit, units
from teramind_model.simulation.check import Expected, Marks, check_once, check_pixels, file_marks
from teramind_model.simulation.lives import Life, live, moments

__all__ = ["Outcome", "check_unmade", "fitted", "simulate"]

Shards = list[tuple[int, Box]]


@dataclass(frozen=True)
class Outcome:
    """What a simulation took. ``stored`` of the ``shards`` hold something, the others are listed as empty; ``compared``
    blocks of pixels were what they must be; ``size`` is of the whole store in bytes; ``last`` is what the last of the
    ``lives`` made."""

    plan: Plan
    shards: int
    stored: int
    compared: int
    size: int
    lives: tuple[Life, ...]
    seconds: float
    cpu_seconds: float
    last: Counts

    @property
    def restarts(self) -> int:
        """Processes that were killed."""
        return sum(life.killed for life in self.lives)

    @property
    def quarters(self) -> tuple[int, ...]:
        """Largest resident memory while each quarter of the shards was made, in bytes; 0 where none was seen."""
        peaks = [0, 0, 0, 0]
        for sample in (sample for life in self.lives for sample in life.samples if not sample.closing):
            quarter = sample.shards * 4 // self.shards
            peaks[quarter] = max(peaks[quarter], sample.resident)
        return tuple(peaks)

    @property
    def closing(self) -> int:
        """The same while coarse levels and tables were made, all shards being there."""
        seen = (s.resident for life in self.lives for s in life.samples if s.closing)
        return max(seen, default=0)


def check_unmade(config: GenerateConfig, planned: Source, spec: BrainSpec, restarts: int) -> None:
    """Refuse what :func:`simulate` would, for an atlas that is still to be made; arguments as there.

    Raises:
        InputError: where the request does not fit the atlas, or the memory.
    """
    with TemporaryDirectory() as folder:
        create_brain(f"{folder}/atlas.zarr", spec)  # its metadata says how large it is
        atlas = open_brain(f"{folder}/atlas.zarr", incomplete=True)
        job = plan_job(config, planned, atlas)
        choose_width(config, planned, atlas, job)
        _check_restarts(restarts, _whole(job, atlas))


def fitted(config: GenerateConfig, planned: Source, null: Source) -> GenerateConfig:
    """The request for the null network, which gets the strips that the planned network has in the memory of ``config``.

    Raises:
        InputError: where that network does not fit.
    """
    atlas = open_brain(config.atlas)
    job = plan_job(config, planned, atlas)
    width = choose_width(config, planned, atlas, job)
    if width is None:
        raise InputError("only the wavefront is simulated", found=planned.method.name)
    layout = layout_of(planned, atlas, job)
    widest = max(len(columns) for columns in layout.strips(width))
    need = unit_memory(work_of(config, null), widest, layout.known.width, layout.band)
    return replace(config, run=replace(config.run, device="cpu", memory=config.draws * need))


def simulate(
    config: GenerateConfig, planned: Source, null: Source, *, restarts: int = 0, seed: int = 0
) -> Outcome:
    """Generate ``config.out`` with the null network, and hold what is there to what must be.

    Args:
        config: as of the generation that is simulated.
        planned: whose network decides, with the memory in ``config``, how wide strips are; needs no weights.
        null: what runs in its place (``null_source``).
        restarts: processes to kill (SIGKILL) at moments drawn from ``seed``; fewer, where the last moments come late.
        seed: of the moments, and of the blocks of pixels that are looked at.

    Raises:
        InputError, PanelError, OutputExistsError: where it cannot be begun.
        StoreError: where what it left is not what must be there.
    """
    config = fitted(config, planned, null)
    setting = prepare(config, "cpu", null)
    plan = make_plan(config, null, setting.atlas)
    strips, every = _strips(setting)
    whole = _whole(setting.job, setting.atlas)
    if sum(_work(strips, every, whole), Counts()) != plan.counts:
        raise StoreError("units are not those that were planned", where=config.atlas)
    _check_restarts(restarts, whole)
    began, cpu = time.monotonic(), _cpu_of_children()
    lives, left, marks = _lives(config, null, whole, restarts, seed)
    seconds, cpu_seconds = time.monotonic() - began, _cpu_of_children() - cpu
    brain = open_brain(config.out)
    check_once(marks, file_marks(config.out, brain.layout("morphology"), whole))
    last = sum(_work(strips, every, left), Counts())
    _check_made(brain, last)
    stored, compared = check_pixels(brain, Expected(setting), seed)
    size = Location(config.out).size("")
    return Outcome(plan, len(whole), stored, compared, size, tuple(lives), seconds, cpu_seconds, last)


def _whole(job: Job, atlas: Brain) -> Shards:
    """All shards of the store."""
    boxes = list(tiles(Box.from_shape(atlas.canvas), atlas.spec.shard_px))
    return [(z, box) for z in range(job.end - job.first) for box in boxes]


def _check_restarts(restarts: int, whole: Shards) -> None:
    if not 0 <= restarts < len(whole):
        raise InputError("restarts are not usable", expected=f"0 .. {len(whole) - 1}", found=restarts)


def _strips(setting: Setting) -> tuple[Strips, tuple[Unit, ...]]:
    """What makes the units, and the units."""
    layout = layout_of(setting.source, setting.atlas, setting.job)
    width = choose_width(setting.config, setting.source, setting.atlas, setting.job)
    assert width is not None  # the null network has a wavefront
    return setting.strips(lambda z, box, block: None), units(setting.job.windows, layout, width)


def _work(strips: Strips, every: Sequence[Unit], pending: Shards) -> list[Counts]:
    """Of each unit, where some shards are not written; StoreError where one is not exactly one unit's."""
    mine = [strips.shards(pending, unit) for unit in every]
    owners = Counter(shard for shards in mine for shard in shards)
    if set(owners) != set(pending) or set(owners.values()) - {1}:
        raise StoreError("shards have no unit, or two")
    return [strips.count(unit, shards) for unit, shards in zip(every, mine, strict=True)]


def _lives(
    config: GenerateConfig, null: Source, whole: Shards, restarts: int, seed: int
) -> tuple[list[Life], Shards, Marks]:
    """All processes; what was left to the last, and the files that were finished before it."""
    lives: list[Life] = []
    left, marks = whole, Marks()
    for moment in [*moments(len(whole), restarts, seed), None]:
        lives.append(live(config, null, len(whole), moment))
        if store_state(config.out) == "complete":
            break
        writer = resume_brain(config.out)
        left = writer.pending("morphology")
        done = [shard for shard in whole if shard not in set(left)]
        now = file_marks(config.out, writer.image("morphology").layout, done)
        check_once(marks, now)
        marks = now
        note(f"SIGKILL after {len(done):,} of {counted(len(whole), 'shard')}; going on")
    return lives, left, marks


def _check_made(brain: Brain, last: Counts) -> None:
    """StoreError where the last process did another thing than what was left."""
    run = brain.provenance["run"]
    for key, expected in (
        ("tile_steps", last.decoded),
        ("patches_encoded", last.encoded),
        ("bins_read", last.bins_read),
        ("shards_written", last.shards_written),
    ):
        if run[key] != expected:
            raise StoreError(f"{key.replace('_', ' ')} are not what was left", brain.url, expected, run[key])


def _cpu_of_children() -> float:
    """CPU seconds of processes that ended."""
    now = os.times()
    return now.children_user + now.children_system
