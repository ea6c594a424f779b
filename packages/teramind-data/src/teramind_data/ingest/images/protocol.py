"""What every image format offers, and reading by tiles with a bounded cache, which they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box, ceil_div

LARGEST_TILE = 256 << 20  # bytes decoded; a declared tile beyond it is a decompression bomb or not for us
DTYPES = ("uint8", "uint16")
#: Of label images.
ANY_INTEGER = tuple(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64))
CACHE_BYTES = 64 << 20


class Plane(Protocol):
    """One channel of one z plane at full resolution."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, box: Box) -> NDArray[Any]:
        """The pixels ``(h, w)`` of a box, zeros outside the image; only tiles under the box are decoded."""
        ...

    def blank(self, box: Box) -> bool:
        """Whether the file holds no tile under a box, so that all of it is zero."""
        ...


class ImageStack(Protocol):
    """An open image file: channels and z planes of one size.

    channels: names, or numbers as text. planes: how many z planes. unnamed: pages of which the file does not say
    whether they are channels or planes (counted in neither). pixel_size_um: ``(y, x)`` where the file tells.
    """

    path: Path
    channels: tuple[str, ...]
    planes: int
    unnamed: int
    pixel_size_um: tuple[float, float] | None

    def plane(self, channel: int, z: int, page: int = 0) -> Plane:
        """One plane; ``page`` of the unnamed ones."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class TileCache:
    """Decoded tiles by key, the least recently used dropped beyond a number of bytes; one for all planes of a stack."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self._tiles: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()

    def get(self, key: tuple[int, ...]) -> NDArray[Any] | None:
        """A tile that is held, or None."""
        found = self._tiles.get(key)
        if found is not None:
            self._tiles.move_to_end(key)
        return found

    def put(self, key: tuple[int, ...], tile: NDArray[Any]) -> None:
        """Hold a tile."""
        self._tiles[key] = tile
        self.held += tile.nbytes
        while self.held > self.limit and len(self._tiles) > 1:
            self.held -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget all tiles."""
        self._tiles.clear()
        self.held = 0


class TiledPlane(ABC):
    """A plane cut into tiles. A format gives ``decode(row, column)``; this puts boxes together from tiles."""

    def __init__(
        self, shape: tuple[int, int], dtype: np.dtype[Any], tile: tuple[int, int], key: int, cache: TileCache
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.tile = tile
        self.columns = ceil_div(shape[1], tile[1])
        self.rows = ceil_div(shape[0], tile[0])
        self._key = key
        self._cache = cache

    @abstractmethod
    def decode(self, row: int, column: int) -> NDArray[Any]:
        """The pixels of a tile, cut at the image's rim or padded."""

    def read(self, box: Box) -> NDArray[Any]:
        """The pixels ``(h, w)`` of ``box``, which may stick out of the image (zeros there)."""
        out = np.zeros(box.shape, self.dtype)
        inside = box.clip(self.shape)
        if inside is None:
            return out
        height, width = self.tile
        # Plain numbers: boxes would cost more than what is copied.
        for row in range(inside.y0 // height, ceil_div(inside.y1, height)):
            y0, y1 = max(row * height, inside.y0), min((row + 1) * height, inside.y1)
            for column in range(inside.x0 // width, ceil_div(inside.x1, width)):
                if self.is_empty(row, column):
                    continue
                x0, x1 = max(column * width, inside.x0), min((column + 1) * width, inside.x1)
                part = self._tile(row, column)[
                    y0 - row * height : y1 - row * height, x0 - column * width : x1 - column * width
                ]
                top, left = y0 - box.y0, x0 - box.x0
                out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out

    def blank(self, box: Box) -> bool:
        """Whether the file holds no tile under a box, so that all of it is zero."""
        inside = box.clip(self.shape)
        if inside is None:
            return True
        height, width = self.tile
        return all(
            self.is_empty(row, column)
            for row in range(inside.y0 // height, ceil_div(inside.y1, height))
            for column in range(inside.x0 // width, ceil_div(inside.x1, width))
        )

    def is_empty(self, row: int, column: int) -> bool:
        """Whether the file leaves this tile out, all of it being zero."""
        return False

    def _tile(self, row: int, column: int) -> NDArray[Any]:
        key = (self._key, row, column)
        found = self._cache.get(key)
        if found is None:
            found = self.decode(row, column)
            self._cache.put(key, found)
        return found


def check_kind(
    path: Path, dtype: np.dtype[Any] | None, tile_bytes: int, dtypes: tuple[str, ...] = DTYPES
) -> None:
    """Refuse pixels of other types (images are uint8 or uint16), and tiles too large to hold."""
    if dtype is None or dtype.name not in dtypes:
        expected = " or ".join(dtypes) if len(dtypes) < 3 else "whole numbers"
        raise unsupported(path, expected, dtype)
    if tile_bytes > LARGEST_TILE:
        raise InputError(
            "image's tiles are too large",
            where=path,
            expected=f"at most {LARGEST_TILE:,} bytes each",
            found=f"{tile_bytes:,}",
            remedy="Save it as a tiled BigTIFF",
        )


def unsupported(path: Path, expected: object, found: object) -> InputError:
    """An image of a kind we do not read."""
    return InputError(
        "image is of a kind that is not supported",
        where=path,
        expected=expected,
        found=found,
        remedy="Export each stain as its own greyscale TIFF",
    )


def broken(path: Path, found: object, expected: object = "a whole image") -> InputError:
    """A truncated or damaged image."""
    return InputError(
        "image is truncated or damaged",
        where=path,
        expected=expected,
        found=" ".join(str(found).split())[:200],
        remedy="Copy the file again from its source, or exclude the section in the manifest",
    )
