"""Pictures inside the page: data URIs, compressed by rule so that the whole page stays small enough to send."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

#: What a page is promised to stay below, so that it can be sent.
MOST_BYTES = 25_000_000

#: All pictures and plots of a page together, as text; the rest of a page is below 2 MB.
PAGE_BYTES = 22_000_000

#: Micrographs get this much whatever the plots take.
_LEAST_BYTES = 4_000_000

#: Scale and WebP quality, tried in turn until all micrographs fit. The files in `figures/` stay as they are.
LADDER = ((1.0, 88), (1.0, 75), (0.75, 75), (0.5, 70), (0.35, 60), (0.2, 50))


def png_of(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture array `(y, x, 3)` or, with alpha, `(y, x, 4)` as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(
        buffer, format="PNG", compress_level=3
    )  # larger by a tenth, three times as fast
    return buffer.getvalue()


def lines_png(mask: npt.NDArray[np.bool_], colour: tuple[int, int, int]) -> bytes:
    """Lines where `mask` `(y, x)` is, in one colour on nothing, as a PNG of one bit a pixel."""
    from PIL import Image

    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette([0, 0, 0, *colour])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=0, bits=1)
    return buffer.getvalue()


def laid_over(png: bytes, overlay: bytes) -> bytes:
    """A PNG with a transparent one of its size over it."""
    from PIL import Image

    ground = Image.open(io.BytesIO(png)).convert("RGBA")
    ground.alpha_composite(Image.open(io.BytesIO(overlay)).convert("RGBA"))
    return png_of(np.asarray(ground.convert("RGB")))


def data_uri(data: bytes) -> str:
    """PNG or WebP bytes as a data URI."""
    kind = "png" if data.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def embed(pictures: Sequence[tuple[str, bytes]], budget: int) -> dict[str, str]:
    """Data URIs by name of micrographs, which together stay below `budget` characters.

    All are compressed alike, with the first step of `LADDER` at which they fit. Where even the last does not, that is
    what is given: a page too large beats none.
    """
    out: dict[str, str] = {}
    for scale, quality in LADDER:
        out = {name: data_uri(_compressed(png, scale, quality)) for name, png in pictures}
        if sum(map(len, out.values())) <= max(budget, _LEAST_BYTES):
            break
    return out


def _compressed(png: bytes, scale: float, quality: int) -> bytes:
    from PIL import Image

    picture: Image.Image = Image.open(io.BytesIO(png))
    if scale < 1:
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()
