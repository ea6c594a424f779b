"""Likeness of the images by region, and distances of their features by section, where these were measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_eval.regions import in_words
from teramind_eval.report.page import Chart
from teramind_eval.report.plots import REGIONS_DRAWN, Plot, Scheme, draw, looks
from teramind_eval.report.tables import shown_groupings
from teramind_eval.report.trend_plots import Dots, region_dots
from teramind_eval.results import TOGETHER, Statistic, StoreResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DISTANCES = (("sfid", "sFID"), ("fid", "FID"))


def likeness_charts(stores: Sequence[StoreResult]) -> list[Chart]:
    """Scores by region where the real brain is annotated, sFID and FID by section where there are features."""
    charts = []
    regions = _regions(stores)
    if regions:
        charts.append(
            Chart(
                "psnr_ssim_by_region",
                _region_plot(stores, regions[:REGIONS_DRAWN]),
                "Likeness by region",
                "Mean over the tissue tiles of each region, all stains together, in brackets how many; bars are one "
                "standard deviation between tiles."
                + (f" The {REGIONS_DRAWN} regions with most tiles." if len(regions) > REGIONS_DRAWN else ""),
                "Dot plots of PSNR and SSIM for each region and store",
                list(_region_rows(stores)),
            )
        )
    measured = [one for one in stores if any(s.scores.distribution for s in one.sections)]
    if measured:
        groupings = shown_groupings(s.scores for one in measured for s in one.sections)
        which = "all stains together" if groupings == (TOGETHER,) else "each stain alone"
        charts.append(
            Chart(
                "fid_by_section",
                _distance_plot(stores, measured, groupings),
                "Distance of features from the real ones",
                f"sFID and FID of the tissue tiles of each section, {which}; lower is better. Both grow as "
                "tiles get fewer: compare stores with each other, not with other reports.",
                "Line plots of sFID and FID by section position",
                list(_distance_rows(measured)),
            )
        )
    return charts


def _regions(stores: Sequence[StoreResult]) -> list[tuple[str, int]]:
    """Name and number of tiles of the regions, the largest first."""
    counts: dict[str, int] = {}
    for store in stores:
        for name, scores in store.brain.regions.items():
            counts[name] = max(counts.get(name, 0), scores[TOGETHER].psnr_db.n if TOGETHER in scores else 0)
    return sorted(((name, n) for name, n in counts.items() if n), key=lambda one: (-one[1], one[0]))


def _region_plot(stores: Sequence[StoreResult], regions: Sequence[tuple[str, int]]) -> Plot:
    shown = [one for one in stores if one.brain.regions]
    panels = []
    for measure, title in (("psnr_db", "PSNR (dB)"), ("ssim", "SSIM")):
        columns = {one.label: [_value(one, name, measure) for name, _ in regions] for one in shown}
        means = {label: np.array([v.mean for v in values], float) for label, values in columns.items()}
        spreads = {label: np.array([v.sd for v in values], float) for label, values in columns.items()}
        panels.append(Dots(title, means, spreads))
    names = [f"{in_words(name)} ({n:,})" for name, n in regions]
    return region_dots(names, panels, {one.label: one.label for one in shown}, stores)


def _value(store: StoreResult, region: str, measure: str) -> Statistic:
    scores = store.brain.regions.get(region)
    return Statistic(None, None, 0) if scores is None else getattr(scores[TOGETHER], measure)


def _distance_plot(
    stores: Sequence[StoreResult], measured: Sequence[StoreResult], groupings: Sequence[str]
) -> Plot:
    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        grid = figure.subplots(len(groupings), 2, squeeze=False)
        panels = [(grouping, *distance) for grouping in groupings for distance in _DISTANCES]
        for axes, (grouping, measure, title) in zip(grid.flat, panels, strict=True):
            for store in measured:
                look = style[store.label]
                found = [s.scores.distribution.get(grouping) for s in store.sections]
                values = [None if one is None else getattr(one, measure) for one in found]
                axes.plot(
                    [section.z_um for section in store.sections],
                    [np.nan if value is None else value for value in values],
                    look.style,
                    marker=look.marker,
                    markersize=4.5,
                    color=look.colour,
                    label=look.label,
                )
            shown = title if grouping == TOGETHER else f"{title}, {grouping}"
            axes.set(xlabel="section position z (µm)", ylabel=f"{title} (no unit)", title=shown)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=4)

    return draw((9.2, 0.4 + 2.9 * len(groupings)), paint)


def _region_rows(stores: Sequence[StoreResult]) -> Iterator[dict[str, Any]]:
    for store in stores:
        for name, scores in store.brain.regions.items():
            for stain, image in scores.items():
                for measure in ("psnr_db", "ssim", "ms_ssim"):
                    head = {"store": store.label, "region": name, "stain": stain, "measure": measure}
                    yield {**head, **asdict(getattr(image, measure))}


def _distance_rows(stores: Sequence[StoreResult]) -> Iterator[dict[str, Any]]:
    for store in stores:
        for section in store.sections:
            for grouping, one in section.scores.distribution.items():
                head = {
                    "store": store.label,
                    "section": section.name,
                    "z_um": section.z_um,
                    "stains": grouping,
                }
                yield {**head, "fid": one.fid, "sfid": one.sfid, "kid": one.kid.mean, "n": one.n}
