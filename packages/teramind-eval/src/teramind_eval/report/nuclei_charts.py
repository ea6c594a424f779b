"""Nuclei on the page: a table of all measures with intervals and distances to the real brain, and distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teramind_eval.evaluate import Measured, Sizes
from teramind_eval.metrics.accumulate import IntegerDistribution
from teramind_eval.morphometry.measure import Morphometry, step_of
from teramind_eval.report.page import Chart, MeasureRow
from teramind_eval.report.plots import Histogram, distributions
from teramind_eval.results import DrawDistance, Interval, MeasureScores, NoiseFloor, StoreResult

_BINS = 24


@dataclass(frozen=True)
class _Shown:
    """A measure on the page: words, unit, and digits of its values and of Wasserstein distances."""

    name: str
    title: str
    note: str
    unit: str
    digits: tuple[int, int]

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return f"{self.title[:1].lower()}{self.title[1:]}" + (f" ({self.unit})" if self.unit else "")


def _measures(patch_px: int, pixel_size_um: float) -> tuple[_Shown, ...]:
    wide = f"{patch_px * pixel_size_um:.0f} µm"
    return (
        _Shown("per_patch", f"Nuclei per {patch_px} px patch", f"patches of {wide} with tissue", "", (2, 2)),
        _Shown("area_um2", "Nuclear area", "of all nuclei", "µm²", (1, 2)),
        _Shown("eccentricity", "Eccentricity", "0 a circle, towards 1 a line", "", (3, 3)),
        _Shown("solidity", "Solidity", "area over that of the convex hull", "", (3, 4)),
        _Shown("mean_intensity", "Mean DAPI intensity", "inside the nucleus", "grey levels", (1, 2)),
        _Shown("neighbour_um", "Nearest neighbour", "centroid to centroid", "µm", (2, 2)),
    )


def nuclei_table(
    stores: Sequence[StoreResult], sizes: Sizes, pixel_size_um: float, floor: NoiseFloor | None = None
) -> list[MeasureRow]:
    """A row a measure, a cell a store: mean ± SD, the mean's interval, distances to the real brain with theirs.

    Where there is a noise floor, a last cell has the distances between draws.
    """
    rows = []
    for one in _measures(sizes.patch, pixel_size_um):
        unit = f"{one.unit}; " if one.unit else ""
        cells = tuple(_cell(store.brain.nuclei.measures.get(one.name), one.digits) for store in stores)
        if floor is not None:
            cells += (_apart(floor.measures.get(one.name), one.digits),)
        rows.append(MeasureRow(one.title, f"{unit}{one.note}", cells))
    return rows


def _cell(scores: MeasureScores | None, digits: tuple[int, int]) -> tuple[str, ...]:
    if scores is None or scores.value.mean is None:
        return ("–",)
    value = scores.value
    spread = "" if value.sd is None else f" ± {value.sd:.{digits[0]}f}"
    sure = _range(scores.mean_interval, digits[0])
    lines = [f"{value.mean:.{digits[0]}f}{spread}", f"n {value.n:,}, mean in {sure}"]
    far = scores.to_real
    if far is not None:
        for word, distance, interval, places in (
            ("W", far.wasserstein, scores.wasserstein_interval, digits[1]),
            ("KS", far.kolmogorov_smirnov, scores.kolmogorov_smirnov_interval, 3),
        ):
            if distance is not None:
                lines.append(f"{word} {distance:.{places}f} ({_range(interval, places)})")
    return tuple(lines)


def _apart(found: DrawDistance | None, digits: tuple[int, int]) -> tuple[str, ...]:
    if found is None:
        return ("–",)
    return (
        f"Δ {found.mean_difference:.{digits[0]}f}",
        f"W {found.wasserstein:.{digits[1]}f}",
        f"KS {found.kolmogorov_smirnov:.3f}",
    )


def _range(interval: Interval | None, digits: int) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "–"
    return f"{interval.low:.{digits}f}–{interval.high:.{digits}f}"


def nuclei_numbers(stores: Sequence[StoreResult]) -> list[dict[str, Any]]:
    """The table's numbers, a row a store and measure."""
    return [
        {
            "store": store.label,
            "role": store.role,
            "measure": name,
            "mean": one.value.mean,
            "sd": one.value.sd,
            "n": one.value.n,
            **_ends("mean", one.mean_interval),
            **_ends("sd", one.sd_interval),
            "wasserstein": None if one.to_real is None else one.to_real.wasserstein,
            **_ends("wasserstein", one.wasserstein_interval),
            "kolmogorov_smirnov": None if one.to_real is None else one.to_real.kolmogorov_smirnov,
            **_ends("kolmogorov_smirnov", one.kolmogorov_smirnov_interval),
        }
        for store in stores
        for name, one in store.brain.nuclei.measures.items()
    ]


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    found = interval or Interval(None, None)
    return {f"{name}_low": found.low, f"{name}_high": found.high}


def distribution_charts(
    stores: Sequence[StoreResult], measured: Measured, sizes: Sizes, pixel_size_um: float
) -> list[Chart]:
    """Nuclei per patch and nuclear area, then their shapes, brightness and neighbours."""
    raws = {one.label: measured.brain(one.label).morphometry for one in stores}
    panels = [
        (one.axis, _histograms(raws, one.name, step_of(one.name, pixel_size_um)))
        for one in _measures(sizes.patch, pixel_size_um)
    ]
    return [
        Chart(
            "nuclei_distributions",
            distributions(stores, panels[:2]),
            "How many nuclei, and how large",
            "Left: nuclei counted in each tissue patch, that is local cell density. Right: area of each "
            "nucleus. Upright "
            "lines are the means; a good generated brain covers the real one's shaded shape.",
            "Step histograms of nuclei per patch and of nuclear area for each store",
            list(_histogram_rows(panels[:2])),
        ),
        Chart(
            "nuclei_shapes",
            distributions(stores, panels[2:]),
            "Of what shape, how bright, how near each other",
            "Eccentricity tells round from long, solidity smooth from dented or merged; the distance to the nearest "
            "other nucleus, how they are packed.",
            "Step histograms of eccentricity, solidity, DAPI intensity and distance to the nearest neighbour of nuclei "
            "for each store",
            list(_histogram_rows(panels[2:])),
        ),
    ]


def _histogram_rows(panels: Sequence[tuple[str, Sequence[Histogram]]]) -> Iterator[dict[str, Any]]:
    for title, histograms in panels:
        for one in histograms:
            for low, high, share in zip(one.edges, one.edges[1:], one.shares, strict=False):
                yield {"measure": title, "store": one.label, "from": low, "to": high, "share": share}


def _histograms(raws: dict[str, Morphometry], measure: str, scale: float) -> list[Histogram]:
    found = {label: IntegerDistribution.of(one.sample(measure)[0]) for label, one in raws.items()}
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
