"""A report's numbers read back from its folder, checked against the schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from teramind_data.errors import InputError
from teramind_eval.report.output import METRICS, TABLE
from teramind_eval.results import SCHEMA_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns of `metrics.parquet` that its readers need; a report may have more.
COLUMNS = ("store", "role", "section", "name", "measure", "stain", "mean", "sd", "n")

#: Column that names a region, empty for everywhere; reports of earlier versions lack it.
REGION = "region"

#: Value of `section` for the whole brain.
BRAIN = -1

#: What to do about damaged files of a report: a folder whose numbers cannot be read is not replaced by `--overwrite`.
_AGAIN = "Remove the report's folder and make it again with `teramind-eval report`"


class Loose(BaseModel):
    """What of a report its readers need."""

    # Reports of later versions may say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class SavedSettings(Loose):
    """Sizes that it measured with, px, what found nuclei, and the part of the canvas (None: all) y0, y1, x0, x1 px."""

    tile_px: int
    patch_px: int
    nuclei: dict[str, Any] = {}
    inside: tuple[int, int, int, int] | None = None


class SavedTable(Loose):
    """What tells a table of true nuclei from others, wherever it lies."""

    bytes: int = 0
    sha256: str = ""

    def same_as(self, other: SavedTable) -> bool:
        """Whether both are one table: by content; by size where one is of an earlier version, without a hash."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return self.bytes == other.bytes


class SavedInput(Loose):
    """What tells a store, a file of weights, or a truth (its tables by section) from others."""

    provenance_sha256: str = ""
    sha256: str = ""
    tables: dict[str, SavedTable] = {}


class SavedSection(Loose):
    """A section of a store."""

    name: str


class SavedStore(Loose):
    """A store with its numbers for the whole brain."""

    label: str
    role: Literal["real", "generated", "control"]
    url: str
    brain: dict[str, Any]
    sections: list[SavedSection]


class SavedMetrics(Loose):
    """`metrics.json`."""

    schema_version: int
    settings: SavedSettings
    inputs: dict[str, SavedInput]
    stores: list[SavedStore]
    versions: dict[str, str] = {}
    made: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []

    def provenance_of(self, label: str) -> str:
        """SHA-256 of the provenance of the store so labelled; empty where the report does not say."""
        return self.inputs.get(label, SavedInput()).provenance_sha256


def read_metrics(folder: Path) -> SavedMetrics:
    """`metrics.json` of a report; InputError in one line where it is not one of this version."""
    file = folder / METRICS
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("report cannot be read", where=file, found=repr(error), remedy=_AGAIN) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            "report has another schema version",
            where=file,
            expected=SCHEMA_VERSION,
            found=version,
            remedy="Make it again with this version of teramind-eval",
        )
    try:
        return SavedMetrics.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = f"{place}: {first['msg']}"
        raise InputError("report is damaged", where=file, found=found, remedy=_AGAIN) from None


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of `metrics.parquet` of a report, `COLUMNS` each, of everywhere (not of single regions).

    InputError in one line where it has other columns.
    """
    import pyarrow.compute as pc

    table = read_table(folder / TABLE, COLUMNS)
    if REGION in table.column_names:
        table = table.filter(pc.equal(table[REGION], ""))
    rows: list[dict[str, Any]] = table.select(list(COLUMNS)).to_pylist()
    return rows


def read_table(file: Path, columns: Sequence[str]) -> pa.Table:
    """One of a report's parquet files, whole; InputError in one line where it cannot be read or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            "report's table cannot be read", where=file, found=repr(error), remedy=_AGAIN
        ) from None
    lacking = [name for name in columns if name not in table.column_names]
    if lacking:
        raise InputError(
            "report's table lacks columns",
            where=file,
            expected=", ".join(columns),
            found=f"no {', '.join(lacking)}",
            remedy=_AGAIN,
        )
    return table
