"""A MERSCOPE section folder: what is in it, and its transcripts as a stream of bounded batches."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest.transforms import Affine
from teramind_data.panel import Panel, canonical, is_control

if TYPE_CHECKING:
    import polars as pl

TRANSCRIPT_FILES = ("detected_transcripts.parquet", "detected_transcripts.csv", "detected_transcripts.csv.gz")
COLUMNS = ("global_x", "global_y", "gene")
_MOSAIC = re.compile(r"^mosaic_(?P<stain>.+)_z(?P<z>\d+)\.tiff?$", re.IGNORECASE)
_BATCH_ROWS = 500_000  # about 30 MB with names; the stream holds a few batches at a time


@dataclass(frozen=True)
class SectionFolder:
    """The files of one section folder in the vendor's layout.

    mosaics: stain to z plane to file. micron_to_mosaic: section um to image pixels.
    """

    path: Path
    transcripts: Path
    mosaics: Mapping[str, Mapping[int, Path]]
    micron_to_mosaic: Affine
    micron_to_mosaic_file: Path
    cell_by_gene: Path | None

    def image(self, stain: str, z_plane: int | None) -> Path:
        """The mosaic of a stain: the z plane asked for, or the middle one there is."""
        planes = self.mosaics.get(stain)
        if not planes:
            raise MissingInputError(
                f"section has no {stain} image",
                where=self.path / "images",
                expected=f"mosaic_{stain}_z*.tif",
                found=", ".join(self.mosaics) or "no mosaics",
                remedy="Restore the file, exclude the section, or list other stains in the manifest",
            )
        if z_plane is None:
            ordered = sorted(planes)
            return planes[ordered[len(ordered) // 2]]
        if z_plane not in planes:
            raise MissingInputError(
                f"section has no {stain} image of plane z{z_plane}",
                where=self.path / "images",
                found=", ".join(f"z{z}" for z in sorted(planes)),
                remedy="Set z_plane in the manifest to one there is",
            )
        return planes[z_plane]


def find_transcripts(folder: Path) -> Path | None:
    """The transcript file of a section folder, or None."""
    return next((folder / name for name in TRANSCRIPT_FILES if (folder / name).is_file()), None)


def read_folder(folder: Path) -> SectionFolder:
    """Look into a section folder.

    Raises:
        MissingInputError: no folder, no transcripts, no images or no micron-to-mosaic matrix; names the path.
        InputError: the matrix is no affine.
    """
    if not folder.is_dir():
        raise MissingInputError(
            "section folder not found", where=folder, remedy="Correct its name in the manifest"
        )
    transcripts = find_transcripts(folder)
    if transcripts is None:
        raise MissingInputError(
            "section folder has no transcripts",
            where=folder,
            expected=" or ".join(TRANSCRIPT_FILES),
            remedy="Restore the file, or exclude the section in the manifest and say why",
        )
    images = folder / "images"
    mosaics: dict[str, dict[int, Path]] = {}
    for file in sorted(images.glob("*")) if images.is_dir() else []:
        match = _MOSAIC.match(file.name)
        if match:
            mosaics.setdefault(match["stain"], {})[int(match["z"])] = file
    if not mosaics:
        raise MissingInputError(
            "section folder has no images",
            where=images,
            expected="mosaic_<stain>_z<k>.tif",
            remedy="Restore the files, or exclude the section in the manifest and say why",
        )
    matrix_file = images / "micron_to_mosaic_pixel_transform.csv"
    table = folder / "cell_by_gene.csv"
    return SectionFolder(
        folder,
        transcripts,
        mosaics,
        _read_matrix(matrix_file),
        matrix_file,
        table if table.is_file() else None,
    )


def _read_matrix(file: Path) -> Affine:
    if not file.is_file():
        raise MissingInputError(
            "section folder has no micron-to-mosaic matrix",
            where=file,
            remedy="Restore the file from the instrument",
        )
    try:
        rows = [line.replace(",", " ").split() for line in file.read_text().splitlines() if line.strip()]
        matrix = np.array([[float(cell) for cell in row] for row in rows])
    except (ValueError, UnicodeDecodeError):
        matrix = np.empty((0, 0))
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise InputError(
            "micron-to-mosaic matrix is not readable",
            where=file,
            expected="3 rows of 3 numbers",
            found=f"{matrix.shape[0]} x {matrix.shape[1] if matrix.ndim == 2 else 0}",
            remedy="Restore the file from the instrument",
        )
    return Affine(matrix[:2])


def pixel_size_um(folder: SectionFolder) -> float:
    """Edge of an image pixel: from the area scale of the micron-to-mosaic matrix."""
    return float(1.0 / np.sqrt(abs(np.linalg.det(folder.micron_to_mosaic.matrix[:, :2]))))


def scan_transcripts(file: Path) -> pl.LazyFrame:
    """A lazy table of ``global_x``, ``global_y`` (um) and ``gene``; InputError where a column is missing."""
    import polars as pl

    try:
        if file.suffix == ".parquet":
            frame = pl.scan_parquet(file, glob=False)
        else:
            types = {"global_x": pl.Float64, "global_y": pl.Float64, "gene": pl.String}
            frame = pl.scan_csv(file, schema_overrides=types, infer_schema_length=0, glob=False)
        columns = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, error) from error
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"transcript file lacks {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}",
            where=file,
            expected=", ".join(COLUMNS),
            found=", ".join(name or "(unnamed)" for name in columns[:12]) or "nothing",
            remedy="Export the transcripts again with these columns",
        )
    return frame.select(
        pl.col("global_x").cast(pl.Float64),
        pl.col("global_y").cast(pl.Float64),
        pl.col("gene").cast(pl.String),
    )


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(
        "transcript file is not readable",
        where=file,
        expected="numbers in global_x and global_y, text in gene",
        found=str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__,
        remedy="Copy the file again from its source",
    )


def stream_tables(file: Path) -> Iterator[pl.DataFrame]:
    """The file's rows in file order, a bounded batch at a time."""
    import polars as pl

    frame = scan_transcripts(file)
    try:
        yield from frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, error) from error


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

    def to_panel(self, panel: Panel) -> NDArray[np.int64]:
        """Index in the panel of each number, -1 where the panel lacks the gene."""
        known = panel.lookup()
        return np.array([known.get(canonical(name), -1) for name in self.names], dtype=np.int64)


@dataclass
class TranscriptCount:
    """What a transcript file holds: rows, controls among them, and rows without a finite place."""

    rows: int = 0
    controls: int = 0
    not_finite: int = 0


def stream_transcripts(
    file: Path, names: GeneNames, count: TranscriptCount
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Batches of ``xy`` (n, 2) in section um and ``code`` (n,), the number of the gene in ``names``.

    Controls and rows without a finite place are dropped and counted.
    """
    for table in stream_tables(file):
        xy = np.column_stack([table["global_x"].to_numpy(), table["global_y"].to_numpy()])
        code = _encode(table["gene"], names)
        finite = np.isfinite(xy).all(axis=1)
        count.rows += len(xy)
        count.controls += int((code < 0).sum())
        count.not_finite += int((~finite).sum())
        keep = finite & (code >= 0)
        yield xy[keep], code[keep]


def _encode(column: pl.Series, names: GeneNames) -> NDArray[np.int64]:
    """Numbers of a batch's names, looked up once for each distinct name."""
    import polars as pl

    filled = column.fill_null("")
    distinct: list[str] = filled.unique(maintain_order=True).to_list()
    codes = [names.code(name) for name in distinct]
    return filled.replace_strict(distinct, codes, return_dtype=pl.Int64).to_numpy()


def table_genes(folder: SectionFolder) -> tuple[str, ...]:
    """Genes in the header of ``cell_by_gene.csv``, in its order, controls dropped; empty without the file."""
    if folder.cell_by_gene is None:
        return ()
    try:
        with folder.cell_by_gene.open(encoding="utf-8-sig", newline="") as handle:
            header = next(csv.reader(handle), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("gene table is not readable", where=folder.cell_by_gene, found=error) from error
    return tuple(name for name in header[1:] if name.strip() and not is_control(name))


def collect_panel(headers: Iterable[tuple[str, ...]], names: Iterable[str]) -> Panel:
    """All genes of a brain: those of the gene tables in their order, then others met in transcripts, by name."""
    genes: dict[str, str] = {}
    for name in (*(name for header in headers for name in header), *sorted(names)):
        genes.setdefault(canonical(name), name)
    if not genes:
        raise InputError(
            "brain has no genes",
            expected="transcripts of at least one gene that is no control",
            remedy="Check the gene column of the transcript files",
        )
    return Panel(tuple(genes.values()))
