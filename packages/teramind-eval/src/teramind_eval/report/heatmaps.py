"""Heatmaps of genes by section or region: mean and SD of log2(counts + 1). Colours: viridis and cividis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from teramind_eval.report.plots import INK, Plot, Scheme, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

#: Rows of a column of genes in a full heatmap.
_ROWS = 125
#: Columns whose names are all written; of more, every so many.
_NAMED = 40


@dataclass(frozen=True)
class Heat:
    """Values of genes (rows) in groups (columns), with the unit of the colour bar."""

    title: str
    values: FloatArray
    unit: str
    colours: str


def top_heatmaps(genes: Sequence[str], columns: Sequence[str], heats: Sequence[Heat], across: str) -> Plot:
    """Heatmaps side by side that share their rows, a gene each, names in italics."""

    def paint(figure: Figure, scheme: Scheme) -> None:
        grid = figure.subplots(1, len(heats), sharey=True, squeeze=False)[0]
        for axes, heat in zip(grid, heats, strict=True):
            image = _heat(axes, heat, columns, across, float(np.nanmax(heat.values, initial=0.0)))
            axes.set_title(heat.title)
            figure.colorbar(image, ax=axes, label=heat.unit, pad=0.02, shrink=0.8)
        _gene_names(grid[0], genes, 8.0)

    return draw((9.6, 1.5 + 0.19 * len(genes) + 0.055 * _longest(columns)), paint)


def full_heatmap(genes: Sequence[str], columns: Sequence[str], heat: Heat, across: str) -> Plot:
    """All genes in columns of up to 125 rows; one colour scale, which grows with the square root of the value.

    Most genes of a panel are expressed a tenth as much as the first: on a linear scale they would all look alike.
    """
    parts = [range(start, min(start + _ROWS, len(genes))) for start in range(0, len(genes), _ROWS)]
    most = float(np.nanmax(heat.values, initial=0.0))

    def paint(figure: Figure, scheme: Scheme) -> None:
        grid = figure.subplots(1, len(parts), squeeze=False)[0]
        image: Any = None
        for axes, rows in zip(grid, parts, strict=True):
            part = Heat("", heat.values[rows.start : rows.stop], heat.unit, heat.colours)
            image = _heat(axes, part, columns, across, most, gamma=0.5)
            _gene_names(axes, genes[rows.start : rows.stop], 5.0)
            axes.set_ylim(min(_ROWS, len(genes)) - 0.5, -0.5)
        figure.suptitle(heat.title, fontsize=10.5, fontweight="bold", x=0.01, ha="left")
        figure.colorbar(image, ax=grid, label=heat.unit, pad=0.01, shrink=0.5)

    width = max(4.0, 1.2 + len(parts) * (1.1 + 0.07 * max(8, len(columns))))
    height = 1.4 + 0.095 * min(_ROWS, len(genes)) + 0.055 * _longest(columns)
    return draw((width, height), paint)


def _heat(
    axes: Axes, heat: Heat, columns: Sequence[str], across: str, most: float, gamma: float = 1.0
) -> Any:
    from matplotlib.colors import PowerNorm

    scale = PowerNorm(gamma, 0.0, most or 1.0)
    image = axes.imshow(heat.values, cmap=heat.colours, norm=scale, aspect="auto", interpolation="nearest")
    step = -(-len(columns) // _NAMED)
    shown = range(0, len(columns), step)
    axes.set_xticks(list(shown), [columns[index] for index in shown], rotation=90, fontsize=7)
    axes.set_xlabel(across)
    axes.grid(visible=False)
    return image


def _gene_names(axes: Axes, genes: Sequence[str], size: float) -> None:
    axes.set_yticks(range(len(genes)), list(genes), fontsize=size, style="italic")


def _longest(columns: Sequence[str]) -> int:
    return max((len(name) for name in columns), default=0)


def mean_and_spread(genes: Sequence[str], mean: FloatArray, sd: FloatArray, named: Sequence[int]) -> Plot:
    """SD against mean, a dot a gene; those of `named` (indices) are written, in italics."""

    def paint(figure: Figure, scheme: Scheme) -> None:
        axes = figure.subplots()
        axes.scatter(mean, sd, s=14, color=INK[scheme][0], alpha=0.55, linewidth=0)
        for rank, index in enumerate(named):
            axes.annotate(
                genes[index],
                (mean[index], sd[index]),
                xytext=(4, -10 if rank % 2 else 3),
                textcoords="offset points",
                fontsize=7.5,
                style="italic",
            )
        axes.set(xlabel="mean log2(counts + 1) a bin", ylabel="SD of log2(counts + 1)")

    return draw((9.2, 3.2), paint)
