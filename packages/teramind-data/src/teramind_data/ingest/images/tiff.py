"""TIFF, BigTIFF and OME-TIFF: tiled or striped, any compression imagecodecs reads, with or without pyramid."""

from __future__ import annotations

import html
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.ingest.images.protocol import (
    CACHE_BYTES,
    DTYPES,
    TileCache,
    TiledPlane,
    broken,
    check_kind,
    unsupported,
)

_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_RGB = ("red", "green", "blue", "alpha")
_UNNAMED = "IQ"  # tifffile's letters for axes of which the file says nothing


class TiffPlane(TiledPlane):
    """One channel of one page."""

    def __init__(self, path: Path, page: Any, sample: int, key: int, cache: TileCache) -> None:
        keyframe = page.keyframe
        shape = (int(keyframe.imagelength), int(keyframe.imagewidth))
        tile = (
            (int(keyframe.tilelength), int(keyframe.tilewidth))
            if keyframe.is_tiled
            else (min(int(keyframe.rowsperstrip), shape[0]), shape[1])
        )
        super().__init__(shape, np.dtype(keyframe.dtype.name), tile, key, cache)
        self._path, self._page, self._keyframe = path, page, keyframe
        self._separate = int(keyframe.planarconfig) == 2 and int(keyframe.samplesperpixel) > 1
        self._sample = sample
        self._offsets, self._counts = tuple(page.dataoffsets), tuple(page.databytecounts)

    def check(self, size: int) -> TiffPlane:
        """This plane, its tiles all listed and within the file's ``size``; InputError otherwise."""
        expected = self.rows * self.columns
        if self._separate:
            expected *= int(self._keyframe.samplesperpixel)
        if len(self._offsets) != expected or len(self._counts) != expected:
            raise broken(self._path, f"{len(self._offsets)} of {expected} tiles listed")
        end = max((o + c for o, c in zip(self._offsets, self._counts, strict=True)), default=0)
        if end > size:
            raise broken(self._path, f"{size} bytes", f"{end} bytes")
        return self

    def is_empty(self, row: int, column: int) -> bool:
        """Whether a sparse TIFF leaves this tile out."""
        sample = self._sample if self._separate else 0
        return bool(self._counts[row * self.columns + column + sample * self.rows * self.columns] == 0)

    def decode(self, row: int, column: int) -> NDArray[Any]:
        """Read and decode one tile or strip."""
        index = row * self.columns + column
        sample = self._sample
        if self._separate:
            index, sample = index + sample * self.rows * self.columns, 0
        offset, count = self._offsets[index], self._counts[index]
        if count == 0:  # a sparse TIFF leaves empty tiles out
            return np.zeros(self.tile, self.dtype)
        handle = self._page.parent.filehandle
        handle.seek(offset)
        data = handle.read(count)
        if len(data) != count:
            raise broken(self._path, f"{len(data)} bytes in tile {index}", count)
        try:
            tables = {} if self._page.jpegtables is None else {"jpegtables": self._page.jpegtables}
            segment, _, shape = self._keyframe.decode(data, index, **tables)
        except Exception as error:
            raise broken(self._path, f"tile {index}: {' '.join(str(error).split())[:120]}") from error
        if segment is None:
            return np.zeros(self.tile, self.dtype)
        pixels = np.asarray(segment)[0, : shape[1], : shape[2], sample]
        if pixels.dtype != self.dtype:
            raise broken(self._path, f"tile {index} of {pixels.dtype}", self.dtype)
        return pixels


class TiffStack:
    """An open TIFF: the first series at full resolution.

    Raises InputError where it is no TIFF, cut off, of a kind not supported, or its XML declares a document type.
    """

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES, dtypes: tuple[str, ...] = DTYPES) -> None:
        import tifffile

        self.path = path
        self._cache = TileCache(cache_bytes)
        self._dtypes = dtypes
        failures = (
            tifffile.TiffFileError, ValueError, OSError, IndexError, KeyError, AttributeError, TypeError,
            ZeroDivisionError, struct.error,
        )  # fmt: skip
        try:
            # Files that the XML of this one names are not followed: one section's file is one file.
            self._tiff = tifffile.TiffFile(path, _multifile=False)
        except failures as error:
            raise broken(path, str(error) or type(error).__name__, "a whole TIFF") from error
        try:
            self._open()
        except InputError:
            self._tiff.close()
            raise
        except failures as error:
            self._tiff.close()
            raise broken(path, str(error) or type(error).__name__, "a whole TIFF") from error

    def _open(self) -> None:
        first: Any = self._tiff.pages[0]
        description = str(first.description or "")
        if re.search(r"<!(DOCTYPE|ENTITY)", description):
            raise InputError(
                "image's XML declares a document type",
                where=self.path,
                expected="OME-XML without DTD",
                remedy="Export the image again; such XML is not read",
            )
        if re.search(r"<(\w+:)?OME\b", description) and not description.rstrip(" \n\r\t\0").endswith("OME>"):
            raise broken(self.path, "OME-XML that breaks off", "a whole TIFF")
        series = self._tiff.series[0].levels[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        keyframe = series.keyframe
        dtype = None if keyframe.dtype is None else np.dtype(keyframe.dtype)
        samples = int(keyframe.samplesperpixel)
        width = int(keyframe.tilewidth) if keyframe.is_tiled else int(keyframe.imagewidth)
        height = int(keyframe.tilelength) if keyframe.is_tiled else int(keyframe.rowsperstrip)
        held = samples if int(keyframe.planarconfig) == 1 else 1
        itemsize = 0 if dtype is None else dtype.itemsize
        tile_bytes = min(height, int(keyframe.imagelength)) * width * held * itemsize
        check_kind(self.path, dtype, tile_bytes, self._dtypes)
        if int(keyframe.imagedepth) != 1 or len(sizes) != len(series.axes):
            raise unsupported(self.path, "pages of one plane", f"axes {series.axes} of {tuple(series.shape)}")
        outer = {axis: size for axis, size in sizes.items() if axis not in "YXS"}
        unnamed = [axis for axis in outer if axis in _UNNAMED and outer[axis] > 1]
        strange = [axis for axis, size in outer.items() if axis not in "CZ" + _UNNAMED and size > 1]
        if strange or len(unnamed) > 1 or (samples > 1 and outer.get("C", 1) > 1):
            raise unsupported(
                self.path, "channels and z planes", f"axes {series.axes} of {tuple(series.shape)}"
            )
        if len(series.pages) != int(np.prod(list(outer.values()) or [1])):
            raise unsupported(self.path, "a page a plane", f"{len(series.pages)} pages for {outer}")
        self._pages, self._outer = series.pages, outer
        self._samples = samples
        self.unnamed = outer[unnamed[0]] if unnamed else 0
        self.planes = outer.get("Z", 1)
        self.channels = _channels(description, outer.get("C", 1) if samples == 1 else samples, samples > 1)
        self.pixel_size_um = _pixel_size(description)
        # What is cut off shows in the table of any page; the first tells before work begins.
        self.plane(0, 0)

    def plane(self, channel: int, z: int, page: int = 0) -> TiffPlane:
        """One channel of one z plane (or unnamed page)."""
        at = {"C": 0 if self._samples > 1 else channel, "Z": z}
        where = [at.get(axis, page if axis in _UNNAMED else 0) for axis in self._outer]
        number = int(np.ravel_multi_index(where, list(self._outer.values()))) if where else 0
        found = self._pages[number]
        if found is None:
            raise broken(self.path, f"no page for channel {channel}, plane {z}", "every plane in this file")
        sample = channel if self._samples > 1 else 0
        key = number * self._samples + sample
        try:
            return TiffPlane(self.path, found, sample, key, self._cache).check(self.path.stat().st_size)
        except (AttributeError, TypeError, ValueError, struct.error) as error:
            raise broken(self.path, str(error) or type(error).__name__, "a whole TIFF") from error

    def close(self) -> None:
        """Close the file and forget decoded tiles."""
        self._cache.clear()
        self._tiff.close()


def _channels(description: str, count: int, rgb: bool) -> tuple[str, ...]:
    """Channel names of OME-XML (first image), else of RGB samples, else numbers."""
    if rgb:
        return _RGB[:count] if count <= len(_RGB) else tuple(str(i) for i in range(count))
    image = description.split("</Image>", 1)[0].split("</OME:Image>", 1)[0]
    tags = re.findall(r"<(?:\w+:)?Channel\b[^>]*>", image)
    names = [_attribute(tag, "Name") for tag in tags]
    if len(names) != count:
        names = [None] * count
    return tuple(name or str(number) for number, name in enumerate(names))


def _pixel_size(description: str) -> tuple[float, float] | None:
    """(y, x) in um of OME-XML's first image; None where it does not say."""
    tag = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description)
    if tag is None:
        return None
    found = []
    for axis in "YX":
        size = _attribute(tag[0], f"PhysicalSize{axis}")
        unit = _UM.get(_attribute(tag[0], f"PhysicalSize{axis}Unit") or "µm")
        try:
            value = float(size or "nan") * (unit or np.nan)
        except ValueError:
            return None
        if not np.isfinite(value) or value <= 0:
            return None
        found.append(value)
    return found[0], found[1]


def _attribute(tag: str, name: str) -> str | None:
    match = re.search(rf'\b{name}="([^"]*)"', tag)
    return None if match is None else html.unescape(match[1])
