"""Mean and SD of log2(counts + 1) of every gene over the bins of tissue, streamed: brain, sections, regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_eval.regions import has_regions, read_regions, region_name
from teramind_eval.walk import HERE, Walk, walk_sections

if TYPE_CHECKING:
    from teramind_eval.part import Part

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Edge in bins of what is read at a time: a shard.
_BLOCK_BINS = 256
#: Edge in bins of the tiles that count as tissue where the store has no tissue mask: those with a molecule.
_TILE_BINS = 16


@dataclass(frozen=True)
class GeneMoments:
    """Moments of log2(counts + 1) over bins, of `r` groups of bins and `g` genes.

    Attributes:
        n: bins of each group, `(r,)`.
        mean, m2: mean and summed squared deviation, `(r, g)`.
        transcripts: summed counts, `(r, g)`.
        bins: bins with any, `(r, g)`.
    """

    n: IntArray
    mean: FloatArray
    m2: FloatArray
    transcripts: IntArray
    bins: IntArray

    @classmethod
    def empty(cls, groups: int, genes: int) -> GeneMoments:
        """Of no bin."""
        shape = groups, genes
        zeros = np.zeros(shape, dtype=np.int64)
        return cls(np.zeros(groups, dtype=np.int64), np.zeros(shape), np.zeros(shape), zeros, zeros)

    @classmethod
    def of(cls, counts: npt.NDArray[np.integer], group: IntArray, groups: int) -> GeneMoments:
        """Of one block.

        Only bins with counts are touched: the others add nothing but their number.

        Args:
            counts: `(g, y, x)`.
            group: of each bin, `(y, x)`; -1 leaves it out.
            groups: how many there are.
        """
        genes, place = len(counts), group.ravel()
        flat = np.flatnonzero(counts)
        gene, where = np.divmod(flat, place.size)
        inside = place[where] >= 0
        gene, where = gene[inside], where[inside]
        values = counts.reshape(genes, -1)[gene, where].astype(np.int64)
        levels = np.log2(values + 1.0)
        cell = place[where] * genes + gene

        def summed(weights: FloatArray | None) -> FloatArray:
            return np.bincount(cell, weights, groups * genes).astype(np.float64).reshape(groups, genes)

        n = np.bincount(place[place >= 0], minlength=groups)
        some = np.maximum(n, 1)[:, None]
        first, second = summed(levels), summed(np.square(levels))
        mean = first / some
        return cls(
            n,
            mean,
            np.maximum(second - mean * first, 0.0),
            np.rint(summed(values.astype(np.float64))).astype(np.int64),
            summed(None).astype(np.int64),
        )

    def merge(self, other: GeneMoments) -> GeneMoments:
        """Both streams together, group by group (Chan, Golub and LeVeque 1983)."""
        n = self.n + other.n
        share = (other.n / np.maximum(n, 1))[:, None]
        delta = other.mean - self.mean
        return GeneMoments(
            n,
            self.mean + delta * share,
            self.m2 + other.m2 + np.square(delta) * self.n[:, None] * share,
            self.transcripts + other.transcripts,
            self.bins + other.bins,
        )

    def pooled(self) -> GeneMoments:
        """All groups as one, `(1, g)`."""
        total = GeneMoments.empty(1, self.mean.shape[1])
        for index in range(len(self.n)):
            total = total.merge(self.take(index))
        return total

    def placed(self, at: IntArray, groups: int) -> GeneMoments:
        """Of so many groups: these are those numbered `at`, `(r,)`; the others hold no bin."""

        def put(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            out = np.zeros((groups, *values.shape[1:]), values.dtype)
            out[at] = values
            return out

        return GeneMoments(*map(put, (self.n, self.mean, self.m2, self.transcripts, self.bins)))

    def take(self, index: int) -> GeneMoments:
        """One group, `(1, g)`."""
        cut = slice(index, index + 1)
        return GeneMoments(self.n[cut], self.mean[cut], self.m2[cut], self.transcripts[cut], self.bins[cut])

    @property
    def sd(self) -> FloatArray:
        """Sample standard deviation, `(r, g)`; nan for groups of fewer than two bins."""
        below = np.where(self.n > 1, self.n - 1.0, np.nan)[:, None]
        return np.asarray(np.sqrt(self.m2 / below))


@dataclass(frozen=True)
class RegionMoments:
    """Moments by region.

    Attributes:
        labels: of the regions that any bin is in, rising, `(r,)`.
        moments: one group each.
    """

    labels: IntArray
    moments: GeneMoments

    @classmethod
    def empty(cls, genes: int) -> RegionMoments:
        """Of no bin."""
        return cls(np.zeros(0, dtype=np.int64), GeneMoments.empty(0, genes))

    @classmethod
    def of(
        cls, counts: npt.NDArray[np.integer], found: IntArray, inside: npt.NDArray[np.bool_]
    ) -> RegionMoments:
        """Of one block: counts `(g, y, x)`, and of each bin the label and whether it counts, `(y, x)`."""
        labels = np.unique(found[inside])
        group = np.where(inside, np.searchsorted(labels, found), -1)
        return cls(labels, GeneMoments.of(counts, group, len(labels)))

    def merge(self, other: RegionMoments) -> RegionMoments:
        """Both streams together, region by region."""
        labels = np.union1d(self.labels, other.labels)
        mine, theirs = (
            one.moments.placed(np.searchsorted(labels, one.labels), len(labels)) for one in (self, other)
        )
        return RegionMoments(labels, mine.merge(theirs))


@dataclass(frozen=True)
class GeneStatistics:
    """Of every gene of a brain.

    Attributes:
        genes: the panel.
        sections: one group a section.
        region_names: of the regions with any bin, in the order of their labels; none where there is no annotation.
        regions: one group each; labels of one name are one region.
        brain: one group.
    """

    genes: tuple[str, ...]
    sections: GeneMoments
    region_names: tuple[str, ...]
    regions: GeneMoments
    brain: GeneMoments

    def top(self, count: int) -> IntArray:
        """Genes by mean over the brain, highest first (the panel's order among equals), at most `count`."""
        return np.argsort(-self.brain.mean[0], kind="stable")[:count]


def gene_statistics(real: Part, walk: Walk = HERE) -> GeneStatistics | None:
    """Statistics of an atlas, read once, shard by shard; None where it holds no expression.

    Bins are those of `labels/tissue` where the store has it, else those of the canvas's 256-px tiles that hold a
    molecule, wherever in the tile; in the part of the canvas that is compared.

    Args:
        real: the atlas.
        walk: who reads, and where sections that were read are kept.
    """
    if real.panel is None or "expression" not in real.images:
        return None
    genes = tuple(real.panel)
    total, sections = RegionMoments.empty(len(genes)), []
    for one in walk_sections(_Measure(real), RegionMoments, len(real.sections), "genes", walk):
        sections.append(one.moments.pooled())
        total = total.merge(one)
    regions = total if has_regions(real) else RegionMoments.empty(len(genes))
    return GeneStatistics(
        genes,
        _stacked(sections, len(genes)),
        tuple(region_name(real, label) for label in regions.labels.tolist()),
        regions.moments,
        total.moments.pooled(),
    )


@dataclass(frozen=True)
class _Measure:
    """Moments of a section by region; all under label 0 where there is no annotation."""

    real: Part

    def __call__(self, section: int) -> RegionMoments:
        real = self.real
        total = RegionMoments.empty(len(real.panel or ()))
        for box in _blocks(real.inside):
            if "tissue" in real.brain.labels:
                mask, known = "tissue", box
            else:
                mask, known = "expression", _whole_tiles(real, box)
            if real.brain.blank(mask, real.chosen[section], known):
                continue
            total = total.merge(self._block(section, box))
        return total

    def _block(self, section: int, box: Box) -> RegionMoments:
        # A call of its own: its counts are let go before the next ones are read.
        counts = np.asarray(self.real.read("expression", section, box))
        annotated = has_regions(self.real)
        found = read_regions(self.real, section, box) if annotated else np.zeros(box.shape, dtype=np.int64)
        return RegionMoments.of(counts, found, _inside(self.real, section, box, counts))


def _blocks(inside: Box) -> list[Box]:
    """Blocks of the bins that a part of the canvas touches, on one grid for any part."""
    known = inside.cover(BIN_PX).coarsen(BIN_PX)
    cut = (block.intersect(known) for block in tiles(Box(0, known.y1, 0, known.x1), _BLOCK_BINS))
    return [block for block in cut if block is not None]


def _inside(real: Part, section: int, box: Box, counts: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which bins are tissue, `(y, x)`."""
    if "tissue" in real.brain.labels:
        return np.asarray(real.read("tissue", section, box)) > 0
    around = _whole_tiles(real, box)
    counted = counts if around == box else np.asarray(real.read("expression", section, around))
    return _seen_tiles(counted.any(axis=0))[box.shift(-around.y0, -around.x0).slices]


def _whole_tiles(real: Part, box: Box) -> Box:
    """The bins of all tiles of the canvas that a box of bins touches."""
    rows, columns = real.image("expression").shape[-2:]
    return box.cover(_TILE_BINS).clip((rows, columns)) or box


def _seen_tiles(seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Bins of tiles, from the first bin on, in which any bin is seen; the last tiles may be cut by the rim."""
    rows, columns = (-(-size // _TILE_BINS) for size in seen.shape)
    whole = np.zeros((rows * _TILE_BINS, columns * _TILE_BINS), dtype=bool)
    whole[: seen.shape[0], : seen.shape[1]] = seen
    any_seen = whole.reshape(rows, _TILE_BINS, columns, _TILE_BINS).any(axis=(1, 3))
    spread = any_seen.repeat(_TILE_BINS, axis=0).repeat(_TILE_BINS, axis=1)
    return spread[: seen.shape[0], : seen.shape[1]]


def _stacked(parts: Sequence[GeneMoments], genes: int) -> GeneMoments:
    if not parts:
        return GeneMoments.empty(0, genes)
    return GeneMoments(
        np.concatenate([one.n for one in parts]),
        np.concatenate([one.mean for one in parts]),
        np.concatenate([one.m2 for one in parts]),
        np.concatenate([one.transcripts for one in parts]),
        np.concatenate([one.bins for one in parts]),
    )
