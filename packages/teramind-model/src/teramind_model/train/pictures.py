"""Sample pictures: a fixed tissue tile, real above generated, drawn as training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from teramind_data.geometry import Box
from teramind_model.data.crops import CropSource
from teramind_model.data.keys import Purpose, generator
from teramind_model.diffusion.ddim import to_uint8
from teramind_model.methods.canvas import denoise_canvas
from teramind_model.methods.protocol import Method, NetworkShape
from teramind_model.train.run_directory import writing

__all__ = ["PictureTile", "choose_tile", "draw"]

_TILES = 4
_STEPS = 10


@dataclass(frozen=True)
class PictureTile:
    """What a picture is drawn from: ``real (k * Z, h, w)`` uint8, ``counts (S, n, ...)`` with the network's halo
    around, ``noise (k * Z, h, w)``."""

    real: NDArray[np.uint8]
    counts: Tensor
    noise: Tensor


def choose_tile(source: CropSource, halo: int) -> PictureTile:
    """A place in tissue that depends on the seed alone, ``4 P`` wide where the canvas allows."""
    g = source.geometry
    rng = generator(Purpose.PICTURE, source.seed)
    place = source.place(rng)
    atlas = source.atlases[place.atlas]
    edge = min(_TILES * g.patch, min(atlas.canvas) // g.patch * g.patch)
    y, x = (min(corner, limit - edge) for corner, limit in zip((place.y, place.x), atlas.canvas, strict=True))
    box = Box.from_shape((edge, edge), (y, x))
    before = (g.gene_slices - g.image_slices) // 2
    first = place.section
    real = atlas.reader.image(range(first, first + g.image_slices), box)
    counts = atlas.reader.counts(range(first - before, first - before + g.gene_slices), box.expand(halo))
    real = real.reshape(-1, edge, edge)
    noise = rng.standard_normal(real.shape, dtype=np.float32)
    return PictureTile(real, torch.from_numpy(counts.astype(np.float32)), torch.from_numpy(noise))


def draw(method: Method, shape: NetworkShape, model: nn.Module, tile: PictureTile) -> NDArray[np.uint8]:
    """Grey picture ``(2 h, k * Z * w)``: stain by stain and slice by slice, real above generated in 10 steps."""
    device = next(model.parameters()).device
    x = denoise_canvas(method, shape, model, tile.counts.to(device), tile.noise.to(device), _STEPS)
    made = to_uint8(x).cpu().numpy()
    return np.concatenate([np.concatenate(list(rows), axis=1) for rows in (tile.real, made)])


def save(picture: NDArray[np.uint8], file: Path) -> None:
    """Write a PNG; StoreError where that fails."""
    from PIL import Image

    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
