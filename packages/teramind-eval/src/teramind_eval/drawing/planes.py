"""A box of a section at the size in which it is shown, read from the pyramid level that fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box, ceil_div

if TYPE_CHECKING:
    from teramind_eval.part import Part

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box lies in one level of an image.

    Attributes:
        level: index of the level.
        box: the smallest box of its pixels that covers it.
        inside: left, top, right, bottom of the box in pixels of what `box` reads; not whole numbers where the box's
            edges are inside a pixel.
    """

    level: int
    box: Box
    inside: tuple[float, float, float, float]


def fitting(brain: Part, name: str, box: Box, height: int) -> Place:
    """The coarsest level in which `box` (canvas px) is at least `height` px high; the finest where none is.

    So what is read has less than twice the rows and columns that are shown, however large the canvas.
    """
    layout = brain.brain.layout(name)
    levels = [level for level in layout.levels if brain.complete or level.online]
    step = layout.image.step
    wanted = [level for level in levels if box.height >= height * step * 2**level.index]
    level = wanted[-1] if wanted else levels[0]
    edge = step * 2**level.index
    covered = Box(box.y0 // edge, ceil_div(box.y1, edge), box.x0 // edge, ceil_div(box.x1, edge))
    covered = covered.clip(level.shape) or level.box
    left, top = box.x0 / edge - covered.x0, box.y0 / edge - covered.y0
    return Place(level.index, covered, (left, top, left + box.width / edge, top + box.height / edge))


def read_place(brain: Part, name: str, section: int, place: Place) -> Values:
    """What a place covers in a section, `(c, y, x)`, labels `(y, x)`."""
    if name in brain.images:
        return np.asarray(brain.read(name, section, place.box, level=place.level))
    return np.asarray(brain.brain.read(name, brain.chosen[section], place.box, level=place.level))


def parse_box(text: str, brain: Part, where: str) -> Box:
    """`y0:y1,x0:x1` in canvas pixels, inside the canvas; InputError naming the option `where` otherwise."""
    height, width = brain.canvas
    expected = f"y0:y1,x0:x1 inside 0:{height},0:{width}"
    try:
        (y0, y1), (x0, x1) = ([int(edge) for edge in side.split(":")] for side in text.split(","))
        box = Box(y0, y1, x0, x1)
    except ValueError:
        raise InputError("box cannot be read", where=where, expected=expected, found=text) from None
    if not Box(0, height, 0, width).contains(box):
        raise InputError("box sticks out of the canvas", where=where, expected=expected, found=text)
    return box
