"""Where the tissue is: bins to draw crops from, all equally likely, without holding a brain's masks as bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX
from teramind_data.store import Brain

_TILE = 16
"""Bins along the edge of a tile; tiles without tissue are left out, others hold one bit a bin."""

TILE_PX = _TILE * BIN_PX
"""The same in pixels."""


@dataclass(frozen=True)
class TissueIndex:
    """Tissue bins of one brain, numbered 0 .. ``len - 1`` (section by section, tile by tile, row-major inside).

    ``tiles (t, 3)`` are (section, row, column) of tiles with tissue, ``bits (t, 32)`` their bins, packed;
    ``ends (t,)`` the running number of tissue bins up to and with each tile.
    """

    tiles: NDArray[np.int32]
    bits: NDArray[np.uint8]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, number: int) -> tuple[int, int, int]:
        """(section, bin row, bin column) of tissue bin ``number``."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        tile = int(np.searchsorted(self.ends, number, side="right"))
        before = int(self.ends[tile - 1]) if tile else 0
        inside = np.flatnonzero(np.unpackbits(self.bits[tile]))[number - before]
        section, row, column = (int(v) for v in self.tiles[tile])
        return section, row * _TILE + int(inside) // _TILE, column * _TILE + int(inside) % _TILE

    def within(self, places: Collection[tuple[int, int]]) -> TissueIndex:
        """Index of the tissue in the tiles at some places (row, column), of all sections."""
        columns = 1 + int(self.tiles[:, 2].max(initial=0))
        wanted = [row * columns + column for row, column in places]
        here = np.isin(self.tiles[:, 1].astype(np.int64) * columns + self.tiles[:, 2], wanted)
        counts = np.diff(self.ends, prepend=0)
        return TissueIndex(self.tiles[here], self.bits[here], np.cumsum(counts[here]))

    @classmethod
    def from_masks(cls, masks: list[NDArray[np.bool_]]) -> TissueIndex:
        """Index of one mask a section, each ``(bin rows, bin columns)``."""
        return cls._joined([_index_section(section, mask) for section, mask in enumerate(masks)])

    @classmethod
    def of(cls, brain: Brain) -> TissueIndex:
        """Index of a brain's tissue mask, or of all bins where the store has none; a section at a time.

        Raises:
            InputError: where there is no tissue at all.
        """
        height, width = (edge // BIN_PX for edge in brain.canvas)
        parts = []
        for section in range(brain.n_sections):
            has_mask = brain.tissue is not None
            mask = brain.read("tissue", section) > 0 if has_mask else np.ones((height, width), dtype=bool)
            parts.append(_index_section(section, mask))
        index = cls._joined(parts)
        if not len(index):
            raise InputError(
                "atlas has no tissue", where=brain.url, remedy="Ingest it again with another threshold"
            )
        return index

    @classmethod
    def _joined(cls, parts: list[_Section]) -> TissueIndex:
        tiles, bits, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return cls(tiles, bits, np.cumsum(counts, dtype=np.int64))


_Section = tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int16]]
"""Of one section: its tiles, their bits, and how many bins of each are tissue."""


def _index_section(section: int, mask: NDArray[np.bool_]) -> _Section:
    padding = [(0, -edge % _TILE) for edge in mask.shape]
    padded = np.pad(mask, padding)
    rows, columns = padded.shape[0] // _TILE, padded.shape[1] // _TILE
    blocks = padded.reshape(rows, _TILE, columns, _TILE).swapaxes(1, 2).reshape(rows * columns, -1)
    kept = np.flatnonzero(blocks.any(axis=1))
    tiles = np.stack((np.full_like(kept, section), kept // columns, kept % columns), axis=1)
    counts = blocks[kept].sum(axis=1, dtype=np.int16)
    return tiles.astype(np.int32), np.packbits(blocks[kept], axis=1), counts
