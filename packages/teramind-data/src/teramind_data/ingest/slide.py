"""One stain of one section: a TIFF of which only the tiles under a box are read and decoded."""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import Box, ceil_div

_DTYPES = ("uint8", "uint16")
_LARGEST_SEGMENT = 256 << 20  # bytes decoded; a declared tile beyond it is a decompression bomb or not for us


class Slide:
    """A single-channel TIFF or BigTIFF, tiled or striped, of uint8 or uint16; a context manager.

    Attributes
    ----------
    path: the file. shape: ``(height, width)`` of its first page at full resolution. dtype: uint8 or uint16.

    Raises
    ------
    MissingInputError: no such file. InputError: no TIFF, cut off, or of a kind not supported; names the file.
    """

    def __init__(self, path: str | Path, cache_bytes: int = 64 << 20) -> None:
        import tifffile

        self.path = Path(path)
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._cache_limit = cache_bytes
        self._cached = 0
        if not self.path.is_file():
            raise MissingInputError(
                "image not found", where=self.path, remedy="Restore the file or exclude the section"
            )
        try:
            self._tiff = tifffile.TiffFile(self.path)
        except (tifffile.TiffFileError, ValueError, OSError, IndexError, KeyError, struct.error) as error:
            raise self._broken(str(error) or type(error).__name__) from error
        try:
            self._open_page()
        except BaseException:
            self._tiff.close()
            raise

    def _open_page(self) -> None:
        import tifffile

        try:
            page: Any = self._tiff.pages[0]
            shape, dtype = tuple(page.shape), page.dtype
            self._offsets, self._counts = tuple(page.dataoffsets), tuple(page.databytecounts)
            tiled = bool(page.is_tiled)
            self._segment_shape = (
                (int(page.tilelength), int(page.tilewidth))
                if tiled
                else (int(page.rowsperstrip), int(shape[1]))
            )
        except (
            tifffile.TiffFileError,
            ValueError,
            IndexError,
            KeyError,
            AttributeError,
            TypeError,
            struct.error,
        ) as e:
            raise self._broken(str(e) or type(e).__name__) from e
        if len(shape) != 2 or dtype is None or dtype.name not in _DTYPES:
            raise InputError(
                "image is of a kind that is not supported",
                where=self.path,
                expected="one channel of uint8 or uint16",
                found=f"shape {shape}, {dtype}",
                remedy="Export each stain as its own greyscale TIFF",
            )
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        self.dtype: np.dtype[Any] = np.dtype(dtype.name)
        height, width = self._segment_shape
        if height * width * dtype.itemsize > _LARGEST_SEGMENT:
            raise InputError(
                "image's tiles are too large",
                where=self.path,
                expected=f"at most {_LARGEST_SEGMENT} bytes each",
                found=f"{height} x {width}",
                remedy="Save it as a tiled BigTIFF",
            )
        self._columns = ceil_div(self.shape[1], width)
        expected = ceil_div(self.shape[0], height) * self._columns
        if len(self._offsets) != expected or len(self._counts) != expected:
            raise self._broken(f"{len(self._offsets)} of {expected} tiles listed")
        end, size = (
            max((o + c for o, c in zip(self._offsets, self._counts, strict=True)), default=0),
            self._size(),
        )
        if end > size:
            raise self._broken(f"{size} bytes", expected=f"{end} bytes")
        self._page = page

    def _size(self) -> int:
        return self.path.stat().st_size

    def _broken(self, found: str, expected: str = "a whole TIFF") -> InputError:
        return InputError(
            "image is truncated or damaged",
            where=self.path,
            expected=expected,
            found=found,
            remedy="Copy the file again from its source, or exclude the section in the manifest",
        )

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and forget decoded tiles."""
        self._cache.clear()
        self._cached = 0
        self._tiff.close()

    def read(self, box: Box) -> NDArray[Any]:
        """The pixels ``(h, w)`` of ``box``, which may stick out of the image (zeros there).

        Only the tiles (strips) that touch the box are read and decoded.
        """
        out = np.zeros(box.shape, self.dtype)
        inside = box.clip(self.shape)
        if inside is None:
            return out
        height, width = self._segment_shape
        for row in range(inside.y0 // height, ceil_div(inside.y1, height)):
            for column in range(inside.x0 // width, ceil_div(inside.x1, width)):
                tile = self._tile(row * self._columns + column)
                area = Box.from_shape((tile.shape[0], tile.shape[1]), (row * height, column * width))
                common = area.intersect(inside)
                if common is not None:
                    source = common.shift(-area.y0, -area.x0)
                    out[common.shift(-box.y0, -box.x0).slices] = tile[source.slices]
        return out

    def _tile(self, index: int) -> NDArray[Any]:
        found = self._cache.get(index)
        if found is not None:
            self._cache.move_to_end(index)
            return found
        tile = self._decode(index)
        self._cache[index] = tile
        self._cached += tile.nbytes
        while self._cached > self._cache_limit and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _decode(self, index: int) -> NDArray[Any]:
        offset, count = self._offsets[index], self._counts[index]
        height, width = self._segment_shape
        if count == 0:  # a sparse TIFF leaves empty tiles out
            return np.zeros((height, width), self.dtype)
        handle = self._tiff.filehandle
        handle.seek(offset)
        data = handle.read(count)
        if len(data) != count:
            raise self._broken(f"{len(data)} bytes in tile {index}", expected=f"{count}")
        try:
            tables = {} if self._page.jpegtables is None else {"jpegtables": self._page.jpegtables}
            segment, _, shape = self._page.decode(data, index, **tables)
        except Exception as error:
            raise self._broken(f"tile {index}: {' '.join(str(error).split())[:120]}") from error
        if segment is None:
            return np.zeros((height, width), self.dtype)
        tile = np.asarray(segment)[0, : shape[1], : shape[2], 0]
        if tile.dtype != self.dtype:
            raise self._broken(f"tile {index} of {tile.dtype}", expected=str(self.dtype))
        return tile
