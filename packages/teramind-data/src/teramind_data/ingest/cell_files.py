"""The files of a section that say where its cells are and what they hold, as MERSCOPE writes them.

``cell_boundaries.parquet`` (EntityID, ZIndex, Geometry as WKB in um), ``cell_by_gene.csv`` (a row a cell, its id first)
and ``cell_metadata.csv`` (id first). Ids are text here: those of older instruments have 39 digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest.annotation_entries import CellsEntry
from teramind_data.ingest.paths import inside

if TYPE_CHECKING:
    import polars as pl
    import scipy.sparse

_NAMES = {
    "boundaries": "cell_boundaries.parquet",
    "counts": "cell_by_gene.csv",
    "metadata": "cell_metadata.csv",
}
_BATCH = 8192  # outlines, or rows of a table, held at once
_LARGEST_ROW_GROUP = 1 << 30
_EMPTY_WKB = 13  # bytes: a polygon or multipolygon without a ring has 9
_PLACES = (
    "center_x",
    "center_y",
    "min_x",
    "min_y",
    "max_x",
    "max_y",
)  # in section um: outlines say it on the canvas


@dataclass(frozen=True)
class CellFiles:
    """A section's files of cells; None for one that is not there. z_index: the plane whose outlines are wanted."""

    folder: Path
    boundaries: Path | None
    counts: Path | None
    metadata: Path | None
    z_index: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that there are."""
        return tuple(file for file in (self.boundaries, self.counts, self.metadata) if file is not None)

    def lacks(self) -> str | None:
        """What a person should know is missing, and what follows."""
        missing = [name for key, name in _NAMES.items() if getattr(self, key) is None]
        if not missing:
            return None
        if self.boundaries is None:
            old = (
                " (cell_boundaries/*.hdf5 is not read)" if (self.folder / "cell_boundaries").is_dir() else ""
            )
            return f"no {_NAMES['boundaries']}{old}, so no cells"
        return (
            f"no {' and no '.join(missing)}: cells have no {'counts' if self.counts is None else 'measures'}"
        )


def find_cells(folder: Path, entry: CellsEntry | None, z_index: int | None) -> CellFiles | None:
    """A section's files of cells, headers checked; None where there is none.

    Raises:
        MissingInputError: one that the manifest names is not there.
        InputError: unreadable, or without the columns; names the file.
    """
    entry = entry or CellsEntry()
    found: dict[str, Path | None] = {}
    for key, name in _NAMES.items():
        given = getattr(entry, key)
        file = folder / name if given is None else inside(folder, given, "file of cells")
        if given is not None and not file.is_file():
            raise MissingInputError(
                "file of cells not found", where=file, remedy="Correct cells in the manifest"
            )
        found[key] = file if file.is_file() else None
    plane = z_index if entry.z_index is None else entry.z_index
    files = CellFiles(folder, found["boundaries"], found["counts"], found["metadata"], plane)
    if files.boundaries is not None:
        boundary_columns(files.boundaries)
    elif not files.files:
        return None
    return files


def boundary_columns(file: Path) -> tuple[str, str | None, str]:
    """Columns of the cell's id, its z plane and its outline."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
        names = metadata.schema.to_arrow_schema().names
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error
    largest = max((metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), default=0)
    if largest > _LARGEST_ROW_GROUP:
        raise InputError(
            "cell outlines have a row group too large to hold",
            where=file,
            expected=f"at most {_LARGEST_ROW_GROUP:,} bytes decoded",
            found=f"{largest:,}",
            remedy="Write it again with smaller row groups",
        )
    identity = next((name for name in ("EntityID", "ID") if name in names), None)
    outline = next((name for name in ("Geometry", "geometry") if name in names), None)
    if identity is None or outline is None:
        raise InputError(
            "cell outlines lack a column",
            where=file,
            expected="EntityID and Geometry",
            found=", ".join(names[:12]) or "nothing",
            remedy="Restore the file from the instrument, or leave cells out (cells: none)",
        )
    return identity, "ZIndex" if "ZIndex" in names else None, outline


def outlines(file: Path, wanted_z: int | None) -> Iterator[tuple[list[str], NDArray[np.int32], NDArray[Any]]]:
    """Batches of ids, z planes and outlines (WKB), one a cell, in the file's order.

    Of each cell the outline of the plane ``wanted_z`` (else the middle one there is), or the nearest that it has.
    """
    chosen = _choose(file, wanted_z)
    at = 0
    for ids, z, geometry in _batches(file):
        part = chosen[np.searchsorted(chosen, at) : np.searchsorted(chosen, at + len(ids))] - at
        at += len(ids)
        if len(part):
            yield [ids[i] for i in part.tolist()], z[part], geometry.take(part).to_numpy(zero_copy_only=False)


def _choose(file: Path, wanted_z: int | None) -> NDArray[np.int64]:
    """Numbers of the rows to take, rising."""
    import polars as pl

    ids: list[pl.Series] = []
    planes, usable = [], []
    for names, z, geometry in _batches(file):
        import pyarrow.compute as pc

        ids.append(pl.Series("id", names, dtype=pl.String))
        planes.append(z)
        length = pc.fill_null(pc.binary_length(geometry), 0)
        usable.append(np.asarray(length) > _EMPTY_WKB)
    if not ids:
        return np.zeros(0, np.int64)
    table = pl.DataFrame({"id": pl.concat(ids), "z": np.concatenate(planes)}).with_row_index("row")
    table = table.filter(pl.Series(np.concatenate(usable)))
    if not len(table):
        return np.zeros(0, np.int64)
    there = table["z"].unique().sort()
    middle = int(there[len(there) // 2]) if wanted_z is None else wanted_z
    nearest = table.sort((pl.col("z") - middle).abs(), pl.col("z"), pl.col("row"))
    rows = nearest.unique("id", keep="first", maintain_order=True)["row"].sort()
    return rows.to_numpy().astype(np.int64)


def _batches(file: Path) -> Iterator[tuple[list[str], NDArray[np.int32], Any]]:
    """Ids, z planes and outlines (an Arrow array of binary) of a file, some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    identity, plane, outline = boundary_columns(file)
    columns = [identity, outline] + ([] if plane is None else [plane])
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_BATCH, columns=columns):
                geometry: Any = batch.column(outline)
                geometry = getattr(geometry, "storage", geometry).cast(pa.large_binary())
                ids = [str(name) for name in batch.column(identity).to_pylist()]
                z = np.zeros(len(ids), np.int32)
                if plane is not None:
                    z = batch.column(plane).cast(pa.int32()).to_numpy(zero_copy_only=False).astype(np.int32)
                yield ids, z, geometry
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def read_counts(
    file: Path, rows: Mapping[str, int], columns: Mapping[str, int], shape: tuple[int, int]
) -> tuple[scipy.sparse.csr_matrix, NDArray[np.bool_]]:
    """Counts ``shape`` (cells, genes) of the cells and genes wanted, and which cells the table has.

    ``rows``: place of each cell's id; ``columns``: place of each of the file's names. Read some rows at a time.
    """
    import polars as pl
    import scipy.sparse

    identity, names = _table_columns(file)
    wanted = [name for name in names if name in columns]
    place = np.array([columns[name] for name in wanted], np.int64)
    types = {identity: pl.String, **dict.fromkeys(wanted, pl.Float32)}
    pieces: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    there = np.zeros(shape[0], bool)
    for table in _tables(file, [identity, *wanted], types):
        row = np.array([rows.get(name, -1) for name in table[identity].to_list()], np.int64)
        values = table.select(wanted).to_numpy().astype(np.float32)
        if np.isnan(values).any() or values.min(initial=0) < 0:
            raise InputError(
                "cell counts hold what is no count",
                where=file,
                expected="numbers from 0 up",
                remedy="Restore the file from the instrument",
            )
        there[row[row >= 0]] = True
        i, j = np.nonzero(values * (row >= 0)[:, None])
        pieces.append((values[i, j], row[i], place[j]))
    if not pieces:
        return scipy.sparse.csr_matrix(shape, dtype=np.float32), there
    data, at_row, at_column = (np.concatenate([piece[k] for piece in pieces]) for k in range(3))
    counts: Any = scipy.sparse.coo_matrix((data, (at_row, at_column)), shape)
    return counts.tocsr(), there


def count_names(file: Path) -> list[str]:
    """Names in the header of a table of counts, without the id's."""
    return _table_columns(file)[1]


def measure_names(file: Path | None) -> list[str]:
    """Numeric columns of a table of measures, those left out that outlines tell better."""
    import polars as pl

    if file is None:
        return []
    identity, names = _table_columns(file)
    try:
        schema = pl.scan_csv(file, schema_overrides={identity: pl.String}).collect_schema()
    except pl.exceptions.PolarsError as error:
        raise _unreadable(file, error) from error
    return [name for name in names if name not in _PLACES and schema[name].is_numeric()]


def read_measures(file: Path, rows: Mapping[str, int], columns: list[str]) -> NDArray[np.float64]:
    """Measures ``(cells, columns)`` of the cells wanted; NaN where the table has none."""
    import polars as pl

    out = np.full((len(rows), len(columns)), np.nan)
    identity, names = _table_columns(file)
    wanted = [name for name in columns if name in names]
    place = np.array([columns.index(name) for name in wanted], np.int64)
    types = {identity: pl.String, **dict.fromkeys(wanted, pl.Float64)}
    for table in _tables(file, [identity, *wanted], types):
        row = np.array([rows.get(name, -1) for name in table[identity].to_list()], np.int64)
        values = table.select(wanted).to_numpy()
        out[np.ix_(row[row >= 0], place)] = values[row >= 0]
    return out


def _table_columns(file: Path) -> tuple[str, list[str]]:
    """The id's column (the first) and the others."""
    import polars as pl

    try:
        names = pl.read_csv(file, n_rows=0, infer_schema=False).columns
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, error) from error
    if len(names) < 2:
        raise _unreadable(file, ValueError(f"{len(names)} columns"))
    return names[0], names[1:]


def _tables(file: Path, columns: list[str], types: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    import polars as pl

    try:
        frame = pl.scan_csv(file, schema_overrides=dict(types), infer_schema=False).select(columns)
        yield from frame.collect_batches(chunk_size=_BATCH, maintain_order=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> InputError:
    text = str(error).strip()
    return InputError(
        "file of cells is not readable",
        where=file,
        found=text.splitlines()[0][:200] if text else type(error).__name__,
        remedy="Copy it again from its source, or leave cells out (cells: none in the manifest)",
    )
