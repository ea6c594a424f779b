"""Attention maps of stores: which there are, which stores hold the same one, and their levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.errors import StoreError
from teramind_data.geometry import BIN_PX, Box

if TYPE_CHECKING:
    from teramind_eval.pairs import Compared
    from teramind_eval.part import Part

FloatArray = npt.NDArray[np.float64]

PREFIX = "attention_"

#: What a store of maps alone says it was made by; one to which maps were added says what made the rest.
_MAPS_ALONE = "teramind-model attention"

#: The three versions of a map, by which gene slices the network was shown (model specification, Attention maps).
CHANNELS = ("previous-current", "current-next", "window")


@dataclass(frozen=True, slots=True)
class AttentionMap:
    """One pathway's maps in a store.

    Attributes:
        element: name of the image.
        pathway: name of the pathway.
        genes: of the pathway.
        channels: versions of the map.
        logarithmic: whether levels are stored as log2.
        region: part of the canvas that was mapped, pixels; None: all of it.
        span: sections of the atlas that were mapped, first and end; None: all.
    """

    element: str
    pathway: str
    genes: tuple[str, ...]
    channels: tuple[str, ...]
    logarithmic: bool
    region: Box | None = None
    span: tuple[int, int] | None = None

    def mapped(self, canvas: tuple[int, int], section: int) -> Box | None:
        """The part, in bins, that was mapped of a section (index in the atlas); None where nothing was."""
        if self.span is not None and not self.span[0] <= section < self.span[1]:
            return None
        whole = Box(0, canvas[0] // BIN_PX, 0, canvas[1] // BIN_PX)
        if self.region is None:
            return whole
        r = self.region
        inner = (-(-r.y0 // BIN_PX), r.y1 // BIN_PX, -(-r.x0 // BIN_PX), r.x1 // BIN_PX)
        return Box(*inner).intersect(whole) if inner[0] < inner[1] and inner[2] < inner[3] else None


@dataclass(frozen=True)
class Source:
    """A store that holds a map."""

    store: Compared
    which: AttentionMap

    @property
    def label(self) -> str:
        """The store's."""
        return self.store.label


@dataclass(frozen=True)
class MapSet:
    """The same map (pathway, genes, channels) in one store or several."""

    sources: tuple[Source, ...]

    @property
    def which(self) -> AttentionMap:
        """The map, as the first store describes it."""
        return self.sources[0].which

    def mapped(self, canvas: tuple[int, int], section: int) -> Box | None:
        """The part, in bins, that all stores mapped of a section of the atlas."""
        common: Box | None = Box(0, canvas[0] // BIN_PX, 0, canvas[1] // BIN_PX)
        for source in self.sources:
            part = source.which.mapped(canvas, section)
            common = None if common is None or part is None else common.intersect(part)
        return common


def attention_maps(brain: Part) -> tuple[AttentionMap, ...]:
    """The attention maps a store holds, by name."""
    return tuple(_described(brain, name) for name in sorted(brain.images) if name.startswith(PREFIX))


def holds_maps_only(brain: Part) -> bool:
    """Whether a store is one of maps alone, its morphology empty on purpose."""
    return brain.provenance.get("made_by") == _MAPS_ALONE


def map_sets(stores: Sequence[Compared]) -> tuple[MapSet, ...]:
    """All maps of the stores, equal ones together; generated stores come before controls, as they are given."""
    found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Source]] = {}
    for store in stores:
        for which in attention_maps(store.brain):
            key = (which.element, which.genes, which.channels)
            found.setdefault(key, []).append(Source(store, which))
    return tuple(MapSet(tuple(sources)) for sources in found.values())


def _described(brain: Part, name: str) -> AttentionMap:
    attrs = brain.image_attrs(name)
    genes = tuple(str(gene) for gene in attrs.get("genes", ()))
    if not genes:
        raise StoreError(
            "attention map does not say its genes",
            where=f"{brain.url}, image {name}",
            expected="attribute genes: [...]",
            remedy="Write it again with `teramind-model attention`",
        )
    count = brain.image(name).shape[0]
    channels = tuple(str(one) for one in attrs.get("channels", ())) or CHANNELS
    if len(channels) != count:
        channels = tuple(f"channel {index}" for index in range(count))
    region, span = attrs.get("region"), attrs.get("sections")
    return AttentionMap(
        element=name,
        pathway=name.removeprefix(PREFIX),
        genes=genes,
        channels=channels,
        logarithmic=str(attrs.get("scale", "")).startswith("log2"),
        region=Box(*region) if isinstance(region, (list, tuple)) else None,
        span=(int(span[0]), int(span[1])) if isinstance(span, (list, tuple)) else None,
    )


def read_levels(brain: Part, which: AttentionMap, section: int, bins: Box, level: int = 0) -> FloatArray:
    """Attention levels `n * map` on a linear scale, `(c, y, x)` float64, for a box in bins of the section."""
    values = np.asarray(brain.read(which.element, section, bins, level=level), dtype=np.float64)
    if which.logarithmic:
        return np.exp2(values) - 1.0
    return values * (len(brain.panel) if brain.panel is not None else 1)


def read_expression(real: Part, genes: tuple[str, ...], section: int, bins: Box) -> npt.NDArray[np.uint16]:
    """Counts of genes, `(genes, y, x)`, for a box in bins of the section."""
    if real.panel is None:
        raise StoreError("the real store has no panel", where=real.url)
    return real.molecules.counts(section, bins.refine(BIN_PX), real.panel.positions(genes))
