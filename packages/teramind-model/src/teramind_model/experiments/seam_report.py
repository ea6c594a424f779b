"""Seams of stores beside the real brain: a table, and a picture of a place where tiles meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, open_brain
from teramind_model.experiments.figures import new_figure, png
from teramind_model.experiments.seams import SeamSums, brain_seams
from teramind_model.experiments.tables import csv_text, markdown, number, write_text

__all__ = ["SeamConfig", "SeamRow", "write_seams"]

_CLAIM = """Mean squared difference of neighbouring pixels across tile borders over that off them, in tissue: 1 where
borders are like any other place. The last column looks along the lines half a tile off, where nothing was cut: what it
differs from 1 is the index's own noise, and of the collage what its patches' borders leave inside its tiles.
"""


@dataclass(frozen=True)
class SeamConfig:
    """What is looked at: the atlas, stores by label, edge of the tiles in px, folder to write."""

    real: str
    stores: Mapping[str, str]
    patch: int
    out: Path


@dataclass(frozen=True)
class SeamRow:
    """A store's index in one stain: on tile borders, and on lines half a tile off."""

    store: str
    stain: str
    borders: float | None
    halfway: float | None
    neighbours: int

    def plain(self) -> dict[str, Any]:
        """For CSV."""
        return vars(self)


def write_seams(config: SeamConfig) -> tuple[SeamRow, ...]:
    """Measure the stores and write ``seams.csv``, ``seams.md`` and ``borders.png`` into ``out``.

    Raises:
        InputError: where a store does not lie on the atlas's canvas.
    """
    real = open_brain(config.real)
    brains = {"real": real, **{label: open_brain(url) for label, url in config.stores.items()}}
    for label, brain in brains.items():
        if brain.canvas != real.canvas or brain.n_sections > real.n_sections:
            raise InputError(
                "store does not fit the atlas", brain.url, f"canvas {real.canvas}", f"{label}: {brain.canvas}"
            )
    rows = [row for label, brain in brains.items() for row in _rows(label, brain, real, config.patch)]
    head = ("store", "stain", "seam index", "half a tile off")
    cells = [(r.store, r.stain, number(r.borders, 3), number(r.halfway, 3)) for r in rows]
    title = f"Seams of {config.patch} px tiles in {Path(real.url).name}\n\n"
    write_text(config.out / "seams.csv", csv_text([row.plain() for row in rows]))
    write_text(config.out / "seams.md", title + markdown(head, cells) + "\n" + _CLAIM)
    write_text(config.out / "borders.png", border_picture(brains, real, config.patch))
    return tuple(rows)


def _rows(label: str, brain: Brain, real: Brain, patch: int) -> list[SeamRow]:
    on, off = (brain_seams(brain, real, patch, shift) for shift in (0, patch // 2))
    both: dict[str, tuple[SeamSums, SeamSums]] = {stain: (on[stain], off[stain]) for stain in on}
    both["all"] = sum(on.values(), SeamSums()), sum(off.values(), SeamSums())
    return [SeamRow(label, stain, a.index, b.index, a.n_border + a.n_other) for stain, (a, b) in both.items()]


def border_picture(brains: Mapping[str, Brain], real: Brain, patch: int, edge: int = 4) -> bytes:
    """The same ``edge`` x ``edge`` tiles of each store, stain by stain, ticks where tiles meet; where there are most
    molecules in the middle section."""
    section = real.n_sections // 2
    box = _busiest(real, section, edge * patch)
    stains = real.stains
    figure = new_figure(3.2 * len(brains), 3.3 * len(stains))
    grid = figure.subplots(len(stains), len(brains), squeeze=False)
    borders = np.arange(patch, box.width, patch) - 0.5
    for column, (label, brain) in enumerate(brains.items()):
        image: NDArray[np.uint8] = np.asarray(brain.read("morphology", _section(brain, real, section), box))
        for row, stain in enumerate(stains):
            panel = grid[row][column]
            panel.imshow(image[row], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.set_title(f"{label}, {stain}", fontsize=9)
            panel.set_xticks(borders, [""] * len(borders))
            panel.set_yticks(borders[borders < box.height], [""] * int((borders < box.height).sum()))
            panel.tick_params(length=6, color="#d55e00", width=1.5, top=True, right=True)
    figure.supxlabel(f"marks: borders of {patch} px tiles", fontsize=9, color="#555555")
    return png(figure)


def _section(brain: Brain, real: Brain, section: int) -> int:
    name = real.sections[section].name
    return next((one.index for one in brain.sections if one.name == name), 0)


def _busiest(real: Brain, section: int, edge: int) -> Box:
    """The place of ``edge`` px with most molecules, on the tile grid; the whole canvas where it is smaller."""
    height, width = (min(edge, size) for size in real.canvas)
    counts = real.read("expression", section).sum(axis=0, dtype=np.int64)
    best, found = -1, Box(0, height, 0, width)
    for y in range(0, real.canvas[0] - height + 1, height):
        for x in range(0, real.canvas[1] - width + 1, width):
            box = Box(y, y + height, x, x + width)
            total = int(counts[box.cover(BIN_PX).coarsen(BIN_PX).slices].sum())
            if total > best:
                best, found = total, box
    return found
