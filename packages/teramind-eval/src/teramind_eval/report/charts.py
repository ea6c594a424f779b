"""Curves by section with their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from teramind_eval.evaluate import Sizes
from teramind_eval.report.page import Chart
from teramind_eval.report.plots import f1_by_section, section_curves
from teramind_eval.results import SectionScores, StoreResult


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
