"""Where there is tissue, at the resolution of bins: molecules, smoothed, and the DAPI stain within reach of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX

SIGMA_UM = 14.0  # bridges the gaps between cells, whatever the pixel size
RELATIVE_DENSITY = 0.25  # of the section's typical density; a straight edge of tissue lies at 0.5
SMALLEST_UM2 = 3000.0  # islands and holes below 55 x 55 um go


def tissue_mask(
    molecules: NDArray[Any], pixel_size_um: float, dapi: NDArray[Any] | None = None
) -> NDArray[np.uint8]:
    """Tissue (1) and background (0) of one section.

    Args:
        molecules: counts of all genes in each bin, ``(y/16, x/16)``.
        pixel_size_um: edge of a canvas pixel.
        dapi: mean of DAPI in each bin, same shape, any scale; optional.

    The molecules are smoothed (Gaussian, 14 um) and compared with a quarter of their typical density (the median over
    bins that hold any). Bins whose smoothed DAPI is above half-way between the medians of the background and of that
    tissue join where they touch it: nuclei with few molecules at the rim. Islands and holes smaller than 3000 um^2 are
    removed. Without molecules the mask is empty.
    """
    from scipy import ndimage

    counts = np.asarray(molecules, np.float32)
    if not counts.any():
        return np.zeros(counts.shape, np.uint8)
    bin_um = BIN_PX * pixel_size_um
    sigma = SIGMA_UM / bin_um
    density = ndimage.gaussian_filter(counts, sigma, mode="nearest")
    typical = float(np.median(density[counts > 0]))
    mask = density >= RELATIVE_DENSITY * typical
    if dapi is not None and mask.any() and not mask.all():
        mask = _grow_by_stain(mask, np.asarray(dapi, np.float32), sigma / 2)
    return _without_specks(mask, SMALLEST_UM2 / bin_um**2).astype(np.uint8)


def _grow_by_stain(mask: NDArray[np.bool_], dapi: NDArray[np.float32], sigma: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(dapi, sigma, mode="nearest")
    inside, outside = float(np.median(smooth[mask])), float(np.median(smooth[~mask]))
    if inside <= outside:  # the stain does not tell tissue from background here
        return mask
    bright = smooth > (inside + outside) / 2
    return mask | ndimage.binary_propagation(mask, mask=mask | bright)


def _without_specks(mask: NDArray[np.bool_], smallest: float) -> NDArray[np.bool_]:
    """Islands and holes below the smallest size removed; the largest island always stays."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= smallest
    keep[1:][sizes[1:].argmax()] = True
    keep[0] = False
    kept = keep[labels]
    holes, count = ndimage.label(~kept)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    fill = sizes < smallest
    fill[0] = False
    # Background that reaches the canvas's rim goes on outside: it is no hole.
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        fill[edge] = False
    return kept | fill[holes]
