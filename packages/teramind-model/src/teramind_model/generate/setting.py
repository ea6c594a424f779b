"""What a run knows before it touches its output, the same in every process that takes part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.store import Brain, open_brain
from teramind_model.controls import CountsSource, MeasuredCounts, NeighbourCounts, shuffle_counts
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.edits import EditedCounts, Edits, find_edits
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.job import Job, layout_of, plan_job
from teramind_model.generate.ready import check_compile, made_ready
from teramind_model.generate.record import request_of
from teramind_model.generate.source import Source, load_source
from teramind_model.generate.strips import Strips
from teramind_model.generate.tissue import TissueTiles
from teramind_model.generate.watch import Watcher

__all__ = ["Setting", "prepare"]


@dataclass(frozen=True)
class Setting:
    """A request, and what was found for it. ``genes`` are channels of the atlas in the network's order; ``request`` is
    all that decides the bytes of the result."""

    config: GenerateConfig
    device: str
    atlas: Brain
    source: Source
    genes: NDArray[np.int64]
    job: Job
    edits: Edits | None
    request: dict[str, Any]

    @cached_property
    def counts(self) -> CountsSource:
        """The genes that the network sees; shuffling surveys the whole atlas."""
        counts = self._unedited()
        if self.edits is None:
            return counts
        return EditedCounts(counts, self.edits, self.atlas.canvas, self.atlas.n_sections)

    def _unedited(self) -> CountsSource:
        config = self.config
        if config.control == "shuffled":
            tile = config.control_tile or self.source.network.patch
            return shuffle_counts(self.atlas, self.genes, tile=tile, strata=config.strata, seed=config.seed)
        if config.control == "neighbour":
            return NeighbourCounts(self.atlas, self.genes)
        return MeasuredCounts(self.atlas, self.genes)

    @property
    def tissue(self) -> TissueTiles | None:
        """Where only tissue is made: where that is."""
        return TissueTiles(self.atlas, self.source.network.patch) if self.config.tissue_only else None

    def strips(self, on_shard: Watcher) -> Strips:
        """What makes the units; ``on_shard`` is shown each shard once it is written."""
        config, job = self.config, self.job
        return Strips(
            source=self.source,
            counts=self.counts,
            steps=sampler_steps(config.sampler, config.steps),
            seeds=tuple(range(config.seed, config.seed + config.draws)),
            layout=layout_of(self.source, self.atlas, job),
            canvas=self.atlas.canvas,
            first=job.first,
            end=job.end,
            batch=config.run.places,
            precision=config.run.precision,
            on_shard=on_shard,
            tissue=self.tissue,
        )


def prepare(config: GenerateConfig, device: str, source: Source | None = None, home: str = "") -> Setting:
    """Find atlas and checkpoint, and what is asked of them.

    Args:
        config: what to generate.
        device: where the network runs, already resolved by ``pick_device``.
        source: the network, where it is loaded already; ``config.checkpoint`` otherwise.
        home: where to load it to, if not to ``device``.

    Raises:
        MissingInputError, InputError, PanelError: where atlas, checkpoint and request do not fit.
    """
    config = replace(config, run=config.run.on(device))
    atlas = open_brain(config.atlas)
    source = load_source(config.checkpoint, home or device) if source is None else source
    check_compile(source, config.run, device)
    if not home:
        source = made_ready(source, config.run)
    source.check_pixel_size(atlas)
    genes = source.gene_positions(atlas)
    job = plan_job(config, source, atlas)
    edits = find_edits(config.edits, config.edit_region, source.panel, atlas) if config.edits else None
    request = request_of(config, source, atlas, job, device, edits)
    return Setting(config, device, atlas, source, genes, job, edits, request)
