"""The quality of one section by itself: amounts, intensities, focus, coverage.

Read in strips of bins and a sample of blocks of pixels, so that memory does not grow with the canvas. All sums are of
integers: numbers do not depend on how the work is cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.qc.bins import DensityRows, SectionBins, fold
from teramind_data.qc.pixels import BLOCK_PX, Pixels, chosen_blocks
from teramind_data.store import Brain

__all__ = ["MAP_EDGE", "MeasuredSection", "Number", "map_step", "measure_section", "rounded"]

#: Cells of a section's map on its longer side at most.
MAP_EDGE = 512

_STRIP = 256  # rows of bins
_BLOCK_BINS = BLOCK_PX // BIN_PX

Number = int | float | None


@dataclass(frozen=True)
class MeasuredSection:
    """Numbers of a section and its coarse maps.

    Attributes:
        numbers: see ``teramind_data.qc.measures``; None where there is nothing to measure.
        mask: where the numbers of tissue come from: ``tissue``, ``image`` or ``transcripts``.
        tissue: share of tissue in each cell, float32 ``(h, w)``.
        signal: molecules (else the first stain) in each cell, same shape.
        signal_of: ``transcripts``, or the stain's name.
        cell_um: edge of a cell.
    """

    numbers: dict[str, Number]
    mask: str
    tissue: NDArray[np.float32]
    signal: NDArray[np.float32]
    signal_of: str
    cell_um: float


def map_step(shape: tuple[int, int]) -> int:
    """Bins to a cell of the map: the smallest power of two that fits ``shape`` into it."""
    step = 1
    while max(shape) > MAP_EDGE * step:
        step *= 2
    return step


def rounded(value: float) -> float:
    """Six significant digits: what is behind them is the machine's."""
    return float(f"{value:.6g}")


@dataclass
class _Sums:
    """What the strips add up to, in bins unless said otherwise."""

    tissue: int = 0
    molecules: int = 0
    molecules_in_tissue: int = 0
    molecules_unseen: int = 0  # in tissue without image
    imaged: int = 0
    imaged_tissue: int = 0
    stain_tissue: list[int] = field(default_factory=list)


def measure_section(
    brain: Brain,
    z: int,
    *,
    density: DensityRows | None = None,
    counts: NDArray[np.int64] | None = None,
    rows: int = _STRIP,
) -> MeasuredSection:
    """Measure one section of a store, complete or not (its morphology and tissue must be written).

    Args:
        brain: an open store.
        z: section index.
        density: its molecules a bin, where at hand.
        counts: molecules of each gene, where at hand.
        rows: rows of bins read at once; the numbers do not depend on it.
    """
    bins = SectionBins(brain, z, density)
    sums = _Sums(stain_tissue=[0] * len(bins.stains))
    step = map_step(bins.shape)
    cells = tuple(-(-n // step) for n in bins.shape)
    tissue, signal = (np.zeros(cells, np.int64) for _ in range(2))
    blocks = np.zeros(tuple(-(-n // _BLOCK_BINS) for n in bins.shape), np.int64)
    for y0 in range(0, bins.shape[0], rows):
        box = Box(y0, min(y0 + rows, bins.shape[0]), 0, bins.shape[1])
        images, molecules = bins.images(box), bins.density(box.y0, box.y1)
        mask = bins.mask(box, images)
        _add(sums, mask, images, molecules)
        fold(mask, y0, step, tissue)
        fold(molecules if bins.has_density else images[0], y0, step, signal)
        fold(mask, y0, _BLOCK_BINS, blocks)
    pixels = Pixels(brain, bins)
    for box in chosen_blocks(blocks, brain.canvas) if bins.stains else ():
        pixels.add(box)
    if counts is None and brain.has_molecules:
        counts = brain.molecules.totals(z)
    numbers = {**_amounts(brain, sums, counts), **_coverage(bins, sums), **pixels.numbers()}
    size = fold_sizes(bins.shape, step)
    signal_of = "transcripts" if bins.has_density else bins.stains[0]
    return MeasuredSection(
        numbers,
        bins.mask_source,
        (tissue / size).astype(np.float32),
        (signal / size).astype(np.float32),
        signal_of,
        step * BIN_PX * brain.pixel_size_um,
    )


def fold_sizes(shape: tuple[int, int], step: int) -> NDArray[np.int64]:
    """Bins in each cell: fewer at the rim."""
    sides = [np.diff([*range(0, n, step), n]) for n in shape]
    return np.outer(*sides)


def _add(sums: _Sums, mask: NDArray[np.bool_], images: NDArray[np.uint8], molecules: NDArray[Any]) -> None:
    sums.tissue += int(mask.sum())
    sums.molecules += int(molecules.sum(dtype=np.int64))
    sums.molecules_in_tissue += int(molecules[mask].sum(dtype=np.int64))
    if len(images):
        seen = images.any(axis=0)
        sums.imaged += int(seen.sum())
        sums.imaged_tissue += int((seen & mask).sum())
        sums.molecules_unseen += int(molecules[mask & ~seen].sum(dtype=np.int64))
        for stain, plane in enumerate(images):
            sums.stain_tissue[stain] += int(((plane > 0) & mask).sum())


def _amounts(brain: Brain, sums: _Sums, counts: NDArray[np.int64] | None) -> dict[str, Number]:
    area = sums.tissue * (BIN_PX * brain.pixel_size_um / 1000) ** 2
    total = brain.canvas[0] * brain.canvas[1] // BIN_PX**2
    numbers: dict[str, Number] = {"tissue_mm2": rounded(area), "tissue_canvas": rounded(sums.tissue / total)}
    if counts is None:
        return numbers
    numbers |= {
        "transcripts": sums.molecules,
        "transcripts_in_tissue": _share(sums.molecules_in_tissue, sums.molecules),
        "transcripts_outside": sums.molecules - sums.molecules_in_tissue,
        "density_per_mm2": rounded(sums.molecules_in_tissue / area) if area else None,
        "genes": len(counts),
        "genes_seen": int((counts > 0).sum()),
    }
    return numbers


def _coverage(bins: SectionBins, sums: _Sums) -> dict[str, Number]:
    if not bins.stains:
        return {}
    total = bins.shape[0] * bins.shape[1]
    numbers: dict[str, Number] = {"image_canvas": rounded(sums.imaged / total)}
    if bins.mask_source == "image":  # tissue is where the image is: nothing to cover
        return numbers
    numbers["image_coverage"] = _share(sums.imaged_tissue, sums.tissue)
    for stain, name in enumerate(bins.stains):
        numbers[f"{name}_coverage"] = _share(sums.stain_tissue[stain], sums.tissue)
    if bins.has_density:
        numbers["transcripts_without_image"] = _share(sums.molecules_unseen, sums.molecules_in_tissue)
    return numbers


def _share(part: int, whole: int) -> float | None:
    return rounded(part / whole) if whole else None
