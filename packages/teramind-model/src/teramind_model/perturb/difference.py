"""Edited minus baseline, shard by shard: an image beside the edited one, and sums in the edited place and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.store import Brain, ImageSpec, begin_addition
from teramind_model.edits import Place

__all__ = ["DIFFERENCE", "BusyBox", "Compared", "Sums", "compare"]

DIFFERENCE = "difference"
"""Image of the edited store: edited minus baseline in uint8 levels, int16."""

_SHOWN_PX = 256


@dataclass
class Sums:
    """Of one stain's pixels: exact integers, whatever the order of shards."""

    pixels: int = 0
    baseline: int = 0
    edited: int = 0
    absolute: int = 0
    squares: int = 0

    def add(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> None:
        """Add pixels, in uint8 levels."""
        change = after - before
        self.pixels += change.size
        self.baseline += int(before.sum())
        self.edited += int(after.sum())
        self.absolute += int(np.abs(change).sum())
        self.squares += int((change * change).sum())

    def means(self) -> dict[str, float | int | None]:
        """Mean levels, the mean and root mean square of the change; None where there is no pixel."""
        n = self.pixels
        return {
            "pixels": n,
            "baseline": self.baseline / n if n else None,
            "edited": self.edited / n if n else None,
            "change": (self.edited - self.baseline) / n if n else None,
            "absolute_change": self.absolute / n if n else None,
            "rms_change": (self.squares / n) ** 0.5 if n else None,
        }


@dataclass(frozen=True)
class BusyBox:
    """The box of a section where most changed; ``change`` is its sum of absolute differences."""

    section: int
    box: Box
    change: int


@dataclass
class Compared:
    """What differs: sums by place (``edited``, ``elsewhere``) and stain, and where most does, None where nothing."""

    sums: dict[str, dict[str, Sums]]
    busiest: BusyBox | None = None

    def summary(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            where: {stain: one.means() for stain, one in stains.items()}
            for where, stains in self.sums.items()
        }


def compare(baseline: Brain, edited: Brain, place: Place, first: int, attrs: Mapping[str, Any]) -> Compared:
    """Write the difference into the edited store and sum it up.

    Pixels count where the atlas has tissue (everywhere it has no such labels) and something was generated: inside the
    edited place, or elsewhere. A difference that is there already, with the same ``attrs``, is only summed up again.

    Args:
        baseline: complete store, of the same canvas, sections and stains.
        edited: complete store; the image :data:`DIFFERENCE` is added to it.
        place: where genes were edited, by the atlas's sections.
        first: the atlas's section that is section 0 of the stores.
        attrs: what the difference is of, kept beside it.
    """
    y0, y1, x0, x1 = edited.provenance["request"]["region"]
    summing = _Summing(edited, place, first, Box(y0, y1, x0, x1))
    spec = ImageSpec(DIFFERENCE, edited.stains, "int16", attrs=dict(attrs))
    there = DIFFERENCE in edited.images
    if there and edited.layout(DIFFERENCE).image.attrs == spec.attrs:
        for section, box, before, after in _pairs(baseline, edited):
            summing.add(section, box, before, after)
        return summing.found
    with begin_addition(edited.url, [spec], overwrite=there) as addition:
        pending = set(addition.pending(DIFFERENCE))
        for section, box, before, after in _pairs(baseline, edited):
            if (section, box) in pending:
                addition.write(DIFFERENCE, section, box, after.astype(np.int16) - before)
            summing.add(section, box, before, after)
        addition.finish()
    return summing.found


def _pairs(baseline: Brain, edited: Brain) -> Iterator[tuple[int, Box, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Section, shard, and both images of it, ``(stains, h, w)``."""
    canvas = Box.from_shape(edited.canvas)
    shards = [(z, box) for z in range(edited.n_sections) for box in tiles(canvas, edited.spec.shard_px)]
    with progress(len(shards), "compare", "shards") as advance:
        for z, box in shards:
            yield z, box, baseline.read("morphology", z, box), edited.read("morphology", z, box)
            advance(1)


class _Summing:
    """Sums over shards of what was generated, ``region``; ``first`` as in :func:`compare`."""

    def __init__(self, brain: Brain, place: Place, first: int, region: Box) -> None:
        self._brain, self._place, self._first, self._region = brain, place, first, region
        self.found = Compared(
            {where: {stain: Sums() for stain in brain.stains} for where in ("edited", "elsewhere")}
        )

    def add(self, section: int, box: Box, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
        """Add a shard's images, ``(stains, h, w)``."""
        common = box.intersect(self._region)
        if common is None:
            return
        inside = (slice(None), *common.shift(-box.y0, -box.x0).slices)
        old, new = before[inside].astype(np.int64), after[inside].astype(np.int64)
        for where, pixels in self._places(section, common).items():
            for number, sums in enumerate(self.found.sums[where].values()):
                sums.add(old[number][pixels], new[number][pixels])
        self._look(section, common, np.abs(new - old).sum(axis=0))

    def _places(self, section: int, box: Box) -> dict[str, NDArray[np.bool_]]:
        """Masks of pixels ``(h, w)`` in tissue, where genes were edited and elsewhere."""
        bins = box.cover(BIN_PX).coarsen(BIN_PX)
        tissue = np.ones(bins.shape, np.bool_)
        if "tissue" in self._brain.labels:
            tissue = np.asarray(self._brain.read("tissue", section, bins)) > 0
        chosen = self._place.bins(self._first + section, bins)
        return {
            "edited": _to_pixels(tissue & chosen, bins, box),
            "elsewhere": _to_pixels(tissue & ~chosen, bins, box),
        }

    def _look(self, section: int, box: Box, change: NDArray[np.int64]) -> None:
        """Remember the box in which most changed, the first of equals."""
        for tile in tiles(box, _SHOWN_PX):
            total = int(change[tile.shift(-box.y0, -box.x0).slices].sum())
            if total > (0 if self.found.busiest is None else self.found.busiest.change):
                self.found.busiest = BusyBox(section, tile, total)


def _to_pixels(mask: NDArray[np.bool_], bins: Box, box: Box) -> NDArray[np.bool_]:
    """A mask of bins as one of the pixels of ``box``."""
    fine = mask.repeat(BIN_PX, axis=0).repeat(BIN_PX, axis=1)
    return fine[box.shift(-bins.y0 * BIN_PX, -bins.x0 * BIN_PX).slices]
