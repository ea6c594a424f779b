"""Attention maps of a store, read as levels and streamed against the real brain's expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from teramind_data.errors import StoreError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_eval.attention.trends import FloatArray, Trend, paired_levels
from teramind_eval.results import TrendScores

if TYPE_CHECKING:
    from teramind_eval.part import Part

PREFIX = "attention_"

#: The three versions of a map, by which gene slices the network was shown (model specification, Attention maps).
CHANNELS = ("previous-current", "current-next", "window")

#: Edge in bins of what is read at a time.
_BAND_BINS = 1024


@dataclass(frozen=True, slots=True)
class AttentionMap:
    """One pathway's maps in a store: element name, pathway, genes, channels, and whether levels are stored as log2."""

    element: str
    pathway: str
    genes: tuple[str, ...]
    channels: tuple[str, ...]
    logarithmic: bool


def attention_maps(brain: Part) -> tuple[AttentionMap, ...]:
    """The attention maps a store holds, by name."""
    return tuple(_described(brain, name) for name in sorted(brain.images) if name.startswith(PREFIX))


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
    return AttentionMap(
        name, name.removeprefix(PREFIX), genes, channels, str(attrs.get("scale", "")).startswith("log2")
    )


def read_levels(brain: Part, which: AttentionMap, section: int, bins: Box, level: int = 0) -> FloatArray:
    """Attention levels `n * map` on a linear scale, `(c, y, x)` float64, for a box in bins of the section."""
    values = np.asarray(brain.read(which.element, section, bins, level=level), dtype=np.float64)
    if which.logarithmic:
        return np.exp2(values) - 1.0
    return values * (len(brain.panel) if brain.panel is not None else 1)


def read_expression(real: Part, genes: tuple[str, ...], section: int, bins: Box) -> np.ndarray:
    """Summed counts of genes, `(y, x)`, for a box in bins of the section."""
    if real.panel is None:
        raise StoreError("the real store has no panel", where=real.url)
    counts = real.molecules.counts(section, bins.refine(BIN_PX), real.panel.positions(genes))
    return np.asarray(counts, dtype=np.int64).sum(axis=0)


def trends(real: Part, store: Part, which: AttentionMap, edge: int) -> dict[tuple[str, int], Trend]:
    """Expression against attention by channel and section, blocks of `edge` bins, streamed in bands."""
    out: dict[tuple[str, int], Trend] = {}
    for section in real.sections:
        for channel in which.channels:
            out[channel, section.index] = Trend()
        for band in _bands(real, edge):
            counts = read_expression(real, which.genes, section.index, band)
            if not counts.any():
                continue
            levels = read_levels(store, which, section.index, band)
            for channel, level in zip(which.channels, levels, strict=True):
                part = Trend.of(*paired_levels(counts, level, edge))
                out[channel, section.index] = out[channel, section.index].merge(part)
    return out


def _bands(brain: Part, edge: int) -> Iterator[Box]:
    rows, columns = brain.canvas[0] // BIN_PX, brain.canvas[1] // BIN_PX
    return tiles(Box(0, rows, 0, columns), max(1, _BAND_BINS // edge) * edge)


def trend_scores(
    which: AttentionMap, found: dict[tuple[str, int], Trend], store: str
) -> Iterator[TrendScores]:
    """Lines of a map of the store so labelled: for each channel the brain's (section None), then its sections'."""
    for channel in which.channels:
        parts = {section: trend for (name, section), trend in found.items() if name == channel}
        whole = merged(parts)
        for section, trend in ((None, whole), *parts.items()):
            line = trend.line
            yield TrendScores(
                store=store,
                map=which.element,
                channel=channel,
                genes=which.genes,
                section=section,
                n=trend.moments.n,
                slope=None if line is None else line.slope,
                intercept=None if line is None else line.intercept,
                correlation=None
                if line is None or line.correlation != line.correlation
                else line.correlation,
                residual_sd=None if line is None else line.residual_sd,
            )


def merged(parts: dict[int, Trend]) -> Trend:
    """All sections together."""
    total = Trend()
    for trend in parts.values():
        total = total.merge(trend)
    return total
