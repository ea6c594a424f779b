"""Re-cutting a grid of patches on the corners where four of them met (the boundary-aware path)."""

from __future__ import annotations

import torch
from torch import Tensor


def collage(features: Tensor, rows: int, columns: int) -> Tensor:
    """Patches of a grid to patches centred on its inner corners.

    Lay the maps side by side, drop half a patch at the rim, cut again.

    Parameters
    ----------
    features
        ``(b * rows * columns, y, x, z, c)``, row-major within each of the ``b`` grids.

    Returns
    -------
    ``(b * (rows - 1) * (columns - 1), y, x, z, c)``
    """
    count, height, width, slices, channels = features.shape
    grids = count // (rows * columns)
    half_y, half_x = height // 2, width // 2
    grid = features.view(grids, rows, columns, 2, half_y, 2, half_x, slices, channels)
    # In half-patch units a collage patch is the lower half of row i above the upper half of row i + 1.
    tall = torch.stack((grid[:, :-1, :, 1], grid[:, 1:, :, 0]), dim=3)
    wide = torch.stack((tall[:, :, :-1, :, :, 1], tall[:, :, 1:, :, :, 0]), dim=5)
    # (b, rows - 1, columns - 1, 2, y/2, 2, x/2, z, c)
    return wide.reshape(grids * (rows - 1) * (columns - 1), height, width, slices, channels)


def collage_between(above: Tensor, below: Tensor) -> Tensor:
    """:func:`collage` of two rows of patches, each number copied once and nothing kept for a gradient.

    Parameters
    ----------
    above, below
        ``(n, y, x, z, c)``, neighbours from left to right.

    Returns
    -------
    ``(n - 1, y, x, z, c)``
    """
    count, height, width, slices, channels = above.shape
    y, x = height // 2, width // 2
    cut = above.new_empty((count - 1, height, width, slices, channels))
    cut[:, :y, :x], cut[:, :y, x:] = above[:-1, y:, x:], above[1:, y:, :x]
    cut[:, y:, :x], cut[:, y:, x:] = below[:-1, :y, x:], below[1:, :y, :x]
    return cut
