"""PSNR, SSIM and MS-SSIM of image tiles, as the paper reports them.

Convention (that of `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=255)`, called per channel and tile):

- values are uint8, the data range is 255, each stain is scored alone;
- SSIM (Wang et al. 2004): 11 px Gaussian window with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, mean over
  the windows that lie wholly inside the tile (the outer 5 px carry no window of their own). torchmetrics 1.9 has the
  same window and constants but also averages the windows at the rim, filled up by reflection: `ssim(...,
  windows="reflected")` equals it;
- MS-SSIM (Wang, Simoncelli and Bovik 2003): contrast and structure at five scales, luminance at the coarsest, each
  scale half the one before by 2 x 2 means (an odd last row or column is left out), weighted by `MS_WEIGHTS`; negative
  values count 0, as in torchmetrics. Windows as for SSIM. At the fifth scale a window needs 11 px, so a tile needs
  `MS_SMALLEST` = 176 px; smaller ones have no MS-SSIM (fewer scales would be another measure under the same name);
- PSNR = 10 log10(255^2 / MSE); a tile without any difference scores `PSNR_CEILING_DB` rather than infinity, so that
  means stay finite;
- "both stains together" is one MSE over both for PSNR, and the mean of the two for SSIM and MS-SSIM.
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

#: Weights of the scales of MS-SSIM, finest first (Wang, Simoncelli and Bovik 2003, section 3.2).
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

#: Least edge in pixels of a tile whose coarsest scale holds one window.
MS_SMALLEST = WINDOW << (len(MS_WEIGHTS) - 1)

#: Constants of SSIM (Wang et al. 2004, after equation 13).
C1 = (0.01 * DATA_RANGE) ** 2
C2 = (0.03 * DATA_RANGE) ** 2

FloatArray = npt.NDArray[np.float64]
Windows = Literal["inside", "reflected"]


@dataclass(frozen=True, slots=True)
class TileScores:
    """Scores of `t` tiles: arrays `(t, c + 1)`, the last column being all stains together.

    `ms_ssim` is nan for tiles with an edge under `MS_SMALLEST`.
    """

    psnr: FloatArray
    ssim: FloatArray
    ms_ssim: FloatArray


def psnr(reference: npt.ArrayLike, image: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB of two equally shaped arrays, data range 255."""
    difference = np.asarray(reference, dtype=np.float64) - np.asarray(image, dtype=np.float64)
    return float(psnr_of_mse(np.mean(np.square(difference))))


def ssim(reference: npt.ArrayLike, image: npt.ArrayLike, windows: Windows = "inside") -> FloatArray:
    """Mean structural similarity per channel: `(c, y, x)`, `(c, y, x)` -> `(c,)`. Edges of at least 11 px.

    `windows` says what happens at the rim: only windows inside count (scikit-image; the convention of the reports), or
    windows that stick out count too, filled by reflection (torchmetrics).
    """
    return _means(*_maps(_floats(reference), _floats(image), windows))[0]


def ms_ssim(reference: npt.ArrayLike, image: npt.ArrayLike, windows: Windows = "inside") -> FloatArray:
    """Multi-scale structural similarity per channel: `(c, y, x)`, `(c, y, x)` -> `(c,)`.

    `windows` as for `ssim`. torchmetrics, which `"reflected"` equals, averages contrast over the windows inside and
    luminance over all.

    Raises
    ------
    ValueError
        for an edge under `MS_SMALLEST` px.
    """
    return scores_at_scales(_floats(reference), _floats(image), windows)[1]


def scores_at_scales(
    x: FloatArray, y: FloatArray, windows: Windows = "inside"
) -> tuple[FloatArray, FloatArray]:
    """SSIM and MS-SSIM of two images `(c, y, x)`, which share their finest scale: `(c,)` each. See `ms_ssim`."""
    if min(x.shape[1:]) < MS_SMALLEST:
        raise ValueError(
            f"MS-SSIM needs edges of at least {MS_SMALLEST} px; found {x.shape[1]} x {x.shape[2]}"
        )
    first, contrast = _means(*_maps(x, y, windows))
    likeness = first
    product = np.ones(len(x))
    for scale, weight in enumerate(MS_WEIGHTS):
        if scale:
            x, y = _halved(x), _halved(y)
            likeness, contrast = _means(*_maps(x, y, windows))
        last = scale == len(MS_WEIGHTS) - 1
        product *= np.maximum(likeness if last else contrast, 0.0) ** weight
    return first, product


def score_tiles(
    reference: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8], tiles: Sequence[Box]
) -> TileScores:
    """All scores of `tiles` (boxes in the arrays' own pixels, edges of at least 11 px) of `(c, y, x)` images.

    Tile by tile, so that the dozen intermediate arrays stay in the processor's cache, whatever the images' size.
    """
    channels = reference.shape[0]
    noise, likeness, scales = (np.full((len(tiles), channels + 1), np.nan) for _ in range(3))
    for index, tile in enumerate(tiles):
        window = (slice(None), slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        x, y = _floats(reference[window]), _floats(image[window])
        error = np.square(x - y).mean(axis=(1, 2))
        noise[index] = psnr_of_mse([*error, error.mean()])
        if min(tile.shape) < MS_SMALLEST:
            likeness[index, :channels] = _means(*_maps(x, y, "inside"))[0]
        else:
            likeness[index, :channels], scales[index, :channels] = scores_at_scales(x, y)
    for values in (likeness, scales):
        values[:, channels] = values[:, :channels].mean(axis=1)
    return TileScores(noise, likeness, scales)


def spread_scores(sd: npt.NDArray[np.floating], tiles: Sequence[Box]) -> TileScores:
    """PSNR of two draws of which each pixel's standard deviation over many is known, `(c, y, x)`; other scores unknown.

    Two independent draws differ by twice the variance in the mean square; of two draws it is their PSNR itself.
    """
    unknown = np.full((len(tiles), sd.shape[0] + 1), np.nan)
    noise = unknown.copy()
    for index, tile in enumerate(tiles):
        window = (slice(None), slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        error = 2 * np.square(_floats(sd[window])).mean(axis=(1, 2))
        noise[index] = psnr_of_mse([*error, error.mean()])
    return TileScores(noise, unknown, unknown)


def _floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


def psnr_of_mse(error: npt.ArrayLike) -> FloatArray:
    """PSNR in dB of mean square errors, no more than `PSNR_CEILING_DB`."""
    mse = np.asarray(error, dtype=np.float64)
    with np.errstate(divide="ignore"):
        value = 10.0 * np.log10(DATA_RANGE**2 / mse)
    return np.minimum(value, PSNR_CEILING_DB)


def _means(similarity: FloatArray, contrast: FloatArray) -> tuple[FloatArray, FloatArray]:
    return similarity.mean(axis=(-2, -1)), contrast.mean(axis=(-2, -1))


def _maps(x: FloatArray, y: FloatArray, windows: Windows) -> tuple[FloatArray, FloatArray]:
    """Structural similarity, and its contrast and structure alone, of the windows of `(c, y, x)` images.

    Contrast is of windows inside the image only. Both maps have y and x swapped: all that is made of them is means.
    """
    # Only the sum of the variances is asked for (Wang et al. 2004, equation 13), so four blurs serve where five would.
    mean_x, mean_y, squares, products = _blur(np.stack([x, y, x * x + y * y, x * y]), windows)
    means = mean_x * mean_y
    squared = mean_x * mean_x + mean_y * mean_y
    contrast = (2 * (products - means) + C2) / (squares - squared + C2)
    similarity = contrast * (2 * means + C1) / (squared + C1)
    if windows == "reflected":
        contrast = contrast[..., RIM:-RIM, RIM:-RIM]
    return similarity, contrast


def gaussian() -> FloatArray:
    """Weights of a window along one axis, `(WINDOW,)`."""
    offsets = np.arange(-RIM, RIM + 1, dtype=np.float64)
    weights = np.exp(-0.5 * np.square(offsets / SIGMA))
    return weights / weights.sum()


def _blur(values: FloatArray, windows: Windows) -> FloatArray:
    """`values` blurred along y and x, which come out swapped.

    Lines that lie in one piece of memory are filtered three times as fast as columns, which pays for the swap.
    """
    from scipy.ndimage import correlate1d

    weights = gaussian()
    # scipy's "mirror" is what others call reflection: the edge pixel itself is not repeated.
    along = correlate1d(values, weights, axis=-1, mode="mirror")
    if windows == "inside":
        along = along[..., RIM:-RIM]
    across = correlate1d(np.ascontiguousarray(along.swapaxes(-1, -2)), weights, axis=-1, mode="mirror")
    return across[..., RIM:-RIM] if windows == "inside" else across


def _halved(values: FloatArray) -> FloatArray:
    """Means of 2 x 2 pixels."""
    height, width = values.shape[-2] // 2 * 2, values.shape[-1] // 2 * 2
    rows = values[..., 0:height:2, :width] + values[..., 1:height:2, :width]
    return (rows[..., 0::2] + rows[..., 1::2]) / 4
