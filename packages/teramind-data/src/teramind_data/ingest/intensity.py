"""uint16 to uint8 by one window a brain and stain, from a streamed histogram over tissue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError

#: Percentiles of the tissue's pixels that become 0 and 255.
LOW_PERCENTILE = 0.1
HIGH_PERCENTILE = 99.9
_LEVELS = 65536


@dataclass(frozen=True)
class Window:
    """Counts that become 0 and 255; between them linear, outside clipped."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """Levels a count."""
        return np.float32(255.0 / (self.high - self.low))

    def apply(self, counts: NDArray[Any]) -> NDArray[np.uint8]:
        """``round(255 (counts - low) / (high - low))``, clipped to uint8."""
        scaled = counts.astype(np.float32)
        scaled -= np.float32(self.low)
        scaled *= self.scale
        np.rint(scaled, out=scaled)
        return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


@dataclass
class Histogram:
    """Counts of 65,536 levels; adding is exact and does not depend on the order."""

    levels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LEVELS, np.int64))

    def add(self, counts: NDArray[Any]) -> None:
        """Add pixels of any shape, in counts 0 .. 65535 (rounded)."""
        values = np.clip(np.rint(counts), 0, _LEVELS - 1).astype(np.int64).ravel()
        self.levels += np.bincount(values, minlength=_LEVELS)

    @property
    def total(self) -> int:
        """Pixels seen."""
        return int(self.levels.sum())

    def percentile(self, percent: float) -> int:
        """The smallest level that at least ``percent`` of the pixels do not exceed."""
        cumulative = np.cumsum(self.levels)
        return int(np.searchsorted(cumulative, np.ceil(cumulative[-1] * percent / 100.0)))

    def window(self, stain: str) -> Window:
        """The window of a stain; InputError where there is nothing to stretch."""
        if self.total == 0:
            raise InputError(
                f"no tissue pixel of {stain}",
                expected="images that overlap the transcripts",
                found="none",
                remedy="Check the registrations' direction and units in the manifest",
            )
        low, high = self.percentile(LOW_PERCENTILE), self.percentile(HIGH_PERCENTILE)
        if high <= low:
            raise InputError(
                f"{stain} images are flat",
                expected=f"percentiles {LOW_PERCENTILE} and {HIGH_PERCENTILE} over tissue that differ",
                found=f"{low} and {high}",
                remedy=f"Check the {stain} mosaics, or give its window in the manifest (intensity)",
            )
        return Window(low, high)
