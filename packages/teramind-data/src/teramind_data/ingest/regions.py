"""Region annotation in the canvas plane: a TIFF stack of labels and a table of their names."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX


def check_regions(
    labels: Path, sections: int, kept: tuple[int, ...], canvas: tuple[int, int], memory: int
) -> tuple[int, ...]:
    """The page of each kept section, after checking what the file declares.

    Args:
        labels: TIFF stack (section, y, x) over all sections of the manifest, left-out ones included (or the kept
            ones only), of whole pixels or of 16-px bins. Of pixels, each bin takes the label at its centre.
        sections: number of sections in the manifest.
        kept: places of the kept ones.
        canvas: (h, w) in pixels.
        memory: bytes a worker may take; a page is read whole.

    Raises:
        InputError: unreadable, of another size, or too large; names the file.
    """
    import tifffile

    bins = (canvas[0] // BIN_PX, canvas[1] // BIN_PX)
    try:
        with tifffile.TiffFile(labels) as tiff:
            shape = tuple(tiff.series[0].shape)
            kind: np.dtype[Any] = np.dtype(tiff.series[0].dtype)
            pages = len(tiff.series[0].pages)
    except (tifffile.TiffFileError, ValueError, OSError, IndexError, TypeError) as error:
        raise _damaged(labels, error) from error
    fits = len(shape) in (2, 3) and shape[-2:] in (bins, canvas) and pages in (sections, len(kept))
    if not fits or kind.kind not in "iu":
        raise InputError(
            "annotation does not fit the canvas",
            where=labels,
            expected=f"whole numbers ({sections}, {canvas[0]}, {canvas[1]}) or ({sections}, {bins[0]}, {bins[1]})",
            found=shape,
            remedy="Draw it in the canvas plane, or give the canvas it was drawn on in the manifest",
        )
    size = shape[-2] * shape[-1] * kind.itemsize
    if size > memory // 2:
        raise InputError(
            "annotation's pages are too large for the memory given",
            where=labels,
            expected=f"at most {memory // 2:,} bytes",
            found=f"{size:,}",
            remedy="Give it in 16-px bins, or pass a larger --memory",
        )
    return tuple(range(pages)) if pages == len(kept) else kept


def read_page(labels: Path, page: int, canvas: tuple[int, int]) -> NDArray[np.uint16]:
    """One section's labels ``(y/16, x/16)`` of an annotation that was checked.

    Raises:
        InputError: damaged, or labels out of range; names the file.
    """
    import tifffile

    try:
        with tifffile.TiffFile(labels) as tiff:
            plane = tiff.asarray(series=0, key=page)
    except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
        raise _damaged(labels, error) from error
    if plane.shape == canvas:
        plane = plane[BIN_PX // 2 :: BIN_PX, BIN_PX // 2 :: BIN_PX]
    if plane.min(initial=0) < 0 or plane.max(initial=0) > 65535:
        raise InputError("annotation has labels out of range", where=labels, expected="0 .. 65535")
    return np.asarray(plane, np.uint16)


def _damaged(labels: Path, error: Exception) -> InputError:
    return InputError(
        "annotation is truncated or damaged",
        where=labels,
        found=error,
        remedy="Copy it again from its source",
    )


def read_names(names: Path | None) -> dict[int, str]:
    """Region names by label from a CSV with columns ``id`` and ``name``; empty without a file."""
    if names is None:
        return {}
    try:
        rows = list(csv.DictReader(names.read_text(encoding="utf-8-sig").splitlines()))
        return {int(row["id"]): row["name"].strip() for row in rows}
    except (KeyError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(
            "region names are not readable",
            where=names,
            expected="columns id (a whole number) and name",
            found=error,
            remedy="Write a CSV with these columns",
        ) from error
