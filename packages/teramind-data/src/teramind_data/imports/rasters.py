"""Images of one plane, 8 bits a sample: TIFFs by the tiles under a box; PNG and JPEG whole, and so not too large."""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import Box, ceil_div
from teramind_data.imports.archives import damaged

__all__ = ["LARGEST_WHOLE_PX", "SUFFIXES", "Raster", "open_raster"]

#: Formats that are decoded whole may have so many pixels: 8192 x 8192, 200 MB in RGB.
LARGEST_WHOLE_PX = 1 << 26

_LARGEST_SEGMENT = 256 << 20
_TIFF = (".tif", ".tiff")
SUFFIXES = (*_TIFF, ".png", ".jpg", ".jpeg")


class Raster(Protocol):
    """One image; a context manager.

    Attributes
    ----------
    shape: (height, width). samples: channels of a pixel, 1 (grey), 3 (RGB) or 4 (RGB and alpha).
    """

    shape: tuple[int, int]
    samples: int

    def read(self, box: Box, sample: int) -> NDArray[np.uint8]:
        """One sample ``(h, w)`` of a box inside the image."""

    def __enter__(self) -> Raster:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""


def open_raster(path: Path) -> Raster:
    """Open an image by its suffix.

    Raises:
        MissingInputError: no such file. InputError: damaged, too large to be decoded whole, or not 8 bits a sample.
    """
    if not path.is_file():
        raise MissingInputError("image not found", where=path, remedy="Restore it, or correct its path")
    suffix = path.suffix.lower()
    if suffix in _TIFF:
        return _Tiff(path)
    if suffix in SUFFIXES:
        return _Whole(path)
    raise InputError(
        "image is of a format that is not read", path, ", ".join(SUFFIXES), suffix or "no suffix"
    )


def _not_eight_bits(path: Path, found: object) -> InputError:
    return InputError(
        "image is not of 8 bits",
        where=path,
        expected="uint8, grey or RGB",
        found=found,
        remedy="Convert it, scaled as the reference store's images are",
    )


class _Tiff:
    """The first page of a TIFF, BigTIFF or OME-TIFF at full resolution; its XML is not read."""

    def __init__(self, path: Path, cache_bytes: int = 64 << 20) -> None:
        import tifffile

        self.path = path
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._limit = cache_bytes
        broken = (
            tifffile.TiffFileError,
            ValueError,
            OSError,
            IndexError,
            KeyError,
            TypeError,
            AttributeError,
            struct.error,
        )
        try:
            self._tiff = tifffile.TiffFile(path)
        except broken as error:
            raise damaged(path, str(error)[:120] or type(error).__name__, "a whole TIFF") from error
        try:
            self._open()
        except InputError:
            self._tiff.close()
            raise
        except broken as error:
            self._tiff.close()
            raise damaged(path, str(error)[:120] or type(error).__name__, "a whole TIFF") from error

    def _open(self) -> None:
        pages: Any = self._tiff.pages
        page: Any = pages[0]
        self.shape = (int(page.imagelength), int(page.imagewidth))
        self.samples = int(page.samplesperpixel)
        others = [
            p
            for p in (pages[i] for i in range(1, min(len(pages), 64)))
            if tuple(p.shape) == tuple(page.shape)
        ]
        if others or page.imagedepth != 1:
            raise InputError(
                "file holds several images",
                where=self.path,
                expected="one plane, smaller levels aside",
                found=f"{len(pages)} pages",
                remedy="Save each section and stain as its own file",
            )
        if page.dtype is None or page.dtype.name != "uint8" or page.bitspersample != 8:
            raise _not_eight_bits(self.path, page.dtype)
        if self.samples not in (1, 3, 4) or int(page.photometric) not in (1, 2, 6):
            raise InputError(
                "image is of a kind that is not read",
                where=self.path,
                expected="grey (black is 0) or RGB",
                found=f"{self.samples} samples, photometric {page.photometric}",
                remedy="Save it as greyscale or RGB",
            )
        self._edge = (
            (int(page.tilelength), int(page.tilewidth))
            if page.is_tiled
            else (min(int(page.rowsperstrip), self.shape[0]), self.shape[1])
        )
        self._planar = int(page.planarconfig) == 2 and self.samples > 1
        inner = 1 if self._planar else self.samples
        if self._edge[0] * self._edge[1] * inner > _LARGEST_SEGMENT:
            raise InputError(
                "image's tiles are too large",
                where=self.path,
                expected=f"at most {_LARGEST_SEGMENT} bytes each",
                found=f"{self._edge[0]} x {self._edge[1]} px",
                remedy="Save it as a tiled BigTIFF",
            )
        self._columns = ceil_div(self.shape[1], self._edge[1])
        self._plane = ceil_div(self.shape[0], self._edge[0]) * self._columns
        self._places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        size = self.path.stat().st_size
        end = max((offset + count for offset, count in self._places), default=0)
        if len(self._places) != self._plane * (self.samples if self._planar else 1) or end > size:
            raise damaged(self.path, f"{size} bytes, {len(self._places)} tiles", f"{end} bytes")
        self._page = page

    def read(self, box: Box, sample: int) -> NDArray[np.uint8]:
        out = np.empty(box.shape, np.uint8)
        height, width = self._edge
        for i in range(box.y0 // height, ceil_div(box.y1, height)):
            for j in range(box.x0 // width, ceil_div(box.x1, width)):
                index = i * self._columns + j + (sample * self._plane if self._planar else 0)
                tile = self._tile(index)
                area = Box.from_shape((height, width), (i * height, j * width))
                part = area.intersect(box)
                if part is not None:
                    inner = part.shift(-area.y0, -area.x0).slices
                    values = tile[(*inner, 0 if self._planar else sample)]
                    out[part.shift(-box.y0, -box.x0).slices] = values
        return out

    def _tile(self, index: int) -> NDArray[np.uint8]:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        tile = self._cache[index] = self._decode(index)
        while len(self._cache) > 1 and sum(t.nbytes for t in self._cache.values()) > self._limit:
            self._cache.popitem(last=False)
        return tile

    def _decode(self, index: int) -> NDArray[np.uint8]:
        samples = 1 if self._planar else self.samples
        out = np.zeros((*self._edge, samples), np.uint8)
        offset, count = self._places[index]
        if count == 0:  # a sparse TIFF leaves empty tiles out
            return out
        self._tiff.filehandle.seek(offset)
        data = self._tiff.filehandle.read(count)
        try:
            tables = {} if self._page.jpegtables is None else {"jpegtables": self._page.jpegtables}
            segment, _, shape = self._page.decode(data, index, **tables)
        except Exception as error:  # each codec has its own
            text = " ".join(str(error).split())[:120]
            raise damaged(self.path, f"tile {index}: {text}") from error
        if segment is not None:
            tile = np.asarray(segment)[0, : shape[1], : shape[2]]
            if tile.dtype != np.uint8 or tile.shape[2] != samples:
                raise damaged(self.path, f"tile {index} of {tile.dtype} {tile.shape}", f"{samples} samples")
            out[: tile.shape[0], : tile.shape[1]] = tile
        return out

    def __enter__(self) -> _Tiff:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.clear()
        self._tiff.close()


class _Whole:
    """A PNG or JPEG: its size is read from the header, its pixels only when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pixels: NDArray[np.uint8] | None = None
        with path.open("rb") as handle:
            head = handle.read(1 << 20)
        found = _png_header(path, head) if head.startswith(b"\x89PNG\r\n\x1a\n") else _jpeg_header(head)
        if found is None:
            raise damaged(path, "another content", "a PNG or JPEG")
        self.shape, self.samples = found
        if self.shape[0] * self.shape[1] > LARGEST_WHOLE_PX:
            raise InputError(
                "image is too large to be decoded whole",
                where=path,
                expected=f"at most {LARGEST_WHOLE_PX} pixels in PNG and JPEG",
                found=f"{self.shape[0]} x {self.shape[1]}",
                remedy="Save it as a tiled TIFF, which is read by its tiles",
            )

    def read(self, box: Box, sample: int) -> NDArray[np.uint8]:
        if self._pixels is None:
            self._pixels = self._decode()
        return self._pixels[(*box.slices, sample)]

    def _decode(self) -> NDArray[np.uint8]:
        import imagecodecs

        data = self.path.read_bytes()
        decode = imagecodecs.png_decode if data.startswith(b"\x89PNG") else imagecodecs.jpeg8_decode
        try:
            pixels = np.asarray(decode(data))
        except Exception as error:  # each codec has its own
            raise damaged(self.path, " ".join(str(error).split())[:120]) from error
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.dtype != np.uint8 or pixels.shape != (*self.shape, self.samples):
            raise damaged(self.path, f"{pixels.shape} {pixels.dtype}", f"{(*self.shape, self.samples)} uint8")
        return pixels

    def __enter__(self) -> _Whole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pixels = None


def _png_header(path: Path, head: bytes) -> tuple[tuple[int, int], int] | None:
    """Size and samples from IHDR, which comes first (PNG specification, 11.2.2)."""
    if len(head) < 26 or head[12:16] != b"IHDR":
        return None
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    samples = {0: 1, 2: 3, 6: 4}.get(colour)
    if bits != 8 or samples is None:
        raise _not_eight_bits(path, f"{bits} bits, colour type {colour}")
    return ((height, width), samples) if height and width else None


def _jpeg_header(head: bytes) -> tuple[tuple[int, int], int] | None:
    """Size and samples from the frame header (ITU T.81, B.2.2): the first SOF marker."""
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, samples = struct.unpack(">BHHB", head[at + 4 : at + 10])
            good = bits == 8 and samples in (1, 3) and height and width
            return ((height, width), samples) if good else None
        at += 2 + struct.unpack(">H", head[at + 2 : at + 4])[0]
    return None
