"""The plots of the page with their words: curves, distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from teramind_eval.evaluate import Measured, Sizes
from teramind_eval.metrics.accumulate import IntegerDistribution
from teramind_eval.report.page import Chart
from teramind_eval.report.plots import (
    Histogram,
    distributions,
    f1_by_section,
    section_curves,
)
from teramind_eval.results import SectionScores, StoreResult

_BINS = 24


def curve_charts(stores: Sequence[StoreResult], sizes: Sizes) -> list[Chart]:
    """PSNR and SSIM, then centroid F1 where there is a truth, by section."""
    charts = [
        Chart(
            "psnr_ssim_by_section",
            section_curves(stores),
            "Likeness to the real images",
            f"Mean over the {sizes.tile} px tissue tiles of each section, both stains together; the "
            f"band is one standard "
            "deviation between tiles. A line above the controls' means that the genes helped to draw "
            "that section.",
            "Line plots of PSNR and SSIM by section position, with bands of one standard deviation",
            list(_curve_rows(stores)),
        )
    ]
    plot = f1_by_section(stores)
    if plot is not None:
        charts.append(
            Chart(
                "f1_by_section",
                plot,
                "Nuclei in the right places",
                "Share of nuclei found within one nuclear radius of a true one (harmonic mean of "
                "precision and recall), by "
                "section. The real images' line is the most that this way of finding nuclei can reach.",
                "Line plot of centroid F1 against the truth by section position",
                list(_match_rows(stores)),
            )
        )
    return charts


def distribution_charts(
    stores: Sequence[StoreResult], measured: Measured, sizes: Sizes, pixel_size_um: float
) -> list[Chart]:
    """Nuclei per patch and nuclear area."""
    raws = {one.label: measured.brain(one.label).morphometry for one in stores}
    panels = (
        (
            f"nuclei per {sizes.patch} px patch ({sizes.patch * pixel_size_um:.0f} µm)",
            _histograms({label: one.per_patch for label, one in raws.items()}, 1.0),
        ),
        (
            "nuclear area (µm²)",
            _histograms({label: one.area_px for label, one in raws.items()}, pixel_size_um**2),
        ),
    )
    return [
        Chart(
            "nuclei_distributions",
            distributions(stores, panels),
            "How many nuclei, and how large",
            "Left: nuclei counted in each tissue patch, that is local cell density. Right: area of each "
            "nucleus. Upright "
            "lines are the means; a good generated brain covers the real one's shaded shape.",
            "Step histograms of nuclei per patch and of nuclear area for each store",
            list(_histogram_rows(panels)),
        )
    ]


def _curve_rows(stores: Sequence[StoreResult]) -> Iterator[dict[str, Any]]:
    for store in stores:
        for section in store.sections:
            for stain, image in section.scores.image.items():
                for measure in ("psnr_db", "ssim", "ms_ssim"):
                    yield {
                        **_place(store, section),
                        "stain": stain,
                        "measure": measure,
                        **asdict(getattr(image, measure)),
                    }


def _match_rows(stores: Sequence[StoreResult]) -> Iterator[dict[str, Any]]:
    for store in stores:
        for section in store.sections:
            if section.scores.nuclei.against_truth is not None:
                yield {**_place(store, section), **asdict(section.scores.nuclei.against_truth)}


def _place(store: StoreResult, section: SectionScores) -> dict[str, Any]:
    return {"store": store.label, "section": section.name, "z_um": section.z_um}


def _histogram_rows(panels: Sequence[tuple[str, Sequence[Histogram]]]) -> Iterator[dict[str, Any]]:
    for title, histograms in panels:
        for one in histograms:
            for low, high, share in zip(one.edges, one.edges[1:], one.shares, strict=False):
                yield {"measure": title, "store": one.label, "from": low, "to": high, "share": share}


def _histograms(found: dict[str, IntegerDistribution], scale: float) -> list[Histogram]:
    # One outlier must not squeeze the rest into a corner: the axis holds all but half a percent on either side.
    known = [one for one in found.values() if one.n]
    low = int(min((one.quantile(0.005) for one in known), default=0))
    high = int(max((one.quantile(0.995) for one in known), default=1)) + 1
    width = max(1, math.ceil((high - low) / _BINS))
    edges = low + np.arange(math.ceil((high - low) / width) + 1, dtype=np.int64) * width
    out = []
    for label, one in found.items():
        counts = np.pad(one.counts, (0, max(0, int(edges[-1]) - one.counts.size)))
        sums = np.add.reduceat(counts[: edges[-1]], edges[:-1])
        moments = one.moments
        mean = moments.mean * scale if moments.n else None
        out.append(Histogram(label, (edges - 0.5) * scale, sums / max(1, one.n), mean))
    return out
