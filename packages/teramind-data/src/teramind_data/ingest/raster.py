"""Planes too large to hold, read and written by rows: in a file, or in memory for small ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """A plane ``(h, w)`` of which whole rows are read and written."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)``."""
        ...

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows ``y0 .. y1 - 1``."""
        ...

    def write(self, y0: int, rows: NDArray[Any]) -> None:
        """Put rows from ``y0`` on."""
        ...


class Maker(Protocol):
    """Makes planes of zeros."""

    def __call__(self, name: str, shape: tuple[int, int], dtype: str) -> Rows:
        """A new plane."""
        ...


@dataclass(frozen=True)
class FileRows:
    """A plane in a file. Read and written, not mapped: mapped pages would count as memory."""

    path: Path
    shape: tuple[int, int]
    dtype: str

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int], dtype: str) -> FileRows:
        """A plane of zeros (a sparse file)."""
        with path.open("wb") as handle:
            handle.truncate(shape[0] * shape[1] * np.dtype(dtype).itemsize)
        return cls(path, shape, dtype)

    def _at(self, row: int) -> int:
        return row * self.shape[1] * np.dtype(self.dtype).itemsize

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows ``y0 .. y1 - 1``."""
        count = (y1 - y0) * self.shape[1]
        return np.fromfile(self.path, self.dtype, count, offset=self._at(y0)).reshape(y1 - y0, self.shape[1])

    def write(self, y0: int, rows: NDArray[Any]) -> None:
        """Put rows from ``y0`` on."""
        with self.path.open("r+b") as handle:
            handle.seek(self._at(y0))
            handle.write(np.ascontiguousarray(rows, self.dtype).data)


@dataclass(frozen=True)
class ArrayRows:
    """A plane in memory."""

    array: NDArray[Any]

    @classmethod
    def create(cls, name: str, shape: tuple[int, int], dtype: str) -> ArrayRows:
        """A plane of zeros; it needs no name."""
        return cls(np.zeros(shape, dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)``."""
        return int(self.array.shape[0]), int(self.array.shape[1])

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows ``y0 .. y1 - 1``."""
        return self.array[y0:y1]

    def write(self, y0: int, rows: NDArray[Any]) -> None:
        """Put rows from ``y0`` on."""
        self.array[y0 : y0 + len(rows)] = rows


def strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """``(y0, y1)`` of strips of at most ``rows`` rows, from the top."""
    for y0 in range(0, height, rows):
        yield y0, min(y0 + rows, height)
