"""Which places a gallery shows: sections and boxes, by rule and seed or as they are given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box, ceil_div, tiles
from teramind_eval.drawing.planes import parse_box

if TYPE_CHECKING:
    from teramind_eval.part import Part

_GIVEN = re.compile(r"(?P<section>.+):(?P<box>\d+:\d+,\d+:\d+)")

#: Largest edge of a box that is drawn, px.
_MOST = 512

#: A word of the seed, so that other draws from it are independent.
_WORD = 0x6A11


@dataclass(frozen=True)
class Shown:
    """A section of the gallery and the boxes enlarged in it, canvas px."""

    section: int
    boxes: tuple[Box, ...]


def given_places(words: Sequence[str], brain: Part) -> tuple[Shown, ...]:
    """Places of `--box SECTION:y0:y1,x0:x1`, boxes of one section together, in the order given.

    Raises
    ------
    InputError
        where one cannot be read, names no section or sticks out of the canvas.
    """
    found: dict[int, list[Box]] = {}
    names = [section.name for section in brain.sections]
    for word in words:
        match = _GIVEN.fullmatch(word)
        if match is None:
            raise InputError("box cannot be read", "--box", "SECTION:y0:y1,x0:x1", word)
        section = section_index(match["section"], names, "--box")
        found.setdefault(section, []).append(parse_box(match["box"], brain, "--box"))
    return tuple(Shown(section, tuple(boxes)) for section, boxes in found.items())


def section_index(name: str, names: Sequence[str], where: str) -> int:
    """Index of the section of that name; InputError naming some that there are."""
    if name not in names:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError("no such section", where=where, expected=some, found=name)
    return names.index(name)


def spread_sections(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` sections, evenly spread; one alone is the middle one."""
    if wanted == 1:
        return [count // 2]
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def chosen_boxes(
    brain: Part, section: int, count: int, seed: int, edge: int | None = None
) -> tuple[Box, ...]:
    """Squares drawn by `seed` among those of a grid that hold at least the median; from the upper left on.

    What they hold is molecules where the store has them, else brightness of its first stain. Squares without any do
    not count, and those cut at the canvas's rim are not drawn. `edge`: px; None for an eighth to a quarter of the
    canvas's shorter side, at most 512 px.
    """
    short = min(brain.canvas)
    size = min(edge or max(16, min(_MOST, short // 4) // 16 * 16), short)
    held = {
        box: value
        for box, value in (_molecules if brain.has_molecules else _brightness)(brain, section, size)
        if value > 0 and box.shape == (size, size)
    }
    if not held:
        return ()
    middle = float(np.median(list(held.values())))
    rich = sorted(box for box, value in held.items() if value >= middle)
    rng = np.random.default_rng([seed, section, _WORD])
    drawn = rng.choice(len(rich), size=min(count, len(rich)), replace=False)
    return tuple(sorted(rich[index] for index in drawn))


def _molecules(brain: Part, section: int, size: int) -> Iterator[tuple[Box, float]]:
    """Molecules of each square, a row of squares at a time."""
    height, width = brain.canvas
    for band in tiles(Box(0, height, 0, width), (size, width)):
        _, x, _ = brain.molecules.read(section, band)
        counts = np.bincount(np.asarray(x, np.int64) // size, minlength=-(-width // size))
        yield from zip(tiles(band, size), counts.astype(float).tolist(), strict=True)


def _brightness(brain: Part, section: int, size: int) -> Iterator[tuple[Box, float]]:
    """Brightness of each square, from a level in which it has at least 4 x 4 px, a row of squares at a time."""
    levels = [
        level.index for level in brain.brain.layout("morphology").levels if brain.complete or level.online
    ]
    level = max(index for index in levels if size >> index >= 4)
    shape = brain.brain.layout("morphology").levels[level].shape
    height, width = brain.canvas
    for band in tiles(Box(0, height, 0, width), (size, width)):
        scaled = Box(band.y0 >> level, ceil_div(band.y1, 1 << level), 0, shape[1]).clip(shape)
        if scaled is None:
            continue
        row: npt.NDArray[np.float64] = np.asarray(
            brain.read("morphology", section, scaled, level=level)[0], dtype=np.float64
        ).sum(axis=0)
        for box in tiles(band, size):
            yield box, float(row[box.x0 >> level : ceil_div(box.x1, 1 << level)].sum())
