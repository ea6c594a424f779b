"""The frames of a fly-through: for each section its panels side by side, with its name, position and a scale bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from teramind_data.geometry import Box
from teramind_data.store import Section
from teramind_eval.drawing.colour import MORPHOLOGY, Colouring, Heat, scale
from teramind_eval.drawing.marks import (
    QUIET,
    Word,
    bar,
    blank,
    line_height,
    resized,
    write,
)
from teramind_eval.drawing.planes import fitting, read_place
from teramind_eval.report.pictures import Picture

if TYPE_CHECKING:
    from PIL import Image

    from teramind_eval.part import Part


@dataclass(frozen=True)
class Panel:
    """One store in a frame: its sections, image and colours, and what it is called."""

    part: Part
    image: str
    colours: Colouring
    title: str


@dataclass(frozen=True)
class Layout:
    """Sizes of a frame in px.

    Attributes:
        size: height and width of the frame, both even.
        picture: of each panel.
        text: of the words.
        gap: between panels, and around them.
    """

    size: tuple[int, int]
    picture: tuple[int, int]
    text: int
    gap: int

    @classmethod
    def fitting(cls, height: int, box: Box, panels: int, *, legend: bool) -> Layout:
        """Frames near `height` px high: two lines of words above the pictures, below them one for colour bars."""
        text = max(10, round(height / 40))
        gap = max(4, text // 2)
        high = height - (3 if legend else 2) * line_height(text) - 2 * gap
        wide = max(1, round(high * box.width / box.height))
        width = panels * wide + (panels + 1) * gap
        # 4:2:0 video has one colour for two by two pixels.
        return cls((height // 2 * 2, -(-width // 2) * 2), (high, wide), text, gap)


def frames(panels: Sequence[Panel], box: Box, layout: Layout, between: int = 0) -> Iterator[Picture]:
    """All frames in the order of the sections; two sections' pictures at most are held at a time.

    Args:
        panels: their sections are the same, in one order.
        box: canvas px shown.
        layout: sizes.
        between: frames blended from each section and the next. They look smooth and show nothing that was measured
            or generated, which their label says.
    """
    sections = panels[0].part.sections
    before = _pictures(panels, sections[0].index, box, layout)
    yield _frame(panels, before, box, layout, _named(sections[0]))
    for one, two in pairwise(sections):
        after = _pictures(panels, two.index, box, layout)
        for number in range(1, between + 1):
            share = number / (between + 1)
            words = (Word(f"{one.name} to {two.name}   "), Word("blended, not data", QUIET))
            yield _frame(panels, _blended(before, after, share), box, layout, words)
        yield _frame(panels, after, box, layout, _named(two))
        before = after


def _named(section: Section) -> tuple[Word, ...]:
    return Word(section.name + "   "), Word(f"z {section.z_um:,g} µm", QUIET)


def _pictures(panels: Sequence[Panel], section: int, box: Box, layout: Layout) -> list[Picture]:
    out = []
    for panel in panels:
        place = fitting(panel.part, panel.image, box, layout.picture[0])
        painted = panel.colours.paint(read_place(panel.part, panel.image, section, place))
        out.append(resized(painted, layout.picture, place.inside, steps=panel.image != MORPHOLOGY))
    return out


def _blended(before: Sequence[Picture], after: Sequence[Picture], share: float) -> list[Picture]:
    return [
        np.asarray(np.round(one * (1 - share) + two * share), dtype=np.uint8)
        for one, two in zip(before, after, strict=True)
    ]


def _frame(
    panels: Sequence[Panel], pictures: Sequence[Picture], box: Box, layout: Layout, words: tuple[Word, ...]
) -> Picture:
    from PIL import Image, ImageDraw

    image = blank(layout.size)
    draw = ImageDraw.Draw(image)
    (high, wide), text, gap = layout.picture, layout.text, layout.gap
    line = line_height(text)
    write(draw, (gap, gap // 2), words, text, layout.size[1] - 2 * gap)
    um_across = box.width * panels[0].part.pixel_size_um
    for number, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
        left, top = gap + number * (wide + gap), gap + 2 * line
        title = (Word(f"{panel.title}   ", QUIET), *panel.colours.words)
        write(draw, (left, gap // 2 + line), title, text, wide)
        last = number == len(panels) - 1
        image.paste(Image.fromarray(bar(picture, um_across, text) if last else picture), (left, top))
        if isinstance(panel.colours, Heat):
            _legend(image, panel.colours, (left, top + high + gap // 2, wide), text)
    return np.asarray(image)


def _legend(image: Image.Image, heat: Heat, place: tuple[int, int, int], text: int) -> None:
    """A colour bar with its ends in words. `place`: left, top, most width."""
    from PIL import Image, ImageDraw

    draw = ImageDraw.Draw(image)
    left, top, most = place
    high, wide = max(4, text * 2 // 3), min(8 * text, most // 3)
    write(draw, (left, top), (Word("0", QUIET),), text, text)
    ramp = scale()[np.linspace(0, 255, wide).astype(int)][None].repeat(high, axis=0)
    image.paste(Image.fromarray(ramp), (left + text, top + text // 4))
    end = left + text + wide + text // 2
    write(draw, (end, top), (Word(f"{heat.top:.3g}, {heat.unit}", QUIET),), text, left + most - end)
