"""PSNR and SSIM of image tiles, as the paper reports them.

Convention (that of `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=255)`, called per channel and tile):

- values are uint8, the data range is 255, each stain is scored alone;
- SSIM (Wang et al. 2004): 11 px Gaussian window with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, mean over
  the windows that lie wholly inside the tile (the outer 5 px carry no window of their own). torchmetrics 1.9 has the
  same window and constants but also averages the windows at the rim, filled up by reflection: `ssim(...,
  windows="reflected")` equals it;
- PSNR = 10 log10(255^2 / MSE); a tile without any difference scores `PSNR_CEILING_DB` rather than infinity, so that
  means stay finite;
- "both stains together" is one MSE over both for PSNR, and the mean of the two for SSIM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box

DATA_RANGE = 255.0
PSNR_CEILING_DB = 100.0
SIGMA = 1.5
WINDOW = 11
RIM = WINDOW // 2

_C1 = (0.01 * DATA_RANGE) ** 2
_C2 = (0.03 * DATA_RANGE) ** 2

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TileScores:
    """Scores of `t` tiles: arrays `(t, c + 1)`, the last column being all stains together."""

    psnr: FloatArray
    ssim: FloatArray


def psnr(reference: npt.ArrayLike, image: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB of two equally shaped arrays, data range 255."""
    difference = np.asarray(reference, dtype=np.float64) - np.asarray(image, dtype=np.float64)
    return float(_psnr_of_mse(np.mean(np.square(difference))))


def ssim(
    reference: npt.ArrayLike, image: npt.ArrayLike, windows: Literal["inside", "reflected"] = "inside"
) -> FloatArray:
    """Mean structural similarity per channel: `(c, y, x)`, `(c, y, x)` -> `(c,)`. Edges of at least 11 px.

    `windows` says what happens at the rim: only windows inside count (scikit-image; the convention of the reports), or
    windows that stick out count too, filled by reflection (torchmetrics).
    """
    similarity = ssim_map(reference, image)
    if windows == "inside":
        similarity = similarity[..., RIM:-RIM, RIM:-RIM]
    return similarity.mean(axis=(-2, -1))


def ssim_map(reference: npt.ArrayLike, image: npt.ArrayLike) -> FloatArray:
    """Structural similarity of the window around each pixel: `(c, y, x)` float64.

    Values closer than 5 px to the rim come from windows that stick out, filled by reflection. A window depends on its
    own 11 x 11 px only, so a map of many tiles serves each of them: take a tile's interior.
    """
    x = np.asarray(reference, dtype=np.float64)
    y = np.asarray(image, dtype=np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    return luminance * (2 * covariance + _C2) / (variance_x + variance_y + _C2)


def score_tiles(
    reference: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8], tiles: Sequence[Box]
) -> TileScores:
    """PSNR and SSIM of `tiles` (boxes in the arrays' own pixels, edges of at least 11 px) of `(c, y, x)` images."""
    channels = reference.shape[0]
    shape = (len(tiles), channels + 1)
    noise, likeness = np.empty(shape), np.empty(shape)
    if not tiles:
        return TileScores(noise, likeness)
    squared = np.square(reference.astype(np.float64) - image.astype(np.float64))
    similarity = ssim_map(reference, image)
    for index, tile in enumerate(tiles):
        window = (slice(None), slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        error = squared[window].mean(axis=(1, 2))
        noise[index, :channels] = _psnr_of_mse(error)
        noise[index, channels] = _psnr_of_mse(error.mean())
        inner = similarity[window][:, RIM:-RIM, RIM:-RIM].mean(axis=(1, 2))
        likeness[index, :channels] = inner
        likeness[index, channels] = inner.mean()
    return TileScores(noise, likeness)


def _psnr_of_mse(error: npt.ArrayLike) -> FloatArray:
    mse = np.asarray(error, dtype=np.float64)
    with np.errstate(divide="ignore"):
        value = 10.0 * np.log10(DATA_RANGE**2 / mse)
    return np.minimum(value, PSNR_CEILING_DB)


def _gaussian() -> FloatArray:
    offsets = np.arange(-RIM, RIM + 1, dtype=np.float64)
    weights = np.exp(-0.5 * np.square(offsets / SIGMA))
    return weights / weights.sum()


def _blur(values: FloatArray) -> FloatArray:
    from scipy.ndimage import correlate1d

    weights = _gaussian()
    # scipy's "mirror" is what others call reflection: the edge pixel itself is not repeated.
    return correlate1d(correlate1d(values, weights, axis=-1, mode="mirror"), weights, axis=-2, mode="mirror")
