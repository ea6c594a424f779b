"""Colours and type of the sheet: Okabe and Ito's colours, which the colour-blind tell apart; shapes say the same."""

from __future__ import annotations

from typing import Any

INK = "#222222"
QUIET = "#666666"
ALARM = "#C44601"  # vermillion, dark enough to be read as text
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "D", "v")

STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": QUIET,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 2,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "figure.facecolor": "white",
    "lines.linewidth": 1.1,
}
