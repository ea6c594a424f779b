"""The atlas's regions over a picture: filled, or as contours, each with its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box
from teramind_eval.drawing.marks import COLOURS, Colour, font, line_height
from teramind_eval.drawing.planes import fitting, read_place
from teramind_eval.regions import region_name
from teramind_eval.report.pictures import Picture

if TYPE_CHECKING:
    from teramind_eval.part import Part

REGIONS = "regions"

Labels = npt.NDArray[np.int64]

_OPACITY = 0.42


@dataclass(frozen=True)
class RegionMap:
    """Regions of a section at the size of its picture: labels `(y, x)`, 0 outside, and the names of all there are."""

    labels: Labels
    names: Mapping[int, str]

    @property
    def present(self) -> tuple[int, ...]:
        """Labels that are there, rising."""
        return _present(self.labels)


def region_map(brain: Part, section: int, box: Box, size: tuple[int, int]) -> RegionMap:
    """Regions of a box of a section at `size`: the label under the centre of each pixel."""
    place = fitting(brain, REGIONS, box, size[0])
    values = np.asarray(read_place(brain, REGIONS, section, place), dtype=np.int64)
    left, top, right, bottom = place.inside
    rows = _centres(top, bottom, size[0], values.shape[0])
    columns = _centres(left, right, size[1], values.shape[1])
    labels = values[rows][:, columns]
    return RegionMap(labels, {label: region_name(brain, label) for label in _present(labels)})


def _present(labels: Labels) -> tuple[int, ...]:
    return tuple(int(one) for one in np.unique(labels) if one)


def _centres(start: float, stop: float, count: int, most: int) -> npt.NDArray[np.int64]:
    places = start + (np.arange(count) + 0.5) * (stop - start) / count
    return np.clip(np.floor(places).astype(np.int64), 0, most - 1)


def colour_of(label: int) -> Colour:
    """A region's colour; there are eight, so numbers tell regions apart, colours only neighbours."""
    return COLOURS[(label - 1) % len(COLOURS)]


def filled(picture: Picture, regions: RegionMap) -> Picture:
    """Regions as veils of their colours over the picture."""
    out = picture.astype(np.float32)
    for label in regions.present:
        inside = regions.labels == label
        out[inside] = out[inside] * (1 - _OPACITY) + np.array(colour_of(label), np.float32) * _OPACITY
    return np.asarray(np.round(out), dtype=np.uint8)


def contoured(picture: Picture, regions: RegionMap) -> Picture:
    """Contours of the regions, each in its colour, along the inside of its border."""
    from scipy.ndimage import binary_erosion

    thick = max(1, round(picture.shape[0] / 360))
    out = picture.copy()
    for label in regions.present:
        inside = regions.labels == label
        # What touches the picture's rim has no border there.
        core = binary_erosion(inside, np.ones((3, 3)), iterations=thick, border_value=1)
        out[inside & ~core] = colour_of(label)
    return out


def numbered(picture: Picture, regions: RegionMap, size: int) -> Picture:
    """Each region's number at the place deepest inside it, where its digits fit."""
    from PIL import Image, ImageDraw
    from scipy.ndimage import distance_transform_edt

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for label in regions.present:
        depth = distance_transform_edt(np.pad(regions.labels == label, 1))[1:-1, 1:-1]
        if depth.max() < size * 0.6:
            continue
        y, x = (int(one) for one in np.unravel_index(int(depth.argmax()), depth.shape))
        text = str(label)
        wide = draw.textlength(text, font=font(size))
        corner = (round(x - wide / 2), y - line_height(size) // 2)
        draw.text(corner, text, fill=(255, 255, 255), font=font(size), stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(image)


def legend(names: Mapping[int, str], present: Sequence[int]) -> list[tuple[str, Colour]]:
    """Lines of the legend: number and name, with the colour."""
    return [(f"{label}  {names[label]}", colour_of(label)) for label in present]
