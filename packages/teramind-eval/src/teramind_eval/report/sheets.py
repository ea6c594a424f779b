"""A brain as a stack of thin sheets in space, seen from any side: exact ray casting through coarse sections.

Sections lie as far apart as `z_um` says, which is much farther than their pixels, so nothing is filled in between
them. Seen without perspective a sheet is its picture under an affine map, and a ray meets each sheet once; sheets never
cross, so the farthest is drawn first and each nearer one is laid over it (alpha compositing, Porter and Duff 1984).
The page's own viewer (`viewer.js`) does the same in the browser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

    from teramind_eval.report.pictures import Picture

FloatArray = npt.NDArray[np.float64]

#: Ground that sheets are drawn on, and the lines of the box around them: those of `.viewer` in style.css.
GROUND = (11, 15, 20)
EDGES = (84, 98, 114)

#: A stack longer than this many canvas edges is drawn shorter: its sheets would be too small to see.
_LONGEST = 1.25


@dataclass(frozen=True)
class Sheets:
    """Sections as pictures with transparency.

    Attributes:
        pixels: `(n, y, x, 4)` uint8: red, green, blue, and how much is there.
        z_um: `(n,)` positions, in the order of `pixels`.
        size_um: height and width of a section.
    """

    pixels: npt.NDArray[np.uint8]
    z_um: FloatArray
    size_um: tuple[float, float]

    @property
    def squeeze(self) -> float:
        """What z is multiplied with when drawn: 1, or less for a long stack of small sections."""
        length = float(np.ptp(self.z_um))
        most = _LONGEST * max(self.size_um)
        return 1.0 if length <= most else most / length

    @property
    def depths(self) -> FloatArray:
        """Where each sheet is drawn along z, um, the stack's middle at 0."""
        middle = (float(self.z_um.max()) + float(self.z_um.min())) / 2
        return (self.z_um - middle) * self.squeeze

    @property
    def opacity(self) -> float:
        """Of a full pixel: many sheets must let the ones behind show through."""
        return min(0.92, max(0.12, 4.0 / len(self.pixels)))


def rotation(turn: float, tilt: float) -> FloatArray:
    """Rotation `(3, 3)` of x right, y down, z away: first by `turn` about the upright axis, then by `tilt` towards us.

    Both in degrees.
    """
    a, b = math.radians(turn), math.radians(tilt)
    upright = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    level = np.array([[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]])
    return np.asarray(level @ upright, dtype=np.float64)


@dataclass(frozen=True)
class Placed:
    """Where the sheets fall on a picture: pixel (u, v) of a point x, y of the sheet at z is `map @ (x, y) + offset`.

    Attributes:
        map: `(2, 2)`, um to picture pixels.
        offsets: `(n, 2)`, picture pixels, of the middle of each sheet.
        order: sheets, the farthest first.
    """

    map: FloatArray
    offsets: FloatArray
    order: tuple[int, ...]


def place(sheets: Sheets, turn: float, tilt: float, size: tuple[int, int]) -> Placed:
    """Lay the sheets into a picture of `size` (height, width) so that the stack fits in it from every side."""
    turned = rotation(turn, tilt)
    scale = pixels_per_um(sheets, size)
    offsets = scale * sheets.depths[:, None] * turned[:2, 2] + np.array([size[1] / 2, size[0] / 2])
    order = np.argsort(-sheets.depths * (turned[2, 2] or 1.0), kind="stable")
    return Placed(scale * turned[:2, :2], offsets, tuple(int(index) for index in order))


def pixels_per_um(sheets: Sheets, size: tuple[int, int]) -> float:
    """Scale at which the stack's longest diagonal fits into a picture of `size` (height, width)."""
    length = float(np.ptp(sheets.depths))
    diagonal = math.sqrt(sheets.size_um[0] ** 2 + sheets.size_um[1] ** 2 + length**2)
    return 0.98 * min(size) / diagonal


def render(sheets: Sheets, turn: float, tilt: float, size: tuple[int, int]) -> Picture:
    """The stack from one side, `(y, x, 3)` uint8 of `size`, with the box around it."""
    from PIL import Image

    placed = place(sheets, turn, tilt, size)
    ground = Image.new("RGB", (size[1], size[0]), GROUND)
    _draw_box(ground, sheets, turn, tilt)
    out = np.asarray(ground).astype(np.float64)
    if abs(np.linalg.det(placed.map)) < 1e-12:  # seen from the very edge, sheets without thickness vanish
        return np.asarray(ground)
    rows, columns = sheets.pixels.shape[1:3]
    from_um = np.diag([columns / sheets.size_um[1], rows / sheets.size_um[0]])
    back = from_um @ np.linalg.inv(placed.map)
    for index in placed.order:
        if not sheets.pixels[index, ..., 3].any():
            continue
        shift = np.array([columns / 2, rows / 2]) - back @ placed.offsets[index]
        coefficients = (*back[0], shift[0], *back[1], shift[1])
        pixels = sheets.pixels[index].copy()
        pixels[..., 3] = np.round(pixels[..., 3] * sheets.opacity)
        drawn = Image.fromarray(pixels).transform(
            (size[1], size[0]), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        layer = np.asarray(drawn).astype(np.float64)
        alpha = layer[..., 3:] / 255
        out = layer[..., :3] * alpha + out * (1 - alpha)
    return (out + 0.5).clip(0, 255).astype(np.uint8)


def _draw_box(ground: Image.Image, sheets: Sheets, turn: float, tilt: float) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(ground)
    for one, other in box_edges(sheets, turn, tilt, (ground.height, ground.width)):
        pen.line([*one, *other], fill=EDGES)


def box_edges(
    sheets: Sheets, turn: float, tilt: float, size: tuple[int, int]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The twelve edges of the box around the stack, as pairs of picture points (u, v)."""
    half = np.array([sheets.size_um[1], sheets.size_um[0], float(np.ptp(sheets.depths))]) / 2
    corners = list(product((-1, 1), repeat=3))
    points = pixels_per_um(sheets, size) * (np.array(corners) * half) @ rotation(turn, tilt).T
    seen = [(float(u) + size[1] / 2, float(v) + size[0] / 2) for u, v, _ in points]
    return [
        (seen[i], seen[j])
        for i, one in enumerate(corners)
        for j, other in enumerate(corners)
        if i < j and sum(a != b for a, b in zip(one, other, strict=True)) == 1
    ]


def mosaic(sheets: Sheets) -> tuple[npt.NDArray[np.uint8], int]:
    """All sheets in one picture `(y, x, 4)`, row by row, and how many a row holds: one image for a web page."""
    count, rows, columns = sheets.pixels.shape[:3]
    across = max(1, math.ceil(math.sqrt(count * rows / columns)))
    down = -(-count // across)
    out = np.zeros((down * rows, across * columns, 4), dtype=np.uint8)
    for index, pixels in enumerate(sheets.pixels):
        y, x = index // across * rows, index % across * columns
        out[y : y + rows, x : x + columns] = pixels
    return out, across


def faded(colours: FloatArray, level: FloatArray) -> npt.NDArray[np.uint8]:
    """Sheet of colours `(y, x, 3)` in 0..1 that is there as far as `level` `(y, x)` in 0..1 says."""
    both = np.concatenate([colours, level[..., None]], axis=-1)
    return (np.clip(both, 0, 1) * 255 + 0.5).astype(np.uint8)


def stacked(
    sheets: Sequence[npt.NDArray[np.uint8]], z_um: Sequence[float], size_um: tuple[float, float]
) -> Sheets:
    """Sheets of equal shape as a stack."""
    return Sheets(np.stack(list(sheets)), np.asarray(z_um, dtype=np.float64), size_um)
