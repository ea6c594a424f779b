"""The charts of gene statistics with their words, and the full heatmaps for files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from teramind_data.geometry import BIN_PX
from teramind_eval.genes.statistics import GeneMoments, GeneStatistics
from teramind_eval.part import Part
from teramind_eval.regions import in_words
from teramind_eval.report.heatmaps import Heat, full_heatmap, mean_and_spread, top_heatmaps
from teramind_eval.report.page import Chart

#: Genes of the heatmaps on the page; all are in the files.
_TOP = 25
#: Names written beside their dots.
_NAMED = 8
#: Regions of the heatmaps on the page: those of most bins.
_MOST_REGIONS = 40
#: Folder of the full heatmaps.
FULL = "gene_heatmaps"


def gene_charts(real: Part, found: GeneStatistics) -> list[Chart]:
    """Top genes by section and by region, and SD against mean of all."""
    bin_um = f"{BIN_PX * real.pixel_size_um:.2g} µm"
    order = found.top(_TOP)
    names = [found.genes[index] for index in order]
    charts = [
        Chart(
            "genes_by_section",
            top_heatmaps(names, section_names(real), _heats(found.sections, order), "section"),
            f"The {len(names)} most expressed genes, section by section",
            f"Mean and standard deviation of log2(counts + 1) over the bins of tissue ({BIN_PX} px, {bin_um}) of the "
            f"real brain, highest mean over the brain first. All {len(found.genes)} genes: {FULL}/ and genes.parquet.",
            f"Heatmaps of the mean and the standard deviation of {len(names)} genes by section",
            _numbers(names, section_names(real), _heats(found.sections, order), "section"),
        )
    ]
    if len(found.region_names) > 1:
        most = np.sort(np.argsort(-found.regions.n, kind="stable")[:_MOST_REGIONS])
        regions = [in_words(found.region_names[index]) for index in most]
        heats = [
            Heat(one.title, one.values[:, most], one.unit, one.colours)
            for one in _heats(found.regions, order)
        ]
        charts.append(
            Chart(
                "genes_by_region",
                top_heatmaps(names, regions, heats, "region"),
                "The same genes, region by region",
                "Genes that mark a region are bright in its column alone.",
                f"Heatmaps of the mean and the standard deviation of {len(names)} genes by region",
                _numbers(names, regions, heats, "region"),
            )
        )
    charts.append(
        Chart(
            "genes_mean_sd",
            mean_and_spread(found.genes, found.brain.mean[0], found.brain.sd[0], order[:_NAMED].tolist()),
            "Mean and standard deviation of every gene",
            "A dot a gene, over all bins of tissue. Genes above the others at their mean are confined to few places.",
            "Scatter of standard deviation against mean of log2 counts, a dot a gene",
            {"gene": np.array(found.genes), "mean": found.brain.mean[0], "sd": found.brain.sd[0]},
        )
    )
    return charts


def _heats(moments: GeneMoments, order: Sequence[int] | np.ndarray) -> list[Heat]:
    unit = "log2(counts + 1) a bin"
    return [
        Heat("mean", moments.mean[:, order].T, unit, "viridis"),
        Heat("standard deviation", moments.sd[:, order].T, unit, "cividis"),
    ]


def _numbers(
    genes: Sequence[str], columns: Sequence[str], heats: Sequence[Heat], across: str
) -> list[dict[str, Any]]:
    """A row a cell of both heatmaps."""
    mean, sd = (one.values for one in heats)
    return [
        {"gene": gene, across: name, "mean": float(mean[i, j]), "sd": float(sd[i, j])}
        for i, gene in enumerate(genes)
        for j, name in enumerate(columns)
    ]


def section_names(real: Part) -> list[str]:
    """What sections are called in heatmaps."""
    return [section.name for section in real.sections]


def write_full_heatmaps(folder: Path, real: Part, found: GeneStatistics) -> None:
    """All genes by section and by region, mean and SD, as PNG in `gene_heatmaps/`."""
    order = found.top(len(found.genes))
    names = [found.genes[index] for index in order]
    (folder / FULL).mkdir()
    for across, columns, moments in (
        ("section", section_names(real), found.sections),
        ("region", [in_words(name) for name in found.region_names], found.regions),
    ):
        if not columns:
            continue
        for measure, heat in zip(("mean", "sd"), _heats(moments, order), strict=True):
            titled = Heat(f"{heat.title} by {across}", heat.values, heat.unit, heat.colours)
            plot = full_heatmap(names, columns, titled, across)
            (folder / FULL / f"{across}s_{measure}.png").write_bytes(plot.light)
