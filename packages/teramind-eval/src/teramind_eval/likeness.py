"""One pass over the tissue tiles of a section: every measure that shares tiles, each tile read once a store.

PSNR, SSIM and MS-SSIM compare a tile with the real one at its place; Inception features are summed for FID, sFID, KID;
tiles' means and the change across their borders tell of seams.
Nothing larger than a block of pixels is held of any store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box, tiles
from teramind_eval.metrics.accumulate import Moments
from teramind_eval.metrics.distribution import Extractor, FeatureSums, Gathered, tile_keys
from teramind_eval.metrics.image import WINDOW, TileScores, score_tiles, spread_scores
from teramind_eval.metrics.image_on_device import Scorer
from teramind_eval.metrics.seams import Grid, SeamScan, SectionSeams
from teramind_eval.pairs import Compared, regions_of_tiles, tissue_boxes
from teramind_eval.part import SPREAD
from teramind_eval.results import TOGETHER

if TYPE_CHECKING:
    from teramind_eval.part import Part

#: The measures that compare tile with tile.
MEASURES = ("psnr", "ssim", "ms_ssim")

#: Moments by stain (or all together), of one measure.
ByStain = dict[str, Moments]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSums:
    """Moments of tile scores: `measures` by measure and stain, `regions` the same by label of the annotation."""

    measures: dict[str, ByStain] = field(default_factory=dict)
    regions: dict[int, dict[str, ByStain]] = field(default_factory=dict)

    @classmethod
    def of(cls, scores: TileScores, names: Sequence[str], regions: npt.NDArray[np.uint16]) -> ImageSums:
        """Of tiles whose columns of scores are called `names`; `regions (t,)` is 0 for tiles outside all."""
        values = {measure: getattr(scores, measure) for measure in MEASURES}
        by_region = {}
        for region in np.unique(regions[regions > 0]):
            inside = regions == region
            by_region[int(region)] = {
                measure: _by_stain(one[inside], names) for measure, one in values.items()
            }
        return cls({measure: _by_stain(one, names) for measure, one in values.items()}, by_region)

    def merge(self, other: ImageSums) -> ImageSums:
        """Tiles of both."""
        regions = dict(self.regions)
        for region, measures in other.regions.items():
            regions[region] = _merged(regions.get(region, {}), measures)
        return ImageSums(_merged(self.measures, other.measures), regions)

    @property
    def stains(self) -> tuple[str, ...]:
        """Stains that were scored, and all together."""
        return tuple(self.measures.get(MEASURES[0], {}))


def _of_none(names: Sequence[str]) -> ImageSums:
    none = np.zeros((0, len(names)))
    return ImageSums.of(TileScores(none, none, none), names, np.zeros(0, np.uint16))


def _by_stain(values: npt.NDArray[np.float64], names: Sequence[str]) -> ByStain:
    # Tiles too small for a measure are nan in every column.
    measured = values[~np.isnan(values[:, -1])]
    return {name: Moments.of(measured[:, column]) for column, name in enumerate(names)}


def _merged(mine: Mapping[str, ByStain], theirs: Mapping[str, ByStain]) -> dict[str, ByStain]:
    out: dict[str, ByStain] = {}
    for measure in dict.fromkeys((*mine, *theirs)):
        a, b = mine.get(measure, {}), theirs.get(measure, {})
        out[measure] = {n: a.get(n, Moments()).merge(b.get(n, Moments())) for n in dict.fromkeys((*a, *b))}
    return out


@dataclass(frozen=True)
class Likeness:
    """Sums of one store's section: scores of its tiles, features by stain grouping, scores beside a first draw.

    `seams` is None for a store whose seams were not asked for.
    """

    image: ImageSums
    features: dict[str, FeatureSums]
    between: ImageSums
    seams: SectionSeams | None = None


def measure_tiles(
    stores: Sequence[Compared],
    section: int,
    edge: int,
    extractor: Extractor | None = None,
    seed: int = 0,
    draws: Sequence[str] = (),
    score: Scorer = score_tiles,
    grids: Mapping[str, Grid] | None = None,
) -> dict[str, Likeness]:
    """Likeness of one section of every store, by label; the first store is the real one and has no image scores.

    Args:
        stores: all of one canvas and one list of stains.
        section: index in all of them.
        edge: of a tile, in pixels; tissue tiles with an edge under 11 px are left out.
        extractor: makes the features; none without.
        seed: with section and place decides which tiles KID draws.
        draws: labels of stores that differ in their seed alone; each is also scored beside the first of them. A single
            one holds the spread of its own draws.
        score: scores tiles.
        grids: by label, how stores were put together; seams are measured of these.
    """
    real = stores[0].brain
    names = (*real.stains, TOGETHER)
    # A section without tissue tiles has every measure too, of none.
    images = {one.label: ImageSums() if one is stores[0] else _of_none(names) for one in stores}
    between = {one.label: ImageSums() for one in stores}
    gathered: dict[str, dict[str, Gathered]] = {one.label: {} for one in stores}
    scans = {
        label: SeamScan(len(real.stains), real.canvas, grid.tile, edge)
        for label, grid in (grids or {}).items()
    }
    for block in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), block_edge(edge)):
        tissue = tissue_boxes(real, section, block, edge)
        if not tissue:
            continue
        wanted = [tile for tile in tissue if min(tile.shape) >= WINDOW]
        local = [tile.shift(-block.y0, -block.x0) for tile in wanted]
        regions = regions_of_tiles(real, section, wanted)
        keys = tile_keys(real.chosen[section], wanted, seed)
        reference = first = _read(real, section, block)
        for one in stores:
            pixels = reference if one is stores[0] else _read(one.brain, section, block)
            if one.label in scans:
                scans[one.label].add(block, pixels, tissue)
            if not wanted:
                continue
            if one is not stores[0]:
                scores = score(reference, pixels, local)
                images[one.label] = images[one.label].merge(ImageSums.of(scores, names, regions))
            if one.label in draws[:1]:
                first = pixels
                if len(draws) == 1:
                    scores = spread_scores(np.asarray(one.brain.read(SPREAD, section, block)), local)
                    between[one.label] = between[one.label].merge(ImageSums.of(scores, names, regions))
            if one.label in draws[1:]:
                scores = score(first, pixels, local)
                between[one.label] = between[one.label].merge(ImageSums.of(scores, names, regions))
            if extractor is not None:
                for name, coloured in groupings(pixels, real.stains).items():
                    cut = [coloured[(slice(None), *tile.slices)] for tile in local]
                    gathered[one.label].setdefault(name, Gathered()).add(extractor(cut), keys)
    return {
        label: Likeness(
            image,
            _sums(gathered[label]),
            between[label],
            scans[label].seams() if label in scans else None,
        )
        for label, image in images.items()
    }


def block_edge(tile: int, most: int = 2048) -> int:
    """Edge of the blocks that are read at a time: whole tiles, at least one, near `most` px."""
    return max(1, most // tile) * tile


def groupings(pixels: Pixels, stains: Sequence[str]) -> dict[str, Pixels]:
    """`(c, y, x)` as the colours that Inception takes, `(3, y, x)` by name: each stain alone fills all three.

    Two stains together are green and blue and leave red empty, as in the paper's published code; three are the three
    colours. Of other numbers of stains there is no picture of all together.
    """
    out: dict[str, Pixels] = {
        stain: np.broadcast_to(pixels[index], (3, *pixels.shape[1:])) for index, stain in enumerate(stains)
    }
    if len(stains) in (2, 3):
        empty = np.zeros((3 - len(stains), *pixels.shape[1:]), np.uint8)
        out[TOGETHER] = np.concatenate([empty, pixels])
    return out


def _read(brain: Part, section: int, block: Box) -> Pixels:
    return np.asarray(brain.read("morphology", section, block))


def _sums(gathered: Mapping[str, Gathered]) -> dict[str, FeatureSums]:
    found = {name: one.sums() for name, one in gathered.items()}
    return {name: sums for name, sums in found.items() if sums is not None}
