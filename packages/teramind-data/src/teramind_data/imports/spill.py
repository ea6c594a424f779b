"""Molecules laid out by section and 256-px row of the canvas in a scratch folder, so that no brain lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box, ceil_div

__all__ = ["ROW_PX", "Band", "Spill"]

#: Height of the rows: the tiles by which a store sorts its molecules.
ROW_PX = 256

_WIDTH = 3
_TYPE = np.dtype("<i4")


class Band:
    """Molecules of one section: canvas ``y``, ``x`` and ``gene``, each (n,) int32."""

    def __init__(self, values: NDArray[np.int32]) -> None:
        self.y, self.x, self.gene = values.T

    def __len__(self) -> int:
        return len(self.y)

    def counts(self, genes: int, box: Box) -> NDArray[np.int64]:
        """``(genes, h/16, w/16)`` molecules in the bins of an aligned box; those outside are left out."""
        bins = box.coarsen(BIN_PX)
        keep = (self.y >= box.y0) & (self.y < box.y1) & (self.x >= box.x0) & (self.x < box.x1)
        row = self.y[keep].astype(np.int64) // BIN_PX - bins.y0
        column = self.x[keep].astype(np.int64) // BIN_PX - bins.x0
        flat = (self.gene[keep].astype(np.int64) * bins.height + row) * bins.width + column
        return np.bincount(flat, minlength=genes * bins.area).reshape(genes, bins.height, bins.width)


class Spill:
    """One file a section in ``folder``, appended to in any order of rows and read back row by row."""

    def __init__(self, folder: Path, sections: int, height: int) -> None:
        self._folder = folder
        self.sections = sections
        self.rows = ceil_div(height, ROW_PX)
        # (section, row) -> runs (first molecule, how many) in the section's file
        self._runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._ends = [0] * sections

    def _file(self, section: int) -> Path:
        return self._folder / f"section_{section}.bin"

    def add(
        self,
        section: NDArray[np.int64],
        y: NDArray[np.int64],
        x: NDArray[np.int64],
        gene: NDArray[np.int64],
    ) -> None:
        """Append molecules of any sections and rows of the canvas."""
        key = section * self.rows + y // ROW_PX
        order = np.argsort(key, kind="stable")
        key = key[order]
        values = np.stack([y[order], x[order], gene[order]], axis=1).astype(_TYPE)
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(key)], strict=True):
            z, row = divmod(int(key[start]), self.rows)
            with self._file(z).open("ab") as handle:
                handle.write(values[start:stop].tobytes())
            self._runs.setdefault((z, row), []).append((self._ends[z], int(stop - start)))
            self._ends[z] += int(stop - start)

    def total(self, section: int) -> int:
        """Molecules of a section."""
        return self._ends[section]

    def read(self, section: int, first: int, last: int) -> Band:
        """Molecules of rows ``first`` up to ``last`` of a section."""
        parts = [np.empty((0, _WIDTH), _TYPE)]
        runs = [
            run for row in range(first, min(last, self.rows)) for run in self._runs.get((section, row), ())
        ]
        if runs:
            with self._file(section).open("rb") as handle:
                for start, count in runs:
                    handle.seek(start * _WIDTH * _TYPE.itemsize)
                    data = handle.read(count * _WIDTH * _TYPE.itemsize)
                    parts.append(np.frombuffer(data, _TYPE).reshape(count, _WIDTH))
        return Band(np.concatenate(parts))

    def bands(self, section: int) -> Iterator[tuple[int, Band]]:
        """All rows of a section that hold molecules, in order."""
        for row in range(self.rows):
            if (section, row) in self._runs:
                yield row, self.read(section, row, row + 1)

    def most_in_a_bin(self) -> int:
        """Most molecules of one gene in one 16-px bin of the brain."""
        most = 0
        for section in range(self.sections):
            for _, band in self.bands(section):
                bins = (int(band.x.max()) // BIN_PX + 1) * (ROW_PX // BIN_PX)
                place = band.y % ROW_PX // BIN_PX + band.x // BIN_PX * (ROW_PX // BIN_PX)
                flat = band.gene.astype(np.int64) * bins + place
                most = max(most, int(np.unique(flat, return_counts=True)[1].max()))
        return most
