"""Seams of stores beside the real brain: a table, and a picture of a place where tiles meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teramind_data.errors import InputError
from teramind_data.store import Brain, open_brain
from teramind_model.experiments.pictures import busy_place, side_by_side
from teramind_model.experiments.seams import SeamSums, brain_seams
from teramind_model.experiments.tables import csv_text, markdown, number, write_text

__all__ = ["SeamConfig", "SeamRow", "write_seams"]

_TILES_SHOWN = 4
"""Edge of the picture in tiles."""

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
    place = busy_place(real, _TILES_SHOWN * config.patch, config.patch)
    note = f"marks: borders of {config.patch} px tiles"
    picture = side_by_side([("", place, brains)], borders=config.patch, note=note)
    write_text(config.out / "borders.png", picture)
    return tuple(rows)


def _rows(label: str, brain: Brain, real: Brain, patch: int) -> list[SeamRow]:
    on, off = (brain_seams(brain, real, patch, shift) for shift in (0, patch // 2))
    both: dict[str, tuple[SeamSums, SeamSums]] = {stain: (on[stain], off[stain]) for stain in on}
    both["all"] = sum(on.values(), SeamSums()), sum(off.values(), SeamSums())
    return [SeamRow(label, stain, a.index, b.index, a.n_border + a.n_other) for stain, (a, b) in both.items()]
