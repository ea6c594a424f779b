"""The charts of attention by region and by section, with their words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from teramind_eval.attention.blocks import ALL_GENES
from teramind_eval.attention.relations import Group
from teramind_eval.attention.scores import UNIFORM
from teramind_eval.attention.trends import Line
from teramind_eval.regions import in_words, region_name
from teramind_eval.report.page import Chart
from teramind_eval.report.plots import REGIONS_DRAWN
from teramind_eval.report.trend_plots import Dots, dot_numbers, region_dots, section_trends
from teramind_eval.report.trend_shown import Shown

FloatArray = npt.NDArray[np.float64]

_UNIFORM = "uniform attention"


def region_chart(shown: Shown) -> Chart | None:
    """Attention beyond uniform, and how closely maps follow expression, by region; None for fewer than two."""
    regions = _regions(shown)
    if len(regions) < 2:
        return None
    v, sources = shown.relations.variables, shown.sources
    groups, x = [group for _, group in regions], v.expression(ALL_GENES)
    beyond = {store: v.beyond(store, shown.channel) for store in sources}
    levels = {**{store: v.attention(store, shown.channel) for store in sources}, _UNIFORM: v.uniform}
    left = Dots(
        "beyond uniform, mean ± SD (octaves)",
        {store: _means(groups, y) for store, y in beyond.items()},
        {store: _spreads(groups, y) for store, y in beyond.items()},
        0.0,
    )
    right = Dots(
        "Spearman ρ with expression", {label: _ranks(groups, x, y) for label, y in levels.items()}, {}
    )
    colours = {label: UNIFORM if label == _UNIFORM else label for label in levels}
    return Chart(
        f"{shown.slug}_regions",
        region_dots([name for name, _ in regions], (left, right), colours, shown.stores),
        "Region by region",
        f"Blocks by the region that most of their bins lie in ({shown.channel}; in brackets how many). Left: where "
        "the model pays the pathway more or less attention than expression explains. Right: how closely the map "
        "follows expression.",
        "Dots of attention beyond uniform and of rank correlation with expression, a row a region",
        dot_numbers([name for name, _ in regions], (left, right)),
    )


def agreement_chart(shown: Shown) -> Chart | None:
    """Do the other stores' maps agree with the first one's? By region; None for a single store."""
    v = shown.relations.variables
    if len(v.sources) < 2:
        return None
    brain = shown.relations.brain
    regions = [(f"whole brain ({brain.scatter.n:,})", brain), *_regions(shown)]
    groups = [group for _, group in regions]

    def ranks(of: Callable[[str, str], int], other: str) -> FloatArray:
        first, second = of(v.sources[0], shown.channel), of(other, shown.channel)
        return _ranks(groups, first, second)

    others = shown.sources[1:]
    panels = (
        Dots("Spearman ρ of the maps", {one: ranks(v.attention, one) for one in others}, {}, 0.0),
        Dots("Spearman ρ beyond uniform", {one: ranks(v.beyond, one) for one in others}, {}, 0.0),
    )
    return Chart(
        f"{shown.slug}_agreement",
        region_dots([name for name, _ in regions], panels, {one: one for one in others}, shown.stores),
        f"Agreement with {v.sources[0]}",
        f"Rank correlation over blocks ({shown.channel}) of each store's map with that of {v.sources[0]}. Left: of "
        "the maps, which agree by construction, as both hold the same expression. Right: of what each has beyond "
        "uniform attention.",
        "Dots of rank correlation between stores, a row a region",
        dot_numbers([name for name, _ in regions], panels),
    )


def section_chart(shown: Shown) -> Chart | None:
    """Slope, and attention beyond uniform, by section; None for a single section."""
    relations, v = shown.relations, shown.relations.variables
    sections = sorted(relations.sections)
    if len(sections) < 2:
        return None
    groups, x = [relations.sections[index] for index in sections], v.expression(ALL_GENES)
    levels = {**{store: v.attention(store, shown.channel) for store in shown.sources}, _UNIFORM: v.uniform}

    def slopes(y: int) -> tuple[FloatArray, FloatArray]:
        lines = [Line.through(group.scatter.pair(x, y)) for group in groups]
        return (
            np.array([np.nan if one is None else one.slope for one in lines]),
            np.array([np.nan if one is None else one.slope_error() for one in lines]),
        )

    panels = (
        ("slope of attention on expression", {label: slopes(y) for label, y in levels.items()}),
        (
            "beyond uniform (octaves)",
            {
                store: (_means(groups, y), _spreads(groups, y))
                for store, y in ((one, v.beyond(one, shown.channel)) for one in shown.sources)
            },
        ),
    )
    place = np.array([shown.real.sections[index].z_um for index in sections])
    return Chart(
        f"{shown.slug}_sections",
        section_trends(place, panels, shown.stores),
        "Section by section",
        f"Left: slope with its 95 % interval. Right: mean attention beyond uniform, band of one standard deviation "
        f"({shown.channel}).",
        "Line plots of slope and of attention beyond uniform by section position",
        [
            {"z_um": z, "panel": title, "label": label, "value": value, "half_width": half}
            for title, lines in panels
            for label, (values, halves) in lines.items()
            for z, value, half in zip(place.tolist(), values.tolist(), halves.tolist(), strict=True)
        ],
    )


def _means(groups: Sequence[Group], y: int) -> FloatArray:
    return np.array([group.scatter.moments(y).mean for group in groups])


def _spreads(groups: Sequence[Group], y: int) -> FloatArray:
    return np.array([group.scatter.moments(y).sd for group in groups])


def _ranks(groups: Sequence[Group], x: int, y: int) -> FloatArray:
    return np.array([group.ranks[x, y] for group in groups])


def _regions(shown: Shown) -> list[tuple[str, Group]]:
    """The regions with most blocks, most first, named with how many those are."""
    groups = shown.relations.regions
    order = sorted(groups, key=lambda label: (-groups[label].scatter.n, label))
    found = [(region_name(shown.real, label), groups[label]) for label in order]
    named = [(f"{in_words(name)} ({group.scatter.n:,})", group) for name, group in found]
    return [(name, group) for name, group in named if group.scatter.n >= 3][:REGIONS_DRAWN]
