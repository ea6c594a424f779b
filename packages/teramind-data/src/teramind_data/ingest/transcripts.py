"""Transcript tables of any vendor's columns, as a stream of bounded batches.

Formats: csv, csv.gz, csv.zst, parquet. Columns: a preset, or a mapping from the manifest; z planes pooled or selected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.ingest.compressed import is_compressed, line_blocks
from teramind_data.panel import Panel, canonical, is_control

if TYPE_CHECKING:
    import polars as pl

TRANSCRIPT_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")
_BATCH_ROWS = 500_000  # about 30 MB with names; the stream holds a few batches at a time
_LARGEST_ROW_GROUP = 2 << 30  # bytes declared decoded in the columns we read
_PLANE_TOLERANCE = 0.01  # planes are whole numbers (MERSCOPE) or um (spot tables)


@dataclass(frozen=True)
class Columns:
    """Names of the columns: ``x``, ``y`` in um of the section, ``gene``, and ``z`` (plane) where planes are chosen."""

    x: str
    y: str
    gene: str
    z: str | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that must be there whatever is chosen."""
        return self.x, self.y, self.gene


#: merscope: Vizgen's detected_transcripts. allen: the spot tables of the Brain Image Library's MERFISH collections.
PRESETS: Mapping[str, Columns] = {
    "merscope": Columns("global_x", "global_y", "gene", "global_z"),
    "allen": Columns("global_x", "global_y", "target_molecule_name", "global_z"),
}


@dataclass(frozen=True)
class TranscriptSource:
    """A transcript file and how to read it.

    columns: None takes the first preset whose columns the file has. z_planes: values of the z column to keep; None
    pools all.
    """

    file: Path
    columns: Columns | None = None
    z_planes: tuple[float, ...] | None = None


@dataclass
class TranscriptCount:
    """What a transcript file holds: rows, and among them what was left out and why.

    A row counts under each heading that applies to it; rows of planes that were not chosen under that one only.
    """

    rows: int = 0
    controls: int = 0
    not_finite: int = 0
    no_gene: int = 0
    other_planes: int = 0

    def warnings(self) -> tuple[str, ...]:
        """What a person should know of, one line each: rows without a place, rows without a gene."""
        told = (
            (self.not_finite, "rows without a finite place were left out"),
            (self.no_gene, "rows without a gene were left out"),
        )
        return tuple(f"{number:,} of {self.rows:,} {text}" for number, text in told if number)


@dataclass
class GeneNames:
    """Numbers for the names met in transcript files, in the order they are met; controls have none."""

    names: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        """The number of a name, or -1 for blanks, negative controls and empty names."""
        if name not in self.codes:
            control = not name.strip() or is_control(name)
            self.codes[name] = -1 if control else len(self.names)
            if not control:
                self.names.append(name)
        return self.codes[name]

    def to_panel(self, panel: Panel, aliases: Mapping[str, str] | None = None) -> NDArray[np.int64]:
        """Index in the panel of each number, -1 where the panel lacks the gene."""
        known = panel.lookup(aliases)
        return np.array([known.get(canonical(name, aliases), -1) for name in self.names], dtype=np.int64)


def as_source(source: TranscriptSource | Path) -> TranscriptSource:
    """A bare file is read by the first preset that fits, all planes pooled."""
    return source if isinstance(source, TranscriptSource) else TranscriptSource(source)


def scan_transcripts(source: TranscriptSource | Path) -> pl.LazyFrame:
    """A lazy table of ``x``, ``y`` (um), ``gene`` and, where planes are chosen, ``z``.

    Of a compressed file the table holds the head only: it is for checking. Raises InputError where the file is not
    readable, a column is missing, or a parquet file declares row groups too large to hold.
    """
    import polars as pl

    source = as_source(source)
    file = source.file
    try:
        if file.suffix.lower() == ".parquet":
            _check_row_groups(file)
            frame = pl.scan_parquet(file, glob=False)
        elif is_compressed(file):
            block = next(line_blocks(file, 1 << 16), b"")
            frame = _parse(block, _columns(source, _header(block)), None).lazy()
        else:
            names = pl.scan_csv(file, infer_schema=False, glob=False).collect_schema().names()
            types = _types(_columns(source, names), names)
            frame = pl.scan_csv(file, infer_schema=False, schema_overrides=types, glob=False)
        names = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(source, error) from error
    return _select(frame, _columns(source, names), source)


def stream_tables(source: TranscriptSource | Path) -> Iterator[pl.DataFrame]:
    """The file's rows in file order, a bounded batch at a time, with columns as in ``scan_transcripts``."""
    import polars as pl

    source = as_source(source)
    frame = scan_transcripts(source)
    rows = 0
    try:
        if is_compressed(source.file):
            yield from _stream_blocks(source)
            return
        if source.file.suffix.lower() == ".parquet":
            tables = _stream_row_groups(source)
        else:
            tables = frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)
        for table in tables:
            rows += len(table)
            yield table
    except (pl.exceptions.PolarsError, OSError, _arrow_error()) as error:
        raise _unreadable(source, error) from error
    declared = _declared_rows(source.file)
    if declared is not None and declared != rows:
        raise InputError(
            "transcript file holds another number of rows than it declares",
            where=source.file,
            expected=f"{declared:,}",
            found=f"{rows:,}",
            remedy="Copy the file again from its source",
        )


def stream_transcripts(
    source: TranscriptSource | Path, names: GeneNames, count: TranscriptCount
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Batches of ``xy`` (n, 2) in section um and ``code`` (n,), the number of the gene in ``names``.

    Controls, rows without a gene or a finite place and rows of planes not chosen are dropped and counted.
    """
    source = as_source(source)
    for table in stream_tables(source):
        count.rows += len(table)
        if source.z_planes is not None:
            z = table["z"].fill_null(np.nan).to_numpy()
            chosen = (np.abs(z[:, None] - np.array(source.z_planes)) <= _PLANE_TOLERANCE).any(axis=1)
            count.other_planes += int((~chosen).sum())
            table = table.filter(chosen)
        xy = np.column_stack(
            [table["x"].fill_null(np.nan).to_numpy(), table["y"].fill_null(np.nan).to_numpy()]
        )
        code, nameless = _encode(table["gene"], names)
        finite = np.isfinite(xy).all(axis=1)
        count.no_gene += nameless
        count.controls += int((code < 0).sum()) - nameless
        count.not_finite += int((~finite).sum())
        keep = finite & (code >= 0)
        yield xy[keep], code[keep]


def _encode(column: pl.Series, names: GeneNames) -> tuple[NDArray[np.int64], int]:
    """Numbers of a batch's names, looked up once for each distinct name; and how many rows have no name."""
    import polars as pl

    filled = column.fill_null("")
    distinct: list[str] = filled.unique(maintain_order=True).to_list()
    codes = [names.code(name) for name in distinct]
    nameless = int(filled.is_in([name for name in distinct if not name.strip()]).sum())
    return filled.replace_strict(distinct, codes, return_dtype=pl.Int64).to_numpy(), nameless


def _columns(source: TranscriptSource, names: list[str]) -> Columns:
    """The columns to read: those given, else the first preset that the file's header has."""
    choices = [source.columns] if source.columns is not None else list(PRESETS.values())
    for columns in choices:
        needed = [*columns.needed]
        if source.z_planes is not None:
            needed.append(columns.z or "a z column, named in the manifest")
        if set(needed) <= set(names):
            return columns
    # Of several presets, tell what the nearest lacks.
    nearest = min(choices, key=lambda columns: len(set(columns.needed) - set(names)))
    needed = [*nearest.needed]
    if source.z_planes is not None:
        needed.append(nearest.z or "a z column, named in the manifest")
    missing = [name for name in needed if name not in names]
    raise InputError(
        f"transcript file lacks {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}",
        where=source.file,
        expected=", ".join(needed),
        found=", ".join(name or "(unnamed)" for name in names[:12]) or "nothing",
        remedy="Name its columns in the manifest (transcripts.columns), or export it again with these",
    )


def _select(frame: pl.LazyFrame, columns: Columns, source: TranscriptSource) -> pl.LazyFrame:
    import polars as pl

    chosen = [
        pl.col(columns.x).cast(pl.Float64).alias("x"),
        pl.col(columns.y).cast(pl.Float64).alias("y"),
        pl.col(columns.gene).cast(pl.String).alias("gene"),
    ]
    if source.z_planes is not None and columns.z is not None:
        chosen.append(pl.col(columns.z).cast(pl.Float64).alias("z"))
    return frame.select(chosen)


def _stream_row_groups(source: TranscriptSource) -> Iterator[pl.DataFrame]:
    """A parquet file a batch at a time. By pyarrow: polars reads row groups ahead, with no bound on their bytes."""
    import polars as pl
    import pyarrow.parquet as pq

    with pq.ParquetFile(source.file, pre_buffer=False) as file:
        columns = _columns(source, file.schema_arrow.names)
        wanted = list(
            dict.fromkeys(
                [*columns.needed, *([columns.z] if source.z_planes is not None and columns.z else [])]
            )
        )
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
            table = pl.from_arrow(batch)
            if isinstance(table, pl.DataFrame):
                yield _select(table.lazy(), columns, source).collect()


def _arrow_error() -> type[Exception]:
    import pyarrow as pa

    return pa.ArrowException


def _stream_blocks(source: TranscriptSource) -> Iterator[pl.DataFrame]:
    """A compressed CSV, a block of whole lines at a time."""
    header: list[str] | None = None
    columns: Columns | None = None
    for block in line_blocks(source.file):
        if block.isspace():
            continue
        if header is None or columns is None:
            header = _header(block)
            columns = _columns(source, header)
            frame = _parse(block, columns, None)
        else:
            frame = _parse(block, columns, header)
        table = _select(frame.lazy(), columns, source).collect()
        for start in range(0, len(table), _BATCH_ROWS):
            yield table.slice(start, _BATCH_ROWS)


def _header(block: bytes) -> list[str]:
    """The column names in a block's first line."""
    import polars as pl

    return pl.read_csv(block, n_rows=0, infer_schema=False).columns


def _types(columns: Columns, names: list[str]) -> dict[str, Any]:
    import polars as pl

    numbers = [columns.x, columns.y, *([] if columns.z is None else [columns.z])]
    return {name: pl.Float64 for name in numbers if name in names}


def _parse(block: bytes, columns: Columns, header: list[str] | None) -> pl.DataFrame:
    """A block of CSV; its first line is the header where none is given."""
    import polars as pl

    types = _types(columns, header or _header(block))
    if header is None:
        return pl.read_csv(block, infer_schema=False, schema_overrides=types)
    schema = {name: types.get(name, pl.String) for name in header}
    return pl.read_csv(block, has_header=False, schema=schema)


def _check_row_groups(file: Path) -> None:
    """Refuse a parquet file one of whose row groups is declared too large to hold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(TranscriptSource(file), error) from error
    largest = max((metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), default=0)
    if largest > _LARGEST_ROW_GROUP:
        raise InputError(
            "transcript file has a row group too large to hold",
            where=file,
            expected=f"at most {_LARGEST_ROW_GROUP:,} bytes decoded",
            found=f"{largest:,}",
            remedy="Write it again with smaller row groups",
        )


def _declared_rows(file: Path) -> int | None:
    if file.suffix.lower() != ".parquet":
        return None
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def _unreadable(source: TranscriptSource, error: Exception) -> InputError:
    columns = source.columns or PRESETS["merscope"]
    text = str(error).strip()
    return InputError(
        "transcript file is not readable",
        where=source.file,
        expected=f"numbers in {columns.x} and {columns.y}, text in {columns.gene}",
        found=text.splitlines()[0][:200] if text else type(error).__name__,
        remedy="Copy the file again from its source",
    )
