"""Molecules on their way from files sorted by field of view to stores sorted by place: through rows of tiles on disk.

Memory holds one batch, and later one row of tiles, whatever the number of molecules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import Box, ceil_div
from teramind_data.ingest import merscope
from teramind_data.ingest.merscope import GeneNames, TranscriptCount
from teramind_data.ingest.plan import PlannedSection
from teramind_data.ingest.rasterize import push

TILE_PX = 256
_RECORD = np.dtype([("y", "<i4"), ("x", "<i4"), ("code", "<u4")])
_FAR = 1 << 30  # a registration that throws a point so far has lost it


@dataclass
class SpilledSection:
    """A section's molecules in rows of tiles: ``rows`` are the tile rows present, in plane pixels from 0."""

    count: TranscriptCount = field(default_factory=TranscriptCount)
    rows: set[int] = field(default_factory=set)
    placed: int = 0
    low: tuple[int, int] = (_FAR, _FAR)
    high: tuple[int, int] = (-_FAR, -_FAR)


@dataclass(frozen=True)
class Molecules:
    """Molecules as parallel arrays: canvas pixels y, x and gene index."""

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    gene: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.gene)


class Spill:
    """Molecules of a brain in a scratch folder, read back by section and rows of the canvas.

    Pixels are plane pixels until ``settle`` says where the canvas begins and what the panel is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = GeneNames()
        self.sections: list[SpilledSection] = []
        self._shift = (0, 0)
        self._canvas = (0, 0)
        self._genes: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, section: PlannedSection) -> SpilledSection:
        """Read a section's transcripts, push them to the plane and lay them down by tile row, in file order."""
        spilled = SpilledSection()
        for xy_um, code in merscope.stream_transcripts(section.folder.transcripts, self.names, spilled.count):
            if not len(xy_um):
                continue
            xy = np.floor(push(section.to_image, section.folder.micron_to_mosaic, xy_um) + 0.5)
            near = (np.abs(xy) < _FAR).all(axis=1)
            batch = np.empty(int(near.sum()), _RECORD)
            batch["x"], batch["y"] = xy[near].T
            batch["code"] = code[near]
            self._lay(section.index, batch, spilled)
        self.sections.append(spilled)
        return spilled

    def _lay(self, section: int, batch: NDArray[np.void], spilled: SpilledSection) -> None:
        if not len(batch):
            return
        spilled.placed += len(batch)
        spilled.low = (min(spilled.low[0], int(batch["y"].min())), min(spilled.low[1], int(batch["x"].min())))
        spilled.high = (
            max(spilled.high[0], int(batch["y"].max())),
            max(spilled.high[1], int(batch["x"].max())),
        )
        row = batch["y"] // TILE_PX
        order = np.argsort(
            row, kind="stable"
        )  # stable: file order within a row, so that runs agree byte for byte
        batch, row = batch[order], row[order]
        starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        for start, stop in zip(starts, [*starts[1:], len(batch)], strict=True):
            number = int(row[start])
            spilled.rows.add(number)
            with self._file(section, number).open("ab") as handle:
                handle.write(batch[start:stop].tobytes())

    def _file(self, section: int, row: int) -> Path:
        return self.folder / f"{section}_{row}.bin"

    def settle(self, shift: tuple[int, int], canvas: tuple[int, int], genes: NDArray[np.int64]) -> None:
        """Fix the canvas: its corner in plane pixels (multiples of 256), its size, and panel index by gene number."""
        self._shift, self._canvas, self._genes = shift, canvas, genes

    def tile_row(self, section: int, row: int) -> Molecules:
        """Molecules of one row of canvas tiles that are on the canvas and in the panel, in file order."""
        number = row + self._shift[0] // TILE_PX
        if number not in self.sections[section].rows:
            empty = np.zeros(0, np.int32)
            return Molecules(empty, empty, np.zeros(0, np.int64))
        records = np.fromfile(self._file(section, number), _RECORD)
        y, x = records["y"] - self._shift[0], records["x"] - self._shift[1]
        gene = self._genes[records["code"]]
        keep = (y >= 0) & (y < self._canvas[0]) & (x >= 0) & (x < self._canvas[1]) & (gene >= 0)
        return Molecules(y[keep].astype(np.int32), x[keep].astype(np.int32), gene[keep])

    def tile_rows(self, section: int) -> Iterator[Molecules]:
        """All rows of canvas tiles of a section, from the top."""
        for row in range(ceil_div(self._canvas[0], TILE_PX)):
            yield self.tile_row(section, row)

    def band(self, section: int, box: Box) -> Molecules:
        """Molecules of the tile rows that a box spans (whole rows, all columns)."""
        parts = [self.tile_row(section, row) for row in range(box.y0 // TILE_PX, ceil_div(box.y1, TILE_PX))]
        return Molecules(
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.gene for part in parts]),
        )
