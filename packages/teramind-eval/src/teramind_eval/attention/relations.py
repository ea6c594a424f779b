"""One pass over the real brain and all attention maps: groups of blocks by section and region, and their densities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_eval.attention.blocks import ALL_GENES, Variables, block_majority, block_rows, block_sums
from teramind_eval.attention.maps import MapSet, read_expression, read_levels
from teramind_eval.attention.sample import Sample, block_keys
from teramind_eval.attention.scatter import Scatter
from teramind_eval.attention.trends import LEVELS, OCTAVES, density
from teramind_eval.regions import has_regions, read_regions
from teramind_eval.walk import HERE, Walk, walk_sections

if TYPE_CHECKING:
    from teramind_eval.part import Part

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Edge in bins of what is read at a time: a shard.
_BAND_BINS = 256


@dataclass(frozen=True)
class Group:
    """Blocks of a brain, section or region: streamed products of all variables, and the sample for ranks."""

    scatter: Scatter = field(default_factory=Scatter)
    sample: Sample = field(default_factory=Sample)

    def merge(self, other: Group) -> Group:
        """Both together."""
        return Group(self.scatter.merge(other.scatter), self.sample.merge(other.sample))

    @cached_property
    def ranks(self) -> FloatArray:
        """Spearman's correlations of all variables, from the sample."""
        return self.sample.rank_correlations()


@dataclass(frozen=True)
class Relations:
    """How the maps of one set relate to expression.

    Attributes:
        maps: the set.
        variables: of a block.
        sections: groups by section.
        regions: groups by region's label, the smallest of its name; empty where the atlas has no regions.
        levels: density of attention against expression over the brain, `(expressions, sources x channels, x, y)`.
        octaves: density of attention over uniform attention against expression of the genes together,
            `(sources x channels, x, y)`.
        without: blocks with counts where a store's attention is zero, which were left out.
    """

    maps: MapSet
    variables: Variables
    sections: dict[int, Group]
    regions: dict[int, Group]
    levels: IntArray
    octaves: IntArray
    without: int

    @cached_property
    def brain(self) -> Group:
        """All sections together."""
        total = Group()
        for group in self.sections.values():
            total = total.merge(group)
        return total


@dataclass(frozen=True)
class SectionRelations:
    """What `Relations` has, of one section; `group` is None where no block counts."""

    group: Group | None
    regions: dict[int, Group]
    levels: IntArray
    octaves: IntArray
    without: int


class _Gathering:
    """A set of maps while a section streams by."""

    def __init__(self, maps: MapSet) -> None:
        self.maps, self.variables = maps, _variables(maps)
        self.group: Group | None = None
        self.regions: dict[int, Group] = {}
        v = self.variables
        several = len(v.sources) * len(v.channels)
        self.levels = np.zeros((len(v.expressions), several, LEVELS.cells, LEVELS.cells), dtype=np.int64)
        self.octaves = np.zeros((several, LEVELS.cells, OCTAVES.cells), dtype=np.int64)
        self.without = 0

    def add(self, keys: npt.NDArray[np.uint64], regions: IntArray | None, rows: FloatArray) -> None:
        group = Group(Scatter.of(rows), Sample.of(keys, rows))
        self.group = group if self.group is None else self.group.merge(group)
        if regions is not None:
            for label in np.unique(regions).tolist():
                inside = regions == label
                part = Group(Scatter.of(rows[inside]), Sample.of(keys[inside], rows[inside]))
                self.regions[label] = self.regions.get(label, Group()).merge(part)
        self._draw(rows)

    def _draw(self, rows: FloatArray) -> None:
        v = self.variables
        pairs = [(source, channel) for source in v.sources for channel in v.channels]
        together = rows[:, v.expression(ALL_GENES)]
        for place, (source, channel) in enumerate(pairs):
            level = rows[:, v.attention(source, channel)]
            for index in range(len(v.expressions)):
                self.levels[index, place] += density(rows[:, index], level, LEVELS, LEVELS)
            self.octaves[place] += density(together, rows[:, v.beyond(source, channel)], LEVELS, OCTAVES)

    def result(self) -> SectionRelations:
        return SectionRelations(self.group, self.regions, self.levels, self.octaves, self.without)


def _variables(maps: MapSet) -> Variables:
    which = maps.which
    return Variables(which.genes, tuple(one.label for one in maps.sources), which.channels)


def relate(
    real: Part, sets: Sequence[MapSet], edge: int, seed: int = 0, walk: Walk = HERE
) -> tuple[Relations, ...]:
    """Expression against attention of every set of maps, over blocks of `edge` bins, in one pass over the brain.

    Memory does not grow with the brain but by its groups: the products and a bounded sample of each (`sample`).

    Args:
        real: the atlas; its molecules give expression, its `labels/regions` regions.
        sets: maps on its canvas.
        edge: bins along a block's edge.
        seed: of the sample.
        walk: who works, and where finished sections are kept.
    """
    if not sets:
        return ()
    totals = [_Total(one) for one in sets]
    measure = _Relate(real, tuple(sets), edge, seed)
    kind = tuple[SectionRelations, ...]
    for index, found in enumerate(walk_sections(measure, kind, len(real.sections), "attention", walk)):
        for total, one in zip(totals, found, strict=True):
            total.add(index, one)
    return tuple(one.result() for one in totals)


class _Total:
    """The sections of a set of maps put together."""

    def __init__(self, maps: MapSet) -> None:
        self.maps = maps
        self._sums = _Gathering(maps).result()
        self._sections: dict[int, Group] = {}

    def add(self, section: int, one: SectionRelations) -> None:
        if one.group is not None:
            self._sections[section] = one.group
        old = self._sums
        for label, group in one.regions.items():
            old.regions[label] = old.regions.get(label, Group()).merge(group)
        self._sums = SectionRelations(
            None,
            old.regions,
            old.levels + one.levels,
            old.octaves + one.octaves,
            old.without + one.without,
        )

    def result(self) -> Relations:
        s = self._sums
        return Relations(
            self.maps, _variables(self.maps), self._sections, s.regions, s.levels, s.octaves, s.without
        )


@dataclass(frozen=True)
class _Relate:
    """All sets of maps in one section."""

    real: Part
    sets: tuple[MapSet, ...]
    edge: int
    seed: int

    def __call__(self, section: int) -> tuple[SectionRelations, ...]:
        real, edge = self.real, self.edge
        gathering = [_Gathering(one) for one in self.sets]
        genes = tuple(dict.fromkeys(gene for one in self.sets for gene in one.which.genes))
        for band in _bands(real, edge):
            sums = block_sums(read_expression(real, genes, section, band), edge)
            if not sums.any():
                continue
            regions = block_majority(read_regions(real, section, band), edge) if has_regions(real) else None
            for one in gathering:
                mine = sums[[genes.index(gene) for gene in one.maps.which.genes]]
                _add_band(one, real, section, _Band(band, edge, mine, regions), self.seed)
        return tuple(one.result() for one in gathering)


@dataclass(frozen=True)
class _Band:
    """Blocks of a band: counts `(genes, rows, columns)`, regions `(rows, columns)`."""

    box: Box
    edge: int
    counts: FloatArray
    regions: IntArray | None


def _add_band(into: _Gathering, real: Part, section: int, band: _Band, seed: int) -> None:
    inside = _mapped(into.maps, real, section, band)
    seen = (band.counts.sum(axis=0) > 0) & inside
    if not seen.any():
        return
    levels = np.stack(
        [
            block_sums(read_levels(one.store.brain, one.which, section, band.box), band.edge)
            for one in into.maps.sources
        ]
    )
    mapped = (levels > 0).all(axis=(0, 1))
    into.without += int((seen & ~mapped).sum())
    rows, columns = np.nonzero(seen & mapped)
    if not len(rows):
        return
    top, left = band.box.y0 // band.edge, band.box.x0 // band.edge
    into.add(
        block_keys(seed, real.chosen[section], rows + top, columns + left),
        None if band.regions is None else band.regions[rows, columns],
        block_rows(band.counts[:, rows, columns], levels[:, :, rows, columns]),
    )


def _mapped(maps: MapSet, real: Part, section: int, band: _Band) -> npt.NDArray[np.bool_]:
    """Which blocks of a band lie wholly in the part that was mapped, `(rows, columns)`."""
    inside = np.zeros(band.counts.shape[1:], dtype=bool)
    box = maps.mapped(real.canvas, real.chosen[section])
    common = None if box is None else box.intersect(band.box)
    if common is not None:
        y0, x0 = -(-(common.y0 - band.box.y0) // band.edge), -(-(common.x0 - band.box.x0) // band.edge)
        y1, x1 = (common.y1 - band.box.y0) // band.edge, (common.x1 - band.box.x0) // band.edge
        inside[y0:y1, x0:x1] = True
    return inside


def _bands(brain: Part, edge: int) -> Iterator[Box]:
    rows, columns = brain.canvas[0] // BIN_PX, brain.canvas[1] // BIN_PX
    return tiles(Box(0, rows, 0, columns), max(1, _BAND_BINS // edge) * edge)
