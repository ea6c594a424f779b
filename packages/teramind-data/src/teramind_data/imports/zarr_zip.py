"""Image tiles: a Zarr v2 array in a zip file, read chunk by chunk with every size known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.imports.archives import Archive, damaged

__all__ = ["ZippedArray"]

_LARGEST_CHUNK = 256 << 20
_LARGEST_METADATA = 1 << 20


def _decoders() -> dict[str, Callable[..., Any]]:
    import imagecodecs

    return {
        "zstd": imagecodecs.zstd_decode,
        "blosc": imagecodecs.blosc_decode,
        "zlib": imagecodecs.zlib_decode,
        "gzip": imagecodecs.gzip_decode,
    }


class ZippedArray:
    """A three-dimensional Zarr v2 array at the root of a zip file; a context manager.

    Attributes
    ----------
    shape: (channels, rows, columns). dtype: as asked for.

    Raises
    ------
    MissingInputError: no such file. InputError: another shape or type than expected, or what is not read safely.
    """

    def __init__(self, path: Path, dtype: str, plane: tuple[int, int]) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self._archive = Archive(path)
        try:
            self._open(plane)
        except BaseException:
            self._archive.close()
            raise

    def _open(self, plane: tuple[int, int]) -> None:
        try:
            meta = json.loads(self._archive.read(".zarray", _LARGEST_METADATA))
            shape, chunks = tuple(meta["shape"]), tuple(meta["chunks"])
            dtype, self._fill = np.dtype(str(meta["dtype"])), meta["fill_value"]
            self._separator = meta.get("dimension_separator", ".")
            compressor = (meta["compressor"] or {}).get("id")
            plain = meta["zarr_format"] == 2 and meta["order"] == "C" and not meta.get("filters")
            if self._fill is not None:  # null: chunks that are left out may hold anything
                np.full((), self._fill, dtype)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise damaged(self.path, f"{type(error).__name__}: {error}", "a Zarr v2 array") from error
        if not all(type(n) is int and n > 0 for n in (*shape, *chunks)) or len(chunks) != len(shape):
            raise damaged(self.path, f"shape {shape}, chunks {chunks}", "positive integers")
        if len(shape) != 3 or shape[1:] != plane or dtype != self.dtype:
            raise InputError(
                "image tile has another shape or type than its name says",
                where=self.path,
                expected=f"(channels, {plane[0]}, {plane[1]}) {self.dtype}",
                found=f"{shape} {dtype}",
                remedy="Check which folder holds which tiles (--generated is for generated ones)",
            )
        self._decoders = _decoders()
        if not plain or self._separator not in (".", "/") or compressor not in (None, *self._decoders):
            raise InputError(
                "image tile is encoded in a way that is not read",
                where=self.path,
                expected=f"order C, no filters, compressor none, {', '.join(self._decoders)}",
                found=f"compressor {compressor}",
                remedy="Save it again with one of these",
            )
        self._decode = None if compressor is None else self._decoders[compressor]
        self._bytes = int(np.prod(chunks, dtype=object)) * self.dtype.itemsize
        if self._bytes > _LARGEST_CHUNK:
            raise damaged(self.path, f"chunks of {self._bytes} bytes", f"at most {_LARGEST_CHUNK}")
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self._chunks = chunks
        self._names = frozenset(self._archive.names)

    def read(self, channels: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[Any]:
        """Pixels ``(len(channels), h, w)``; slices have a start and a stop inside the tile."""
        out = np.empty((len(channels), rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        depth, height, width = self._chunks
        for layer in np.unique(channels // depth):
            mine = np.flatnonzero(channels // depth == layer)
            inner = channels[mine] - layer * depth
            spans = (
                range(rows.start // height, -(-rows.stop // height)),
                range(columns.start // width, -(-columns.stop // width)),
            )
            for i, j in product(*spans):
                y0, y1 = max(rows.start, i * height), min(rows.stop, (i + 1) * height)
                x0, x1 = max(columns.start, j * width), min(columns.stop, (j + 1) * width)
                chunk = self._chunk(int(layer), i, j)
                part = chunk[:, y0 - i * height : y1 - i * height, x0 - j * width : x1 - j * width]
                target = (
                    slice(y0 - rows.start, y1 - rows.start),
                    slice(x0 - columns.start, x1 - columns.start),
                )
                out[(mine, *target)] = part[inner]
        return out

    def _chunk(self, *index: int) -> NDArray[Any]:
        name = self._separator.join(str(n) for n in index)
        if name not in self._names:
            # Zarr v2 leaves chunks of nothing but the fill value out; an archive cut short does not open at all.
            if self._fill is None:
                raise damaged(
                    f"{self.path}, {name}", "no such chunk", "a chunk, as no fill value is declared"
                )
            return np.full(self._chunks, self._fill, self.dtype)
        data = self._archive.read(name, self._bytes + (self._bytes >> 4) + 4096)
        if self._decode is not None:
            out = bytearray(self._bytes)
            try:
                # A buffer of the right size: a chunk that claims to be larger is refused by the codec.
                decoded = self._decode(data, out=out)
            except Exception as error:  # each codec has its own
                text = " ".join(str(error).split())[:120]
                raise damaged(f"{self.path}, {name}", text, f"{self._bytes} bytes") from error
            data = bytes(decoded)
        if len(data) != self._bytes:
            raise damaged(f"{self.path}, {name}", f"{len(data)} bytes", f"{self._bytes} bytes")
        return np.frombuffer(data, self.dtype).reshape(self._chunks)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __enter__(self) -> ZippedArray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
