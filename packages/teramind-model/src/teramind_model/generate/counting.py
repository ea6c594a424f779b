"""What a generation asks of the network and the store, counted without doing it: the wavefront's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box, ceil_div
from teramind_model.diffusion.noise import BLOCK_PX
from teramind_model.generate.units import Layout, Unit
from teramind_model.generate.wavefront import needed

__all__ = ["Counts", "count_unit"]


@dataclass(frozen=True)
class Counts:
    """Of one unit or many.

    Attributes:
        gene_patches, encoded, decoded: patches whose genes are looked at, patches encoded and tiles decoded, over all
            steps. ``decoded`` are the tile-steps.
        gene_batches, encode_batches, decode_batches: calls of the network for them, idle places included.
        bins_read: gene bins asked of the store, all sections of a window together.
        shards_written: shards of the morphology, those of background too.
    """

    gene_patches: int = 0
    encoded: int = 0
    decoded: int = 0
    gene_batches: int = 0
    encode_batches: int = 0
    decode_batches: int = 0
    bins_read: int = 0
    shards_written: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def idle(self, batch: int) -> int:
        """Places of batches that are filled to keep their shape."""
        places = batch * (self.gene_batches + self.encode_batches + self.decode_batches)
        return places - self.gene_patches - self.encoded - self.decoded

    def draws(self, count: int) -> Counts:
        """Of so many draws: all but the shards of the morphology is done for each."""
        times = {name: count * n for name, n in asdict(self).items()}
        return Counts(**{**times, "shards_written": self.shards_written})


def count_unit(
    layout: Layout,
    unit: Unit,
    shards: Sequence[Box],
    steps: int,
    batch: int,
    tissue: NDArray[np.bool_] | None = None,
) -> Counts:
    """A unit that makes ``shards`` (boxes in pixels, of all its sections), of which ``tissue`` says what is background.

    Args:
        layout: where things lie.
        unit: one of the layout's.
        shards: those to write.
        steps: denoising steps.
        batch: places of a batch.
        tissue: tiles of the canvas that are made, all where None.
    """
    shown = [box for box in shards if layout.shows(box, tissue)]
    if not shown:
        return Counts(shards_written=len(shards))
    target = unit.target(layout.rows(shown))
    patches, made = _Waves(), _Waves()
    for s in range(steps):
        tiles = needed(target, layout.known, steps - 1 - s)
        live = np.ones(tiles.shape, bool) if tissue is None else tissue[tiles.slices]
        # Patch row r is encoded in the wave of tile row r - 1.
        patches.add(tiles.y0 - 1 + 2 * s, _patches(live).sum(axis=1))
        made.add(tiles.y0 + 2 * s, live.sum(axis=1))
    first = needed(target, layout.known, steps - 1)
    live = np.ones(first.shape, bool) if tissue is None else tissue[first.slices]
    genes = _patches(live).sum(axis=1)
    bands: set[int] = set()
    for row in np.flatnonzero(genes):
        y0 = (first.y0 + int(row)) * layout.patch - layout.patch // 2
        bands.update(range(y0 // BLOCK_PX, ceil_div(y0 + layout.patch, BLOCK_PX)))
    bins = len(bands) * (BLOCK_PX // BIN_PX) * ((first.width + 1) * layout.patch // BIN_PX)
    return Counts(
        gene_patches=int(genes.sum()),
        encoded=patches.total,
        decoded=made.total,
        gene_batches=int((-(-genes // batch)).sum()),
        encode_batches=patches.batches(batch),
        decode_batches=made.batches(batch),
        bins_read=bins,
        shards_written=len(shards),
    )


def _patches(live: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Patches under tiles ``(rows, columns)``: one more of each, needed where one of the four around is."""
    padded = np.pad(live, 1)
    return padded[:-1, :-1] | padded[1:, :-1] | padded[:-1, 1:] | padded[1:, 1:]


class _Waves:
    """Patches or tiles of each wave, of all steps together, as they share batches."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, first: int, counts: NDArray[np.int64]) -> None:
        """A step's rows, one a wave from ``first`` on."""
        for wave, count in enumerate(counts.tolist(), start=first):
            self._counts[wave] = self._counts.get(wave, 0) + count

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def batches(self, batch: int) -> int:
        return sum(ceil_div(count, batch) for count in self._counts.values())
