"""Micrographs for the page: which places to show, chosen by rule and seed, and how they are drawn.

Pictures are `(y, x, 3)` uint8 arrays. Every store is drawn with the stretch of the real one, so that brightness can be
compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box, tiles
from teramind_eval.morphometry.segmenter import DapiSection, LabelImage
from teramind_eval.pairs import read_stain, tissue_blocks

if TYPE_CHECKING:
    from teramind_eval.morphometry.segmenter import Segmenter
    from teramind_eval.part import Part

Picture = npt.NDArray[np.uint8]

#: Additive colours of the composite, told apart by people with any colour vision: DAPI azure, PolyT amber.
STAIN_COLOURS: dict[str, tuple[float, float, float]] = {"DAPI": (0.22, 0.56, 1.0), "PolyT": (1.0, 0.66, 0.10)}
_OTHER_COLOUR = (0.6, 1.0, 0.6)
OUTLINE = (255, 255, 255)
FRAME = (255, 255, 255)

#: Widest picture on the page, px.
WIDEST = 768

#: Nuclei are outlined in views up to this wide: in wider ones lines would hide them, and a view is segmented at once.
_OUTLINED_PX = 1536


@dataclass(frozen=True, slots=True)
class View:
    """A place that is shown: section, box in canvas pixels, and a word for how close it is."""

    name: str
    section: int
    box: Box


@dataclass(frozen=True, slots=True)
class Stretch:
    """Black and white point of each stain, grey levels."""

    black: tuple[float, ...]
    white: tuple[float, ...]


def choose_places(real: Part, seed: int, count: int) -> list[tuple[View, ...]]:
    """Places that are shown, each as three nested views: a whole section, a part of it, and single nuclei.

    Rule: sections are drawn by `seed`, none twice while there are others. In each the closest view is drawn among all
    squares (an eighth to a quarter of the canvas, at most 512 px) that lie in the inner canvas and hold at least the
    median number of molecules; the middle one surrounds it. Nobody picks by hand. The canvas is the part of it that is
    compared, where that is not all.
    """
    canvas = real.inside
    short = min(canvas.shape)
    near = min(short, max(16, min(512, short // 4) // 16 * 16))
    middle = max(near, min(short, round((near * short) ** 0.5) // 16 * 16))
    whole = "Whole section" if real.whole else "All that is compared"
    places: list[tuple[View, ...]] = []
    drawn: list[int] = []
    for place in range(count):
        rng = np.random.default_rng([seed, 0x5EC7] if place == 0 else [seed, 0x5EC7, place])
        free = sorted(set(range(len(real.sections))).difference(drawn)) or list(range(len(real.sections)))
        section = free[int(rng.integers(len(free)))]
        drawn.append(section)
        rich = _rich_squares(real, section, near)
        closest = rich[int(rng.integers(len(rich)))] if rich else _square(canvas, near, canvas)
        places.append(
            (
                View(whole, section, canvas),
                View("Region", section, _square(closest, middle, canvas)),
                View("Nuclei", section, closest),
            )
        )
    return places


def _rich_squares(real: Part, section: int, edge: int) -> list[Box]:
    """Whole squares of a section that hold at least the median number of molecules of those that hold any."""
    boxes: list[Box] = []
    counts: list[int] = []
    canvas = real.inside
    size = canvas.height // edge * edge, canvas.width // edge * edge
    for band in tiles(Box.from_shape(size, (canvas.y0, canvas.x0)), (edge, size[1])):
        _, x, _ = real.molecules.read(section, band)
        columns = np.bincount((np.asarray(x, np.int64) - band.x0) // edge, minlength=band.width // edge)
        for square, n in zip(tiles(band, edge), columns.tolist(), strict=True):
            if n:
                boxes.append(square)
                counts.append(n)
    return [box for box, n in zip(boxes, counts, strict=True) if n >= np.median(counts)]


def _square(around: Box, edge: int, canvas: Box) -> Box:
    """A square about the middle of a box, moved into the canvas."""
    top = min(max(canvas.y0, (around.y0 + around.y1) // 2 - edge // 2), canvas.y1 - edge)
    left = min(max(canvas.x0, (around.x0 + around.x1) // 2 - edge // 2), canvas.x1 - edge)
    return Box.from_shape((edge, edge), (top, left))


def read_view(brain: Part, section: int, box: Box, widest: int = WIDEST) -> npt.NDArray[np.uint8]:
    """Stains of a box, `(c, y, x)` uint8, from the finest pyramid level that is no wider than `widest`."""
    levels = brain.levels("morphology")
    level, factor = 0, 1
    while max(box.shape) // factor > widest and level + 1 < len(levels):
        level, factor = level + 1, factor * 2
    shape = int(levels[level].shape[-2]), int(levels[level].shape[-1])
    scaled = Box(box.y0 // factor, -(-box.y1 // factor), box.x0 // factor, -(-box.x1 // factor)).clip(shape)
    if scaled is None:
        scaled = Box(0, shape[0], 0, shape[1])
    return np.asarray(brain.read("morphology", section, scaled, level=level))


def stretch_of(pixels: npt.NDArray[np.uint8]) -> Stretch:
    """Black and white points of a real picture `(c, y, x)`: its 1st and 99.7th percentile over non-zero pixels."""
    black, white = [], []
    for stain in pixels:
        seen = stain[stain > 0]
        low, high = np.percentile(seen, (1, 99.7)) if seen.size else (0.0, 255.0)
        black.append(float(low) * 0.8)
        white.append(float(max(high, low + 16)))
    return Stretch(tuple(black), tuple(white))


def grey(pixels: npt.NDArray[np.uint8], stain: int, stretch: Stretch) -> npt.NDArray[np.float64]:
    """One stain stretched to 0..1, slightly lifted so that dim tissue shows."""
    span = stretch.white[stain] - stretch.black[stain]
    return np.clip((pixels[stain].astype(np.float64) - stretch.black[stain]) / span, 0, 1) ** 0.8


def composite(pixels: npt.NDArray[np.uint8], stains: Sequence[str], stretch: Stretch) -> Picture:
    """All stains in their colours, added."""
    total = np.zeros((*pixels.shape[-2:], 3))
    for index, name in enumerate(stains):
        colour = np.array(STAIN_COLOURS.get(name, _OTHER_COLOUR))
        total += grey(pixels, index, stretch)[..., None] * colour
    return _uint8(total)


def single(pixels: npt.NDArray[np.uint8], stain: int, stretch: Stretch) -> Picture:
    """One stain in grey."""
    return _uint8(np.repeat(grey(pixels, stain, stretch)[..., None], 3, axis=2))


def enlarge(picture: Picture, width: int) -> Picture:
    """Enlarged smoothly to about `width` px; larger pictures are left alone."""
    from PIL import Image

    factor = width / picture.shape[1]
    if factor <= 1:
        return picture
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def outlined(picture: Picture, labels: LabelImage) -> Picture:
    """Picture with the rims of the labels drawn over it; labels are enlarged to the picture's size."""
    out = picture.copy()
    out[rims(labels, picture.shape[:2])] = OUTLINE
    return out


def rims(labels: LabelImage, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Rims of the labels, enlarged to a picture of `shape`."""
    from skimage.segmentation import find_boundaries

    rows = np.arange(shape[0]) * labels.shape[0] // shape[0]
    columns = np.arange(shape[1]) * labels.shape[1] // shape[1]
    return np.asarray(find_boundaries(_rounded(labels[rows][:, columns]), mode="thick"), dtype=bool)


def _rounded(labels: LabelImage) -> LabelImage:
    # Enlarged labels are stairs; a median makes their rims look like what they mean.
    from scipy.ndimage import median_filter

    return median_filter(labels, size=5)


def framed(picture: Picture, box: Box, inner: Box) -> Picture:
    """Picture of `box` with the place of `inner` framed."""
    scale = picture.shape[1] / box.width
    y0, y1 = round((inner.y0 - box.y0) * scale), round((inner.y1 - box.y0) * scale) - 1
    x0, x1 = round((inner.x0 - box.x0) * scale), round((inner.x1 - box.x0) * scale) - 1
    out = picture.copy()
    thick = max(1, picture.shape[1] // 250)
    for rows, columns in (
        (slice(y0, y0 + thick), slice(x0, x1)),
        (slice(y1 - thick, y1), slice(x0, x1)),
        (slice(y0, y1), slice(x0, x0 + thick)),
        (slice(y0, y1), slice(x1 - thick, x1)),
    ):
        out[rows, columns] = FRAME
    return out


def scale_bar(picture: Picture, um_across: float) -> tuple[Picture, str]:
    """Picture with a white bar in its corner, and the bar's length in words: a round number of um near a fifth."""
    target = um_across / 5
    step = 10.0 ** np.floor(np.log10(target))
    length = step * max(one for one in (1, 2, 5) if one * step <= target)
    pixels = max(1, round(length / um_across * picture.shape[1]))
    height, width = picture.shape[:2]
    edge, thick = max(4, width // 28), max(2, width // 90)
    out = picture.copy()
    rows = slice(height - edge - thick - 1, height - edge + 1)
    out[rows, width - edge - pixels - 1 : width - edge + 1] = 0
    out[height - edge - thick : height - edge, width - edge - pixels : width - edge] = 255
    return out, f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"


def outlined_views(views: Sequence[View]) -> list[View]:
    """Those of a place's views, widest first, in which nuclei are outlined."""
    return [view for view in views if max(view.box.shape) <= _OUTLINED_PX]


def nuclei_in_view(
    brain: Part, view: View, segmenter: Segmenter, stain: str, blocks: Sequence[Box]
) -> LabelImage:
    """Labels of the nuclei in a view, cut at its rim, with the levels of the whole section's tissue."""

    def read(box: Box) -> npt.NDArray[np.uint8]:
        return read_stain(brain, view.section, box, stain)

    section = DapiSection(read, brain.canvas, brain.pixel_size_um)
    ((core, block),) = section.with_halo([view.box], segmenter.halo_px(brain.pixel_size_um))
    labels = segmenter.segment(read(block), brain.pixel_size_um, segmenter.levels(section, blocks))
    return labels[core.shift(-block.y0, -block.x0).slices]


def blocks_of(real: Part, section: int, segmenter: Segmenter) -> list[Box]:
    """The blocks in which a section's nuclei are looked for."""
    return tissue_blocks(real, section, segmenter.block_px)


def _uint8(values: npt.NDArray[np.float64]) -> Picture:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
