"""Words, scale bars and boxes on pictures `(y, x, 3)` uint8, by Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_eval.report.pictures import Picture

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

GROUND: Colour = (14, 17, 22)
INK: Colour = (236, 240, 245)
QUIET: Colour = (150, 160, 172)

#: Okabe and Ito's colours that stand out on dark tissue, in an order of large steps.
COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
    (255, 255, 255),
)


@dataclass(frozen=True, slots=True)
class Word:
    """A run of text in one colour."""

    text: str
    colour: Colour = INK


def font(size: int) -> Any:
    """DejaVu Sans of so many px, that of the plots: Pillow's own font has no µ."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def line_height(size: int) -> int:
    """Rows that a line of text of this size takes."""
    return math.ceil(size * 1.5)


def write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], words: Sequence[Word], size: int, most: int
) -> None:
    """Words in a line from `corner` (x, y), cut with an ellipsis where they are wider than `most` px."""
    face = font(size)
    x = float(corner[0])
    end = corner[0] + most
    for word in words:
        text = word.text
        if x + draw.textlength(text, font=face) > end:
            while text and x + draw.textlength(text + "…", font=face) > end:
                text = text[:-1]
            text += "…"
        draw.text((x, corner[1]), text, fill=word.colour, font=face)
        x += draw.textlength(text, font=face)
        if text != word.text:
            return


def round_length(um_across: float, share: float = 0.25) -> float:
    """The longest of 1, 2, 5 times a power of ten, in um, that is at most `share` of what is shown."""
    target = um_across * share
    power = 10.0 ** math.floor(math.log10(target))
    return float(max(step * power for step in (1, 2, 5) if step * power <= target))


def said_length(um: float) -> str:
    """A length in words."""
    return f"{um:g} µm" if um < 1000 else f"{um / 1000:g} mm"


def bar(picture: Picture, um_across: float, size: int) -> Picture:
    """Picture with a scale bar and its length in words in the lower right corner.

    Args:
        picture: what is shown.
        um_across: width of it in um.
        size: of the words, px.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    height, width = picture.shape[:2]
    length = round_length(um_across)
    pixels = max(1, round(length / um_across * width))
    gap, thick = max(3, size // 2), max(2, size // 5)
    text = said_length(length)
    wide = math.ceil(draw.textlength(text, font=font(size)))
    right, bottom = width - 2 * gap, height - 2 * gap
    left = right - max(pixels, wide)
    # A dark ground, so that the bar shows on bright tissue too.
    draw.rectangle(
        (left - gap, bottom - thick - line_height(size) - gap // 2, right + gap, bottom + gap), fill=GROUND
    )
    draw.rectangle((right - pixels, bottom - thick + 1, right - 1, bottom), fill=INK)
    draw.text((right - wide, bottom - thick - line_height(size)), text, fill=INK, font=font(size))
    return np.asarray(image)


def numbered_boxes(picture: Picture, boxes: Sequence[tuple[int, int, int, int]], size: int) -> Picture:
    """Picture with boxes (x0, y0, x1, y1 in its px) in colours of their own, each with its number from 1."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        colour = COLOURS[number % len(COLOURS)]
        # Black beside the colour: one of the two shows on any ground.
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(0, 0, 0))
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=2)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        tag(draw, (x0, y0 - line_height(size), x1, y1), str(number + 1), COLOURS[number % len(COLOURS)], size)
    return np.asarray(image)


def tag(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str, colour: Colour, size: int
) -> None:
    """A number on a ground of its colour at the upper left of a box, kept inside the picture."""
    wide = math.ceil(draw.textlength(text, font=font(size))) + size // 2
    x = max(0, box[0])
    y = max(0, box[1])
    draw.rectangle((x, y, x + wide, y + line_height(size) - 2), fill=colour, outline=(0, 0, 0))
    draw.text((x + size // 4, y), text, fill=(0, 0, 0), font=font(size))


def resized(
    picture: Picture,
    size: tuple[int, int],
    inside: tuple[float, float, float, float] | None = None,
    *,
    steps: bool = False,
) -> Picture:
    """Picture, or a part of it, at `(height, width)`.

    Args:
        picture: to show.
        size: to show it at.
        inside: left, top, right, bottom of the part, in pixels, not necessarily whole.
        steps: where it is enlarged its pixels stay squares: bins are what they are.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    part = inside or (0, 0, picture.shape[1], picture.shape[0])
    larger = size[0] > part[3] - part[1]
    filters = Image.Resampling
    chosen = filters.BOX if not larger else filters.NEAREST if steps else filters.BICUBIC
    return np.asarray(image.resize((size[1], size[0]), resample=chosen, box=part))


def blank(size: tuple[int, int]) -> Image.Image:
    """An empty picture `(height, width)` to draw on."""
    from PIL import Image

    return Image.new("RGB", (size[1], size[0]), GROUND)
