"""Nuclei of a section, streamed in overlapping blocks.

A nucleus belongs to the one block whose core holds its centroid: nuclei on block borders count once. What a segmenter
needs to know of the whole section (`Segmenter.levels`) does not depend on how it is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box, tiles
from teramind_eval.morphometry.segmenter import DapiSection, LabelImage, Levels, ReadImage, Segmenter
from teramind_eval.morphometry.watershed import Watershed

FloatColumn = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Nuclei:
    """Nuclei of one section, `(n,)` each.

    Attributes:
        y, x: centroids in canvas pixels (integer = pixel centre).
        area_px: pixels.
        eccentricity: of the ellipse with the same second moments: 0 a circle, towards 1 a line.
        solidity: area over that of the convex hull.
        intensity: mean grey level of DAPI.
    """

    y: FloatColumn
    x: FloatColumn
    area_px: npt.NDArray[np.int64]
    eccentricity: FloatColumn
    solidity: FloatColumn
    intensity: FloatColumn

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise InputError("nuclei columns differ in length", expected="equal lengths", found=lengths)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def centroids(self) -> FloatColumn:
        """`(n, 2)`: y, x."""
        return np.stack([self.y, self.x], axis=1)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Nuclei:
        """Some of them."""
        return Nuclei(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Iterable[Nuclei]) -> Nuclei:
        """All parts as one; no part gives no nuclei."""
        kept = list(parts)
        if not kept:
            none = np.zeros(0)
            return cls(none, none, np.zeros(0, dtype=np.int64), none, none, none)
        return cls(*(np.concatenate([getattr(part, field.name) for part in kept]) for field in fields(cls)))


@dataclass(frozen=True, slots=True)
class BlockNuclei:
    """Nuclei that one block owns.

    Attributes:
        core: the block without its halo; it holds their centroids.
        block: what was segmented, halo included.
        labels: `(y, x)` int32 over `block`: nucleus i of `nuclei` has label i + 1.
        nuclei: measured whole, also where they stick out of the core.
    """

    core: Box
    block: Box
    labels: LabelImage
    nuclei: Nuclei


def find_nuclei(
    read: ReadImage,
    canvas: tuple[int, int],
    pixel_size_um: float,
    segmenter: Segmenter | None = None,
    blocks: Iterable[Box] | None = None,
) -> Nuclei:
    """Nuclei of one section.

    Args:
        read: gives the DAPI pixels of a box inside the canvas, uint8 `(y, x)`.
        canvas: `(height, width)` of the section in pixels.
        pixel_size_um: edge of a pixel in micrometres.
        segmenter: what finds them; default: the watershed with its defaults.
        blocks: the cores to look in (say, only those with tissue); default: the whole canvas.
    """
    segmenter = segmenter or Watershed()
    section = DapiSection(read, canvas, pixel_size_um)
    return Nuclei.concatenate(found.nuclei for found in blocks_of_nuclei(section, segmenter, blocks))


def blocks_of_nuclei(
    section: DapiSection,
    segmenter: Segmenter,
    cores: Iterable[Box] | None = None,
    levels: Levels | None = None,
) -> Iterator[BlockNuclei]:
    """Nuclei of a section, a block at a time; arguments as for `find_nuclei`, `levels` those of more than `cores`."""
    chosen = list(cores) if cores is not None else whole_section(section.canvas, segmenter.block_px)
    if not chosen:
        return
    levels = segmenter.levels(section, chosen) if levels is None else levels
    for core, block in section.with_halo(chosen, segmenter.halo_px(section.pixel_size_um)):
        image = section.read(block)
        yield owned(segmenter.segment(image, section.pixel_size_um, levels), image, core, block)


def whole_section(canvas: tuple[int, int], block_px: int) -> list[Box]:
    """Cores that cover a canvas."""
    return list(tiles(Box(0, canvas[0], 0, canvas[1]), block_px))


def owned(labels: LabelImage, image: npt.NDArray[np.uint8], core: Box, block: Box) -> BlockNuclei:
    """The nuclei of a segmented block whose centroids its core holds."""
    y, x = _centroids(labels)
    # Pixel i covers [i - 0.5, i + 0.5): half-open cores shifted by half a pixel partition the plane.
    inside = (
        (y + block.y0 >= core.y0 - 0.5)
        & (y + block.y0 < core.y1 - 0.5)
        & (x + block.x0 >= core.x0 - 0.5)
        & (x + block.x0 < core.x1 - 0.5)
    )
    numbers = np.zeros(len(y) + 1, dtype=np.int32)
    numbers[1:][inside] = np.arange(1, np.count_nonzero(inside) + 1)
    kept = numbers[labels]
    return BlockNuclei(core, block, kept, measure_labels(kept, image, (block.y0, block.x0)))


def _centroids(labels: LabelImage) -> tuple[FloatColumn, FloatColumn]:
    """Centroids of labels 1..n, in the label image's own pixels; nan for a label that is not there."""
    flat = labels.ravel()
    areas = np.bincount(flat)[1:]
    rows, columns = np.indices(labels.shape, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        y = np.bincount(flat, weights=rows.ravel())[1:] / areas
        x = np.bincount(flat, weights=columns.ravel())[1:] / areas
    return y, x


def measure_labels(
    labels: LabelImage, image: npt.NDArray[np.uint8], origin: tuple[int, int] = (0, 0)
) -> Nuclei:
    """Measure the labels of a label image.

    Args:
        labels: `(y, x)`, 0 is background.
        image: DAPI of the same pixels.
        origin: canvas pixel of the first one.
    """
    from skimage.measure import regionprops_table

    wanted = ("centroid", "area", "eccentricity", "solidity", "intensity_mean")
    found = regionprops_table(labels, image, properties=wanted)
    return Nuclei(
        found["centroid-0"] + float(origin[0]),
        found["centroid-1"] + float(origin[1]),
        found["area"].astype(np.int64),
        found["eccentricity"].astype(np.float64),
        found["solidity"].astype(np.float64),
        found["intensity_mean"].astype(np.float64),
    )
