"""A picture of a whole store: its sections side by side, from a coarse level, in the colours of their stains."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError
from teramind_data.store import Brain, BrainSpec

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["COLOURS", "colour", "jpeg", "montage", "png", "sheet"]

#: Colours of stains (red, green, blue): DAPI cyan-blue, PolyT amber; others take turns.
COLOURS = {"DAPI": (64, 170, 255), "PolyT": (255, 176, 48)}
_OTHERS = ((90, 220, 120), (230, 90, 200), (250, 240, 120), (240, 90, 80), (120, 230, 230))

_GAP = 6
_CAPTION = 16
_BACKGROUND = (18, 18, 20)
_TEXT = (225, 225, 225)


def colour(channel: str, number: int) -> tuple[int, int, int]:
    """Colour of a channel by its name, else by its number among the channels."""
    return COLOURS.get(channel, _OTHERS[number % len(_OTHERS)])


def montage(brain: Brain, *, edge: int = 256, columns: int | None = None) -> NDArray[np.uint8]:
    """All sections of ``morphology`` in a grid, ``(h, w, 3)`` uint8.

    Each is read from the coarsest level that is at least ``edge`` pixels on its longer side, and made to fit it. All
    sections share each stain's contrast (its median to its 99.7th percentile over the brain), so that bright and dim
    sections show as such. Captions are index, name and z; a bar shows the scale.

    Args:
        brain: an open store.
        edge: longer side of a section in pixels, at least 32.
        columns: sections a row; about twice as wide as high where None.

    Raises:
        InputError: where ``edge`` or ``columns`` make no sense.
        MissingShardError: where pixels are missing from the store.
    """
    if edge < 32 or (columns is not None and columns < 1):
        raise InputError("picture is too small", None, "edge >= 32, columns >= 1", (edge, columns))
    return sheet(_planes(brain, edge), brain.spec, columns)


def sheet(planes: NDArray[np.float32], spec: BrainSpec, columns: int | None = None) -> NDArray[np.uint8]:
    """Small pictures of all sections in a grid, ``(h, w, 3)`` uint8, with captions and scale; see :func:`montage`.

    Args:
        planes: ``(section, stain, h, w)``, 0 .. 255.
        spec: names, stains and sizes.
        columns: sections a row; about twice as wide as high where None.
    """
    planes = _stretched(planes)
    size = planes.shape[2:]
    width, height = size[1] + _GAP, size[0] + _GAP + _CAPTION
    columns = columns or _columns(spec.n_sections, height / width)
    rows = math.ceil(spec.n_sections / columns)
    image = _pillow().new("RGB", (columns * width + _GAP, rows * height + _GAP + _CAPTION), _BACKGROUND)
    for section in spec.sections:
        row, column = divmod(section.index, columns)
        corner = (_GAP + column * width, _GAP + row * height)
        image.paste(_pillow().fromarray(_blend(planes[section.index], spec.stains)), corner)
        caption = f"{section.index}  {section.name}  {section.z_um:g} um"
        _write(image, (corner[0], corner[1] + size[0] + 1), caption, size[1])
    _legend(spec.stains, image, spec.canvas[1] * spec.pixel_size_um / size[1])
    return np.asarray(image)


def _columns(count: int, ratio: float) -> int:
    """Sections a row: about twice as wide as high, and few places left over."""
    guess = math.sqrt(2 * count * ratio)
    near = [n for n in range(math.floor(guess) - 1, math.ceil(guess) + 2) if 1 <= n <= count]
    return min(near or [1], key=lambda n: (-count % n, abs(n - guess)))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of ``(h, w, 3)`` pixels."""
    buffer = io.BytesIO()
    _pillow().fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG file of ``(h, w, 3)`` pixels."""
    buffer = io.BytesIO()
    _pillow().fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _planes(brain: Brain, edge: int) -> NDArray[np.float32]:
    """(section, stain, h, w), 0..255."""
    levels = brain.layout("morphology").levels
    # Downwards only: the last level that still holds as many pixels as will be shown, else the first.
    level = next((lv for lv in reversed(levels) if max(lv.shape) >= edge), levels[0])
    factor = edge / max(level.shape)
    shape = tuple(max(1, round(n * factor)) for n in level.shape)
    planes = np.empty((brain.n_sections, len(brain.stains), *shape), np.float32)
    for z in range(brain.n_sections):
        for stain, plane in enumerate(brain.read("morphology", z, level=level.index)):
            resized = _pillow().fromarray(plane).resize(shape[::-1], resample=_pillow().Resampling.BOX)
            planes[z, stain] = np.asarray(resized)
    return planes


def _stretched(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """In 0..1, each stain by its own contrast over all sections."""
    out = np.empty_like(planes)
    for stain in range(planes.shape[1]):
        values = planes[:, stain]
        inside = values[values > 0]
        low, high = np.percentile(inside, (1, 99.7)) if inside.size else (0.0, 255.0)
        out[:, stain] = np.clip((values - low) / max(high - low, 1.0), 0, 1)
    return out


def _blend(plane: NDArray[np.float32], stains: tuple[str, ...]) -> NDArray[np.uint8]:
    """Stains added as lights: (stain, h, w) in 0..1 to (h, w, 3)."""
    colours = np.array([colour(name, number) for number, name in enumerate(stains)], np.float32)
    light = np.einsum("shw,sc->hwc", plane, colours)
    return np.clip(light, 0, 255).astype(np.uint8)


def _legend(stains: tuple[str, ...], image: Image.Image, um_per_px: float) -> None:
    """Names of the stains in their colours and a scale bar, below the sections."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    top = image.height - _CAPTION
    x = float(_GAP)
    for number, name in enumerate(stains):
        draw.text((x, top), name, fill=colour(name, number), font=_font())
        x += draw.textlength(name, font=_font()) + 2 * _GAP
    # The roundest length of about a quarter of a section.
    target = um_per_px * image.width / 8
    power = 10 ** math.floor(math.log10(target))
    length = max(step * power for step in (1, 2, 5) if step * power <= target)
    text = f"{length:g} um" if length < 1000 else f"{length / 1000:g} mm"
    right = image.width - _GAP
    left = right - length / um_per_px
    draw.rectangle((left, top + 5, right, top + 7), fill=_TEXT)
    draw.text((left - draw.textlength(text, font=_font()) - _GAP, top), text, fill=_TEXT, font=_font())


def _write(image: Image.Image, corner: tuple[int, int], text: str, width: int) -> None:
    """A caption, cut to its section's width."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    while len(text) > 1 and draw.textlength(text, font=_font()) > width:
        text = text[:-1]
    draw.text(corner, text, fill=_TEXT, font=_font())


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(11)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingInputError(
            "pillow is not installed", remedy="Install it with: pip install pillow"
        ) from None
    return Image
