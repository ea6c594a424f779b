"""Tiles of the canvas that training never sees, for validation: the same in all sections of a brain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from teramind_data.geometry import Box
from teramind_model.data.keys import Purpose, generator
from teramind_model.data.tissue import TILE_PX, TissueIndex

__all__ = ["HeldOut"]


@dataclass(frozen=True)
class HeldOut:
    """``tiles[a]``: (row, column) of the tiles of atlas a that are held out, squares of ``edge`` pixels."""

    tiles: tuple[frozenset[tuple[int, int]], ...]
    edge: int = TILE_PX

    @classmethod
    def choose(cls, share: float, seed: int, tissue: Sequence[TissueIndex]) -> HeldOut:
        """A share of each atlas's tiles with tissue (in any section), rounded up, by seed and atlas alone."""
        chosen = []
        for atlas, index in enumerate(tissue):
            places = np.unique(index.tiles[:, 1:], axis=0)
            order = generator(Purpose.HELD_OUT, seed, atlas).permutation(len(places))
            picked = places[order[: ceil(share * len(places))]]
            chosen.append(frozenset((int(row), int(column)) for row, column in picked))
        return cls(tuple(chosen))

    def touches(self, atlas: int, box: Box) -> bool:
        """Whether a box (on the canvas) holds any pixel of a held-out tile."""
        if not self.tiles[atlas]:
            return False
        around = box.cover(self.edge).coarsen(self.edge)
        return any(
            (row, column) in self.tiles[atlas]
            for row in range(around.y0, around.y1)
            for column in range(around.x0, around.x1)
        )
