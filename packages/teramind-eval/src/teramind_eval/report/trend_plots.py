"""Plots of attention against expression: maps, densities with lines, regions and sections.

Colours: viridis and magma for levels, PuOr for what lies above (orange) and below (purple) uniform attention; all can
be told apart with any colour vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from teramind_eval.attention.trends import LEVELS, Axis, Line
from teramind_eval.report.plots import INK, Labelled, Plot, Scheme, draw, looks, shade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_EXPRESSION = "expression, log2(counts + 1)"
_ATTENTION = "attention, log2(n·map + 1)"


@dataclass(frozen=True)
class Picture:
    """A map to show: title, whether that is a gene's name, values (nan: nothing there), unit, and what kind it is."""

    title: str
    values: FloatArray
    unit: str
    kind: str


def map_pictures(pictures: Sequence[Picture], um_across: float) -> Plot:
    """Maps of one section, four a row. Those of one kind (`expression`, `attention`, `octaves`) share their scale."""
    columns = min(4, len(pictures))
    rows = -(-len(pictures) // columns)
    tops = {
        kind: max(float(np.nanmax(np.abs(one.values), initial=0.0)) for one in pictures if one.kind == kind)
        or 1.0
        for kind in {one.kind for one in pictures}
    }

    def paint(figure: Figure, scheme: Scheme) -> None:
        grid = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
        for axes in grid.ravel()[len(pictures) :]:
            axes.set_axis_off()
        for index, (axes, one) in enumerate(zip(grid.ravel(), pictures, strict=False)):
            height = um_across * one.values.shape[0] / one.values.shape[1]
            top = tops[one.kind]
            image = axes.imshow(
                one.values,
                cmap={"expression": "viridis", "attention": "magma"}.get(one.kind, "PuOr_r"),
                vmin=-top if one.kind == "octaves" else 0,
                vmax=top,
                extent=(0.0, um_across, height, 0.0),
                interpolation="nearest",
            )
            axes.set_facecolor(INK[scheme][1])
            axes.set_title(one.title, fontsize=8.5)
            axes.grid(visible=False)
            if index // columns == rows - 1 or index + columns >= len(pictures):
                axes.set_xlabel("x (µm)")
                axes.xaxis.set_tick_params(labelbottom=True)
            if index % columns == 0:
                axes.set_ylabel("y (µm)")
            figure.colorbar(image, ax=axes, location="bottom", shrink=0.9, label=one.unit, pad=0.02)

    return draw((9.6, 3.5 * rows), paint)


def picture_numbers(pictures: Sequence[Picture]) -> dict[str, npt.NDArray[Any]]:
    """A row a pixel: its row and column, and each picture's value."""
    rows, columns = np.indices(pictures[0].values.shape)
    return {
        "row": rows.ravel(),
        "column": columns.ravel(),
        **{f"{one.title} ({one.unit})": one.values.ravel() for one in pictures},
    }


@dataclass(frozen=True)
class Ruled:
    """A line to draw: whose it is, and whether its band is shown."""

    label: str
    line: Line
    colour_of: str
    main: bool = False


@dataclass(frozen=True)
class Cloud:
    """A panel of a density plot.

    Attributes:
        title: above it.
        gene: whether the title is a gene's name, which is set in italics.
        counts: blocks in cells of `LEVELS` by `up`.
        up: the cells of the y axis.
        lines: the main one first.
        thin: lines of single sections.
        note: written in the corner.
    """

    title: str
    counts: IntArray
    up: Axis
    lines: Sequence[Ruled]
    thin: Sequence[Line]
    note: str
    gene: bool = False


def cloud_numbers(clouds: Sequence[Cloud]) -> list[dict[str, Any]]:
    """A row a cell that holds a block: its lower borders and the blocks. The lines are in the table of trends."""
    return [
        {
            "panel": one.title,
            "expression_low": float(LEVELS.edges[i]),
            "low": float(one.up.edges[j]),
            "blocks": int(one.counts[i, j]),
        }
        for one in clouds
        for i, j in np.argwhere(one.counts).tolist()
    ]


def density_plot(clouds: Sequence[Cloud], stores: Sequence[Labelled], up: str = _ATTENTION) -> Plot:
    """Density of blocks with lines through them, the main one with its 95 % band; panels share their axes."""
    from matplotlib.ticker import LogLocator

    columns = min(4, len(clouds))
    rows = -(-len(clouds) // columns)

    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.ravel()[len(clouds) :]:
            axes.set_axis_off()
        most = max(2, *(int(_coarse(one.counts).max(initial=0)) for one in clouds))
        image = None
        for index, (axes, one) in enumerate(zip(grid.ravel(), clouds, strict=False)):
            image = _blocks(axes, one, most, scheme) or image
            _lines(axes, one, {label: look.colour for label, look in style.items()}, scheme)
            axes.set_title(one.title, fontsize=9.5, style="italic" if one.gene else "normal")
            axes.text(0.04, 0.97, one.note, transform=axes.transAxes, va="top", fontsize=8)
            axes.set_xlabel(_EXPRESSION)
            if index % columns == 0:
                axes.set_ylabel(up)
        _limits(grid.ravel()[0], clouds)
        if image is not None:
            # Of few decades whole powers of ten would leave the upper end without a number.
            ticks = LogLocator(subs=(1.0, 2.0, 5.0))
            scale = figure.colorbar(image, ax=grid, shrink=0.8, label="blocks", pad=0.01, ticks=ticks)
            scale.ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            scale.ax.yaxis.set_minor_formatter(lambda value, _: "")
        handles, labels = grid.ravel()[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside upper left", ncols=5)

    return draw((9.6, 3.4 * rows + 0.3), paint)


def _coarse(counts: IntArray) -> IntArray:
    # Two cells a side, 0.4 log2 units across: fine enough to see a shape, coarse enough to hold more than one block.
    rows, columns = counts.shape[0] // 2, counts.shape[1] // 2
    return np.asarray(counts.reshape(rows, 2, columns, 2).sum(axis=(1, 3)), dtype=np.int64)


def _blocks(axes: Axes, one: Cloud, most: int, scheme: Scheme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba

    cells = _coarse(one.counts)
    if not cells.any():
        return None
    colour = INK[scheme][0]
    ramp = LinearSegmentedColormap.from_list("blocks", [to_rgba(colour, 0.10), to_rgba(colour, 0.85)])
    shown = np.ma.masked_equal(cells.T, 0)
    edges = LEVELS.edges[::2], one.up.edges[::2]
    return axes.pcolormesh(*edges, shown, cmap=ramp, norm=LogNorm(1, most), linewidth=0, rasterized=True)


def _lines(axes: Axes, one: Cloud, colours: dict[str, str], scheme: Scheme) -> None:
    seen = np.flatnonzero(one.counts.sum(axis=1))
    if not len(seen):
        return
    x = np.linspace(LEVELS.edges[seen[0]], LEVELS.edges[seen[-1] + 1], 80)
    for index, ruled in enumerate(one.lines):
        colour = colours.get(ruled.colour_of, INK[scheme][0])
        if ruled.main:
            for thin in one.thin:
                axes.plot(x, thin.at(x), color=colour, linewidth=0.7, alpha=0.45)
            band = ruled.line.band(x)
            axes.fill_between(
                x, ruled.line.at(x) - band, ruled.line.at(x) + band, color=colour, alpha=0.3, lw=0
            )
        dashes = "-" if ruled.main else ("--", ":", "-.")[(index - 1) % 3]
        axes.plot(
            x, ruled.line.at(x), dashes, color=colour, label=ruled.label, linewidth=1.8 if ruled.main else 1.4
        )


def _limits(axes: Axes, clouds: Sequence[Cloud]) -> None:
    """Axes that hold all blocks of all panels, with room for the notes above."""
    total = sum((one.counts for one in clouds), np.zeros_like(clouds[0].counts))
    across, up = np.flatnonzero(total.any(axis=1)), np.flatnonzero(total.any(axis=0))
    if not len(across):
        return
    edges = clouds[0].up.edges
    low, high = edges[up[0]], edges[up[-1] + 1]
    axes.set_xlim(LEVELS.edges[across[0]] - 0.2, LEVELS.edges[across[-1] + 1] + 0.2)
    axes.set_ylim(low - 0.1, high + 0.3 * (high - low))


@dataclass(frozen=True)
class Dots:
    """A panel of a plot by region: axis label, and for each label values by region, with half widths where known."""

    title: str
    values: dict[str, FloatArray]
    spread: dict[str, FloatArray]
    rule: float | None = None


def dot_numbers(regions: Sequence[str], panels: Sequence[Dots]) -> list[dict[str, Any]]:
    """A row a dot: region, panel, whose it is, value and half width (nan where there is none)."""
    return [
        {
            "region": region,
            "panel": panel.title,
            "label": label,
            "value": float(values[index]),
            "half_width": float(panel.spread[label][index]) if label in panel.spread else float("nan"),
        }
        for panel in panels
        for label, values in panel.values.items()
        for index, region in enumerate(regions)
    ]


def region_dots(
    regions: Sequence[str], panels: Sequence[Dots], colours: dict[str, str], stores: Sequence[Labelled]
) -> Plot:
    """A row a region, a panel a measure, a dot a store. `colours`: whose colour a label takes."""

    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        places = np.arange(len(regions), dtype=np.float64)
        for axes, panel in zip(grid, panels, strict=True):
            if panel.rule is not None:
                axes.axvline(panel.rule, color=INK[scheme][0], linewidth=1)
            several = len(panel.values)
            for index, (label, values) in enumerate(panel.values.items()):
                look = style.get(colours[label])
                shift = (index - (several - 1) / 2) * min(0.22, 0.7 / several)
                axes.errorbar(
                    values,
                    places + shift,
                    xerr=panel.spread.get(label),
                    fmt="o" if look is None else look.marker,
                    color=INK[scheme][0] if look is None else look.colour,
                    markersize=5,
                    elinewidth=1.1,
                    label=label,
                )
            axes.set_xlabel(panel.title)
        grid[0].set_yticks(places, regions)
        grid[0].set_ylim(len(regions) - 0.5, -0.5)
        handles: dict[str, Any] = {}
        for axes in grid:
            handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4)

    return draw((9.2, 1.3 + 0.34 * len(regions)), paint)


def section_trends(
    z_um: FloatArray,
    panels: Sequence[tuple[str, dict[str, tuple[FloatArray, FloatArray]]]],
    stores: Sequence[Labelled],
) -> Plot:
    """Measures by section position: for each panel (axis label, by store values and half widths of its band)."""

    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, lines) in zip(grid, panels, strict=True):
            for label, (values, spread) in lines.items():
                look = style.get(label)
                colour = INK[scheme][0] if look is None else look.colour
                axes.fill_between(
                    z_um, values - spread, values + spread, color=colour, alpha=shade(len(lines)), linewidth=0
                )
                axes.plot(
                    z_um,
                    values,
                    ":" if look is None else look.style,
                    marker="." if look is None else look.marker,
                    markersize=4.5,
                    color=colour,
                    label=label,
                )
            axes.set_xlabel("section position z (µm)")
            axes.set_ylabel(title)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)

    return draw((9.2, 3.2), paint)
