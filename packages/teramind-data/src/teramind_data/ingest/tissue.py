"""Where there is tissue, at the resolution of bins: molecules, smoothed, and the DAPI stain within reach of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGMA_BINS = 3.0  # 48 px: bridges the gaps between cells
RELATIVE_DENSITY = 0.15  # of the section's typical density: where the smoothed edge of tissue lies
SMALLEST_BINS = 64  # islands and holes below 128 x 128 px go


def tissue_mask(molecules: NDArray[Any], dapi: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Tissue (1) and background (0) of one section.

    Args:
        molecules: counts of all genes in each bin, ``(y/16, x/16)``.
        dapi: mean of DAPI in each bin, same shape, any scale; optional.

    The molecules are smoothed (Gaussian, 48 px) and compared with 15 % of their typical density (the median over bins
    that hold any). Bins whose smoothed DAPI is above half-way between the medians of the background and of that
    tissue join where they touch it: nuclei with few molecules at the rim. Islands and holes smaller than 64 bins are
    removed. Without molecules the mask is empty.
    """
    from scipy import ndimage

    counts = np.asarray(molecules, np.float32)
    if not counts.any():
        return np.zeros(counts.shape, np.uint8)
    density = ndimage.gaussian_filter(counts, SIGMA_BINS, mode="nearest")
    typical = float(np.median(density[counts > 0]))
    mask = density >= RELATIVE_DENSITY * typical
    if dapi is not None and mask.any() and not mask.all():
        mask = _grow_by_stain(mask, np.asarray(dapi, np.float32))
    return _without_specks(mask).astype(np.uint8)


def _grow_by_stain(mask: NDArray[np.bool_], dapi: NDArray[np.float32]) -> NDArray[np.bool_]:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(dapi, SIGMA_BINS / 2, mode="nearest")
    inside, outside = float(np.median(smooth[mask])), float(np.median(smooth[~mask]))
    if inside <= outside:  # the stain does not tell tissue from background here
        return mask
    bright = smooth > (inside + outside) / 2
    return mask | ndimage.binary_propagation(mask, mask=mask | bright)


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Islands and holes below the smallest size removed; the largest island always stays."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= SMALLEST_BINS
    keep[1:][sizes[1:].argmax()] = True
    keep[0] = False
    kept = keep[labels]
    holes, count = ndimage.label(~kept)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    fill = sizes < SMALLEST_BINS
    fill[0] = False
    return kept | fill[holes]
