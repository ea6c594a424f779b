"""A section folder: what is in it, in the vendor's layout or where the manifest says."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest.images import ImageSource, ZChoice
from teramind_data.ingest.paths import inside
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.transcripts import (
    TRANSCRIPT_SUFFIXES,
    Columns,
    GeneNames,
    TranscriptCount,
    TranscriptSource,
    scan_transcripts,
    stream_transcripts,
)
from teramind_data.ingest.transforms import Affine, scaling
from teramind_data.panel import Panel, canonical, is_control

#: Files that are taken for a section's transcripts, the first there is.
TRANSCRIPT_FILES = tuple(
    stem + suffix for stem in ("detected_transcripts", "spots") for suffix in TRANSCRIPT_SUFFIXES
)
_MOSAIC = re.compile(r"^mosaic_(?P<stain>.+)_z(?P<z>\d+)\.tiff?$", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """What a manifest says of a section's files; without it all is at the vendor's places.

    transcripts: file relative to the section's folder. images: stain to (file, channel, z plane). z_plane: of the
    stains that do not say. pixel_size_um: of the images, where neither matrix nor image tells.
    """

    transcripts: str | None = None
    columns: Columns | None = None
    z_planes: tuple[float, ...] | None = None
    images: Mapping[str, tuple[str, int | str | None, ZChoice]] = field(default_factory=dict)
    z_plane: ZChoice = None
    pixel_size_um: float | None = None


@dataclass(frozen=True)
class SectionFolder:
    """The files of one section folder.

    mosaics: stain to z plane to file (a file named in the manifest stands at plane 0). micron_to_mosaic: section um to
    image pixels, from ``micron_to_mosaic_file``.
    """

    path: Path
    transcripts: Path
    mosaics: Mapping[str, Mapping[int, Path]]
    micron_to_mosaic: Affine
    micron_to_mosaic_file: Path
    cell_by_gene: Path | None
    layout: Layout = field(default_factory=Layout)

    @property
    def transcript_source(self) -> TranscriptSource:
        """The transcript file and how to read it."""
        return TranscriptSource(self.transcripts, self.layout.columns, self.layout.z_planes)

    def image_source(self, stain: str) -> ImageSource:
        """Where the pixels of a stain are: the manifest's file, or the mosaics at the plane asked for.

        Without one asked for, the middle plane there is. Raises MissingInputError naming what is not there.
        """
        planes = self.mosaics.get(stain)
        if not planes:
            raise MissingInputError(
                f"section has no {stain} image",
                where=self.path / "images",
                expected=f"mosaic_{stain}_z*.tif",
                found=", ".join(self.mosaics) or "no mosaics",
                remedy="Restore the file, exclude the section, or list other stains in the manifest",
            )
        if stain in self.layout.images:
            _, channel, z = self.layout.images[stain]
            return ImageSource((planes[0],), channel, self.layout.z_plane if z is None else z, stain)
        ordered = sorted(planes)
        z = self.layout.z_plane
        if z == "max":
            return ImageSource(tuple(planes[k] for k in ordered), stain=stain)
        return ImageSource((self.image(stain, z),), stain=stain)

    def image(self, stain: str, z_plane: ZChoice) -> Path:
        """The mosaic of a stain: the z plane asked for, or the middle one there is."""
        planes = self.mosaics.get(stain)
        if not planes:
            return self.image_source(stain).path  # says what is missing
        if z_plane is None:
            ordered = sorted(planes)
            return planes[ordered[len(ordered) // 2]]
        if z_plane == "max" or z_plane not in planes:
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


def read_folder(folder: Path, layout: Layout | None = None) -> SectionFolder:
    """Look into a section folder.

    Raises:
        MissingInputError: no folder, no transcripts, no images or no micron-to-mosaic matrix; names the path.
        InputError: the matrix is no affine, or a path leads out of the folder.
    """
    layout = layout or Layout()
    if not folder.is_dir():
        raise MissingInputError(
            "section folder not found", where=folder, remedy="Correct its name in the manifest"
        )
    transcripts = find_transcripts(folder)
    if layout.transcripts is not None:
        transcripts = inside(folder, layout.transcripts, "transcript file")
    if transcripts is None or not transcripts.is_file():
        raise MissingInputError(
            "section folder has no transcripts",
            where=folder,
            expected=layout.transcripts or " or ".join(TRANSCRIPT_FILES[:4]),
            remedy="Restore the file, or exclude the section in the manifest and say why",
        )
    mosaics = _mosaics(folder, layout)
    matrix, matrix_file = _micron_to_mosaic(folder, layout, mosaics)
    table = folder / "cell_by_gene.csv"
    return SectionFolder(
        folder, transcripts, mosaics, matrix, matrix_file, table if table.is_file() else None, layout
    )


def _mosaics(folder: Path, layout: Layout) -> dict[str, dict[int, Path]]:
    """Stain to z plane to file: the vendor's mosaics, and the files that the manifest names instead."""
    images = folder / "images"
    mosaics: dict[str, dict[int, Path]] = {}
    for file in sorted(images.glob("*")) if images.is_dir() else []:
        match = _MOSAIC.match(file.name)
        if match:
            mosaics.setdefault(match["stain"], {})[int(match["z"])] = file
    for stain, (name, _, _) in layout.images.items():
        file = inside(folder, name, f"{stain} image")
        if not file.exists():
            raise MissingInputError(
                f"section has no {stain} image",
                where=file,
                remedy="Restore the file, exclude the section, or correct images in the manifest",
            )
        mosaics[stain] = {0: file}
    if not mosaics:
        raise MissingInputError(
            "section folder has no images",
            where=images,
            expected="mosaic_<stain>_z<k>.tif",
            remedy="Restore the files, name them in the manifest (images), or exclude the section and say why",
        )
    return mosaics


def _micron_to_mosaic(
    folder: Path, layout: Layout, mosaics: Mapping[str, Mapping[int, Path]]
) -> tuple[Affine, Path]:
    """Section um to image pixels, and the file that says so.

    The vendor's matrix; else for images that the manifest names, their pixel size as the manifest or the image itself
    gives it (um 0, 0 is the centre of pixel 0, 0).
    """
    file = folder / "images" / "micron_to_mosaic_pixel_transform.csv"
    if file.is_file() or not layout.images:
        return _read_matrix(file), file
    stain = next(iter(layout.images))
    image = mosaics[stain][0]
    size = layout.pixel_size_um
    if size is None:
        _, channel, z = layout.images[stain]
        with Slide(ImageSource((image,), channel, layout.z_plane if z is None else z, stain)) as slide:
            edges = slide.pixel_size_um
        if edges is None or abs(edges[0] - edges[1]) > 1e-3 * edges[0]:
            raise InputError(
                "image does not tell its pixel size",
                where=image,
                expected="one size in um in OME metadata",
                found=edges or "none",
                remedy="Give image_pixel_size_um in the manifest",
            )
        size = edges[0]
    told_by = (
        image
        if image.is_file()
        else next(
            (image / name for name in ("zarr.json", ".zattrs", ".zgroup") if (image / name).is_file()), image
        )
    )
    return scaling(1.0 / size), told_by


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
    if not np.allclose(matrix[2], (0.0, 0.0, 1.0), rtol=0, atol=1e-12):
        raise InputError(
            "micron-to-mosaic matrix is projective",
            where=file,
            expected="last row 0 0 1",
            found=" ".join(f"{value:g}" for value in matrix[2]),
            remedy="Restore the file from the instrument",
        )
    try:
        return Affine(matrix[:2])
    except InputError as error:
        raise InputError(
            error.what, file, error.expected, error.found, "Restore the file from the instrument"
        ) from None


def pixel_size_um(folder: SectionFolder) -> float:
    """Edge of an image pixel: from the area scale of the micron-to-mosaic matrix."""
    return float(1.0 / np.sqrt(abs(np.linalg.det(folder.micron_to_mosaic.matrix[:, :2]))))


def table_genes(folder: SectionFolder) -> tuple[str, ...]:
    """Genes in the header of ``cell_by_gene.csv``, in its order, controls dropped; empty without the file."""
    if folder.cell_by_gene is None:
        return ()
    return tuple(name for name in table_names(folder.cell_by_gene) if not is_control(name))


def table_names(table: Path) -> tuple[str, ...]:
    """Names in the header of a cell-by-gene table, controls included; empty without the file."""
    if not table.is_file():
        return ()
    try:
        with table.open(encoding="utf-8-sig", newline="") as handle:
            header = next(csv.reader(handle), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("gene table is not readable", where=table, found=error) from error
    return tuple(name for name in header[1:] if name.strip())


def collect_panel(
    headers: Iterable[tuple[str, ...]], names: Iterable[str], aliases: Mapping[str, str] | None = None
) -> Panel:
    """All genes of a brain: those of the gene tables in their order, then others met in transcripts, by name."""
    genes: dict[str, str] = {}
    for name in (*(name for header in headers for name in header), *sorted(names)):
        genes.setdefault(canonical(name, aliases), name)
    if not genes:
        raise InputError(
            "brain has no genes",
            expected="transcripts of at least one gene that is no control",
            remedy="Check the gene column of the transcript files",
        )
    return Panel(tuple(genes.values()))


__all__ = [
    "GeneNames",
    "Layout",
    "SectionFolder",
    "TranscriptCount",
    "collect_panel",
    "find_transcripts",
    "pixel_size_um",
    "read_folder",
    "scan_transcripts",
    "stream_transcripts",
    "table_genes",
    "table_names",
]
