"""Measure stores against the real one: every section once, block by block, sums merged at the end.

Nothing larger than a block of pixels is held of any store; what grows with a section is its table of nuclei. Sections
are independent of each other, so they can be spread over workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from teramind_data.geometry import Box, tiles
from teramind_eval.metrics.accumulate import Moments
from teramind_eval.metrics.image import WINDOW, score_tiles
from teramind_eval.morphometry.compare import Match, match_centroids
from teramind_eval.morphometry.measure import Morphometry, measure
from teramind_eval.morphometry.segment import Nuclei, NucleiSettings, find_nuclei
from teramind_eval.morphometry.truth import TruthCells, read_truth
from teramind_eval.pairs import Compared, read_stain, tissue_blocks, tissue_boxes
from teramind_eval.results import (
    TOGETHER,
    Distances,
    ImageScores,
    MatchScores,
    NucleiScores,
    Scores,
    SectionScores,
    Statistic,
    StoreResult,
)

if TYPE_CHECKING:
    from teramind_eval.part import Part

NUCLEAR_STAIN = "DAPI"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Edges in pixels: `tile` for PSNR and SSIM, `patch` for nuclei counts."""

    tile: int
    patch: int

    @classmethod
    def for_canvas(cls, canvas: tuple[int, int], tile: int | None = None, patch: int | None = None) -> Sizes:
        """The paper's 256 and 1024 px; on a small canvas the largest power of two that cuts it into 8 and 4."""
        short = min(canvas)
        fit = 1 << max(0, (short // 8).bit_length() - 1)
        return cls(tile or min(256, max(16, fit)), patch or min(1024, max(32, 2 * fit)))

    def block(self, most: int = 2048) -> int:
        """Edge of the blocks that are read at a time: whole tiles, at least one, near `most` px."""
        return max(1, most // self.tile) * self.tile


@dataclass(frozen=True)
class Raw:
    """Mergeable sums of one store: moments by stain, morphometry, matches."""

    psnr: dict[str, Moments] = field(default_factory=dict)
    ssim: dict[str, Moments] = field(default_factory=dict)
    morphometry: Morphometry = field(default_factory=Morphometry.empty)
    against_truth: Match | None = None
    against_real: Match | None = None

    def merge(self, other: Raw) -> Raw:
        """Sums of both."""
        return Raw(
            _merge_maps(self.psnr, other.psnr),
            _merge_maps(self.ssim, other.ssim),
            self.morphometry.merge(other.morphometry),
            _merge_matches(self.against_truth, other.against_truth),
            _merge_matches(self.against_real, other.against_real),
        )


@dataclass(frozen=True)
class Measured:
    """Sums of all stores: by label, one entry a section."""

    by_store: dict[str, tuple[Raw, ...]]

    def brain(self, label: str) -> Raw:
        """Sums of all sections of a store."""
        total = Raw()
        for one in self.by_store[label]:
            total = total.merge(one)
        return total


def measure_brains(
    stores: Sequence[Compared],
    sizes: Sizes,
    nuclei: NucleiSettings,
    truth: Path | None = None,
    done: Callable[[], object] | None = None,
) -> Measured:
    """Measure all sections of all stores; the first store is the real one.

    `done` is called after each section.
    """
    real = stores[0].brain
    found: dict[str, list[Raw]] = {one.label: [] for one in stores}
    for section in real.sections:
        cells = read_truth(truth, section.name, real.canvas) if truth is not None else None
        for label, raw in measure_section(stores, section.index, sizes, nuclei, cells).items():
            found[label].append(raw)
        if done is not None:
            done()
    return Measured({label: tuple(raws) for label, raws in found.items()})


def measure_section(
    stores: Sequence[Compared], section: int, sizes: Sizes, settings: NucleiSettings, truth: TruthCells | None
) -> dict[str, Raw]:
    """Sums of one section of every store, by label; the first store is the real one."""
    real = stores[0].brain
    images = _image_scores(stores, section, sizes)
    canvas = Box(0, real.canvas[0], 0, real.canvas[1])
    patches = [
        patch
        for band in tiles(canvas, (sizes.patch, canvas.width))
        for patch in tissue_boxes(real, section, band, sizes.patch)
    ]
    blocks = tissue_blocks(real, section, settings.block_px)
    reference: Nuclei | None = None
    out = {}
    for one in stores:
        nuclei = section_nuclei(one.brain, section, settings, blocks)
        reference = nuclei if reference is None else reference
        psnr, ssim = images.get(one.label, ({}, {}))
        out[one.label] = Raw(
            psnr,
            ssim,
            measure(nuclei, patches),
            None if truth is None else match_centroids(truth.centroids, truth.radius_px, nuclei.centroids),
            None if nuclei is reference else _match_nuclei(reference, nuclei),
        )
    return out


def section_nuclei(
    brain: Part, section: int, settings: NucleiSettings, blocks: Sequence[Box] | None = None
) -> Nuclei:
    """Nuclei in the DAPI of one section, looked for in `blocks` (default: everywhere)."""
    return find_nuclei(
        lambda box: read_stain(brain, section, box, NUCLEAR_STAIN),
        brain.canvas,
        brain.pixel_size_um,
        settings,
        blocks,
    )


def _image_scores(
    stores: Sequence[Compared], section: int, sizes: Sizes
) -> dict[str, tuple[dict[str, Moments], dict[str, Moments]]]:
    real, others = stores[0].brain, stores[1:]
    names = (*real.stains, TOGETHER)
    sums: dict[str, tuple[dict[str, Moments], dict[str, Moments]]] = {
        one.label: ({name: Moments() for name in names}, {name: Moments() for name in names})
        for one in others
    }
    for block in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), sizes.block()):
        wanted = [
            tile for tile in tissue_boxes(real, section, block, sizes.tile) if min(tile.shape) >= WINDOW
        ]
        if not wanted:
            continue
        local = [tile.shift(-block.y0, -block.x0) for tile in wanted]
        reference = np.asarray(real.read("morphology", section, block))
        for one in others:
            scores = score_tiles(reference, np.asarray(one.brain.read("morphology", section, block)), local)
            for values, into in zip((scores.psnr, scores.ssim), sums[one.label], strict=True):
                for column, name in enumerate(names):
                    into[name] = into[name].merge(Moments.of(values[:, column]))
    return sums


def _match_nuclei(reference: Nuclei, found: Nuclei) -> Match:
    return match_centroids(reference.centroids, np.sqrt(reference.area_px / np.pi), found.centroids)


def store_results(stores: Sequence[Compared], measured: Measured) -> tuple[StoreResult, ...]:
    """The sums as plain numbers, brain and sections, each store beside the real one."""
    real = stores[0]
    pixel_area = real.brain.pixel_size_um**2
    reference = measured.by_store[real.label]
    out = []
    for one in stores:
        raws = measured.by_store[one.label]
        sections = tuple(
            SectionScores(
                place.index, place.name, place.z_um, _scores(raw, None if one is real else base, pixel_area)
            )
            for place, raw, base in zip(real.brain.sections, raws, reference, strict=True)
        )
        base = None if one is real else measured.brain(real.label)
        brain = _scores(measured.brain(one.label), base, pixel_area)
        out.append(StoreResult(one.label, one.role, str(one.brain.url), brain, sections))
    return tuple(out)


def _scores(raw: Raw, real: Raw | None, pixel_area: float) -> Scores:
    image = {
        name: ImageScores(Statistic.of(raw.psnr[name]), Statistic.of(raw.ssim[name])) for name in raw.psnr
    }
    counts, areas = raw.morphometry.per_patch, raw.morphometry.area_px
    to_real: tuple[Distances | None, Distances | None] = (None, None)
    if real is not None:
        to_real = (
            Distances.of(real.morphometry.per_patch, counts),
            Distances.of(real.morphometry.area_px, areas, pixel_area),
        )
    nuclei = NucleiScores(
        count=areas.n,
        per_patch=Statistic.of(counts.moments),
        area_px=Statistic.of(areas.moments),
        area_um2=Statistic.of(areas.moments, pixel_area),
        per_patch_to_real=to_real[0],
        area_um2_to_real=to_real[1],
        against_truth=None if raw.against_truth is None else MatchScores.of(raw.against_truth),
        against_real=None if raw.against_real is None else MatchScores.of(raw.against_real),
    )
    return Scores(image, nuclei)


def _merge_maps(mine: dict[str, Moments], theirs: dict[str, Moments]) -> dict[str, Moments]:
    names = (*mine, *(name for name in theirs if name not in mine))
    return {name: mine.get(name, Moments()).merge(theirs.get(name, Moments())) for name in names}


def _merge_matches(mine: Match | None, theirs: Match | None) -> Match | None:
    if mine is None or theirs is None:
        return mine if theirs is None else theirs
    return mine.merge(theirs)
