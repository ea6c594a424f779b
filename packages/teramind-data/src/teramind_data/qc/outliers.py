"""Which sections stand out, and by what, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from teramind_data.qc.measures import Measure

__all__ = ["FEWEST", "ROBUST_Z", "flags", "is_outlier", "usual"]

#: Modified z-score above which a section is an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993).
ROBUST_Z = 3.5

#: Sections needed before they are compared with each other; fewer are held against the fixed limits only.
FEWEST = 4

_TO_SIGMA = 0.6745  # of a normal distribution's median absolute deviation


def flags(sections: Sequence[Mapping[str, Any]], measures: Iterable[Measure]) -> list[list[str]]:
    """What is wrong with each section, a line each; none where nothing stands out."""
    out: list[list[str]] = [[] for _ in sections]
    for numbers, lines in zip(sections, out, strict=True):
        if numbers.get("tissue_mm2") == 0:
            lines.append("no tissue found")
    for measure in measures:
        values = [numbers.get(measure.key) for numbers in sections]
        middle = usual(values)
        for index, value in enumerate(values):
            if value is None:
                continue
            # A limit is the plainer reason where both hold.
            if measure.limit is not None and _beyond(measure, value):
                side = "at least" if measure.bad == "low" else "at most"
                out[index].append(
                    f"{measure.title} {measure.text(value)} ({side} {measure.text(measure.limit)} expected)"
                )
            elif middle is not None and is_outlier(measure, value, values):
                out[index].append(_words(measure, value, middle))
    return out


def usual(values: Sequence[float | None]) -> float | None:
    """The median of the sections that have a value; None of fewer than ``FEWEST``."""
    known = [value for value in values if value is not None]
    return float(median(known)) if len(known) >= FEWEST else None


def is_outlier(measure: Measure, value: float, values: Sequence[float | None]) -> bool:
    """Whether a value stands out of all by its modified z-score, and by as much as the measure asks for."""
    middle = usual(values)
    if middle is None or measure.bad is None:
        return False
    known = [other for other in values if other is not None]
    spread = median([abs(other - middle) for other in known])
    away = value - middle
    if (measure.bad == "low" and away >= 0) or (measure.bad == "high" and away <= 0):
        return False
    enough = max(ROBUST_Z * spread / _TO_SIGMA, measure.least * abs(middle), measure.floor)
    return abs(away) > enough


def _beyond(measure: Measure, value: float) -> bool:
    limit = measure.limit
    return limit is not None and (value < limit if measure.bad == "low" else value > limit)


def _words(measure: Measure, value: float, middle: float) -> str:
    if middle > 0 and not measure.share:
        return f"{measure.title} {value / middle:.2g} of the median ({measure.text(value)})"
    return f"{measure.title} {measure.text(value)}, {measure.text(middle)} is usual"
