"""The same place of several brains side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain
from teramind_model.experiments.figures import COLOURS, new_figure, png

__all__ = ["Place", "busy_place", "side_by_side"]


@dataclass(frozen=True)
class Place:
    """A box of one section of a brain, the section by its name."""

    section: str
    box: Box


def busy_place(real: Brain, edge: int, tile: int) -> Place:
    """Where about most molecules are in the middle section: ``edge`` px, or the whole canvas where it is smaller.

    The box begins on the grid of ``tile`` px. It is looked for on the coarsest level of expression whose bins are not
    larger than the box, so that little is read.
    """
    middle = real.n_sections // 2
    height, width = (min(edge, size) for size in real.canvas)
    levels = len(real.levels("expression"))
    level = max(k for k in range(levels) if k == 0 or BIN_PX << k <= min(height, width))
    counts = real.read("expression", middle, level=level).sum(axis=0, dtype=np.int64)
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    y, x = (
        _start(int(index) * (BIN_PX << level), size, whole, tile)
        for index, size, whole in zip((row, column), (height, width), real.canvas, strict=True)
    )
    return Place(real.sections[middle].name, Box(y, y + height, x, x + width))


def _start(at: int, size: int, whole: int, tile: int) -> int:
    """A start on the tile grid not far before ``at``, such that ``size`` fits on the canvas."""
    wanted = min(max(0, at - size // 2), whole - size)
    return wanted // tile * tile


def side_by_side(
    rows: Sequence[tuple[str, Place, Mapping[str, Brain]]], *, borders: int | None = None, note: str = ""
) -> bytes:
    """A row a brain and stain, a column a store; PNG.

    Args:
        rows: name of the brain, the place, and stores by label, the real one first; labels may differ.
        borders: marks every so many pixels of the canvas at the rim.
        note: below the picture.
    """
    labels = list(dict.fromkeys(label for _, _, brains in rows for label in brains))
    lines = [(name, place, brains, stain) for name, place, brains in rows for stain in _stains(brains)]
    figure = new_figure(2.6 * len(labels), 2.85 * len(lines))
    grid = figure.subplots(len(lines), len(labels), squeeze=False)
    for panels, (name, place, brains, stain) in zip(grid, lines, strict=True):
        for panel, label in zip(panels, labels, strict=True):
            panel.set_xticks([])
            panel.set_yticks([])
            if label not in brains:
                panel.set_axis_off()
                continue
            panel.imshow(
                _read(brains[label], place, stain), cmap="gray", vmin=0, vmax=255, interpolation="nearest"
            )
            panel.set_title(f"{name} {label}\n{stain}".strip(), fontsize=8)
            if borders is not None:
                for axis, size in ((panel.xaxis, place.box.width), (panel.yaxis, place.box.height)):
                    at = np.arange(borders, size, borders) - 0.5
                    axis.set_ticks(at, [""] * len(at))
                panel.tick_params(length=6, color=COLOURS[1], width=1.5, top=True, right=True)
    if note:
        figure.supxlabel(note, fontsize=9, color="#555555")
    return png(figure)


def _stains(brains: Mapping[str, Brain]) -> tuple[str, ...]:
    first = next(iter(brains.values()))
    return tuple(stain for stain in first.stains if all(stain in brain.stains for brain in brains.values()))


def _read(brain: Brain, place: Place, stain: str) -> NDArray[np.uint8]:
    """The place in one stain; black where the store lacks the section."""
    index = next((one.index for one in brain.sections if one.name == place.section), None)
    if index is None:
        return np.zeros(place.box.shape, np.uint8)
    return np.asarray(brain.read("morphology", index, place.box))[brain.stains.index(stain)]
