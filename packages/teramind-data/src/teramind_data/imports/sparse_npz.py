"""Gene tiles: sparse COO arrays as pydata/sparse saves them, read without pickle and without its library."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.imports.archives import Archive, damaged

__all__ = ["GeneTile", "read_gene_tile"]

_MOST_MOLECULES = 100_000_000  # in one tile of 512 px: 400 a pixel


@dataclass(frozen=True)
class GeneTile:
    """Molecules of one tile, one entry a molecule.

    Attributes:
        row, column: in pixels of the tile. section: index along z. name: index in the list of names.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    section: NDArray[np.int64]
    name: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


def read_gene_tile(path: Path, shape: tuple[int, int], names: int) -> tuple[int, GeneTile]:
    """The number of sections and the molecules of a file ``(rows, columns, sections * names)``.

    Args:
        path: an ``.npz`` with ``coords`` (3, nnz), ``data`` (nnz), ``shape`` (3) and ``fill_value`` 0.
        shape: ``(rows, columns)`` that it must have.
        names: names of the panel, controls included; the last axis is ``section * names + name``.

    Raises:
        MissingInputError, InputError: one line naming the file.
    """
    with Archive(path) as archive:
        wanted = {"coords", "data", "shape"}
        found = {name.removesuffix(".npy") for name in archive.names}
        if not wanted <= found:
            raise InputError(
                "file is no sparse array in coordinates",
                where=path,
                expected=", ".join(sorted(wanted)),
                found=", ".join(sorted(found)) or "nothing",
                remedy="Give the published tiles as they are (sparse.save_npz of a COO)",
            )
        full = _member(archive, "shape").ravel()
        coords, data = _member(archive, "coords"), _member(archive, "data")
        fill = _member(archive, "fill_value").ravel() if "fill_value" in found else np.zeros(1, np.int64)
    if len(full) != 3 or tuple(full[:2]) != shape:
        raise InputError(
            "gene tile has another shape than its name says",
            where=path,
            expected=f"{shape[0]} x {shape[1]} x sections * genes",
            found=" x ".join(str(n) for n in full),
            remedy="Rename it, or copy it again from its source",
        )
    depth = int(full[2])
    if depth < names or depth % names:
        raise InputError(
            "gene tile does not fit the panel",
            where=path,
            expected=f"a multiple of the panel's {names} names",
            found=f"{depth} channels",
            remedy="Give the --panel that the tiles were made with, blanks included if they were",
        )
    if fill.any():
        raise damaged(path, f"fill value {fill[0]}", "0")
    return depth // names, _expand(path, coords, data, (*shape, depth), names)


def _expand(
    path: Path, coords: NDArray[Any], data: NDArray[Any], shape: tuple[int, int, int], names: int
) -> GeneTile:
    if coords.ndim != 2 or coords.shape[0] != 3 or data.shape != coords.shape[1:]:
        raise damaged(path, f"coords {coords.shape}, data {data.shape}", "coords (3, n), data (n,)")
    if coords.size and (int(coords.min()) < 0 or (coords.max(axis=1) >= np.array(shape)).any()):
        raise damaged(path, f"coordinates up to {coords.max(axis=1).tolist()}", f"0..{shape} (half-open)")
    if data.size and int(data.min()) < 0:
        raise damaged(path, f"a count of {int(data.min())}", "counts >= 0")
    total = float(data.sum(dtype=np.float64))
    if total > _MOST_MOLECULES:
        raise damaged(path, f"{total:g} molecules", f"at most {_MOST_MOLECULES}")
    # Several molecules of a gene may share a pixel.
    row, column, channel = (np.repeat(axis.astype(np.int64), data.astype(np.int64)) for axis in coords)
    return GeneTile(row, column, channel // names, channel % names)


def _member(archive: Archive, name: str) -> NDArray[Any]:
    """An array of integers from ``name.npy``; its bytes must be as many as its header declares."""
    where = f"{archive.path}, {name}.npy"
    data = archive.read(f"{name}.npy")
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"format version {version}")
        shape, fortran, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise damaged(where, str(error).splitlines()[0][:120], "an npy header") from error
    if dtype.kind not in "iu":
        raise InputError("array is of a type that is not read", where, "integers", dtype)
    count = 1
    for n in shape:
        count *= int(n)
    body = memoryview(data)[stream.tell() :]
    if any(n < 0 for n in shape) or count * dtype.itemsize != len(body):
        raise damaged(where, f"{len(body)} bytes", f"{count * dtype.itemsize} bytes for {shape}")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
