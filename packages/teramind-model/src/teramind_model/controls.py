"""Whose genes a place is generated from: its own, or, as controls, those of another place.

How much of a generated picture the genes explain shows against the same network given other genes:

- *shuffled*: each tile gets the genes of another tile of the same region and density, anywhere in the brain, so
  that composition and cell density stay and the arrangement is lost;
- *neighbour*: each section gets the genes of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, StoreError
from teramind_data.geometry import BIN_PX, Box, Window, ceil_div
from teramind_data.store import Brain

__all__ = [
    "CountsSource",
    "MeasuredCounts",
    "NeighbourCounts",
    "ShuffledCounts",
    "TileTable",
    "permute_tiles",
    "shuffle_counts",
    "tile_table",
]

_STREAM = 0x73_68_75_66
"""Sets the shuffle's randomness apart from other uses of the same seed."""

_TRIES = 64
"""Partners tried for a tile that drew itself or a near neighbour."""


class CountsSource(Protocol):
    """Gives the counts that a window of the network sees."""

    def window_counts(self, window: Window, box: Box) -> NDArray[Any]:
        """Raw counts ``(S, n, h / 16, w / 16)`` of a 16-aligned box; zeros outside canvas and brain."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What was done to the counts, for the store."""
        ...


@dataclass(frozen=True)
class MeasuredCounts:
    """Each place its own genes. ``genes`` are channels of the atlas in the network's order."""

    brain: Brain
    genes: NDArray[np.int64]

    def window_counts(self, window: Window, box: Box) -> NDArray[Any]:
        """See :class:`CountsSource`."""
        return self.brain.window_counts(window, box, self.genes)

    def provenance(self) -> dict[str, Any]:
        """See :class:`CountsSource`."""
        return {"kind": "none"}


@dataclass(frozen=True)
class NeighbourCounts:
    """Each section the genes of the next one; the last those of the one before it."""

    brain: Brain
    genes: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.brain.n_sections < 2:
            raise InputError(
                "brain has no neighbouring section",
                self.brain.url,
                "at least 2 sections",
                self.brain.n_sections,
            )

    def window_counts(self, window: Window, box: Box) -> NDArray[Any]:
        """See :class:`CountsSource`."""
        shifted = replace(window, gene=tuple(self._neighbour(z) for z in window.gene))
        return self.brain.window_counts(shifted, box, self.genes)

    def _neighbour(self, z: int) -> int:
        last = self.brain.n_sections - 1
        if not 0 <= z <= last:
            return z  # zeros, as without the control
        return z + 1 if z < last else z - 1

    def provenance(self) -> dict[str, Any]:
        """See :class:`CountsSource`."""
        return {"kind": "neighbour", "sections_moved": self.brain.n_sections}


@dataclass(frozen=True)
class TileTable:
    """Tiles of a brain and what they are shuffled by; ``T = sections * rows * columns``, row-major.

    Attributes:
        grid: sections, rows and columns of tiles.
        total: molecules of the network's genes in each tile, ``(T,)``.
        region: label that most bins of a tile carry, ``(T,)``; 0 everywhere without annotation.
        shape: bins in y and x that a tile really has (fewer at the rim), ``(T, 2)``.
    """

    grid: tuple[int, int, int]
    total: NDArray[np.int64]
    region: NDArray[np.int64]
    shape: NDArray[np.int64]


def tile_table(brain: Brain, genes: NDArray[np.int64], tile: int) -> TileTable:
    """Survey the tiles of ``tile`` px, one section at a time."""
    edge = _tile_bins(tile)
    rows, columns = (ceil_div(n, tile) for n in brain.canvas)
    height, width = (n // BIN_PX for n in brain.canvas)
    totals, regions = [], []
    for z in range(brain.n_sections):
        counts = brain.read("expression", z)[genes].sum(axis=0, dtype=np.int64)
        starts = np.arange(0, height, edge), np.arange(0, width, edge)
        totals.append(np.add.reduceat(np.add.reduceat(counts, starts[0], 0), starts[1], 1).ravel())
        labels = (
            brain.read("regions", z) if "regions" in brain.labels else np.zeros((height, width), np.int64)
        )
        regions.append(_majority(labels.astype(np.int64), edge, (rows, columns)))
    bins_y = np.minimum(edge, height - np.arange(rows) * edge)
    bins_x = np.minimum(edge, width - np.arange(columns) * edge)
    shape = np.stack(np.broadcast_arrays(bins_y[:, None], bins_x[None]), axis=-1).reshape(-1, 2)
    return TileTable(
        grid=(brain.n_sections, rows, columns),
        total=np.concatenate(totals),
        region=np.concatenate(regions),
        shape=np.tile(shape, (brain.n_sections, 1)),
    )


def _tile_bins(tile: int) -> int:
    if tile < BIN_PX or tile % BIN_PX:
        raise InputError("tile is not whole bins", expected=f"a multiple of {BIN_PX} px", found=tile)
    return tile // BIN_PX


def _majority(labels: NDArray[np.int64], edge: int, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Most frequent label of each tile, the smallest of equals, ``(rows * columns,)``."""
    rows, columns = grid
    y, x = np.indices(labels.shape) // edge
    pairs, number = np.unique(
        np.stack([(y * columns + x).ravel(), labels.ravel()], axis=1), axis=0, return_counts=True
    )
    # Sorted by tile, then falling number, then label: the first of each tile wins.
    order = np.lexsort((pairs[:, 1], -number, pairs[:, 0]))
    tiles, first = np.unique(pairs[order, 0], return_index=True)
    out = np.zeros(rows * columns, np.int64)
    out[tiles] = pairs[order, 1][first]
    return out


def permute_tiles(table: TileTable, *, strata: int, seed: int) -> NDArray[np.int64]:
    """Tile whose genes each tile gets, ``(T,)``, a permutation.

    Tiles trade places with tiles of the same region, the same density stratum (quantiles of ``total`` within the
    region) and the same shape; not with themselves or near neighbours (next to each other in their section, or in
    the next section) where the stratum has others. Tiles without molecules stay.
    """
    donor = np.arange(len(table.total))
    occupied = np.flatnonzero(table.total > 0)
    kinds, kind = np.unique(
        np.column_stack([table.region[occupied], table.shape[occupied]]), axis=0, return_inverse=True
    )
    for number, key in enumerate(kinds):
        members = occupied[kind.ravel() == number]
        members = members[np.argsort(table.total[members], kind="stable")]
        # At least two a stratum, or a lone tile could only keep its own genes.
        for stratum, tiles in enumerate(np.array_split(members, max(1, min(strata, len(members) // 2)))):
            words = [seed, _STREAM, *(int(k) for k in key), stratum]
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
            donor[tiles] = _derange(tiles, table.grid, rng)
    return donor


def _derange(
    tiles: NDArray[np.int64], grid: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """A random permutation of ``tiles`` without fixed points (but for a single tile), repaired of near donors."""
    order = rng.permutation(len(tiles))
    donor = np.empty_like(tiles)
    donor[order] = tiles[np.roll(order, 1)]
    for i in np.flatnonzero(_near(tiles, donor, grid)):
        for j in rng.integers(len(tiles), size=_TRIES):
            swapped = np.array([donor[j], donor[i]])
            if i != j and not _near(tiles[[i, j]], swapped, grid).any():
                donor[[i, j]] = swapped
                break
    return donor


def _near(a: NDArray[np.int64], b: NDArray[np.int64], grid: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Whether tiles are the same or touch, in their section or a neighbouring one."""
    distance = [abs(p - q) for p, q in zip(np.unravel_index(a, grid), np.unravel_index(b, grid), strict=True)]
    return np.asarray(np.max(distance, axis=0) <= 1)


@dataclass(frozen=True)
class ShuffledCounts:
    """Each tile the genes of its donor (see :func:`permute_tiles`)."""

    brain: Brain
    genes: NDArray[np.int64]
    table: TileTable
    donor: NDArray[np.int64]
    tile: int
    strata: int

    def window_counts(self, window: Window, box: Box) -> NDArray[Any]:
        """See :class:`CountsSource`. Reads every donor section once."""
        edge = _tile_bins(self.tile)
        bins = box.coarsen(BIN_PX)
        plane = Box.from_shape((self.brain.canvas[0] // BIN_PX, self.brain.canvas[1] // BIN_PX))
        out = np.zeros((len(window.gene), len(self.genes), *bins.shape), self.brain.spec.expression_dtype)
        inside = bins.intersect(plane)
        if inside is None:
            return out
        _, rows, columns = self.table.grid
        jobs: dict[int, list[tuple[int, Box, Box]]] = {}
        for slot, z in enumerate(window.gene):
            if not 0 <= z < self.brain.n_sections:
                continue
            for row in range(inside.y0 // edge, ceil_div(inside.y1, edge)):
                for column in range(inside.x0 // edge, ceil_div(inside.x1, edge)):
                    donor = int(self.donor[(z * rows + row) * columns + column])
                    section, from_row, from_column = (
                        int(i) for i in np.unravel_index(donor, self.table.grid)
                    )
                    target = Box.from_shape((edge, edge), (row * edge, column * edge)).intersect(inside)
                    if target is None:
                        raise StoreError("tiles do not cover the canvas", where=self.brain.url)
                    source = target.shift((from_row - row) * edge, (from_column - column) * edge)
                    jobs.setdefault(section, []).append((slot, target, source))
        for section in sorted(jobs):
            counts = self.brain.read("expression", section)[self.genes]
            for slot, target, source in jobs[section]:
                into = target.shift(-bins.y0, -bins.x0).slices
                out[(slot, slice(None), *into)] = counts[(slice(None), *source.slices)]
        return out

    def provenance(self) -> dict[str, Any]:
        """See :class:`CountsSource`."""
        occupied = self.table.total > 0
        here = np.arange(len(self.donor))
        moved = self.donor != here
        return {
            "kind": "shuffled",
            "tile_px": self.tile,
            "strata": self.strata,
            "regions": len(np.unique(self.table.region[occupied])),
            "tiles": int(occupied.sum()),
            "tiles_moved": int(moved.sum()),
            "tiles_to_near_neighbours": int((_near(here, self.donor, self.table.grid) & moved).sum()),
            "tiles_without_molecules": int((~occupied).sum()),
        }


def shuffle_counts(
    brain: Brain, genes: NDArray[np.int64], *, tile: int, strata: int = 4, seed: int = 0
) -> ShuffledCounts:
    """Genes of a brain shuffled between tiles of the same region and density, all sections pooled.

    Args:
        brain: an atlas; ``labels/regions`` are its regions, one region where there are none.
        genes: channels of its expression, in the network's order.
        tile: edge in pixels, a multiple of 16.
        strata: density strata of a region.
        seed: same seed, same shuffle.
    """
    table = tile_table(brain, genes, tile)
    return ShuffledCounts(brain, genes, table, permute_tiles(table, strata=strata, seed=seed), tile, strata)
