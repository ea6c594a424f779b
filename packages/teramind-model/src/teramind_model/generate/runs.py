"""Rows of tiles or patches with gaps: what is made of a row, kept close together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Runs", "patches_under"]


@dataclass(frozen=True)
class Runs:
    """Columns that are made, as ranges from left to right with gaps between them."""

    ranges: tuple[range, ...]

    def __len__(self) -> int:
        return sum(len(columns) for columns in self.ranges)

    def __iter__(self) -> Iterator[range]:
        return iter(self.ranges)

    def fills(self, columns: range) -> bool:
        """Whether all of ``columns`` are made."""
        return self.ranges == (columns,)

    def position(self, column: int) -> int:
        """Where a column that is made lies among those that are."""
        before = 0
        for columns in self.ranges:
            if column in columns:
                return before + column - columns.start
            before += len(columns)
        raise IndexError(column)

    @classmethod
    def of(cls, flags: NDArray[np.bool_], first: int) -> Runs:
        """Of one flag a column, from column ``first`` on."""
        edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0)) + first
        return cls(tuple(range(int(a), int(b)) for a, b in edges.reshape(-1, 2)))


def patches_under(above: NDArray[np.bool_], below: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which patches the tiles of two rows need, one more than there are tiles: patch c lies under tiles c - 1 and c."""
    either = np.zeros(len(above) + 2, bool)
    either[1:-1] = above | below
    return either[:-1] | either[1:]
