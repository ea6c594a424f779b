"""Nuclei along the brain and by region: how many and how large, each store beside the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_eval.regions import in_words
from teramind_eval.report.page import Chart
from teramind_eval.report.plots import REGIONS_DRAWN
from teramind_eval.report.trend_plots import Dots, region_dots, section_trends
from teramind_eval.results import MeasureScores, StoreResult

FloatArray = npt.NDArray[np.float64]


def nuclei_curves(stores: Sequence[StoreResult], patch_px: int) -> list[Chart]:
    """Charts by section, where there are two or more, and by region, where the real brain is annotated."""
    shown = {"per_patch": f"nuclei per {patch_px} px patch", "area_um2": "nuclear area (µm²)"}
    charts = []
    if len(stores[0].sections) > 1:
        charts.append(_by_section(stores, shown))
    regions = _regions(stores)
    if regions:
        charts.append(_by_region(stores, shown, regions))
    return charts


def _by_section(stores: Sequence[StoreResult], shown: Mapping[str, str]) -> Chart:
    found = {store.label: [s.scores.nuclei.measures for s in store.sections] for store in stores}
    panels = [
        (title, {label: _columns(measures, name) for label, measures in found.items()})
        for name, title in shown.items()
    ]
    return Chart(
        "nuclei_by_section",
        section_trends(np.array([section.z_um for section in stores[0].sections]), panels, stores),
        "Section by section",
        "Left: mean number of nuclei in the tissue patches of each section. Right: mean area of its nuclei. Bands are "
        "one standard deviation, between patches and between nuclei. A good generated brain follows the real one's "
        "line.",
        "Line plots of nuclei per patch and of nuclear area by section position, with bands of one standard deviation",
        list(_section_rows(stores)),
    )


def _by_region(stores: Sequence[StoreResult], shown: Mapping[str, str], regions: Sequence[str]) -> Chart:
    drawn = regions[:REGIONS_DRAWN]
    found = {
        store.label: [store.brain.nuclei.regions.get(region, {}) for region in drawn] for store in stores
    }
    panels = []
    for name, title in shown.items():
        columns = {label: _columns(measures, name) for label, measures in found.items()}
        means, spreads = ({label: both[i] for label, both in columns.items()} for i in (0, 1))
        panels.append(Dots(title, means, spreads))
    counts = [_count(stores[0], region) for region in drawn]
    named = [f"{in_words(region)} ({n:,})" for region, n in zip(drawn, counts, strict=True)]
    fewer = f" The {len(drawn)} regions with most nuclei." if len(drawn) < len(regions) else ""
    return Chart(
        "nuclei_by_region",
        region_dots(named, panels, {store.label: store.label for store in stores}, stores),
        "Region by region",
        "Left: nuclei in the tissue patches that lie mostly in a region, where there are any. Right: area of the "
        "nuclei in it; in brackets how many the real brain has. Dots are means, bars one standard deviation."
        + fewer,
        "Dot plots of nuclei per patch and of nuclear area for each region and store",
        list(_region_rows(stores)),
    )


def _regions(stores: Sequence[StoreResult]) -> list[str]:
    """Those in which any store has nuclei, the ones with most in the real brain first."""
    names = dict.fromkeys(name for store in stores for name in store.brain.nuclei.regions)
    found = [name for name in names if any(_count(store, name) for store in stores)]
    return sorted(found, key=lambda name: (-_count(stores[0], name), name))


def _count(store: StoreResult, region: str) -> int:
    found = store.brain.nuclei.regions.get(region)
    return 0 if found is None else found["area_um2"].value.n


def _columns(found: Sequence[Mapping[str, MeasureScores]], name: str) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations, nan where there are none."""
    values = [measures[name].value if name in measures else None for measures in found]
    means = [np.nan if value is None or value.mean is None else value.mean for value in values]
    spreads = [np.nan if value is None or value.sd is None else value.sd for value in values]
    return np.array(means), np.array(spreads)


def _section_rows(stores: Sequence[StoreResult]) -> Iterator[dict[str, Any]]:
    for store in stores:
        for section in store.sections:
            for name, one in section.scores.nuclei.measures.items():
                head = {"store": store.label, "section": section.name, "z_um": section.z_um, "measure": name}
                yield {**head, **asdict(one.value)}


def _region_rows(stores: Sequence[StoreResult]) -> Iterator[dict[str, Any]]:
    for store in stores:
        for region, measures in store.brain.nuclei.regions.items():
            for name, one in measures.items():
                yield {"store": store.label, "region": region, "measure": name, **asdict(one.value)}
