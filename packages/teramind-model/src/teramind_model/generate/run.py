"""From an atlas and a checkpoint to a generated store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.errors import InputError
from teramind_data.geometry import Box, Window, windows
from teramind_data.store import Brain, BrainSpec, BrainWriter, Section, open_brain
from teramind_model.controls import CountsSource, MeasuredCounts, NeighbourCounts, shuffle_counts
from teramind_model.diffusion.ddim import ddim_steps
from teramind_model.generate.budget import Work, check_memory
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.draws import add_images
from teramind_model.generate.output import atlas_identity, begin, decide, software_versions
from teramind_model.generate.sampling import Sampler
from teramind_model.generate.source import Source, load_source, pick_device
from teramind_model.generate.strips import Done, Strips
from teramind_model.generate.units import Layout, choose_strip, tile_steps, units
from teramind_model.generate.watch import Watcher, watchers
from teramind_model.methods.two_paths import TwoPathMethod

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
    ddim_steps(config.steps)
    device = pick_device(config.run.device)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    atlas = open_brain(config.atlas)
    source = load_source(config.checkpoint, device) if source is None else source
    source.check_pixel_size(atlas)
    genes = source.gene_positions(atlas)
    job = _plan(config, source, atlas)
    strip = _fits(config, source, atlas, job)
    request = _request(config, source, atlas, job, device)
    decision = decide(config.out, request, overwrite=config.run.overwrite)
    if decision == "up to date":
        say(f"{config.out}: up to date, nothing to do")
        return open_brain(config.out)
    began = time.monotonic()
    counts = _counts(config, source, atlas, genes)
    provenance = _provenance(config, source, atlas, request, counts)
    spec = _spec(source, atlas, job, provenance)
    watching = watchers(config.watch, spec, job.inside, say)
    writer = begin(decision, config.out, spec, atlas, job.first, overwrite=config.run.overwrite)
    if config.draws > 1:
        add_images(writer, config.draws)
    watching.catch_up(writer)
    if strip is None:
        tiles = _computed(config, source, job)
        sampler = Sampler(
            source, counts, tiles, atlas.canvas, config.steps, config.seed, config.run.precision
        )
        made: dict[str, Any] = {"windows": _run_windows(writer, sampler, job, watching, say)}
    else:
        strips = _strips(config, source, atlas, job, counts, watching)
        made = asdict(_run_units(writer, strips, job, strip, say))
    watching.finish()
    run = {"wall_time_s": round(time.monotonic() - began, 3), **made, "device": device}
    writer.set_provenance({**provenance, "run": {**run, "threads": torch.get_num_threads()}})
    _write_table(writer, say)
    return writer.finish()


@dataclass(frozen=True)
class _Job:
    """Which windows and which part of the canvas.

    ``first`` and ``end`` are sections of the atlas; ``tiles`` whole tiles, ``inside`` what of them is on the canvas;
    ``known`` the tiles that may be computed for them, -1 outside.
    """

    first: int
    end: int
    windows: tuple[Window, ...]
    tiles: Box
    inside: Box
    known: Box


def _plan(config: GenerateConfig, source: Source, atlas: Brain) -> _Job:
    network = source.network
    first, end = config.sections or (0, atlas.n_sections)
    if end > atlas.n_sections:
        raise InputError(
            "sections are not in the atlas", atlas.url, f"within 0:{atlas.n_sections}", f"{first}:{end}"
        )
    # Counted from the atlas's first section, so that a part equals the same part of the whole.
    chosen = tuple(
        window
        for window in windows(atlas.n_sections, network.gene_slices, network.image_slices)
        if any(first <= z < end for z in window.image)
    )
    whole = Box.from_shape(atlas.canvas)
    roi = whole if config.roi is None else config.roi
    tiles = roi.cover(network.patch) if whole.contains(roi) else None
    inside = None if tiles is None else tiles.clip(atlas.canvas)
    if tiles is None or inside is None:
        raise InputError("region is not on the canvas", atlas.url, f"inside {whole}", roi)
    known = whole.cover(network.patch) if config.roi_exact else tiles
    return _Job(first, end, chosen, tiles, inside, known)


def _computed(config: GenerateConfig, source: Source, job: _Job) -> Box:
    """What the straightforward sampler computes: the tiles, and around them all known ones that they may depend on.

    A tile depends on its neighbours' halves (or less) at each step, so on no tile further off than there are steps.
    """
    grown = job.tiles.expand(config.steps * source.network.patch).intersect(job.known)
    assert grown is not None  # the tiles are known themselves
    return grown


def _layout(source: Source, atlas: Brain, job: _Job) -> Layout:
    patch = source.network.patch
    return Layout(job.tiles.coarsen(patch), job.known.coarsen(patch), patch, atlas.spec.shard_px)


def _fits(config: GenerateConfig, source: Source, atlas: Brain, job: _Job) -> int | None:
    """Width of the wavefront's strips, in bands; None for the straightforward sampler.

    Raises:
        InputError: where the work does not fit the memory.
    """
    # By the method, not by the network: the same network may be denoised another way (patches alone).
    if config.run.engine == "straightforward" or not isinstance(source.method, TwoPathMethod):
        if config.draws > 1:
            raise InputError(
                "only the wavefront makes several draws",
                expected="--seeds 1, or --engine wavefront and a method that has it",
                found=f"--seeds {config.draws}, {source.method.name}, engine {config.run.engine}",
            )
        check_memory(source.network, _computed(config, source, job), config.run.memory)
        return None
    network = source.network
    work = Work(source.model.config, network.genes, network.gene_slices, config.steps, config.run.batch)
    # The draws of a unit are made side by side.
    return choose_strip(work, _layout(source, atlas, job), config.run.memory // config.draws)


def _strips(
    config: GenerateConfig, source: Source, atlas: Brain, job: _Job, counts: CountsSource, on_shard: Watcher
) -> Strips:
    return Strips(
        source=source,
        counts=counts,
        steps=ddim_steps(config.steps),
        seeds=tuple(range(config.seed, config.seed + config.draws)),
        layout=_layout(source, atlas, job),
        canvas=atlas.canvas,
        first=job.first,
        end=job.end,
        batch=config.run.batch,
        precision=config.run.precision,
        on_shard=on_shard,
    )


def _run_units(writer: BrainWriter, strips: Strips, job: _Job, strip: int, say: Say) -> Done:
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


def _request(config: GenerateConfig, source: Source, atlas: Brain, job: _Job, device: str) -> dict[str, Any]:
    """All that decides the bytes of the result; threads apart, which only round differently."""
    control: dict[str, Any] = {"kind": config.control}
    if config.control == "shuffled":
        control |= {"tile": config.control_tile or source.network.patch, "strata": config.strata}
    # Only where asked for: stores made before there was a choice are not of another request.
    further: dict[str, Any] = {"draws": config.draws} if config.draws > 1 else {}
    if config.roi_exact:
        further["roi_exact"] = True
    return {
        **further,
        "checkpoint": source.sha256,
        "atlas": atlas_identity(atlas)["fingerprint"],
        "seed": config.seed,
        "steps": config.steps,
        "sampler": "ddim",
        "sections": [job.first, job.end],
        "region": [job.inside.y0, job.inside.y1, job.inside.x0, job.inside.x1],
        "control": control,
        "precision": config.run.precision,
        "device": device.split(":")[0],
        "plan": {"engine": config.run.engine, "batch": config.run.batch},
    }


def _counts(config: GenerateConfig, source: Source, atlas: Brain, genes: NDArray[np.int64]) -> CountsSource:
    if config.control == "shuffled":
        tile = config.control_tile or source.network.patch
        return shuffle_counts(atlas, genes, tile=tile, strata=config.strata, seed=config.seed)
    if config.control == "neighbour":
        return NeighbourCounts(atlas, genes)
    return MeasuredCounts(atlas, genes)


def _provenance(
    config: GenerateConfig, source: Source, atlas: Brain, request: dict[str, Any], counts: CountsSource
) -> dict[str, Any]:
    return {
        "made_by": "teramind-model generate",
        "request": request,
        "checkpoint": source.provenance(),
        "atlas": atlas_identity(atlas),
        "seed": config.seed,
        "steps": config.steps,
        "sampler": {"name": "ddim", "eta": 0, "engine": config.run.engine, "method": source.method.name},
        "control": counts.provenance(),
        "software": software_versions(),
    }


def _spec(source: Source, atlas: Brain, job: _Job, provenance: dict[str, Any]) -> BrainSpec:
    sections = tuple(
        Section(
            index=z - job.first,
            name=atlas.sections[z].name,
            z_um=atlas.sections[z].z_um,
            source={"generated_from": atlas.url, "section": z},
        )
        for z in range(job.first, job.end)
    )
    return BrainSpec(
        kind="generated",
        canvas=atlas.canvas,
        pixel_size_um=atlas.pixel_size_um,
        sections=sections,
        panel=source.panel,
        stains=source.stains,
        provenance=provenance,
        chunk=atlas.spec.chunk,
        shard=atlas.spec.shard_px,
    )


def _run_windows(writer: BrainWriter, sampler: Sampler, job: _Job, on_shard: Watcher, say: Say) -> int:
    """Make and write every window that is not wholly written; their number."""
    pending = {z + job.first for z, _ in writer.pending("morphology")}
    todo = [window for window in job.windows if not pending.isdisjoint(window.image)]
    if len(todo) < len(job.windows):
        say(f"{writer.url}: resuming, {len(job.windows) - len(todo)} of {len(job.windows)} windows are there")
    corner = sampler.inside

    def cut(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image[(..., *job.inside.shift(-corner.y0, -corner.x0).slices)]

    with progress(len(todo) * sampler.tile_steps, "generate", "tile-steps") as advance:
        for window in todo:
            images = sampler.window(window, advance)
            for slot, z in enumerate(window.image):
                # Slices beyond the last section, or not asked for, are discarded.
                if job.first <= z < job.end:
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


def _write_table(writer: BrainWriter, say: Say) -> None:
    """The SpatialData section table, where anndata is installed to write it."""
    if find_spec("anndata") is None:
        say(f"{writer.url}: anndata is not installed, so no tables/sections was written")
        return
    from teramind_data.elements import write_sections_table

    # One may be there from a run that was stopped between here and the end.
    write_sections_table(writer.url, overwrite=True)
