"""Plots of a comparison: bars by brain and run (the paper's Figure 4c-e), and curves along an axis (its Figure 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_eval.compare.axes import Curve
from teramind_eval.compare.measures import Measure
from teramind_eval.compare.reports import Run
from teramind_eval.compare.table import Group
from teramind_eval.report.plots import Plot, Scheme, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, in an order of large steps; darker where the ground is light.
COLOURS: dict[Scheme, tuple[str, ...]] = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#997700", "#2f3b48"),
    "dark": ("#56b4e9", "#e69f00", "#4fd1a5", "#e58fc0", "#f0e442", "#e8eef5"),
}
_REAL: dict[Scheme, str] = {"light": "#2f3b48", "dark": "#e8eef5"}
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLES = ("-", "--", "-.", ":")
_HATCH = "////"
_ACROSS = 3
_LONGEST_LABEL = 34

_ARROWS = {"higher": "↑", "lower": "↓", "near": "→ real", "": ""}


def titled(measure: Measure) -> str:
    """Title of a measure with the way that is better."""
    arrow = _ARROWS[measure.better]
    return f"{measure.title} {arrow}".rstrip()


def bars(groups: Sequence[Group], measures: Sequence[Measure]) -> Plot:
    """A panel a measure, a bar a run, one block of bars for each measured brain; SD as a line, the real as a dash."""
    lines = sum(len(group.rows) + 1 for group in groups)
    rows = math.ceil(len(measures) / _ACROSS)

    def paint(figure: Figure, scheme: Scheme) -> None:
        _apart(figure)
        grid = figure.subplots(rows, _ACROSS, sharey=True, squeeze=False)
        for index, axes in enumerate(grid.flat):
            if index >= len(measures):
                axes.set_visible(False)
                continue
            _bar_panel(axes, groups, measures[index], index, scheme)

    return draw((9.6, rows * (0.75 + 0.27 * lines)), paint)


def _apart(figure: Figure) -> None:
    """Rows of panels not so near that a title reads as the label of the axis above it."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.12))


def _bar_panel(axes: Axes, groups: Sequence[Group], measure: Measure, index: int, scheme: Scheme) -> None:
    ticks, names = [], []
    place = 0
    for number, group in enumerate(groups):
        top = place
        ticks.append(place)
        names.append(f"{group.name}:" if len(groups) > 1 else "")
        for row in group.rows:
            place += 1
            ticks.append(place)
            names.append(shortened(row.run.label))
            _bar(axes, row.run, place, measure, (COLOURS[scheme][number % 6], scheme))
        real = group.real.run.values.get(measure.key)
        if real is not None and real.mean is not None and measure.better in ("near", "higher"):
            axes.plot([real.mean] * 2, [top + 0.5, place + 0.5], "--", color=_REAL[scheme], linewidth=1.3)
        place += 1
    axes.set_yticks(ticks, names)
    axes.set_ylim(place - 0.4, 0.4)
    axes.set_title(titled(measure))
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)


def _bar(axes: Axes, run: Run, place: int, measure: Measure, look: tuple[str, Scheme]) -> None:
    value = run.values.get(measure.key)
    if value is None or value.mean is None:
        return
    colour, scheme = look
    control = run.role == "control"
    axes.barh(
        place,
        value.mean,
        height=0.72,
        color=colour if not control else "none",
        edgecolor=colour,
        hatch=_HATCH if control else None,
        linewidth=0.8,
    )
    if value.sd is not None:
        low = max(0.0, value.mean - value.sd)
        axes.plot(
            [low, value.mean + value.sd], [place, place], color=_REAL[scheme], linewidth=1.0, alpha=0.75
        )
    axes.annotate(
        f"{value.mean:,.{measure.digits}f}",
        (0, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color="#ffffff" if scheme == "light" and not control else "#000000" if not control else _REAL[scheme],
        bbox=None
        if not control
        else {"facecolor": "#ffffff" if scheme == "light" else "#151d27", "pad": 1, "lw": 0},
    )


def axis_curves(found: Sequence[Curve], measures: Sequence[Measure]) -> Plot:
    """Curves along one axis: a panel a measure, a line a curve, SD as thin upright lines, the real brain as a dash."""
    rows = math.ceil(len(measures) / _ACROSS)

    def paint(figure: Figure, scheme: Scheme) -> None:
        _apart(figure)
        grid = figure.subplots(rows, _ACROSS, squeeze=False)
        for index, axes in enumerate(grid.flat):
            if index >= len(measures):
                axes.set_visible(False)
                continue
            _curve_panel(axes, found, measures[index], scheme)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4)

    return draw((9.6, 0.4 + 2.5 * rows), paint)


def _curve_panel(axes: Axes, found: Sequence[Curve], measure: Measure, scheme: Scheme) -> None:
    places = sorted({place for curve in found for place in curve.places})
    for number, curve in enumerate(found):
        colour = COLOURS[scheme][number % 6]
        known = [
            (place, value)
            for place, run in zip(curve.places, curve.runs, strict=True)
            if (value := run.values.get(measure.key)) is not None and value.mean is not None
        ]
        means: dict[int, list[float]] = {}
        for place, value in known:
            means.setdefault(place, []).append(float(value.mean or 0.0))
            if value.sd is not None and value.mean is not None:
                axes.plot(
                    [place] * 2,
                    [value.mean - value.sd, value.mean + value.sd],
                    color=colour,
                    alpha=0.3,
                    linewidth=1.2,
                )
        style, marker = _STYLES[number % 4], _MARKERS[number % 6]
        # Runs at the same place (of other seeds, say) are all shown; the line goes through their mean.
        x = list(means)
        axes.plot(x, [float(np.mean(means[place])) for place in x], style, color=colour, label=curve.name)
        axes.plot(
            [p for p, values in means.items() for _ in values],
            [v for values in means.values() for v in values],
            marker,
            color=colour,
            markersize=5,
        )
    for real in _reals(found, measure):
        axes.axhline(real, linestyle="--", color=_REAL[scheme], linewidth=1.1)
    if places[-1] >= 4 * places[0] > 0:
        axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
    axes.set_title(titled(measure))
    axes.set_xlabel(found[0].axis.title)
    # Differences in the last digits shown must not fill the panel.
    low, high = axes.get_ylim()
    least = 20 * 10.0**-measure.digits
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def _reals(found: Sequence[Curve], measure: Measure) -> list[float]:
    values: list[Any] = [curve.group.real.run.values.get(measure.key) for curve in found]
    return sorted({float(value.mean) for value in values if value is not None and value.mean is not None})


def shortened(label: str) -> str:
    """A label that fits beside a plot: its beginning and end."""
    if len(label) <= _LONGEST_LABEL:
        return label
    half = _LONGEST_LABEL // 2
    return f"{label[: half - 1]}…{label[-half:]}"
