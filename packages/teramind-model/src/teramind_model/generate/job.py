"""What a generation makes: which windows, which part of the canvas, in strips how wide."""

from __future__ import annotations

from dataclasses import dataclass

from teramind_data.errors import InputError
from teramind_data.geometry import Box, Window, windows
from teramind_data.store import Brain
from teramind_model.diffusion.steps import carried, sampler_steps
from teramind_model.generate.budget import Work, check_memory
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.source import Source
from teramind_model.generate.units import Layout, choose_strip
from teramind_model.methods.two_paths import TwoPathMethod

__all__ = ["Job", "choose_width", "computed", "layout_of", "plan_job", "work_of"]


@dataclass(frozen=True)
class Job:
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


def plan_job(config: GenerateConfig, source: Source, atlas: Brain) -> Job:
    """What is asked for, on this atlas; InputError where sections or region are not in it."""
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
    return Job(first, end, chosen, tiles, inside, known)


def computed(config: GenerateConfig, source: Source, job: Job) -> Box:
    """What the straightforward sampler computes: the tiles, and around them all known ones that they may depend on.

    A tile depends on its neighbours' halves (or less) at each step, so on no tile further off than there are steps.
    """
    grown = job.tiles.expand(config.steps * source.network.patch).intersect(job.known)
    assert grown is not None  # the tiles are known themselves
    return grown


def layout_of(source: Source, atlas: Brain, job: Job) -> Layout:
    """Where the job's tiles lie, in tile units."""
    patch = source.network.patch
    return Layout(job.tiles.coarsen(patch), job.known.coarsen(patch), patch, atlas.spec.shard_px)


def choose_width(config: GenerateConfig, source: Source, atlas: Brain, job: Job) -> int | None:
    """Width of the wavefront's strips, in bands; None for the straightforward sampler.

    Raises:
        InputError: where the work does not fit the memory.
    """
    history = carried(sampler_steps(config.sampler, config.steps))
    # By the method, not by the network: the same network may be denoised another way (patches alone).
    if config.run.engine == "straightforward" or not isinstance(source.method, TwoPathMethod):
        if config.draws > 1:
            raise InputError(
                "only the wavefront makes several draws",
                expected="--seeds 1, or --engine wavefront and a method that has it",
                found=f"--seeds {config.draws}, {source.method.name}, engine {config.run.engine}",
            )
        check_memory(source.network, computed(config, source, job), config.run.room, history)
        return None
    return choose_strip(work_of(config, source), layout_of(source, atlas, job), config.run.room)


def work_of(config: GenerateConfig, source: Source) -> Work:
    """What a unit's memory follows from; the method must be one with a wavefront."""
    assert isinstance(source.method, TwoPathMethod)
    network = source.network
    return Work(
        source.model.config,
        network.genes,
        network.gene_slices,
        config.steps,
        config.run.places,
        carried(sampler_steps(config.sampler, config.steps)),
        source.method,
        config.run.precision,
        config.draws,
    )
