"""Measure stores against the real one: sums of a section of every store, and the numbers that follow from sums.

Nothing larger than a block of pixels is held of any store; what grows with a section is its table of nuclei. Sections
are independent of each other; `sections` goes through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box, tiles
from teramind_eval.floor import Between
from teramind_eval.likeness import ByStain, ImageSums, measure_tiles
from teramind_eval.metrics.distribution import Distribution, Extractor, FeatureSums, Reference
from teramind_eval.metrics.image import score_tiles
from teramind_eval.metrics.image_on_device import Scorer
from teramind_eval.metrics.seams import Grid, SectionSeams
from teramind_eval.morphometry.annotation import regions_of_nuclei, regions_of_patches
from teramind_eval.morphometry.bootstrap import patch_weights
from teramind_eval.morphometry.compare import Match, match_centroids
from teramind_eval.morphometry.measure import Morphometry, measure
from teramind_eval.morphometry.patches import PatchGrid
from teramind_eval.morphometry.scores import measure_scores, region_scores
from teramind_eval.morphometry.segment import Nuclei, find_nuclei
from teramind_eval.morphometry.truth import read_truth
from teramind_eval.pairs import Compared, read_stain, tissue_blocks, tissue_boxes
from teramind_eval.regions import region_name
from teramind_eval.results import (
    DistributionScores,
    ImageScores,
    MatchScores,
    NucleiScores,
    Scores,
    SectionScores,
    Statistic,
    StoreResult,
)

if TYPE_CHECKING:
    from teramind_eval.morphometry.segmenter import Segmenter
    from teramind_eval.part import Part

NUCLEAR_STAIN = "DAPI"

#: Features of the tiles of all stores: by label, then by stain grouping.
Features = dict[str, dict[str, FeatureSums]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Edges in pixels: `tile` for image scores, `patch` for nuclei counts."""

    tile: int
    patch: int

    @classmethod
    def for_canvas(cls, canvas: tuple[int, int], tile: int | None = None, patch: int | None = None) -> Sizes:
        """The paper's 256 and 1024 px; on a small canvas the largest power of two that cuts it into 8 and 4."""
        short = min(canvas)
        fit = 1 << max(0, (short // 8).bit_length() - 1)
        return cls(tile or min(256, max(16, fit)), patch or min(1024, max(32, 2 * fit)))


class Opens(Protocol):
    """Something small that can be sent to a worker and opened there."""

    def open(self, device: str) -> Extractor:
        """What makes features of tiles on a device."""
        ...

    def __hash__(self) -> int:
        """Equal ones open the same."""
        ...


@dataclass(frozen=True)
class Task:
    """What is measured, and how: all that a worker needs.

    Attributes:
        stores: the real one first.
        sizes: of tiles and patches.
        nuclei: what finds them.
        truth: a phantom's cell tables.
        inception: opens what makes features for FID, sFID and KID; not measured without.
        seed: decides which tiles KID draws.
        grids: by label, how stores were put together; seams are measured of these.
        draws: labels of stores that differ in their seed alone, see `floor.draws_of`.
        device: where tiles are scored and features made, as `metrics.image_on_device.pick_device` takes it.
    """

    stores: tuple[Compared, ...]
    sizes: Sizes
    nuclei: Segmenter
    truth: Path | None = None
    inception: Opens | None = None
    seed: int = 0
    grids: Mapping[str, Grid] = field(default_factory=dict)
    draws: tuple[str, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class Raw:
    """Mergeable sums of one store.

    But for `distribution`, distances of a section, which do not add up to those of a brain, and `seams`, a section's
    own; both are lost in merging.
    """

    image: ImageSums = field(default_factory=ImageSums)
    morphometry: Morphometry = field(default_factory=Morphometry.empty)
    against_truth: Match | None = None
    against_real: Match | None = None
    distribution: dict[str, Distribution] = field(default_factory=dict)
    seams: SectionSeams | None = None
    #: Beside the first draw.
    between: Between = field(default_factory=Between)

    def merge(self, other: Raw) -> Raw:
        """Sums of both."""
        return Raw(
            self.image.merge(other.image),
            self.morphometry.merge(other.morphometry),
            _merge_matches(self.against_truth, other.against_truth),
            _merge_matches(self.against_real, other.against_real),
            between=self.between.merge(other.between),
        )


@dataclass(frozen=True)
class Measured:
    """Sums of all stores by label: one entry a section, and distances of the brain's features by stain grouping, from
    the real one's and (`apart`, of draws) from the first draw's."""

    by_store: dict[str, tuple[Raw, ...]]
    distribution: dict[str, dict[str, Distribution]] = field(default_factory=dict)
    apart: dict[str, dict[str, Distribution]] = field(default_factory=dict)

    def brain(self, label: str) -> Raw:
        """Sums of all sections of a store."""
        total = Raw()
        for one in self.by_store[label]:
            total = total.merge(one)
        return replace(total, distribution=self.distribution.get(label, {}))


def measure_section(
    task: Task, section: int, extractor: Extractor | None, score: Scorer = score_tiles
) -> tuple[dict[str, Raw], Features]:
    """Sums of one section of every store by label, and of the features of its tiles."""
    stores, sizes, segmenter = task.stores, task.sizes, task.nuclei
    real = stores[0].brain
    name = real.sections[section].name
    truth = None if task.truth is None else read_truth(task.truth, name, real.canvas).inside(real.inside)
    likeness = measure_tiles(stores, section, sizes.tile, extractor, task.seed, task.draws, score, task.grids)
    features = {label: one.features for label, one in likeness.items()}
    labels = [one.label for one in stores]
    far = distances(features, labels[0], labels[1:])
    canvas = Box(0, real.canvas[0], 0, real.canvas[1])
    patches = [
        patch
        for band in tiles(canvas, (sizes.patch, canvas.width))
        for patch in tissue_boxes(real, section, band, sizes.patch)
    ]
    blocks = tissue_blocks(real, section, segmenter.block_px)
    reference: Nuclei | None = None
    first: Nuclei | None = None  # of the draws
    grid = PatchGrid(real.chosen[section], real.canvas, sizes.patch, real.pixel_size_um)
    at_patches = regions_of_patches(real, section, grid)
    out = {}
    for one in stores:
        nuclei = section_nuclei(one.brain, section, segmenter, blocks)
        reference = nuclei if reference is None else reference
        first = nuclei if one.label in task.draws[:1] else first
        out[one.label] = Raw(
            likeness[one.label].image,
            measure(nuclei, patches, grid, (regions_of_nuclei(real, section, nuclei), at_patches)),
            None if truth is None else match_centroids(truth.centroids, truth.radius_px, nuclei.centroids),
            None if nuclei is reference else _match_nuclei(reference, nuclei),
            far.get(one.label, {}),
            likeness[one.label].seams,
            Between(
                likeness[one.label].between,
                Match() if first is None or one.label not in task.draws[1:] else _match_nuclei(first, nuclei),
            ),
        )
    return out, features


def section_nuclei(
    brain: Part, section: int, segmenter: Segmenter, blocks: Sequence[Box] | None = None
) -> Nuclei:
    """Nuclei in the DAPI of one section's part compared, looked for in `blocks` (default: everywhere)."""
    return find_nuclei(
        lambda box: read_stain(brain, section, box, NUCLEAR_STAIN),
        brain.canvas,
        brain.pixel_size_um,
        segmenter,
        blocks,
    )


def distances(features: Features, first: str, others: Sequence[str]) -> dict[str, dict[str, Distribution]]:
    """How far the features of other stores lie from those of the `first`, by label and stain grouping."""
    out: dict[str, dict[str, Distribution]] = {label: {} for label in others}
    for grouping, sums in features.get(first, {}).items():
        reference = Reference(sums)
        for label in others:
            out[label][grouping] = reference.compare(features[label][grouping])
    return out


def _match_nuclei(reference: Nuclei, found: Nuclei) -> Match:
    return match_centroids(reference.centroids, np.sqrt(reference.area_px / np.pi), found.centroids)


def store_results(stores: Sequence[Compared], measured: Measured, seed: int = 0) -> tuple[StoreResult, ...]:
    """The sums as plain numbers, brain and sections, each store beside the real one; `seed` is the bootstrap's."""
    real = stores[0]
    reference = measured.by_store[real.label]
    weights = [patch_weights(seed, raw.morphometry.patches.keys) for raw in reference]
    of_all = measured.brain(real.label)
    out = []
    for one in stores:
        sections = tuple(
            SectionScores(
                place.index,
                place.name,
                place.z_um,
                _scores(raw, None if one is real else base, real.brain, drawn),
            )
            for place, raw, base, drawn in zip(
                real.brain.sections, measured.by_store[one.label], reference, weights, strict=True
            )
        )
        total = measured.brain(one.label)
        drawn = np.concatenate(weights)
        scores = _scores(total, None if one is real else of_all, real.brain, drawn)
        brain = replace(scores, regions=_region_scores(total.image, real.brain))
        out.append(StoreResult(one.label, one.role, str(one.brain.url), brain, sections))
    return tuple(out)


def _scores(raw: Raw, real: Raw | None, part: Part, drawn: npt.NDArray[np.uint8]) -> Scores:
    """Scores of a section or brain; `drawn`: weights of its patches in the bootstrap. `part`: of the real brain."""
    areas = raw.morphometry.area_px
    beside = None if real is None else real.morphometry
    pixel = part.pixel_size_um
    measures = measure_scores(raw.morphometry, beside, drawn, pixel)
    nuclei = NucleiScores(
        count=areas.n,
        per_patch=measures["per_patch"].value,
        area_px=Statistic.of(areas.moments),
        area_um2=measures["area_um2"].value,
        per_patch_to_real=measures["per_patch"].to_real,
        area_um2_to_real=measures["area_um2"].to_real,
        against_truth=None if raw.against_truth is None else MatchScores.of(raw.against_truth),
        against_real=None if raw.against_real is None else MatchScores.of(raw.against_real),
        measures=measures,
        regions=region_scores(raw.morphometry, beside, drawn, pixel, partial(region_name, part)),
    )
    far = {name: DistributionScores.of(one) for name, one in raw.distribution.items()}
    return Scores(_image_scores(raw.image.measures), nuclei, distribution=far)


def _image_scores(measures: Mapping[str, ByStain]) -> dict[str, ImageScores]:
    return {stain: ImageScores.of(measures, stain) for stain in measures.get("psnr", {})}


def _region_scores(image: ImageSums, real: Part) -> dict[str, dict[str, ImageScores]]:
    pooled: dict[str, ImageSums] = {}  # two labels may have one name
    for label, measures in sorted(image.regions.items()):
        name = region_name(real, label)
        pooled[name] = pooled.get(name, ImageSums()).merge(ImageSums(measures))
    return {name: _image_scores(sums.measures) for name, sums in pooled.items()}


def _merge_matches(mine: Match | None, theirs: Match | None) -> Match | None:
    if mine is None or theirs is None:
        return mine if theirs is None else theirs
    return mine.merge(theirs)
