"""What a generation will take, before any of it is done: units, memory, bytes, work and time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from teramind_data.errors import InputError
from teramind_data.geometry import Box, tiles
from teramind_data.store import Brain
from teramind_model.generate.budget import UnitMemory, unit_needs
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.counting import Counts, count_unit
from teramind_model.generate.job import Job, choose_width, layout_of, plan_job, work_of
from teramind_model.generate.pace import Pace, measure_pace
from teramind_model.generate.source import Source
from teramind_model.generate.tissue import TissueTiles
from teramind_model.generate.units import Layout, Unit, units
from teramind_model.methods.two_paths import TwoPathMethod
from teramind_model.network.cost import Work, count_model
from teramind_model.network.unet import PatchUNet

__all__ = ["Plan", "make_plan", "measured_seconds"]

_PYRAMID = (4, 3)
"""All levels of a pyramid to its finest."""


@dataclass(frozen=True)
class Plan:
    """A generation in numbers.

    Attributes:
        windows, strips, units: windows times strips are units.
        strip_tiles: width of the widest strip in tiles.
        batch, steps, draws: as asked for.
        tiles, tiles_made: tiles of the region, all windows, and those of them that are not background.
        counts: of all units and draws.
        memory: of a unit, all draws side by side; ``weights`` on the device beside it.
        bytes_in: counts read, not compressed, all genes of the atlas (its chunks hold them all), no chunk cut in two.
        bytes_out: images written, their pyramid included, not compressed; shards of background are not stored.
        flop: floating-point operations, idle places of batches included.
    """

    windows: int
    strips: int
    units: int
    strip_tiles: int
    batch: int
    steps: int
    draws: int
    tiles: int
    tiles_made: int
    counts: Counts
    memory: UnitMemory
    weights: int
    bytes_in: int
    bytes_out: int
    flop: int

    def seconds_at(self, tflops: float) -> float:
        """On a device that sustains so many TFLOP/s."""
        return self.flop / (tflops * 1e12)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; sizes in bytes."""
        found = asdict(self)
        found["memory"] |= {"total": self.memory.total}
        return {**found, "idle_places": self.counts.idle(self.batch)}


def make_plan(config: GenerateConfig, source: Source, atlas: Brain) -> Plan:
    """Plan a generation with the wavefront.

    Raises:
        InputError, PanelError: where atlas, checkpoint and request do not fit, or a unit does not fit the memory.
    """
    source.check_pixel_size(atlas)
    source.gene_positions(atlas)
    job = plan_job(config, source, atlas)
    width = choose_width(config, source, atlas, job)
    if width is None or not isinstance(source.method, TwoPathMethod):
        raise InputError(
            "only the wavefront is planned",
            expected="--engine wavefront and a method that has it",
            found=f"{source.method.name}, engine {config.run.engine}",
        )
    layout = layout_of(source, atlas, job)
    every = units(job.windows, layout, width)
    census = _census(config, source, atlas, job, layout, every)
    widest = max(len(unit.columns) for unit in every)
    one = unit_needs(work_of(config, source), widest, layout.known.width, layout.band)
    genes = len(atlas.panel or ()) * (2 if atlas.spec.expression_dtype == "uint16" else 1)
    images = 1 if config.draws == 1 else 1 + 2 * 2  # mean and SD in two bytes each
    return Plan(
        windows=len(job.windows),
        strips=len(every) // len(job.windows),
        units=len(every),
        strip_tiles=widest,
        batch=config.run.places,
        steps=config.steps,
        draws=config.draws,
        tiles=len(job.windows) * layout.region.area,
        tiles_made=census.tiles,
        counts=census.counts,
        memory=UnitMemory(config.draws * one.device, config.draws * one.host),
        weights=sum(t.nbytes for t in (*source.model.parameters(), *source.model.buffers())),
        bytes_in=census.counts.bins_read * source.network.gene_slices * genes,
        bytes_out=census.pixels * len(source.stains) * images * _PYRAMID[0] // _PYRAMID[1],
        flop=_flop(source, census.counts, config.run.places),
    )


def measured_seconds(plan: Plan, config: GenerateConfig, source: Source) -> tuple[float, Pace]:
    """What the plan takes on the device where the network lies, from some seconds of it."""
    assert isinstance(source.model, PatchUNet)
    network = source.network
    pace = measure_pace(
        source.model, (network.genes, network.gene_slices), config.run.places, config.run.precision
    )
    return pace.seconds(plan.counts), pace


@dataclass(frozen=True)
class _Census:
    """``tiles`` made, ``pixels`` of shards that are stored."""

    counts: Counts
    tiles: int
    pixels: int


def _census(
    config: GenerateConfig, source: Source, atlas: Brain, job: Job, layout: Layout, every: tuple[Unit, ...]
) -> _Census:
    """Count unit by unit; units of the same strip are alike where all tiles are made."""
    masks = TissueTiles(atlas, source.network.patch) if config.tissue_only else None
    shards = list(tiles(Box.from_shape(atlas.canvas), atlas.spec.shard_px))
    alike: dict[tuple[range, int], Counts] = {}
    total, made, pixels = Counts(), 0, 0
    for unit in every:
        sections = sum(job.first <= z < job.end for z in unit.window.image)
        mine = [box for box in shards if layout.owns(unit.columns, box)]
        tissue = None if masks is None else masks.window(unit.window)
        pixels += sections * sum(box.area for box in mine if layout.shows(box, tissue))
        target = unit.target(range(layout.region.y0, layout.region.y1))
        made += target.area if tissue is None else int(tissue[target.slices].sum())
        key = (unit.columns, sections)
        found = alike.get(key)
        if found is None:
            found = count_unit(layout, unit, mine * sections, config.steps, config.run.places, tissue)
        if tissue is None:
            alike[key] = found
        total += found
    return _Census(total.draws(config.draws), made, pixels)


def _flop(source: Source, counts: Counts, batch: int) -> int:
    method, network = source.method, source.network
    assert isinstance(method, TwoPathMethod)
    values = network.to_dict()
    if isinstance(source.model, PatchUNet) and "fold_z" in values:
        values["fold_z"] = source.model.config.fold_z  # as it computes here
    with torch.device("meta"):
        model = method.network(method.shape(values)).eval()
    work: Work = count_model(model, network.genes, network.gene_slices)
    return batch * (
        counts.gene_batches * work.gene_branch
        + counts.encode_batches * work.encoder
        + counts.decode_batches * work.decoder
    )
