"""The straightforward sampler's run: whole windows, one after the other, written section by section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import counted, progress
from teramind_data.geometry import Box
from teramind_data.store import BrainWriter
from teramind_model.generate.job import Job
from teramind_model.generate.sampling import Sampler
from teramind_model.generate.watch import Watcher

__all__ = ["run_windows"]

Say = Callable[[str], None]


def run_windows(
    writer: BrainWriter, sampler: Sampler, job: Job, on_shard: Watcher, check: Callable[[], None], say: Say
) -> int:
    """Make and write every window that is not wholly written; their number. ``check`` raises what is to end it."""
    pending = {z + job.first for z, _ in writer.pending("morphology")}
    todo = [window for window in job.windows if not pending.isdisjoint(window.image)]
    if len(todo) < len(job.windows):
        there = f"{len(job.windows) - len(todo)} of {counted(len(job.windows), 'window')}"
        say(f"{writer.url}: resuming, {there} already there")
    corner = sampler.inside

    def cut(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image[(..., *job.inside.shift(-corner.y0, -corner.x0).slices)]

    with progress(len(todo) * sampler.tile_steps, "generate", "tile-steps") as advance:
        for window in todo:
            images = sampler.window(window, advance)
            for slot, z in enumerate(window.image):
                # Slices beyond the last section, or not asked for, are discarded.
                if job.first <= z < job.end:
                    check()
                    _write_section(writer, z - job.first, job.inside, cut(images[:, slot]), on_shard)
    return len(todo)


def _write_section(
    writer: BrainWriter, z: int, where: Box, image: NDArray[np.uint8], on_shard: Watcher
) -> None:
    """Write one section shard by shard: ``image (stains, h, w)`` at ``where``, black elsewhere."""
    for section, shard in writer.shards("morphology"):
        if section != z:
            continue
        block = np.zeros((image.shape[0], *shard.shape), np.uint8)
        common = shard.intersect(where)
        if common is not None:
            into = common.shift(-shard.y0, -shard.x0).slices
            block[(..., *into)] = image[(..., *common.shift(-where.y0, -where.x0).slices)]
        writer.write("morphology", z, shard, block)
        on_shard(z, shard, block)
