"""Region annotation in the canvas plane: a TIFF stack of labels and a table of their names."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX


def read_regions(
    labels: Path, sections: int, kept: tuple[int, ...], canvas: tuple[int, int]
) -> NDArray[np.uint16]:
    """Labels ``(kept sections, y/16, x/16)``.

    Args:
        labels: TIFF stack (section, y, x) over all sections of the manifest, left-out ones included (or the kept
            ones only), of whole pixels or of 16-px bins. Of pixels, each bin takes the label at its centre.
        sections: number of sections in the manifest.
        kept: places of the kept ones.
        canvas: (h, w) in pixels.

    Raises:
        InputError: unreadable, or of another size; names the file.
    """
    import tifffile

    bins = (canvas[0] // BIN_PX, canvas[1] // BIN_PX)
    try:
        with tifffile.TiffFile(labels) as tiff:
            shape = tuple(tiff.series[0].shape)
            stack = _read_stack(tiff, shape, bins)
    except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
        raise InputError(
            "annotation is truncated or damaged",
            where=labels,
            found=error,
            remedy="Copy it again from its source",
        ) from error
    if stack is None or stack.shape[0] not in (sections, len(kept)) or stack.dtype.kind not in "iu":
        raise InputError(
            "annotation does not fit the canvas",
            where=labels,
            expected=f"whole numbers ({sections}, {canvas[0]}, {canvas[1]}) or ({sections}, {bins[0]}, {bins[1]})",
            found=shape,
            remedy="Draw it in the canvas plane, or give the canvas it was drawn on in the manifest",
        )
    chosen = stack if stack.shape[0] == len(kept) else stack[list(kept)]
    if chosen.min(initial=0) < 0 or chosen.max(initial=0) > 65535:
        raise InputError("annotation has labels out of range", where=labels, expected="0 .. 65535")
    return chosen.astype(np.uint16)


def _read_stack(tiff: Any, shape: tuple[int, ...], bins: tuple[int, int]) -> NDArray[Any] | None:
    """The stack at bin resolution, a page at a time; None where the size fits neither pixels nor bins."""
    plane = shape[-2:]
    if plane not in (bins, (bins[0] * BIN_PX, bins[1] * BIN_PX)) or len(shape) not in (2, 3):
        return None
    step, offset = (1, 0) if plane == bins else (BIN_PX, BIN_PX // 2)
    pages = tiff.series[0].pages
    return np.stack([page.asarray()[offset::step, offset::step] for page in pages])


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
