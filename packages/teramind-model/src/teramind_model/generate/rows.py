"""What a unit reads: counts and start noise row by row, each block of the store read once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teramind_data.geometry import BIN_PX, Box, Window, ceil_div
from teramind_model.controls import CountsSource
from teramind_model.diffusion.noise import BLOCK_PX, start_noise
from teramind_model.network.unet import UNetShape

__all__ = ["StoreRows"]


class StoreRows:
    """Rows of one window, for :class:`teramind_model.generate.wavefront.Wavefront`.

    Counts are read in bands of 256 px, a store's chunk, and noise in its own blocks; ``bins_read`` counts the gene bins
    that were asked of the store, each once a unit. ``tissue`` are the canvas's tiles that are made, all where None.
    """

    def __init__(
        self,
        counts: CountsSource,
        window: Window,
        shape: UNetShape,
        seed: int,
        tissue: NDArray[np.bool_] | None = None,
    ) -> None:
        self._counts, self._window, self._shape, self._seed = counts, window, shape, seed
        self._tissue = tissue
        self._bands: dict[int, NDArray[np.integer]] = {}
        self._noise: tuple[int, NDArray[np.float32]] | None = None
        self.bins_read = 0

    def counts(self, patch_row: int, columns: range) -> Tensor:
        """See :class:`teramind_model.generate.wavefront.RowSource`."""
        patch, half = self._shape.patch, self._shape.patch // 2
        y0 = patch_row * patch - half
        x0, x1 = columns.start * patch - half, columns.stop * patch - half
        first, last = y0 // BLOCK_PX, ceil_div(y0 + patch, BLOCK_PX)
        for band in [band for band in self._bands if band < first]:
            del self._bands[band]
        pieces = []
        for band in range(first, last):
            if band not in self._bands:
                box = Box(band * BLOCK_PX, (band + 1) * BLOCK_PX, x0, x1)
                self._bands[band] = self._counts.window_counts(self._window, box)
                self.bins_read += box.area // BIN_PX**2
            top, bottom = max(y0, band * BLOCK_PX), min(y0 + patch, (band + 1) * BLOCK_PX)
            shown = slice((top - band * BLOCK_PX) // BIN_PX, (bottom - band * BLOCK_PX) // BIN_PX)
            pieces.append(self._bands[band][..., shown, :])
        # Only the patch row's bins are made float32, at once.
        return torch.from_numpy(np.concatenate(pieces, axis=-2, dtype=np.float32))

    def noise(self, tile_row: int, columns: range) -> Tensor:
        """See :class:`teramind_model.generate.wavefront.RowSource`."""
        patch = self._shape.patch
        band = tile_row * patch // BLOCK_PX
        if self._noise is None or self._noise[0] != band:
            self._noise = None  # before the next is made
            box = Box(band * BLOCK_PX, (band + 1) * BLOCK_PX, columns.start * patch, columns.stop * patch)
            noise = start_noise(self._seed, self._window.image, range(self._shape.stains), box)
            self._noise = (band, noise.reshape(-1, *box.shape))
        start = tile_row * patch - band * BLOCK_PX
        # A copy: a view would keep the whole band for as long as the row waits.
        return torch.from_numpy(self._noise[1][:, start : start + patch]).clone()

    def live(self, tile_row: int, columns: range) -> NDArray[np.bool_]:
        """See :class:`teramind_model.generate.wavefront.RowSource`."""
        if self._tissue is None:
            return np.ones(len(columns), bool)
        return self._tissue[tile_row, columns.start : columns.stop]
