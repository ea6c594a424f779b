"""How an image of a store is coloured: stains as lights, anything else one channel on a colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_eval.drawing.marks import Colour, Word
from teramind_eval.drawing.planes import Values, fitting, read_place
from teramind_eval.report.pictures import STAIN_COLOURS, Picture, Stretch, composite

if TYPE_CHECKING:
    from teramind_eval.part import Part

MORPHOLOGY = "morphology"

#: Height in px at which sections are read to find what is dark and what is bright.
_COARSE = 128

_SCALE = "magma"


class Colouring(Protocol):
    """Turns values `(c, y, x)` into a picture."""

    def paint(self, values: Values) -> Picture:
        """The picture, `(y, x, 3)` uint8."""
        ...

    @property
    def words(self) -> tuple[Word, ...]:
        """What is shown, in words."""
        ...


@dataclass(frozen=True)
class Lights:
    """Stains in their colours, added, one contrast for all sections."""

    stains: tuple[str, ...]
    stretch: Stretch

    def paint(self, values: Values) -> Picture:
        """See `Colouring`."""
        return composite(values, self.stains, self.stretch)

    def of(self, stains: tuple[str, ...]) -> Lights | None:
        """The same contrast for a store with these stains, in its order; None where it has others."""
        if not set(stains) <= set(self.stains):
            return None
        places = [self.stains.index(stain) for stain in stains]
        black, white = (tuple(ends[i] for i in places) for ends in (self.stretch.black, self.stretch.white))
        return Lights(stains, Stretch(black, white))

    @property
    def words(self) -> tuple[Word, ...]:
        """See `Colouring`."""
        return tuple(Word(f"{stain}  ", _stain_colour(stain)) for stain in self.stains)


@dataclass(frozen=True)
class Heat:
    """One channel on a colour scale from 0 to `top`, that of all sections.

    Attributes:
        channel, name: which one.
        top: value of the brightest colour.
        unit: of the values shown, in words.
        logarithm: show log2(value + 1).
    """

    channel: int
    name: str
    top: float
    unit: str
    logarithm: bool

    def paint(self, values: Values) -> Picture:
        """See `Colouring`."""
        shown = _shown(values[self.channel], self.logarithm) / self.top
        return scale()[np.clip(shown * 255, 0, 255).astype(np.uint8)]

    @property
    def words(self) -> tuple[Word, ...]:
        """See `Colouring`."""
        return (Word(self.name),)


def scale() -> npt.NDArray[np.uint8]:
    """256 colours, `(256, 3)`: even steps of brightness, for any colour vision."""
    import matplotlib as mpl

    colours = mpl.colormaps[_SCALE](np.linspace(0, 1, 256))
    return np.asarray(np.round(np.asarray(colours)[:, :3] * 255), dtype=np.uint8)


def colouring(brain: Part, name: str, channel: str | None, box: Box) -> Colouring:
    """How to show an image of a store, one contrast for all its sections.

    Args:
        brain: the sections shown.
        name: of the image.
        channel: of any image but morphology: its name; None for the last, which of attention is the whole window.
        box: canvas px shown.

    Raises
    ------
    InputError
        where the store has no such image or channel.
    """
    if name not in brain.images:
        raise InputError(
            "store has no such image", where=brain.url, expected=", ".join(brain.images), found=name
        )
    if name == MORPHOLOGY:
        if channel is None:
            return Lights(brain.stains, lights_stretch([brain], box))
        place = _channel(brain, name, channel)
        return Heat(place, channel, 255.0, "grey levels", False)
    channels = tuple(brain.image_attrs(name)["channels"])
    place = len(channels) - 1 if channel is None else _channel(brain, name, channel)
    told = str(brain.image_attrs(name).get("scale", ""))
    logarithm = not told.startswith("log2")
    where = fitting(brain, name, box, _COARSE)
    tops = [
        float(_shown(read_place(brain, name, one.index, where)[place], logarithm).max())
        for one in brain.sections
    ]
    # Sections without anything would make a scale of no length.
    top = max(tops) or 1.0
    unit = told if told.startswith("log2") else "log2(value + 1)"
    return Heat(place, f"{name}, {channels[place]}", top, unit, logarithm)


def _channel(brain: Part, name: str, channel: str) -> int:
    channels = [str(one) for one in brain.image_attrs(name)["channels"]]
    if channel not in channels:
        some = ", ".join(channels[:12]) + (f", ... ({len(channels)} in all)" if len(channels) > 12 else "")
        raise InputError("image has no such channel", f"{brain.url}, {name}", some, channel)
    return channels.index(channel)


def _shown(values: Values, logarithm: bool) -> npt.NDArray[np.float32]:
    wide = np.asarray(values, dtype=np.float32)
    return np.log2(wide + 1) if logarithm else wide


def lights_stretch(brains: Sequence[Part], box: Box) -> Stretch:
    """Black and white point of each stain over all sections of stores: 1st and 99.7th percentile of what is not 0.

    From histograms, so that sections never lie in memory together.
    """
    stains = brains[0].stains
    counts = np.zeros((len(stains), 256), dtype=np.int64)
    for brain in brains:
        place = fitting(brain, MORPHOLOGY, box, _COARSE)
        for section in brain.sections:
            values = read_place(brain, MORPHOLOGY, section.index, place)
            for row, plane in zip(counts, values, strict=True):
                row += np.bincount(plane.ravel(), minlength=256)
    counts[:, 0] = 0
    black, white = [], []
    for row in counts:
        low, high = _percentile(row, 0.01), _percentile(row, 0.997)
        black.append(0.8 * low)
        white.append(max(high, low + 16.0))
    return Stretch(tuple(black), tuple(white))


def _percentile(counts: npt.NDArray[np.int64], share: float) -> float:
    total = np.cumsum(counts)
    if not total[-1]:
        return 0.0 if share < 0.5 else 255.0
    return float(np.searchsorted(total, share * total[-1]))


def _stain_colour(stain: str) -> Colour:
    red, green, blue = (round(255 * part) for part in STAIN_COLOURS.get(stain, (0.6, 1.0, 0.6)))
    return red, green, blue
