"""The truth beside a phantom: one cell table a section."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import Box

_COLUMNS = ("y", "x", "radius_px")


@dataclass(frozen=True, slots=True)
class TruthCells:
    """True nuclei of a section: centroids `(n, 2)` y, x in canvas pixels, and radii `(n,)` in pixels."""

    centroids: npt.NDArray[np.float64]
    radius_px: npt.NDArray[np.float64]

    def inside(self, box: Box) -> TruthCells:
        """Those whose centroids lie in a part of the canvas."""
        low, high = np.array([box.y0, box.x0]) - 0.5, np.array([box.y1, box.x1]) - 0.5
        held = np.all((self.centroids >= low) & (self.centroids < high), axis=1)
        return TruthCells(self.centroids[held], self.radius_px[held])


def truth_path(folder: Path, section: str) -> Path:
    """Where the cell table of a section lies."""
    return folder / section / "cells.csv"


def read_truth(folder: Path, section: str, canvas: tuple[int, int]) -> TruthCells:
    """True nuclei of a section whose centroids lie on the canvas.

    Raises
    ------
    MissingInputError
        where there is no `<folder>/<section>/cells.csv`.
    InputError
        where it is no table, lacks one of the columns y, x, radius_px, or holds something that is no number.
    """
    path = truth_path(folder, section)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    "cell table lacks columns",
                    where=path,
                    expected=", ".join(_COLUMNS),
                    found=", ".join(reader.fieldnames or ()) or "no header",
                    remedy="Write the truth again with `teramind-data phantom`",
                )
            rows = [_numbers(row, path, line) for line, row in enumerate(reader, start=2)]
    except FileNotFoundError:
        raise MissingInputError(
            "no cell table for a section",
            where=path,
            expected="<truth>/<section name>/cells.csv",
            remedy="Point --truth at the brain's folder in the phantom's truth, or leave it out",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "cell table cannot be read",
            where=path,
            expected="comma-separated values in UTF-8",
            found=error,
            remedy="Save it as UTF-8, or write the truth again with `teramind-data phantom`",
        ) from None
    table = np.array(rows, dtype=np.float64).reshape(-1, len(_COLUMNS))
    # Centre of pixel i is i: the canvas reaches from -0.5 to size - 0.5.
    inside = np.all((table[:, :2] >= -0.5) & (table[:, :2] < np.asarray(canvas) - 0.5), axis=1)
    return TruthCells(table[inside, :2], table[inside, 2])


def _numbers(row: dict[str, str], path: Path, line: int) -> list[float]:
    values = []
    for name in _COLUMNS:
        try:
            value = float(row[name])
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise InputError(
                "cell table holds no number",
                where=f"{path}, line {line}, column {name}",
                expected="a number",
                found=repr(row[name]),
                remedy="Write the truth again with `teramind-data phantom`",
            )
        values.append(value)
    return values
