"""Units of work: one block of the canvas in one window; and the counts that each reads, every section once a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box, Window, windows
from teramind_data.store import Brain
from teramind_model.network.config import NetworkConfig

__all__ = ["CountsReader", "PatchGrid", "Unit", "ahead", "plan_units"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Unit:
    """A block of bins in a window.

    Attributes:
        number: place in the order of work.
        shard: what is written of each section's maps, in bins.
        box: the part of it that is computed; the rest is zero.
        window: gene sections seen.
        sections: of the atlas, those of the window's image sections that are mapped.
    """

    number: int
    shard: Box
    box: Box
    window: Window
    sections: tuple[int, ...]

    @property
    def slots(self) -> tuple[int, ...]:
        """Where the sections are among the window's gene slices."""
        return tuple(self.window.gene.index(z) for z in self.sections)


def plan_units(
    shards: Iterable[Box], region: Box, sections: Sequence[int], n_sections: int, network: NetworkConfig
) -> tuple[Unit, ...]:
    """All units, block by block and down the sections within each, so that neighbouring windows share their reads.

    Args:
        shards: blocks of a section, in bins.
        region: the part of the canvas wanted, in bins.
        sections: of the atlas, those wanted.
        n_sections: of the atlas; windows are counted from its first.
        network: whose windows.
    """
    wanted = set(sections)
    chosen = [
        (window, tuple(z for z in window.image if z in wanted))
        for window in windows(n_sections, network.gene_slices, network.image_slices)
    ]
    parts = [(shard, shard.intersect(region)) for shard in shards]
    found = [
        (shard, box, window, inside)
        for shard, box in parts
        if box is not None
        for window, inside in chosen
        if inside
    ]
    return tuple(Unit(number, *parts) for number, parts in enumerate(found))


@dataclass(frozen=True)
class PatchGrid:
    """Patches of grid A over a box of bins: half a patch up and left of the canvas's tiles."""

    box: Box
    bins: int

    @classmethod
    def over(cls, box: Box, bins: int) -> PatchGrid:
        """The patches, ``bins`` wide, that touch ``box``."""
        half = bins // 2
        return cls(box.shift(half, half).cover(bins).shift(-half, -half), bins)

    @property
    def shape(self) -> tuple[int, int]:
        """Patches in y and x."""
        return self.box.height // self.bins, self.box.width // self.bins

    def patched(self, planes: NDArray[Any]) -> NDArray[Any]:
        """``(..., h, w)`` over :attr:`box` as ``(rows, columns, ..., g, g)``, a view."""
        rows, columns = self.shape
        split = planes.reshape(*planes.shape[:-2], rows, self.bins, columns, self.bins)
        return np.moveaxis(split, (-4, -2), (0, 1))

    def owned(self, box: Box, canvas: Box) -> NDArray[np.bool_]:
        """``(rows, columns)``: patches whose centre lies in ``box``; of those centred on the canvas's lower or right
        rim, the blocks at the rim are the owners. So every patch that touches the canvas has one owner."""
        half = self.bins // 2
        y = np.arange(self.box.y0 + half, self.box.y1, self.bins)
        x = np.arange(self.box.x0 + half, self.box.x1, self.bins)
        y, x = (np.minimum(y, canvas.y1 - 1), np.minimum(x, canvas.x1 - 1))
        inside: NDArray[np.bool_] = ((box.y0 <= y) & (y < box.y1))[:, None] & ((box.x0 <= x) & (x < box.x1))
        return inside


class CountsReader:
    """Counts of units in order: a section of a block is read once, however many windows see it."""

    def __init__(self, brain: Brain, channels: NDArray[np.int64], bins: int) -> None:
        self._brain, self._channels, self._bins = brain, channels, bins
        self._box: Box | None = None
        self._planes: dict[int, NDArray[Any]] = {}

    def read(self, unit: Unit) -> NDArray[Any]:
        """``(S, n, h, w)`` over the unit's patch grid, expression's type; zero outside canvas and brain."""
        box = PatchGrid.over(unit.box, self._bins).box
        if box != self._box:
            self._box, self._planes = box, {}
        self._planes = {z: plane for z, plane in self._planes.items() if z in unit.window.gene}
        for z in unit.window.gene:
            if z not in self._planes:
                alone = Window(unit.window.index, (z,), (z,))
                self._planes[z] = self._brain.window_counts(alone, box.refine(BIN_PX), self._channels)[0]
        return np.stack([self._planes[z] for z in unit.window.gene])

    def labels(self, name: str | None, unit: Unit) -> Mapping[int, NDArray[np.int64]]:
        """A label image (where None: zeros) of the unit's sections over its patch grid; -1 outside the canvas."""
        box = PatchGrid.over(unit.box, self._bins).box
        inside = box.intersect(self._brain.layout("expression").levels[0].box)
        out = {}
        for z in unit.sections:
            plane = np.full(box.shape, -1, np.int64)
            if inside is not None:
                values = 0 if name is None else self._brain.read(name, z, inside)
                plane[inside.shift(-box.y0, -box.x0).slices] = values
            out[z] = plane
        return out


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next one being made while the last is in use."""
    with ThreadPoolExecutor(1) as pool:
        end = object()
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
