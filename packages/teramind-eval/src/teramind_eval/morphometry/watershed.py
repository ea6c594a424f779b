"""Nuclei by watershed: no network, no weights, always there.

All lengths are micrometres and become pixels through the store's pixel size, so that one setting serves the 0.108 um of
a microscope and the coarser pixels of a phantom. Per block: smooth, take away the background (a grey opening wider than
any nucleus), threshold, then split touching nuclei by the watershed of the smoothed distance transform (Vincent and
Soille 1991, with the distance transform's peaks as markers). The threshold is Otsu's, from the histogram of the whole
section's tissue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box
from teramind_eval.morphometry.segmenter import DapiSection, LabelImage, Levels

FloatImage = npt.NDArray[np.float32]

#: Contrast histograms: grey levels 0..255 in quarter levels.
_BINS_PER_LEVEL = 4


@dataclass(frozen=True, slots=True)
class NucleiSettings:
    """What a nucleus looks like, in micrometres; defaults suit mouse brain.

    Attributes:
        smooth_um: SD of the Gaussian that quiets the camera's noise.
        background_um: edge of the square opening that estimates the background; wider than any nucleus.
        seed_um: SD of the Gaussian over the distance transform; larger splits less.
        separation_um: smallest distance between the centres of two nuclei.
        min_area_um2, max_area_um2: objects outside are no nuclei.
        min_contrast: grey levels over the background that a nucleus needs at least, so that empty or flat images
            give no nuclei rather than segmented noise.
        block_px: edge of the blocks that are segmented at a time.
    """

    smooth_um: float = 0.7
    background_um: float = 22.0
    seed_um: float = 0.9
    separation_um: float = 3.4
    min_area_um2: float = 14.0
    max_area_um2: float = 600.0
    min_contrast: float = 10.0
    block_px: int = 1536


@dataclass(frozen=True, slots=True)
class Watershed:
    """The watershed as a `Segmenter`; its level is the threshold on the contrast, in grey levels."""

    settings: NucleiSettings = NucleiSettings()

    @property
    def block_px(self) -> int:
        """Edge of the blocks that are segmented at a time."""
        return self.settings.block_px

    def halo_px(self, pixel_size_um: float) -> int:
        """Pixels around a block that decide about its nuclei: the opening's reach plus a clump of nuclei."""
        return int(np.ceil((self.settings.background_um + 15.0) / pixel_size_um))

    def levels(self, section: DapiSection, cores: Iterable[Box]) -> Levels:
        """Otsu's threshold on the contrast over the background of all `cores` of a section."""
        histogram = np.zeros(256 * _BINS_PER_LEVEL, dtype=np.int64)
        for core, block in section.with_halo(cores, self.halo_px(section.pixel_size_um)):
            inner = core.shift(-block.y0, -block.x0)
            values = contrast(section.read(block), section.pixel_size_um, self.settings)[inner.slices]
            index = np.clip(values * _BINS_PER_LEVEL, 0, histogram.size - 1).astype(np.int64)
            histogram += np.bincount(index.ravel(), minlength=histogram.size)
        return (max(otsu(histogram) / _BINS_PER_LEVEL, self.settings.min_contrast),)

    def segment(self, image: npt.NDArray[np.uint8], pixel_size_um: float, levels: Levels) -> LabelImage:
        """Label image of the nuclei in a block; see `segment_block`."""
        return segment_block(image, pixel_size_um, levels[0], self.settings)

    def describe(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {"segmenter": "watershed", "scikit-image": version("scikit-image"), **asdict(self.settings)}


def otsu(histogram: npt.NDArray[np.int64]) -> float:
    """Bin (lower edge of the bright class) that maximises the variance between two classes (Otsu 1979)."""
    weights = histogram.astype(np.float64)
    if np.count_nonzero(weights) < 2:
        return float(weights.size)
    levels = np.arange(weights.size, dtype=np.float64)
    below = np.cumsum(weights)[:-1]
    above = weights.sum() - below
    sums = np.cumsum(weights * levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = np.where((below > 0) & (above > 0), below * above * gap**2, 0.0)
    # A gap in the histogram makes a plateau: its middle keeps the threshold off either class.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(best[len(best) // 2] + 1)


def contrast(image: npt.NDArray[np.uint8], pixel_size_um: float, settings: NucleiSettings) -> FloatImage:
    """Smoothed DAPI over its local background, in grey levels, `(y, x)` float32, never negative."""
    from scipy.ndimage import gaussian_filter, grey_opening, uniform_filter

    smooth = gaussian_filter(image.astype(np.float32), settings.smooth_um / pixel_size_um)
    edge = max(3, round(settings.background_um / pixel_size_um) | 1)
    background = uniform_filter(grey_opening(smooth, size=(edge, edge)), edge)
    # The blurred opening can lie above a dark pixel beside a bright edge.
    return np.maximum(smooth - background, 0.0)


def segment_block(
    image: npt.NDArray[np.uint8], pixel_size_um: float, threshold: float, settings: NucleiSettings
) -> LabelImage:
    """Label image of the nuclei in a block: `(y, x)` int32, 0 is background; labels are consecutive."""
    from scipy.ndimage import binary_fill_holes, binary_opening, distance_transform_edt, gaussian_filter
    from skimage.feature import peak_local_max
    from skimage.measure import label
    from skimage.segmentation import relabel_sequential, watershed

    mask = contrast(image, pixel_size_um, settings) > threshold
    mask = binary_fill_holes(binary_opening(mask, iterations=1))
    if not mask.any():
        return np.zeros(image.shape, dtype=np.int32)
    depth = gaussian_filter(distance_transform_edt(mask).astype(np.float32), settings.seed_um / pixel_size_um)
    distance = max(1, round(settings.separation_um / pixel_size_um))
    peaks = peak_local_max(depth, min_distance=distance, labels=label(mask), exclude_border=False)
    markers = np.zeros(image.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-depth, markers, mask=mask)
    areas = np.bincount(labels.ravel())
    pixel_area = pixel_size_um**2
    wrong = (areas * pixel_area < settings.min_area_um2) | (areas * pixel_area > settings.max_area_um2)
    labels[wrong[labels]] = 0
    return relabel_sequential(labels)[0].astype(np.int32)
