"""The charts of attention against expression with their words, one part of the page a set of maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_eval.attention.blocks import ALL_GENES, block_sums
from teramind_eval.attention.maps import MapSet, read_expression, read_levels
from teramind_eval.attention.relations import Group
from teramind_eval.attention.scores import UNIFORM
from teramind_eval.attention.trends import LEVELS, OCTAVES, Line
from teramind_eval.part import Part
from teramind_eval.report.page import AttentionPart, Chart, Grid
from teramind_eval.report.region_charts import agreement_chart, region_chart, section_chart
from teramind_eval.report.trend_plots import (
    Cloud,
    Picture,
    Ruled,
    cloud_numbers,
    density_plot,
    map_pictures,
    picture_numbers,
)
from teramind_eval.report.trend_shown import Shown

FloatArray = npt.NDArray[np.float64]

#: Bins along the edge of an attention picture; larger maps are shown by block sums.
_WIDEST_MAP = 256
#: Bins read at a time for a picture, along an edge.
_BAND_BINS = 1024
#: Panels of genes that a chart shows; the tables have all.
_MOST_GENES = 8


def attention_part(shown: Shown) -> AttentionPart:
    """Maps beside expression, the trends, what is left beyond the controls, by region and section."""
    which = shown.maps.which
    charts: list[Chart | None] = [
        _maps_chart(shown),
        _trend_chart(shown),
        _gene_chart(shown),
        _beyond_chart(shown),
        region_chart(shown),
        agreement_chart(shown),
        section_chart(shown),
    ]
    title = f"{which.pathway} in {_listed(shown.relations.variables.sources)}"
    drawn = tuple(chart for chart in charts if chart is not None)
    return AttentionPart(title, ", ".join(which.genes), drawn, _grid(shown))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _grid(shown: Shown) -> Grid:
    """The numbers in short: each store's trend, and what is left of it."""
    sources = shown.relations.variables.sources
    head = (
        "",
        "slope",
        "Pearson r",
        "Spearman ρ",
        "beyond uniform, mean",
        "SD",
        *(f"SD that {other} does not tell" for other in sources[1:]),
    )
    v, brain = shown.relations.variables, shown.relations.brain
    rows = []
    for store in sources:
        mine = v.beyond(store, shown.channel)
        left = brain.scatter.moments(mine)
        others = [
            "" if other == store else f"{brain.scatter.left_sd(mine, v.beyond(other, shown.channel)):.2f}"
            for other in sources[1:]
        ]
        trend = _trend_cells(shown, v.attention(store, shown.channel))
        rows.append((store, *trend, f"{left.mean:+.2f}", f"{left.sd:.2f}", *others))
    uniform = _trend_cells(shown, v.uniform)
    rows.append(("uniform attention", *uniform, "0", "0", *("" for _ in sources[1:])))
    return Grid(
        head,
        tuple(rows),
        f"Version {shown.channel}, whole brain. The uniform row is what expression alone gives: a slope and a "
        "correlation near 1 by construction. Read the columns right of them: octaves (factors of two) by which the "
        "map departs from uniform attention, and what of that a line from the other store's map does not tell.",
    )


def _trend_cells(shown: Shown, y: int) -> tuple[str, str, str]:
    x, brain = shown.relations.variables.expression(ALL_GENES), shown.relations.brain
    line = Line.through(brain.scatter.pair(x, y))
    if line is None:
        return "–", "–", "–"
    return (
        f"{line.slope:.2f} ± {line.slope_error():.2f}",
        f"{line.correlation:.3f}",
        f"{brain.ranks[x, y]:.3f}",
    )


def coarse_maps(real: Part, maps: MapSet, section: int) -> tuple[FloatArray, FloatArray]:
    """Summed counts `(y, x)` and levels `(sources, channels, y, x)` of a section, in at most 256 blocks an edge."""
    rows, columns = real.canvas[0] // BIN_PX, real.canvas[1] // BIN_PX
    step = max(1, -(-max(rows, columns) // _WIDEST_MAP))
    counts = np.zeros((rows // step, columns // step))
    levels = np.zeros((len(maps.sources), len(maps.which.channels), *counts.shape))
    for band in tiles(Box(0, rows, 0, columns), max(1, _BAND_BINS // step) * step):
        here = block_sums(read_expression(real, maps.which.genes, section, band), step).sum(axis=0)
        y, x = band.y0 // step, band.x0 // step
        cut = slice(y, y + here.shape[0]), slice(x, x + here.shape[1])
        counts[cut] = here
        for index, one in enumerate(maps.sources):
            levels[(index, slice(None), *cut)] = block_sums(
                read_levels(one.store.brain, one.which, section, band), step
            )
    return counts, levels


def _maps_chart(shown: Shown) -> Chart:
    which, v = shown.maps.which, shown.relations.variables
    counts, levels = coarse_maps(shown.real, shown.maps, shown.section)
    pictures = [Picture("Expression", np.log2(counts + 1), "log2(counts + 1)", "expression")]
    pictures += [
        Picture(f"{v.sources[0]}, {name}", np.log2(level + 1), "log2(n·map + 1)", "attention")
        for name, level in zip(which.channels, levels[0], strict=True)
    ]
    for label, level in zip(shown.sources, levels[:, -1], strict=False):
        there = (counts > 0) & (level > 0)
        octaves = np.full(counts.shape, np.nan)
        octaves[there] = np.log2(level[there] / (len(which.genes) * counts[there]))
        pictures.append(Picture(f"{label}, beyond uniform", octaves, "octaves", "octaves"))
    genes = ", ".join(which.genes)
    return Chart(
        f"{shown.slug}_maps",
        map_pictures(pictures, shown.real.canvas[1] * shown.real.pixel_size_um),
        "Where",
        f"Section {shown.real.sections[shown.section].name}. First row: transcripts of {genes}, then the attention "
        f"that the {v.sources[0]} model pays among these genes, with the slice before, the slice after, and the whole "
        f"window. Then the same ({shown.channel}) divided by uniform attention: what expression does not explain. "
        "White is neither more nor less; grey has no transcript.",
        f"Maps of expression and attention of {genes}, and of attention beyond uniform",
        picture_numbers(pictures),
    )


def _line(group: Group, x: int, y: int) -> Line | None:
    return Line.through(group.scatter.pair(x, y))


def _noted(group: Group, x: int, y: int) -> str:
    line = _line(group, x, y)
    if line is None:
        return "too few blocks"
    slope = f"slope {line.slope:.2f} ± {line.slope_error():.2f}"
    return f"{slope}\nr {line.correlation:.2f}, ρ {group.ranks[x, y]:.2f}, n {line.n:,}"


def _ruled(shown: Shown, x: int, channel: str) -> list[Ruled]:
    """The first store's line, then the other stores' and uniform attention's."""
    v, brain = shown.relations.variables, shown.relations.brain
    found = []
    for index, store in enumerate(shown.sources):
        line = _line(brain, x, v.attention(store, channel))
        if line is not None:
            found.append(Ruled(store, line, store, main=index == 0))
    uniform = _line(brain, x, v.uniform)
    return found if uniform is None else [*found, Ruled("uniform attention", uniform, UNIFORM)]


def _trend_chart(shown: Shown) -> Chart:
    relations, v = shown.relations, shown.relations.variables
    x, store = v.expression(ALL_GENES), v.sources[0]
    clouds = []
    for place, channel in enumerate(v.channels):
        y = v.attention(store, channel)
        thin = [_line(group, x, y) for group in relations.sections.values()]
        clouds.append(
            Cloud(
                title=channel,
                counts=relations.levels[0, place],
                up=LEVELS,
                lines=_ruled(shown, x, channel),
                thin=[one for one in thin if one is not None],
                note=_noted(relations.brain, x, y),
            )
        )
    return Chart(
        f"{shown.slug}_trend",
        density_plot(clouds, shown.stores),
        "Attention follows expression, by construction",
        f"Shades are blocks of tissue of the {store} model: the more a block expresses the pathway (right), the more "
        "attention it gets (up). Thick line: least squares with its 95 % band; thin lines: single sections; broken "
        "lines: the other stores and uniform attention, fitted alike. A map multiplies attention by expression, so "
        "all rise; what the model adds is how far its line and blocks stand off the uniform one.",
        f"Density of attention against expression of {', '.join(v.genes)} with regression lines",
        cloud_numbers(clouds),
    )


def _gene_chart(shown: Shown) -> Chart | None:
    relations, v = shown.relations, shown.relations.variables
    genes = v.genes[:_MOST_GENES]
    if len(v.genes) < 2:
        return None
    store, y = v.sources[0], v.attention(v.sources[0], shown.channel)
    clouds = []
    for gene in genes:
        x = v.expression(gene)
        clouds.append(
            Cloud(
                title=gene,
                counts=relations.levels[x, v.channels.index(shown.channel)],
                up=LEVELS,
                lines=_ruled(shown, x, shown.channel),
                thin=(),
                note=_noted(relations.brain, x, y),
                gene=True,
            )
        )
    more = f" The first {len(genes)} of {len(v.genes)} genes." if len(genes) < len(v.genes) else ""
    return Chart(
        f"{shown.slug}_genes",
        density_plot(clouds, shown.stores),
        "Gene by gene",
        f"The same attention ({store}, {shown.channel}) against each gene of the pathway alone.{more} Blocks at the "
        "left edge hold none of that gene, and get their attention from the others.",
        f"Density of attention against expression of each of {', '.join(genes)}",
        cloud_numbers(clouds),
    )


def _beyond_chart(shown: Shown) -> Chart:
    relations, v = shown.relations, shown.relations.variables
    x = v.expression(ALL_GENES)
    clouds = []
    for store in shown.sources:
        y = v.beyond(store, shown.channel)
        place = v.sources.index(store) * len(v.channels) + v.channels.index(shown.channel)
        line, moments = _line(relations.brain, x, y), relations.brain.scatter.moments(y)
        r = relations.brain.scatter.correlation(x, y)
        clouds.append(
            Cloud(
                title=store,
                counts=relations.octaves[place],
                up=OCTAVES,
                lines=() if line is None else (Ruled(store, line, store, main=True),),
                thin=(),
                note=f"{moments.mean:+.2f} ± {moments.sd:.2f} octaves\nr {r:.2f}",
            )
        )
    return Chart(
        f"{shown.slug}_beyond",
        density_plot(clouds, shown.stores, "attention beyond uniform (octaves)"),
        "What is left beyond uniform attention",
        f"Each block's attention ({shown.channel}) divided by what uniform attention gives there, in octaves: 0 is "
        "nothing added, 1 twice as much. An untrained network departs from uniform too, since genes of like "
        "expression attend to each other before anything is learnt: only what goes beyond its panel was learnt.",
        "Density of attention over uniform attention against expression, a panel a store",
        cloud_numbers(clouds),
    )
