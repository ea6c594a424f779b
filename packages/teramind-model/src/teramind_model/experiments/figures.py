"""Plots of experiments and ablations as PNG bytes. Colours are told apart without seeing red or green."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_model.experiments.interactions import NETWORKS, PairScore
from teramind_model.experiments.scores import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "axis_plot", "new_figure", "pair_plot", "png", "score_plot"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_REAL = "#555555"

_SHOWN = (
    ("psnr_db", "PSNR (dB)"),
    ("ssim", "SSIM"),
    ("f1_truth", "centroid F1, truth"),
    ("nuclei_per_patch", "nuclei a patch"),
    ("area_um2", "nuclear area (µm²)"),
)
_NEAR = ("nuclei_per_patch", "area_um2", "f1_truth")
"""Measures that the real brain has too."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def score_plot(rows: Sequence[Row]) -> bytes:
    """A panel a measure, a line a method and condition, a colour a protocol; the real brain as a dashed line."""
    protocols = list(dict.fromkeys(row.protocol for row in rows))
    made = [row for row in rows if row.condition != "real"]
    kinds = list(dict.fromkeys((row.method, row.condition) for row in made))
    shown = [(key, title) for key, title in _SHOWN if any(row.scores.get(key) is not None for row in made)]
    figure = new_figure(3 + 2.4 * max(1, len(shown)), 1.6 + 0.34 * len(kinds))
    axes = figure.subplots(1, max(1, len(shown)), sharey=True, squeeze=False)[0]
    for axis, (key, title) in zip(axes, shown, strict=False):
        for number, protocol in enumerate(protocols):
            colour = COLOURS[number % len(COLOURS)]
            points = [
                (row.scores[key], kinds.index((row.method, row.condition)))
                for row in made
                if row.protocol == protocol and row.scores.get(key) is not None
            ]
            axis.plot(*zip(*points, strict=True), "o", color=colour, label=protocol) if points else None
            real = next(
                (r.scores.get(key) for r in rows if (r.protocol, r.condition) == (protocol, "real")), None
            )
            if real is not None and key in _NEAR:
                axis.axvline(real, color=colour, linestyle="--", linewidth=1)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.margins(x=0.15)
        _plain(axis)
    axes[0].set_yticks(
        range(len(kinds)), [f"{method}, {condition}" for method, condition in kinds], fontsize=9
    )
    axes[0].set_ylim(len(kinds) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower right", ncols=max(1, len(labels)), fontsize=9, frameon=False
    )
    figure.text(0.01, 0.005, "dashed: the real brain", fontsize=8, color=_REAL)
    return png(figure)


def axis_plot(
    curves: Mapping[str, Sequence[tuple[int, Mapping[str, float | None]]]], default: Mapping[str, int]
) -> bytes:
    """Ablations: a row an axis, a panel a measure.

    Args:
        curves: by axis, its places and the scores there.
        default: by axis, the place of the default, marked.
    """
    figure = new_figure(2.6 * len(_SHOWN), 2.4 * len(curves))
    grid = figure.subplots(len(curves), len(_SHOWN), squeeze=False)
    for row, (axis, points) in zip(grid, curves.items(), strict=True):
        for panel, (key, title) in zip(row, _SHOWN, strict=True):
            known = [(place, scores[key]) for place, scores in points if scores.get(key) is not None]
            panel.set_title(title, fontsize=9)
            label = {"z": "Z, slices of a window", "patch": "P (px)", "steps": "DDIM steps"}[axis]
            panel.set_xlabel(f"{label}; orange: the default", fontsize=8)
            _plain(panel)
            if not known:
                continue
            places, values = zip(*known, strict=True)
            panel.set_xscale("log", base=2)
            panel.set_xticks(places, [str(place) for place in places])
            panel.minorticks_off()
            panel.plot(places, values, "o-", color=COLOURS[0], linewidth=1.2, markersize=4)
            at = [value for place, value in known if place == default[axis]]
            panel.plot([default[axis]] * len(at), at, "o", color=COLOURS[1], markersize=7)
            panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    return png(figure)


def pair_plot(scores: Sequence[PairScore]) -> bytes:
    """Relative attention, and what is left beyond expression, of every pair; a colour a network."""
    pairs = list(dict.fromkeys(score.pair for score in scores))
    panels = (
        ("relative", "relative attention, n × Attn"),
        ("map_beyond_sd", "map beyond uniform attention's,\nSD in octaves"),
        ("beyond_untrained", "beyond what untrained\nnetworks tell, SD"),
        ("partial", "attention and co-expression,\npartial r given expression"),
    )
    figure = new_figure(13, 1.6 + 0.36 * len(pairs))
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (key, title) in zip(axes, panels, strict=True):
        for number, network in enumerate(NETWORKS):
            points = [
                (getattr(score, key), pairs.index(score.pair) + 0.12 * (number - 1))
                for score in scores
                if score.network == network and np.isfinite(getattr(score, key))
            ]
            if points:
                axis.plot(*zip(*points, strict=True), "o", color=COLOURS[number], label=network, markersize=5)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        _plain(axis)
    axes[0].set_yticks(range(len(pairs)), [f"{pair.label} ({pair.kind})" for pair in pairs], fontsize=9)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=len(NETWORKS), fontsize=9, frameon=False)
    return png(figure)


def _plain(axis: Axes | Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
