"""Atlas volumes as files: NRRD, NIfTI and TIFF, read slab by slab along the axis that varies slowest.

An annotation of 10 um is 4.8 GB unpacked, so no more than a slab of it is ever held.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError

Triple = tuple[float, float, float]

#: Letters of an orientation: the direction in which an axis grows. CCF: posterior, inferior, right.
CCF = "PIR"
_AXIS_OF = {"P": 0, "A": 0, "I": 1, "S": 1, "R": 2, "L": 2}
_LARGEST_EDGE = 1 << 16
_UM = {
    "mm": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "m": 1e6,
    "meter": 1e6,
}
_NRRD_TYPES = {
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int8": ("signed char", "int8", "int8_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "float32": ("float",),
    "float64": ("double",),
}


class VolumeFile(Protocol):
    """A volume file. Axes are in the file's own order, whatever that means.

    shape: voxels along each axis. slow: the axis that varies slowest. dtype: of a voxel. voxel_um, orientation: where
    the file tells; what it tells of its orientation is believed of NIfTI alone (the CCF's own NRRD files say LPS of
    axes that run posterior, inferior, right).
    """

    path: Path
    shape: tuple[int, int, int]
    slow: int
    dtype: np.dtype[Any]
    voxel_um: Triple | None
    orientation: str | None

    def slabs(self, edges: Sequence[tuple[int, int]]) -> Iterator[NDArray[Any]]:
        """Slabs ``start .. stop - 1`` along the slow axis, in rising order, each with the file's axes.

        Raises InputError where the file is truncated or damaged.
        """
        ...


def open_volume(path: Path) -> VolumeFile:
    """Open a volume by its suffix: ``.nrrd``, ``.nii``, ``.nii.gz``, ``.tif``.

    Raises:
        InputError: unreadable, of another kind, not three axes of whole numbers; names the file.
        MissingInputError: the library that reads it is not installed.
    """
    name = path.name.lower()
    kinds: dict[str, type[NrrdVolume | NiftiVolume | TiffVolume]] = {
        ".nrrd": NrrdVolume,
        ".nii": NiftiVolume,
        ".nii.gz": NiftiVolume,
        ".tif": TiffVolume,
        ".tiff": TiffVolume,
    }
    for suffix, kind in kinds.items():
        if name.endswith(suffix):
            return kind(path)
    raise InputError(
        "atlas volume is of an unknown kind",
        where=path,
        expected=", ".join(kinds),
        found=path.suffix or "no suffix",
        remedy="Export it as NRRD with its data in the same file",
    )


def axes_of(orientation: str, where: object) -> tuple[tuple[int, bool], ...]:
    """For each axis of a file: which atlas axis it is (0 AP, 1 DV, 2 LR), and whether it runs the other way than CCF's.

    Raises InputError unless ``orientation`` names three directions, one an axis.
    """
    letters = orientation.upper()
    axes = [_AXIS_OF.get(letter) for letter in letters]
    if len(letters) != 3 or set(axes) != {0, 1, 2}:
        raise InputError(
            "orientation of an atlas volume is not usable",
            where=where,
            expected="where each axis of the file runs to: one letter of P/A, of I/S and of R/L (CCF: PIR)",
            found=repr(orientation),
            remedy="Correct atlas.orientation in the manifest",
        )
    return tuple((_AXIS_OF[letter], letter not in CCF) for letter in letters)


class NrrdVolume:
    """An NRRD with its data attached: raw, gzip or bzip2."""

    slow = 2

    def __init__(self, path: Path) -> None:
        try:
            import nrrd
        except ModuleNotFoundError:
            raise _no_library("pynrrd", path) from None
        self.path = path
        try:
            with path.open("rb") as handle:
                header = nrrd.read_header(handle)
                self._offset = handle.tell()
            self._encoding = str(header["encoding"]).lower()
            self.dtype = _nrrd_type(header)
            self.shape = _shape(path, header["sizes"])
            self.voxel_um = _nrrd_voxel(header)
        except InputError:
            raise
        except (nrrd.NRRDError, KeyError, ValueError, TypeError, OSError, IndexError) as error:
            raise _damaged(path, error) from error
        self.orientation: str | None = None
        if (
            "data file" in header
            or "datafile" in header
            or header.get("line skip")
            or header.get("byte skip")
        ):
            raise _unsupported(path, "an NRRD with its data in the same file", "a header of data elsewhere")
        if self._encoding not in _NRRD_ENCODINGS:
            raise _unsupported(path, "raw, gzip or bzip2", self._encoding)

    def _stream(self, handle: IO[bytes]) -> IO[bytes]:
        handle.seek(self._offset)
        return _NRRD_ENCODINGS[self._encoding](handle)

    def slabs(self, edges: Sequence[tuple[int, int]]) -> Iterator[NDArray[Any]]:
        """Slabs along the last axis, read to the file's end so that a checksum at it is seen."""
        plane = self.shape[0] * self.shape[1]
        try:
            with self.path.open("rb") as handle:
                stream = self._stream(handle)
                at = 0
                for start, stop in edges:
                    _skip(stream, (start - at) * plane * self.dtype.itemsize)
                    data = _read(stream, (stop - start) * plane * self.dtype.itemsize)
                    at = stop
                    yield np.frombuffer(data, self.dtype).reshape((stop - start, *self.shape[1::-1])).T
                _skip(stream, (self.shape[2] - at) * plane * self.dtype.itemsize)
                if stream.read(1):
                    raise ValueError("more data than the header declares")
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise _damaged(self.path, error) from error


def _plain(handle: IO[bytes]) -> IO[bytes]:
    return handle


def _gunzip(handle: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=handle)  # type: ignore[return-value]


def _bunzip(handle: IO[bytes]) -> IO[bytes]:
    return bz2.BZ2File(handle)


_NRRD_ENCODINGS = {
    "raw": _plain, "gzip": _gunzip, "gz": _gunzip, "bzip2": _bunzip, "bz2": _bunzip,
}  # fmt: skip


def _read(stream: IO[bytes], count: int) -> bytearray:
    out = bytearray()
    while len(out) < count:
        part = stream.read(min(count - len(out), 16 << 20))
        if not part:
            raise EOFError(f"{len(out):,} of {count:,} bytes of a slab")
        out += part
    return out


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        part = stream.read(min(count, 16 << 20))
        if not part:
            raise EOFError("end of file before its last voxel")
        count -= len(part)


def _nrrd_type(header: Any) -> np.dtype[Any]:
    name = str(header["type"]).lower()
    found = next((kind for kind, names in _NRRD_TYPES.items() if name in names), None)
    if found is None:
        raise ValueError(f"type {name}")
    big = str(header.get("endian", "little")).lower() == "big"
    return np.dtype(found).newbyteorder(">" if big else "<")


def _nrrd_voxel(header: Any) -> Triple | None:
    """From space directions or spacings; without a unit, numbers of at least 1 are um (as in the CCF's), others mm."""
    if header.get("space directions") is not None:
        edges = np.linalg.norm(np.asarray(header["space directions"], float), axis=-1)
    elif header.get("spacings") is not None:
        edges = np.asarray(header["spacings"], float)
    else:
        return None
    units = header.get("space units") or header.get("units")
    unit = None if units is None else _UM.get(str(units[0]).strip('" ').lower())
    return _edges(edges, unit)


def _edges(edges: NDArray[np.float64], unit: float | None) -> Triple | None:
    if edges.shape != (3,) or not np.isfinite(edges).all() or (edges <= 0).any():
        return None
    if unit is None:
        unit = 1.0 if edges.min() >= 1 else 1e3
    # From single precision, 0.025 mm is not quite 25 um.
    a, b, c = (float(f"{edge * unit:.6g}") for edge in edges)
    return a, b, c


class NiftiVolume:
    """A NIfTI, plain or gzipped."""

    slow = 2

    def __init__(self, path: Path) -> None:
        try:
            import nibabel
        except ModuleNotFoundError:
            raise _no_library("nibabel", path) from None
        self.path = path
        try:
            image: Any = nibabel.load(path, keep_file_open=True)
            self._image, header = image, image.header
            self.shape = _shape(path, _squeezed(self._image.shape))
            self.dtype = np.dtype(header.get_data_dtype())
            told = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
            self.orientation = "".join(nibabel.aff2axcodes(self._image.affine)) if told else None
            unit = str(header.get_xyzt_units()[0])
            edges = np.asarray(header.get_zooms()[:3], float)
            scaled = header.get_slope_inter() not in ((None, None), (1.0, 0.0))
        except InputError:
            raise
        except Exception as error:  # nibabel's readers raise what numpy, struct and gzip do
            raise _damaged(path, error) from error
        # A header that was never filled in says 1 of nothing.
        unset = unit == "unknown" and bool((edges == 1).all())
        self.voxel_um = None if unset else _edges(edges, _UM.get(unit))
        if scaled:
            raise _unsupported(path, "ids as they are", "values with a slope or an intercept")

    def slabs(self, edges: Sequence[tuple[int, int]]) -> Iterator[NDArray[Any]]:
        """Slabs along the last axis."""
        try:
            for start, stop in edges:
                slab = np.asarray(self._image.dataobj[:, :, start:stop])
                yield slab.reshape(*self.shape[:2], stop - start)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise _damaged(self.path, error) from error


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """Without the axes of one that some programs append."""
    out = tuple(int(n) for n in shape)
    while len(out) > 3 and out[-1] == 1:
        out = out[:-1]
    return out


class TiffVolume:
    """A TIFF stack: (page, row, column)."""

    slow = 0
    voxel_um: Triple | None = None
    orientation: str | None = None

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        try:
            with tifffile.TiffFile(path, _multifile=False) as tiff:
                series = tiff.series[0].levels[0]
                self.shape = _shape(path, series.shape)
                self.dtype = np.dtype(series.dtype)
        except InputError:
            raise
        except (tifffile.TiffFileError, ValueError, OSError, IndexError, TypeError, KeyError) as error:
            raise _damaged(path, error) from error

    def slabs(self, edges: Sequence[tuple[int, int]]) -> Iterator[NDArray[Any]]:
        """Slabs of whole pages."""
        import tifffile

        try:
            with tifffile.TiffFile(self.path, _multifile=False) as tiff:
                pages = tiff.series[0].levels[0].pages
                if len(pages) != self.shape[0]:
                    raise _unsupported(self.path, "a page a plane", f"{len(pages)} pages")
                for start, stop in edges:
                    yield np.stack([pages[k].asarray() for k in range(start, stop)])  # type: ignore[union-attr]
        except InputError:
            raise
        except Exception as error:  # codecs raise what they like
            raise _damaged(self.path, error) from error


def _shape(path: Path, sizes: Any) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in sizes)
    if len(shape) != 3 or not all(0 < n <= _LARGEST_EDGE for n in shape):
        raise _unsupported(path, "three axes of voxels", " x ".join(map(str, shape)))
    return shape[0], shape[1], shape[2]


def _no_library(name: str, path: Path) -> MissingInputError:
    return MissingInputError(
        f"{name} is not installed, which reads this atlas volume",
        where=path,
        remedy="Install it with: pip install 'teramind-data[atlas]'",
    )


def _unsupported(path: Path, expected: object, found: object) -> InputError:
    return InputError("atlas volume is of a kind that is not supported", path, expected, found)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        "atlas volume is truncated or damaged",
        where=path,
        found=" ".join(str(error).split())[:200] or type(error).__name__,
        remedy="Copy it again from its source",
    )
