"""One window: counts and start noise in, uint8 images of its sections out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.geometry import Box, Window
from teramind_model.controls import CountsSource
from teramind_model.diffusion.ddim import Inside, to_uint8
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.steps import Step
from teramind_model.generate.config import Precision
from teramind_model.generate.ready import computing
from teramind_model.generate.source import Source
from teramind_model.generate.tissue import TissueTiles
from teramind_model.methods.canvas import denoise_canvas

__all__ = ["Sampler"]


@dataclass(frozen=True)
class Sampler:
    """The straightforward sampler on a fixed part of the canvas.

    Attributes:
        tiles: the part in whole tiles, aligned to the patch edge; may stick out of the canvas below and right.
        canvas: ``(height, width)`` in pixels; beyond it the image is -1 at every step.
        tissue: where only tissue is made; all else is made too, and thrown away at every step.
    """

    source: Source
    counts: CountsSource
    tiles: Box
    canvas: tuple[int, int]
    steps: tuple[Step, ...]
    seed: int
    precision: Precision = "float32"
    tissue: TissueTiles | None = None

    @property
    def inside(self) -> Box:
        """The part that lies on the canvas: what :meth:`window` gives."""
        box = self.tiles.clip(self.canvas)
        assert box is not None  # whoever built the tiles started from a box on the canvas
        return box

    @property
    def tile_steps(self) -> int:
        """Tiles times steps of one window."""
        return self.tiles.area // self.source.network.patch**2 * len(self.steps)

    def window(self, window: Window, on_row: Callable[[int], None] | None = None) -> NDArray[np.uint8]:
        """Images ``(stains, Z, h, w)`` of the window's image sections, over :attr:`inside`.

        ``on_row`` is called with the tile-steps done since the last call.
        """
        source, network = self.source, self.source.network
        device = next(source.model.parameters()).device
        surroundings = self.tiles.expand(network.halo)
        counts = torch.from_numpy(self.counts.window_counts(window, surroundings).astype(np.float32))
        noise = start_noise(self.seed, window.image, range(network.stains), self.tiles)
        x_T = torch.from_numpy(noise).flatten(0, 1)
        with computing(source.model, self.precision):
            x = denoise_canvas(
                source.method,
                network,
                source.model,
                counts.to(device),
                x_T.to(device),
                self.steps,
                inside=self._shown(window, device),
                on_row=on_row,
            )
        height, width = self.inside.shape
        image = to_uint8(x[..., :height, :width]).unflatten(0, (network.stains, network.image_slices))
        return image.cpu().numpy()

    def _shown(self, window: Window, device: torch.device) -> Inside:
        if self.tissue is None:
            return self.inside.shape
        patch = self.source.network.patch
        made = self.tissue.window(window)[self.tiles.coarsen(patch).slices]
        pixels = torch.from_numpy(np.kron(made, np.ones((patch, patch), bool)))
        pixels[self.inside.height :] = False
        pixels[:, self.inside.width :] = False
        return pixels.to(device)
