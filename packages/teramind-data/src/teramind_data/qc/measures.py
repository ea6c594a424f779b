"""What is measured of a section: names, units, and what is worth a flag."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["MEASURES", "Measure", "measures_of"]


@dataclass(frozen=True)
class Measure:
    """A number of a section.

    Attributes:
        key: in ``Section.qc`` and ``tables/sections``; ``{stain}`` stands for each stain.
        title: in words.
        unit: of the number; empty where it has none. Shares are 0..1 and shown in per cent.
        bad: which side is looked at for outliers; None is never flagged.
        least: share of the median that it must be away to be an outlier, whatever its scatter.
        floor: the same in its own unit.
        limit: flagged beyond this, whatever the other sections are.
    """

    key: str
    title: str
    unit: str = ""
    bad: Literal["low", "high", "both"] | None = None
    least: float = 0.0
    floor: float = 0.0
    limit: float | None = None

    @property
    def share(self) -> bool:
        """Whether it is a part of a whole."""
        return self.unit == "share"

    def of(self, stain: str) -> Measure:
        """The measure of one stain."""
        return Measure(
            self.key.replace("{stain}", stain),
            self.title.replace("{stain}", stain),
            self.unit,
            self.bad,
            self.least,
            self.floor,
            self.limit,
        )

    def text(self, value: float) -> str:
        """A value for people."""
        if self.share:
            return f"{100 * value:.3g} %"
        number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{number} {self.unit}" if self.unit else number


MEASURES = (
    Measure("transcripts", "transcripts", "", "both", least=0.3),
    Measure("transcripts_in_tissue", "transcripts in tissue", "share", "low", least=0.05),
    Measure("transcripts_outside", "transcripts outside tissue"),
    Measure("transcripts_in_regions", "transcripts in regions", "share", "low", least=0.05),
    Measure("density_per_mm2", "density", "per mm2", "both", least=0.25),
    Measure("tissue_mm2", "tissue", "mm2", "both", least=0.25),
    Measure("tissue_canvas", "canvas in tissue", "share"),
    Measure("genes_seen", "genes seen", "", "low", least=0.02),
    Measure("image_canvas", "canvas with image", "share"),
    Measure("image_coverage", "tissue with image", "share"),
    Measure("transcripts_without_image", "transcripts without image", "share", "high", limit=0.05),
    Measure("{stain}_p1", "{stain} 1st percentile", "grey levels"),
    Measure("{stain}_p50", "{stain} intensity", "grey levels", "both", least=0.25, floor=4),
    Measure("{stain}_p99", "{stain} 99th percentile", "grey levels", "both", least=0.25, floor=4),
    Measure("{stain}_saturated", "{stain} saturated", "share", "high", floor=0.005, limit=0.02),
    Measure("{stain}_focus", "{stain} focus", "per um", "low", least=0.25),
    Measure("{stain}_coverage", "{stain} covers", "share", "low", least=0.02, limit=0.95),
    Measure("shift_previous_um", "shift from the previous", "um"),
    Measure("shift_next_um", "shift from the next", "um"),
    Measure("residue_um", "registration residue", "um", "high", least=0.5, floor=15.0),
    Measure("dice", "tissue overlap (Dice)", "", "low", least=0.05),
)


def measures_of(stains: Iterable[str]) -> tuple[Measure, ...]:
    """All measures of a store, those of stains once a stain."""
    names = tuple(stains)
    out: list[Measure] = []
    for measure in MEASURES:
        out += [measure.of(name) for name in names] if "{stain}" in measure.key else [measure]
    return tuple(out)
