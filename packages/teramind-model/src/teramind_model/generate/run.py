"""From an atlas and a checkpoint to a generated store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.store import Brain, BrainWriter, open_brain
from teramind_model.controls import CountsSource, MeasuredCounts, NeighbourCounts, shuffle_counts
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.edits import EditedCounts, Edits, find_edits
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.draws import add_images
from teramind_model.generate.job import Job, choose_width, computed, layout_of, plan_job
from teramind_model.generate.output import begin, decide
from teramind_model.generate.record import provenance_of, request_of, spec_of
from teramind_model.generate.sampling import Sampler
from teramind_model.generate.source import Source, load_source, pick_device
from teramind_model.generate.strips import Done, Strips
from teramind_model.generate.units import tile_steps, units
from teramind_model.generate.watch import Watcher, watchers
from teramind_model.generate.windows import run_windows

__all__ = ["generate"]

Say = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def generate(config: GenerateConfig, source: Source | None = None, *, say: Say = _to_stderr) -> Brain:
    """Generate the images of an atlas's genes into a store, and open it.

    Stopped anywhere it resumes at the first window that is not wholly written; the arrays end byte-identical to
    those of an undisturbed run on the same device with the same number of threads. A store that is complete and
    was made from the same request is left as it is.

    Args:
        config: what to generate.
        source: the network, where it is loaded already; ``config.checkpoint`` otherwise.
        say: takes the lines for the person at the keyboard.

    Raises:
        MissingInputError, InputError, PanelError: where atlas, checkpoint and request do not fit; nothing is
            written then.
        OutputExistsError: where something else is at the output's name.
    """
    sampler_steps(config.sampler, config.steps)
    device = pick_device(config.run.device)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    atlas = open_brain(config.atlas)
    source = load_source(config.checkpoint, device) if source is None else source
    source.check_pixel_size(atlas)
    genes = source.gene_positions(atlas)
    job = plan_job(config, source, atlas)
    strip = choose_width(config, source, atlas, job)
    edits = find_edits(config.edits, config.edit_region, source.panel, atlas) if config.edits else None
    request = request_of(config, source, atlas, job, device, edits)
    decision = decide(config.out, request, overwrite=config.run.overwrite)
    if decision == "up to date":
        say(f"{config.out}: up to date, nothing to do")
        return open_brain(config.out)
    began = time.monotonic()
    counts = _counts(config, source, atlas, genes, edits)
    provenance = provenance_of(config, source, atlas, request, counts)
    spec = spec_of(source, atlas, job, provenance)
    watching = watchers(config.watch, spec, job.inside, say)
    writer = begin(decision, config.out, spec, atlas, job.first, overwrite=config.run.overwrite)
    if config.draws > 1:
        add_images(writer, config.draws)
    watching.catch_up(writer)
    if strip is None:
        tiles = computed(config, source, job)
        steps = sampler_steps(config.sampler, config.steps)
        sampler = Sampler(source, counts, tiles, atlas.canvas, steps, config.seed, config.run.precision)
        made: dict[str, Any] = {"windows": run_windows(writer, sampler, job, watching, say)}
    else:
        strips = _strips(config, source, atlas, job, counts, watching)
        made = asdict(_run_units(writer, strips, job, strip, say))
    watching.finish()
    run = {"wall_time_s": round(time.monotonic() - began, 3), **made, "device": device}
    writer.set_provenance({**provenance, "run": {**run, "threads": torch.get_num_threads()}})
    _write_table(writer, say)
    return writer.finish()


def _counts(
    config: GenerateConfig, source: Source, atlas: Brain, genes: NDArray[np.int64], edits: Edits | None
) -> CountsSource:
    counts = _unedited(config, source, atlas, genes)
    return counts if edits is None else EditedCounts(counts, edits, atlas.canvas, atlas.n_sections)


def _unedited(config: GenerateConfig, source: Source, atlas: Brain, genes: NDArray[np.int64]) -> CountsSource:
    if config.control == "shuffled":
        tile = config.control_tile or source.network.patch
        return shuffle_counts(atlas, genes, tile=tile, strata=config.strata, seed=config.seed)
    if config.control == "neighbour":
        return NeighbourCounts(atlas, genes)
    return MeasuredCounts(atlas, genes)


def _strips(
    config: GenerateConfig, source: Source, atlas: Brain, job: Job, counts: CountsSource, on_shard: Watcher
) -> Strips:
    return Strips(
        source=source,
        counts=counts,
        steps=sampler_steps(config.sampler, config.steps),
        seeds=tuple(range(config.seed, config.seed + config.draws)),
        layout=layout_of(source, atlas, job),
        canvas=atlas.canvas,
        first=job.first,
        end=job.end,
        batch=config.run.batch,
        precision=config.run.precision,
        on_shard=on_shard,
    )


def _run_units(writer: BrainWriter, strips: Strips, job: Job, strip: int, say: Say) -> Done:
    """Make and write all units that are not wholly written."""
    every = units(job.windows, strips.layout, strip)
    pending = writer.pending("morphology")
    todo = [(unit, shards) for unit in every if (shards := strips.shards(pending, unit))]
    if len(todo) < len(every):
        say(f"{writer.url}: resuming, {len(every) - len(todo)} of {len(every)} units are there")
    layout = strips.layout
    rows = range(layout.region.y0, layout.region.y1)
    steps = sum(tile_steps(unit.target(rows), layout.known, len(strips.steps)) for unit, _ in todo)
    total = steps * len(strips.seeds)
    done = Done()
    with progress(total, "generate", "tile-steps") as advance:
        for unit, shards in todo:
            strips.run(writer, unit, shards, done, advance)
    say(
        f"{writer.url}: {len(todo)} units, {done.tile_steps:,} tile-steps; "
        f"{done.bins_read:,} gene bins read, {done.shards_written:,} shards written"
    )
    return done


def _write_table(writer: BrainWriter, say: Say) -> None:
    """The SpatialData section table, where anndata is installed to write it."""
    if find_spec("anndata") is None:
        say(f"{writer.url}: anndata is not installed, so no tables/sections was written")
        return
    from teramind_data.elements import write_sections_table

    # One may be there from a run that was stopped between here and the end.
    write_sections_table(writer.url, overwrite=True)
