"""Training samples: tissue crops at any pixel, of which only the chosen 2 x 2 block of patches is read.

A sample is a pure function of (seed, step, number in the batch): which atlas, where, which block, which symmetry,
which t, which noise. Batches do not depend on what was read before, by how many workers, or on resuming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box
from teramind_model.data.held_out import HeldOut
from teramind_model.data.keys import Purpose, generator
from teramind_model.data.readers import BlockReader
from teramind_model.data.tissue import TILE_PX, TissueIndex
from teramind_model.diffusion.schedule import TRAIN_STEPS

__all__ = ["Atlas", "CropSource", "Geometry", "Place", "Sample"]

SYMMETRIES = 8

_TRIES = 1000
"""Places drawn for one outside the held-out tiles (or blocks, for one inside) before giving up."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of a sample: patch edge P in pixels, S gene slices, Z image slices, k stains."""

    patch: int
    gene_slices: int
    image_slices: int
    stains: int

    @property
    def crop(self) -> int:
        """Edge of a crop in pixels: 4P, but 2P at P = 128 (model specification, Training objective)."""
        return (2 if self.patch == 128 else 4) * self.patch

    @property
    def blocks(self) -> int:
        """Places of a 2 x 2 block along an edge of the padded grid of ``crop / P + 1`` patches."""
        return self.crop // self.patch

    @property
    def bins(self) -> int:
        """Edge of a patch in gene bins."""
        return self.patch // BIN_PX


@dataclass(frozen=True)
class Place:
    """Where a sample lies: atlas, first image section, crop corner ``(y, x)``, block ``(row, column)`` of the padded
    grid, and one of the 8 symmetries of the square."""

    atlas: int
    section: int
    y: int
    x: int
    block: tuple[int, int]
    symmetry: int


@dataclass(frozen=True)
class Sample:
    """A 2 x 2 block before noising: ``image (k * Z, 2P, 2P)`` in [-1, 1], stain slow, zero in the padding; ``mask
    (1, 2P, 2P)``, 0 in the padding; ``counts (S, n, 2g, 2g)``, zero there; ``noise`` of the image's shape; ``t``."""

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    counts: NDArray[np.float32]
    noise: NDArray[np.float32]
    t: int


@dataclass(frozen=True)
class Atlas:
    """One brain to learn from."""

    name: str
    n_sections: int
    canvas: tuple[int, int]
    tissue: TissueIndex
    reader: BlockReader

    def check(self, geometry: Geometry) -> None:
        """InputError where no crop fits."""
        if min(self.canvas) < geometry.crop:
            raise InputError(
                "canvas is smaller than a training crop",
                where=self.name,
                expected=f"at least {geometry.crop} px",
                found=self.canvas,
                remedy="Use a smaller --patch",
            )
        if self.n_sections < geometry.image_slices:
            raise InputError(
                "atlas has fewer sections than a window makes",
                where=self.name,
                expected=f"at least {geometry.image_slices}",
                found=self.n_sections,
                remedy="Use fewer --gene-slices",
            )


class CropSource:
    """Samples of some atlases, each tissue bin of all of them equally likely to lie in a crop.

    A share ``held_out`` of the tiles with tissue is never read for a sample, only for :meth:`validation_place`.
    """

    def __init__(
        self, atlases: Sequence[Atlas], geometry: Geometry, seed: int, *, held_out: float = 0.0
    ) -> None:
        for atlas in atlases:
            atlas.check(geometry)
        self.atlases = tuple(atlases)
        self.geometry = geometry
        self.seed = seed
        self.held_out = HeldOut.choose(held_out, seed, [atlas.tissue for atlas in atlases])
        self._ends = np.cumsum([len(atlas.tissue) for atlas in atlases])

    def place(self, rng: np.random.Generator) -> Place:
        """Draw a place outside the held-out tiles.

        Raises:
            InputError: where they leave no room.
        """
        for _ in range(_TRIES):
            place = self._draw(rng)
            if not self.held_out.touches(place.atlas, self.block_box(place)):
                return place
        raise InputError("no crop is outside the held-out tiles", remedy="Use a smaller --held-out")

    def validation_place(self, rng: np.random.Generator) -> Place:
        """Draw a place whose block lies inside one held-out tile, with no more padding than any block has.

        That is none, but at P = 128, whose crops are no wider than a block. A tissue bin of the held-out tiles is
        drawn first, all equally likely, and then a block over one of its pixels.

        Raises:
            InputError: where no held-out tile has tissue, or no block fits into one.
        """
        counts = [len(held) for held in self._held_tissue]
        if not sum(counts):
            raise InputError("no held-out tile has tissue", remedy="Use a larger --held-out")
        for _ in range(_TRIES):
            which = int(rng.choice(len(counts), p=np.array(counts) / sum(counts)))
            section, *bin_place = self._held_tissue[which][int(rng.integers(counts[which]))]
            first = self._first_section(rng, which, section)
            down, across = (
                self._around(rng, index * BIN_PX + int(rng.integers(BIN_PX)), edge)
                for index, edge in zip(bin_place, self.atlases[which].canvas, strict=True)
            )
            if down is not None and across is not None:
                (y, row), (x, column) = down, across
                return Place(which, first, y, x, (row, column), int(rng.integers(SYMMETRIES)))
        raise InputError("no block fits into the held-out tiles", remedy="Use a larger --held-out")

    @cached_property
    def _held_tissue(self) -> tuple[TissueIndex, ...]:
        atlases = zip(self.atlases, self.held_out.tiles, strict=True)
        return tuple(atlas.tissue.within(held) for atlas, held in atlases)

    def _around(self, rng: np.random.Generator, pixel: int, canvas: int) -> tuple[int, int] | None:
        """Along one axis: a crop's corner and a block's number, so that the block holds a pixel and lies in that
        pixel's tile; None where the block that was drawn cannot."""
        g = self.geometry
        spans = [self._span(number) for number in range(g.blocks)]
        widest = max(end - start for start, end in spans)
        inner = [number for number, (start, end) in enumerate(spans) if end - start == widest]
        number = inner[int(rng.integers(len(inner)))]
        start = spans[number][0]
        tile = pixel // TILE_PX * TILE_PX
        low = max(tile, pixel - widest + 1, start)
        high = min(tile + TILE_PX - widest, pixel, canvas - g.crop + start)
        return None if low > high else (int(rng.integers(low, high + 1)) - start, number)

    def _span(self, block: int) -> tuple[int, int]:
        """First pixel of a block along an edge of its crop, and the one after its last; what hangs over is cut."""
        g = self.geometry
        # The grid is padded by half a patch, so block 0 starts half a patch before the crop.
        start = block * g.patch - g.patch // 2
        return max(0, start), min(start + 2 * g.patch, g.crop)

    def block_box(self, place: Place) -> Box:
        """Canvas pixels that the sample of a place shows, before its symmetry: its block, cut at the crop."""
        (y0, y1), (x0, x1) = (self._span(number) for number in place.block)
        return Box(y0, y1, x0, x1).shift(place.y, place.x)

    def _draw(self, rng: np.random.Generator) -> Place:
        """A place anywhere: a tissue bin, a pixel of it, and where that pixel stands in the crop and the window.

        Any window of Z neighbouring sections may be drawn, so that each section is seen in every slot; generation
        uses those that start at multiples of Z.
        """
        g = self.geometry
        number = int(rng.integers(self._ends[-1]))
        which = int(np.searchsorted(self._ends, number, side="right"))
        atlas = self.atlases[which]
        section, row, column = atlas.tissue[number - (int(self._ends[which - 1]) if which else 0)]
        first = self._first_section(rng, which, section)
        corner = []
        for index, edge in zip((row, column), atlas.canvas, strict=True):
            pixel = index * BIN_PX + int(rng.integers(BIN_PX)) - int(rng.integers(g.crop))
            corner.append(min(max(pixel, 0), edge - g.crop))
        block = (int(rng.integers(g.blocks)), int(rng.integers(g.blocks)))
        return Place(which, first, corner[0], corner[1], block, int(rng.integers(SYMMETRIES)))

    def _first_section(self, rng: np.random.Generator, which: int, section: int) -> int:
        """The first section of a window that holds a section."""
        z = self.geometry.image_slices
        last = min(section, self.atlases[which].n_sections - z)
        return int(rng.integers(max(0, section - z + 1), last + 1))

    def sample(self, step: int, number: int) -> Sample:
        """Sample ``number`` of the batch of ``step``."""
        rng = generator(Purpose.SAMPLE, self.seed, step, number)
        return self.at(self.place(rng), int(rng.integers(TRAIN_STEPS)), rng)

    def at(self, place: Place, t: int, rng: np.random.Generator) -> Sample:
        """The sample of a place at a time, its noise drawn next from ``rng``."""
        g = self.geometry
        image, mask, counts = self.read(place)
        edge = 2 * g.patch
        noise = rng.standard_normal((g.stains * g.image_slices, edge, edge), dtype=np.float32)
        return Sample(image, mask, counts, noise, t)

    def read(self, place: Place) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Image, mask and counts of a place, its symmetry applied: only the block's own pixels and bins are read."""
        g, atlas = self.geometry, self.atlases[place.atlas]
        edge, n_bins = 2 * g.patch, 2 * g.bins
        box = self.block_box(place)
        top, left = (
            corner + index * g.patch - g.patch // 2
            for corner, index in zip((place.y, place.x), place.block, strict=True)
        )
        sections = range(place.section, place.section + g.image_slices)
        before = (g.gene_slices - g.image_slices) // 2
        gene_sections = range(place.section - before, place.section - before + g.gene_slices)

        pixels = atlas.reader.image(sections, box)
        into = box.shift(-top, -left)
        image = np.zeros((g.stains * g.image_slices, edge, edge), np.float32)
        mask = np.zeros((1, edge, edge), np.float32)
        image[(..., *into.slices)] = pixels.reshape(-1, *box.shape) / np.float32(127.5) - np.float32(1)
        mask[(..., *into.slices)] = 1
        binned = atlas.reader.counts(gene_sections, box)
        counts = np.zeros((g.gene_slices, binned.shape[1], n_bins, n_bins), np.float32)
        counts[(..., *into.coarsen(BIN_PX).slices)] = binned
        return tuple(turn(array, place.symmetry) for array in (image, mask, counts))  # type: ignore[return-value]


def turn(array: NDArray[np.float32], symmetry: int) -> NDArray[np.float32]:
    """One of the 8 symmetries of the square on the last two axes: quarter turns ``symmetry % 4``, then a flip of x
    where ``symmetry >= 4``."""
    turned = np.rot90(array, symmetry % 4, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if symmetry >= 4 else turned)
