"""Measures along the brain: one small plot each, over true z, broken where sections are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.qc.measures import Measure, measures_of
from teramind_data.qc.outliers import is_outlier, usual
from teramind_data.qc.style import ALARM, MARKERS, QUIET, SERIES
from teramind_data.qc.table import gaps
from teramind_data.store import Brain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Panel", "draw_panel", "panels_of", "z_axis"]


_LEAST_IN_MM = 2000.0  # um of z
_MOST_NUMBERS = 10  # outliers of a curve that are named; more would lie on each other


@dataclass(frozen=True)
class Panel:
    """A plot: title and unit, the measures in it with their labels; ``band``: keys of a band's lower and upper end."""

    title: str
    unit: str
    series: tuple[tuple[Measure, str], ...]
    band: tuple[str, str] | None = None
    colours: tuple[str, ...] = SERIES


def panels_of(brain: Brain, numbers: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The plots for which the store has numbers."""
    known = {measure.key: measure for measure in measures_of(brain.stains)}
    have = {key for own in numbers for key, value in own.items() if value is not None}

    def panel(title: str, unit: str, *keys: tuple[str, str], **more: Any) -> list[Panel]:
        series = tuple((known[key], label) for key, label in keys if key in have)
        return [Panel(title, unit, series, **more)] if series else []

    def stains(title: str, unit: str, suffix: str) -> list[Panel]:
        return panel(title, unit, *((f"{stain}_{suffix}", stain) for stain in brain.stains))

    out = panel("Transcripts", "thousands", ("transcripts", ""))
    out += panel(
        "Transcripts inside",
        "%",
        ("transcripts_in_tissue", "tissue"),
        ("transcripts_in_regions", "regions"),
    )
    out += panel("Density in tissue", "thousands / mm²", ("density_per_mm2", ""))
    out += panel("Tissue area", "mm²", ("tissue_mm2", ""))
    out += panel("Genes seen", "", ("genes_seen", ""))
    out += stains("Focus", "1 / µm", "focus")
    for number, stain in enumerate(brain.stains):
        out += panel(
            f"{stain} grey level, median and 1–99 %",
            "",
            (f"{stain}_p50", ""),
            band=(f"{stain}_p1", f"{stain}_p99"),
            colours=(SERIES[number % len(SERIES)],),
        )
    out += stains("Saturated pixels", "%", "saturated")
    out += stains("Tissue covered by image", "%", "coverage")
    out += panel(
        "Shift",
        "µm",
        ("shift_previous_um", "from previous"),
        ("shift_next_um", "from next"),
        ("residue_um", "residue"),
        colours=("#56B4E9", "#CC79A7", "#222222"),
    )
    out += panel("Tissue overlap (Dice)", "", ("dice", ""))
    return out


def draw_panel(
    axes: Axes, brain: Brain, numbers: Sequence[Mapping[str, Any]], panel: Panel, *, last: bool
) -> None:
    """Draw one plot; ``last``: in the lowest row, whose axis is labelled."""
    z, unit = z_axis(brain)
    pieces = np.split(np.arange(len(z)), sorted(gaps(brain)))
    factor = {"%": 100.0, "thousands": 1e-3, "thousands / mm²": 1e-3}.get(panel.unit, 1.0)
    for before, after in pairwise(pieces):
        axes.axvspan(
            z[before[-1]], z[after[0]], facecolor="#f4f4f4", edgecolor="#cccccc", hatch="////", linewidth=0, zorder=0
        )  # fmt: skip
    if panel.band is not None:
        low, high = (_values(numbers, key, factor) for key in panel.band)
        for piece in pieces:
            axes.fill_between(
                z[piece], low[piece], high[piece], color=panel.colours[0], alpha=0.18, linewidth=0
            )
            if len(piece) == 1:  # a band of one section has no width
                axes.vlines(
                    z[piece], low[piece], high[piece], color=panel.colours[0], alpha=0.25, linewidth=4
                )
    for number, (measure, label) in enumerate(panel.series):
        values = _values(numbers, measure.key, factor)
        raw = [own.get(measure.key) for own in numbers]
        colour, marker = panel.colours[number % len(panel.colours)], MARKERS[number % len(MARKERS)]
        size = 3.2 if len(z) <= 25 else 2.0
        # What lies below shows beside what lies on it.
        width = 1.1 + 0.9 * (len(panel.series) - 1 - number)
        for piece in pieces:
            axes.plot(
                z[piece],
                values[piece],
                color=colour,
                marker=marker,
                markersize=size + width - 1.1,
                linewidth=width,
            )
        axes.plot([], [], color=colour, marker=marker, markersize=4, label=label)
        middle = usual(raw)
        if middle is not None and len(panel.series) == 1:
            axes.axhline(middle * factor, color=QUIET, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        _outliers(axes, z, values, [_flagged(measure, value, raw) for value in raw])
        if measure.limit is not None and number == 0 and _near(measure, values / factor):
            axes.axhline(measure.limit * factor, color=ALARM, linewidth=0.7, linestyle=":", zorder=1)
    if any(label for _, label in panel.series):
        axes.legend(loc="lower right", bbox_to_anchor=(1.02, 0.97), ncols=3, handlelength=1.4,
                    columnspacing=0.9, handletextpad=0.4, borderpad=0)  # fmt: skip
    axes.set_title(f"{panel.title}" + (f", {panel.unit}" if panel.unit else ""))
    _limits(axes, z, panel)
    if last:
        axes.set_xlabel(f"z, {unit}", labelpad=1)


def z_axis(brain: Brain) -> tuple[NDArray[np.float64], str]:
    """True z of the sections for an axis, and its unit: mm, of a brain that spans less than 2 mm um."""
    z = np.array([section.z_um for section in brain.sections], float)
    return (z, "µm") if np.ptp(z) < _LEAST_IN_MM else (z / 1000, "mm")


def _values(numbers: Sequence[Mapping[str, Any]], key: str, factor: float) -> NDArray[np.float64]:
    return np.array([np.nan if own.get(key) is None else own[key] * factor for own in numbers], float)


def _flagged(measure: Measure, value: float | None, values: Sequence[float | None]) -> bool:
    if value is None:
        return False
    limit = measure.limit
    beyond = limit is not None and (value < limit if measure.bad == "low" else value > limit)
    return beyond or is_outlier(measure, value, values)


def _outliers(
    axes: Axes, z: NDArray[np.float64], values: NDArray[np.float64], flagged: Sequence[bool]
) -> None:
    """A ring and the section's number: neither colour nor shape alone."""
    from matplotlib.patheffects import withStroke

    found = np.flatnonzero(flagged)
    for index in found:
        axes.plot(z[index], values[index], "o", markersize=8, markerfacecolor="none",
                  markeredgecolor=ALARM, markeredgewidth=1.4, clip_on=False, zorder=5)  # fmt: skip
        if len(found) > _MOST_NUMBERS:
            continue
        axes.annotate(f"{index}", (z[index], values[index]), xytext=(6, 4), textcoords="offset points",
                      color=ALARM, fontsize=7, fontweight="bold", annotation_clip=False, zorder=6,
                      path_effects=[withStroke(linewidth=2, foreground="white")])  # fmt: skip


def _near(measure: Measure, values: NDArray[np.float64]) -> bool:
    """Whether a limit is worth showing: some value comes close to it."""
    limit = measure.limit or 0.0
    known = values[~np.isnan(values)]
    if not known.size:
        return False
    return bool(known.min() < limit if measure.bad == "low" else known.max() > limit)


def _limits(axes: Axes, z: NDArray[np.float64], panel: Panel) -> None:
    """Room at both ends; amounts from zero, shares of nearly one not blown up."""
    from matplotlib.ticker import MaxNLocator

    spread = float(z[-1] - z[0]) or 1.0
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if len(z) <= 3:
        axes.set_xticks(z)
    # As many digits as the number needs, where Matplotlib gives all ticks those of the longest.
    axes.xaxis.set_major_formatter(lambda value, _: f"{round(value, 6):.5g}")
    axes.set_xlim(z[0] - 0.04 * spread, z[-1] + 0.04 * spread)
    low, high = axes.get_ylim()
    kinds = {measure.key.split("_")[-1] for measure, _ in panel.series}
    if panel.band is not None:
        axes.set_ylim(0, 262)
    elif kinds & {"coverage", "tissue", "regions", "dice"}:
        top = 1.0 if "dice" in kinds else 100.0
        axes.set_ylim(min(low, 0.9 * top) - 0.005 * top, 1.012 * top)
    elif kinds & {"saturated"}:
        axes.set_ylim(0, max(1.12 * high, 1.0))
    else:
        axes.set_ylim(0, 1.12 * max(high, 1e-9))
