"""The sheets of a gallery as pictures `(y, x, 3)`: boxes enlarged, and regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from teramind_data.geometry import Box
from teramind_eval.drawing.colour import MORPHOLOGY, Colouring
from teramind_eval.drawing.marks import (
    COLOURS,
    INK,
    QUIET,
    Word,
    bar,
    blank,
    line_height,
    numbered_boxes,
    resized,
    tag,
    write,
)
from teramind_eval.drawing.planes import fitting, read_place
from teramind_eval.gallery.places import Shown
from teramind_eval.gallery.regions import RegionMap, contoured, filled, legend, numbered, region_map
from teramind_eval.report.pictures import Picture

if TYPE_CHECKING:
    from PIL import Image

    from teramind_eval.part import Part

_TEXT = 15
_GAP = 10
_LINE = line_height(_TEXT)
_OVERVIEW = 560
_PANEL_LEAST, _PANEL_MOST = 240, 420
_LEGEND_MOST = 48
_LEGEND_WIDE = 230


@dataclass(frozen=True)
class Source:
    """A store of the gallery: its sections, how they are coloured, and what it is called."""

    part: Part
    colours: Colouring
    title: str


def picture_of(source: Source, section: int, box: Box, size: tuple[int, int]) -> Picture:
    """A box of a section at `(height, width)`, from the pyramid level that fits."""
    place = fitting(source.part, MORPHOLOGY, box, size[0])
    painted = source.colours.paint(read_place(source.part, MORPHOLOGY, section, place))
    return resized(painted, size, place.inside)


def whole(part: Part) -> Box:
    """The canvas."""
    return Box(0, part.canvas[0], 0, part.canvas[1])


def overview_size(part: Part) -> tuple[int, int]:
    """Height and width of a whole section on a sheet."""
    height, width = part.canvas
    return _OVERVIEW, max(1, round(_OVERVIEW * width / height))


def zoom_sheet(sources: Sequence[Source], shown: Shown) -> Picture:
    """Above, each store's section with the boxes, numbered; below, a row a store, what is in each box."""
    first = sources[0].part
    size = overview_size(first)
    across = len(sources) * (size[1] + _GAP) + _GAP
    count = max(1, len(shown.boxes))
    edge = min(_PANEL_MOST, max(_PANEL_LEAST, (across - _GAP) // count - _GAP))
    width = max(across, count * (edge + _GAP) + _GAP)
    rows = len(sources) if shown.boxes else 0
    image = blank((3 * _LINE + size[0] + _GAP + rows * (edge + _LINE + _GAP), width))
    _heading(image, sources, shown.section, "boxes enlarged")
    for number, source in enumerate(sources):
        left = _GAP + number * (size[1] + _GAP)
        _titled(image, source, (left, _LINE + _GAP // 2), size[1])
        _paste(image, _overview(source, shown, size), (left, 2 * _LINE + _GAP // 2))
    top = 2 * _LINE + size[0] + 2 * _GAP
    for source in sources[:rows]:
        _titled(image, source, (_GAP, top), width)
        for number, box in enumerate(shown.boxes):
            at = (_GAP + number * (edge + _GAP), top + _LINE)
            _paste(image, _enlarged(source, shown.section, box, number, edge), at)
        top += edge + _LINE + _GAP
    return np.asarray(image)


def _overview(source: Source, shown: Shown, size: tuple[int, int]) -> Picture:
    drawn = picture_of(source, shown.section, whole(source.part), size)
    drawn = bar(drawn, source.part.canvas[1] * source.part.pixel_size_um, _TEXT)
    factor = size[0] / source.part.canvas[0]
    frames = [tuple(round(side * factor) for side in (b.x0, b.y0, b.x1 - 1, b.y1 - 1)) for b in shown.boxes]
    return numbered_boxes(drawn, [(f[0], f[1], f[2], f[3]) for f in frames], _TEXT)


def _enlarged(source: Source, section: int, box: Box, number: int, edge: int) -> Picture:
    """A box fitted into a square of `edge`, in a frame of its colour with its number."""
    from PIL import Image, ImageDraw

    factor = edge / max(box.shape)
    size = max(1, round(box.height * factor)), max(1, round(box.width * factor))
    drawn = bar(picture_of(source, section, box, size), box.width * source.part.pixel_size_um, _TEXT)
    image = Image.fromarray(drawn)
    draw = ImageDraw.Draw(image)
    colour = COLOURS[number % len(COLOURS)]
    draw.rectangle((0, 0, size[1] - 1, size[0] - 1), outline=colour, width=3)
    tag(draw, (0, 0, 0, 0), str(number + 1), colour, _TEXT)
    return np.asarray(image)


def region_sheet(sources: Sequence[Source], atlas: Part, section: int) -> Picture:
    """The first store with its regions filled, then every store with contours; numbers and names in a legend."""
    size = overview_size(sources[0].part)
    regions = region_map(atlas, section, whole(atlas), size)
    lines = legend(regions.names, regions.present)
    columns = len(sources) + 1
    width = columns * (size[1] + _GAP) + _GAP
    per_row = max(1, (width - _GAP) // _LEGEND_WIDE)
    shown = lines[:_LEGEND_MOST]
    rows = math.ceil(len(shown) / per_row) + (len(lines) > len(shown))
    image = blank((2 * _LINE + size[0] + 2 * _GAP + rows * _LINE + _GAP, width))
    _heading(image, sources, section, "regions of the atlas")
    panels = [(sources[0], True), *((source, False) for source in sources)]
    for number, (source, mask) in enumerate(panels):
        left = _GAP + number * (size[1] + _GAP)
        what = "regions filled" if mask else "contours"
        _titled(image, source, (left, _LINE + _GAP // 2), size[1], what)
        drawn = picture_of(source, section, whole(source.part), size)
        _paste(image, _with_regions(drawn, regions, mask, source.part), (left, 2 * _LINE + _GAP // 2))
    _legend(image, shown, len(lines) - len(shown), 2 * _LINE + size[0] + 2 * _GAP, per_row)
    return np.asarray(image)


def _with_regions(drawn: Picture, regions: RegionMap, mask: bool, part: Part) -> Picture:
    over = (filled if mask else contoured)(drawn, regions)
    return bar(numbered(over, regions, _TEXT), part.canvas[1] * part.pixel_size_um, _TEXT)


def _legend(
    image: Image.Image, lines: Sequence[tuple[str, tuple[int, int, int]]], more: int, top: int, per_row: int
) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    for index, (text, colour) in enumerate(lines):
        row, column = divmod(index, per_row)
        x, y = _GAP + column * _LEGEND_WIDE, top + row * _LINE
        draw.rectangle((x, y + 3, x + _TEXT, y + 3 + _TEXT), fill=colour)
        write(draw, (x + _TEXT + 6, y), (Word(text),), _TEXT, _LEGEND_WIDE - _TEXT - 12)
    if more:
        y = top + math.ceil(len(lines) / per_row) * _LINE
        write(draw, (_GAP, y), (Word(f"and {more} more", QUIET),), _TEXT, image.width - 2 * _GAP)


def _heading(image: Image.Image, sources: Sequence[Source], section: int, what: str) -> None:
    from PIL import ImageDraw

    place = sources[0].part.sections[section]
    words = (Word(f"{place.name}   ", INK), Word(f"z {place.z_um:,g} µm   {what}", QUIET))
    write(ImageDraw.Draw(image), (_GAP, _GAP // 2), words, _TEXT, image.width - 2 * _GAP)


def _titled(image: Image.Image, source: Source, corner: tuple[int, int], most: int, what: str = "") -> None:
    from PIL import ImageDraw

    words = (Word(f"{source.title}   ", QUIET), *source.colours.words, Word(f" {what}", QUIET))
    write(ImageDraw.Draw(image), corner, words, _TEXT, most)


def _paste(image: Image.Image, picture: Picture, corner: tuple[int, int]) -> None:
    from PIL import Image

    image.paste(Image.fromarray(picture), corner)
