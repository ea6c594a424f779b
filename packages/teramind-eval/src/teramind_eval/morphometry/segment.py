"""Nuclei in a DAPI section by watershed, streamed in overlapping blocks.

All lengths are micrometres and become pixels through the store's pixel size, so that one setting serves the 0.108 um of
a microscope and the coarser pixels of a phantom. Per block: smooth, take away the background (a grey opening wider than
any nucleus), threshold, then split touching nuclei by the watershed of the smoothed distance transform (Vincent and
Soille 1991, with the distance transform's peaks as markers).

The threshold is Otsu's, from the histogram of the whole section's tissue, so it does not depend on how the section is
cut into blocks. A nucleus is counted by the one block whose core holds its centroid: nuclei on block borders count
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box, tiles

ReadImage = Callable[[Box], npt.NDArray[np.uint8]]
FloatImage = npt.NDArray[np.float32]
LabelImage = npt.NDArray[np.int32]

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

    def halo_px(self, pixel_size_um: float) -> int:
        """Pixels around a block that decide about its nuclei: the opening's reach plus a clump of nuclei."""
        return int(np.ceil((self.background_um + 15.0) / pixel_size_um))


@dataclass(frozen=True, slots=True)
class Nuclei:
    """Nuclei of one section: centroids in canvas pixels (integer = pixel centre) and areas in pixels, `(n,)` each."""

    y: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    area_px: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.y) == len(self.x) == len(self.area_px):
            raise InputError(
                "nuclei columns differ in length",
                expected="equal lengths",
                found=f"{len(self.y)}, {len(self.x)}, {len(self.area_px)}",
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def centroids(self) -> npt.NDArray[np.float64]:
        """`(n, 2)`: y, x."""
        return np.stack([self.y, self.x], axis=1)

    @classmethod
    def concatenate(cls, parts: Iterable[Nuclei]) -> Nuclei:
        """All parts as one; no part gives no nuclei."""
        kept = list(parts)
        if not kept:
            return cls(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))
        return cls(
            np.concatenate([part.y for part in kept]),
            np.concatenate([part.x for part in kept]),
            np.concatenate([part.area_px for part in kept]),
        )


def find_nuclei(
    read: ReadImage,
    canvas: tuple[int, int],
    pixel_size_um: float,
    settings: NucleiSettings | None = None,
    blocks: Iterable[Box] | None = None,
) -> Nuclei:
    """Nuclei of one section.

    Args:
        read: gives the DAPI pixels of a box inside the canvas, uint8 `(y, x)`.
        canvas: `(height, width)` of the section in pixels.
        pixel_size_um: edge of a pixel in micrometres.
        settings: what a nucleus looks like.
        blocks: the cores to look in (say, only those with tissue); default: the whole canvas.
    """
    settings = settings or NucleiSettings()
    cores = (
        list(blocks)
        if blocks is not None
        else list(tiles(Box(0, canvas[0], 0, canvas[1]), settings.block_px))
    )
    threshold = section_threshold(read, canvas, pixel_size_um, settings, cores)
    found = []
    for core, block in _with_halo(cores, canvas, settings.halo_px(pixel_size_um)):
        labels = segment_block(read(block), pixel_size_um, threshold, settings)
        found.append(_owned(labels, core, block))
    return Nuclei.concatenate(found)


def section_threshold(
    read: ReadImage,
    canvas: tuple[int, int],
    pixel_size_um: float,
    settings: NucleiSettings,
    cores: Iterable[Box],
) -> float:
    """Otsu's threshold on the contrast over the background of all `cores` of a section, in grey levels."""
    histogram = np.zeros(256 * _BINS_PER_LEVEL, dtype=np.int64)
    for core, block in _with_halo(cores, canvas, settings.halo_px(pixel_size_um)):
        inner = core.shift(-block.y0, -block.x0)
        values = contrast(read(block), pixel_size_um, settings)[inner.slices]
        index = np.clip(values * _BINS_PER_LEVEL, 0, histogram.size - 1).astype(np.int64)
        histogram += np.bincount(index.ravel(), minlength=histogram.size)
    return max(otsu(histogram) / _BINS_PER_LEVEL, settings.min_contrast)


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


def measure_labels(labels: LabelImage, origin: tuple[int, int] = (0, 0)) -> Nuclei:
    """Centroids (shifted by `origin`, canvas pixels) and areas of the labels 1..n of a label image."""
    flat = labels.ravel()
    areas = np.bincount(flat)[1:]
    rows, columns = np.indices(labels.shape, dtype=np.float64)
    y = np.bincount(flat, weights=rows.ravel())[1:]
    x = np.bincount(flat, weights=columns.ravel())[1:]
    present = areas > 0
    centroids = np.stack([y, x], axis=1)[present] / areas[present, None] + np.asarray(
        origin, dtype=np.float64
    )
    column: npt.NDArray[np.float64] = centroids.astype(np.float64)
    return Nuclei(column[:, 0], column[:, 1], areas[present].astype(np.int64))


def _owned(labels: LabelImage, core: Box, block: Box) -> Nuclei:
    found = measure_labels(labels, (block.y0, block.x0))
    # Pixel i covers [i - 0.5, i + 0.5): half-open cores shifted by half a pixel partition the plane.
    inside = (
        (found.y >= core.y0 - 0.5)
        & (found.y < core.y1 - 0.5)
        & (found.x >= core.x0 - 0.5)
        & (found.x < core.x1 - 0.5)
    )
    return Nuclei(found.y[inside], found.x[inside], found.area_px[inside])


def _with_halo(cores: Iterable[Box], canvas: tuple[int, int], halo: int) -> Iterator[tuple[Box, Box]]:
    for core in cores:
        block = core.expand(halo).clip(canvas)
        if block is None:
            raise InputError("block lies outside the section", where=str(core), expected=f"inside {canvas}")
        yield core, block
