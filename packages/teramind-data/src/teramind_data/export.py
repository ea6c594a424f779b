"""A section as a pyramidal OME-TIFF, and counts as AnnData files.

OME-TIFF as QuPath and Bio-Formats expect it (OME-TIFF specification 6.1: https://ome-model.readthedocs.io): one tiled
plane a channel, coarser levels as SubIFDs of each plane, pixel size in um, channel names and colours. Written tile by
tile, so that memory does not grow with the canvas.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.elements import TABLE
from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.picture import colour
from teramind_data.store import Brain, Location

__all__ = [
    "COMPRESSIONS",
    "TiffOptions",
    "find_section",
    "tile_count",
    "write_bins",
    "write_ome_tiff",
    "write_table",
]

#: Compression by name, and what TIFF calls it. All are lossless but ``jpeg``.
COMPRESSIONS = {"deflate": "adobe_deflate", "lzw": "lzw", "zstd": "zstd", "none": None, "jpeg": "jpeg"}

#: How the name of an OME-TIFF ends (OME-TIFF specification 6.1, file extensions).
SUFFIXES = (".ome.tif", ".ome.tiff")

#: Bytes of decoded pixels that are held at once (many-channel images are read a few channels at a time).
_HELD = 256 << 20


@dataclass(frozen=True)
class TiffOptions:
    """How a section is written.

    Attributes:
        image: which image of the store.
        channels: names of those to write, in this order; all where empty.
        compression: a key of ``COMPRESSIONS``.
        quality: of ``jpeg``, 1 to 100.
        tile: edge of a tile, a multiple of 16.
    """

    image: str = "morphology"
    channels: tuple[str, ...] = ()
    compression: str = "deflate"
    quality: int = 90
    tile: int = 512

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise InputError("unknown compression", None, ", ".join(COMPRESSIONS), self.compression)
        if not 1 <= self.quality <= 100:
            raise InputError("JPEG quality is out of range", None, "1..100", self.quality)
        if self.tile < 16 or self.tile % 16:
            raise InputError("tile edge is not usable", None, "a multiple of 16", self.tile)


def find_section(brain: Brain, wanted: str | int) -> int:
    """Index of a section given by name or index; InputError naming those there are."""
    for section in brain.sections:
        if section.name == str(wanted):
            return section.index
    text = str(wanted)
    if text.isdigit() and int(text) < brain.n_sections:
        return int(text)
    names = ", ".join(section.name for section in brain.sections[:3])
    more = ", ..." if brain.n_sections > 3 else ""
    raise InputError(
        "no such section", brain.url, f"0..{brain.n_sections - 1} or a name ({names}{more})", text
    )


def write_ome_tiff(
    brain: Brain,
    section: int,
    out: str | os.PathLike[str],
    options: TiffOptions | None = None,
    *,
    overwrite: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Path:
    """Write one section as a tiled, pyramidal OME-TIFF, ``(c, y, x)``, and return where.

    The pyramid is the store's own, one SubIFD a level on each plane. float16 becomes float32, which OME-TIFF has.

    Args:
        brain: an open store.
        section: index along z.
        out: a file to make.
        options: image, channels, compression, tile.
        overwrite: replace ``out``.
        advance: told of each tile written.

    Raises:
        OutputExistsError: where ``out`` exists and ``overwrite`` is not set.
        InputError: where section, image, channel or options do not exist, JPEG is asked of what is not uint8, or
            ``out`` ends in neither ``.ome.tif`` nor ``.ome.tiff``, by which readers know an OME-TIFF.
        MissingShardError: where pixels are missing from the store; nothing is left behind then.
    """
    import tifffile

    if not str(out).lower().endswith(SUFFIXES):
        raise InputError(
            "file has no OME-TIFF's name",
            out,
            " or ".join(SUFFIXES),
            Path(out).name,
            "Name it so: readers go by it",
        )
    options = options or TiffOptions()
    source = _Source.of(brain, section, options)
    # Classic TIFF ends at 4 GiB; what may come near it is a BigTIFF, which both readers take.
    form: dict[str, Any] = {"bigtiff": source.nbytes > 3 << 30, "byteorder": "<", "ome": True}
    with _fresh_file(out, overwrite) as temporary, tifffile.TiffWriter(temporary, **form) as tiff:
        for level in range(source.n_levels):
            tiff.write(source.tiles(level, advance), **source.page_arguments(level))
    return Path(out)


def tile_count(brain: Brain, section: int, options: TiffOptions) -> int:
    """Number of tiles that ``write_ome_tiff`` will write, for a progress display."""
    source = _Source.of(brain, section, options)
    return sum(
        len(source.chosen) * len(list(tiles(level.box, options.tile)))
        for level in brain.layout(options.image).levels
    )


@dataclass(frozen=True)
class _Source:
    """What is written of a store."""

    brain: Brain
    section: int
    options: TiffOptions
    chosen: tuple[int, ...]

    @classmethod
    def of(cls, brain: Brain, section: int, options: TiffOptions) -> _Source:
        if not 0 <= section < brain.n_sections:
            raise InputError("no such section", brain.url, f"0..{brain.n_sections - 1}", section)
        image = brain.layout(options.image).image
        names = image.channels or (image.name,)
        unknown = [name for name in options.channels if name not in names]
        if unknown:
            more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
            raise InputError(
                "image has no such channel",
                f"{brain.url}, {image.name}",
                ", ".join(names[:8]) + more,
                ", ".join(unknown),
            )
        chosen = tuple(names.index(name) for name in options.channels or names)
        if options.compression == "jpeg" and image.dtype != "uint8":
            raise InputError(
                "JPEG holds 8-bit pixels only", f"{brain.url}, {image.name}", "uint8", image.dtype
            )
        return cls(brain, section, options, chosen)

    @property
    def n_levels(self) -> int:
        return len(self.brain.layout(self.options.image).levels)

    @property
    def nbytes(self) -> int:
        height, width = self.brain.layout(self.options.image).levels[0].shape
        return 4 * height * width * len(self.chosen) * self._dtype(0).itemsize // 3

    def _dtype(self, level: int) -> np.dtype[Any]:
        # A level made by sum may be wider than the one below; planes and their SubIFDs are of one type.
        levels = self.brain.layout(self.options.image).levels
        dtype = np.dtype(levels[-1].dtype)
        return np.dtype({"float16": "float32", "uint64": "float64"}.get(dtype.name, dtype.name))

    def page_arguments(self, level: int) -> dict[str, Any]:
        """Keyword arguments of ``TiffWriter.write`` for a level."""
        options, layout = self.options, self.brain.layout(self.options.image)
        um = self.brain.pixel_size_um * layout.image.step
        coarse = um * 2**level
        arguments: dict[str, Any] = {
            "shape": (len(self.chosen), *layout.levels[level].shape),
            "dtype": self._dtype(level),
            "tile": (options.tile, options.tile),
            "photometric": "minisblack",
            "compression": COMPRESSIONS[options.compression],
            "resolution": (1e4 / coarse, 1e4 / coarse),
            "resolutionunit": "CENTIMETER",
            "metadata": None,
        }
        if options.compression == "jpeg":
            arguments["compressionargs"] = {"level": options.quality}
        elif options.compression != "none" and self._dtype(level).kind == "u":
            arguments["predictor"] = True
        if level:
            return {**arguments, "subfiletype": 1}
        names = layout.image.channels or (layout.image.name,)
        section = self.brain.sections[self.section]
        metadata = {
            "axes": "CYX",
            "Name": f"{section.name} {layout.image.name}",
            # Not a random one: the same section of the same store is the same file.
            "UUID": str(
                uuid.uuid5(uuid.NAMESPACE_URL, repr((self.brain.spec.to_dict(), self.section, options)))
            ),
            "PhysicalSizeX": um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": um,
            "PhysicalSizeYUnit": "µm",
            "Channel": {
                "Name": [names[c] for c in self.chosen],
                "Color": [_ome_colour(colour(names[c], n)) for n, c in enumerate(self.chosen)],
            },
            "Plane": {
                "PositionZ": [float(section.z_um)] * len(self.chosen),
                "PositionZUnit": ["µm"] * len(self.chosen),
            },
        }
        return {**arguments, "subifds": self.n_levels - 1, "metadata": metadata}

    def tiles(self, level: int, advance: Callable[[float], None] | None) -> Iterator[NDArray[Any]]:
        """Tiles of each plane in turn, as TIFF wants them."""
        name, labels = self.options.image, not self.brain.layout(self.options.image).image.channels
        plane = self.brain.layout(name).levels[level]
        dtype = self._dtype(level)
        boxes = list(tiles(plane.box, self.options.tile))
        # A chunk holds all channels. Where whole planes are small, a few channels are kept from one reading of them.
        group = max(1, _HELD // (plane.shape[0] * plane.shape[1] * dtype.itemsize))
        for start in range(0, len(self.chosen), group):
            channels = list(self.chosen[start : start + group])
            held: list[NDArray[Any]] = []
            for number in range(len(channels)):
                for position, box in enumerate(boxes):
                    # Before the tile: nobody comes back after the last one.
                    if advance is not None:
                        advance(1)
                    if number == 0:
                        values = self.brain.read(name, self.section, box, level=level)
                        values = values[None] if labels else values
                        values = values[channels].astype(dtype)
                        if len(channels) > 1:
                            held.append(values)
                        yield values[0]
                    else:
                        yield held[position][number]


def _ome_colour(rgb: tuple[int, int, int]) -> int:
    """OME's signed RGBA number."""
    value = int.from_bytes(bytes((*rgb, 255)), "big")
    return value - (1 << 32) if value >= 1 << 31 else value


def write_table(brain: Brain, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write ``tables/sections`` as an h5ad file: a row a section, a column a gene, X the molecules of each.

    Raises:
        OutputExistsError: where ``out`` exists and ``overwrite`` is not set.
        StoreError: where the store has no such table.
    """
    import anndata
    import zarr

    root = zarr.open_group(Location(brain.url).zarr_store(read_only=True), mode="r")
    if f"tables/{TABLE}" not in root:
        raise StoreError(
            "store has no table of sections",
            f"{brain.url}/tables/{TABLE}",
            remedy="Write it with teramind_data.elements.write_sections_table",
        )
    table = anndata.io.read_elem(root[f"tables/{TABLE}"])
    with _fresh_file(out, overwrite) as temporary:
        table.write_h5ad(temporary, compression="gzip")
    return Path(out)


def write_bins(
    brain: Brain,
    out: str | os.PathLike[str],
    *,
    sections: Sequence[int] | None = None,
    level: int = 0,
    overwrite: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Path:
    """Write expression as an h5ad file: a row a bin of tissue, a column a gene, X sparse counts.

    ``obs`` has section, true z in um, and region where annotated; ``obsm["spatial"]`` the bins' centres (x, y) in um
    from the canvas's corner. Bins are those of the tissue mask, or with a molecule where the store has no mask. X is
    streamed; ``obs`` (some 50 bytes a bin) is held in memory.

    Args:
        brain: an open store with expression.
        out: a file to make.
        sections: indices along z; all where None.
        level: pyramid level; bins are 16 * 2**level pixels wide.
        overwrite: replace ``out``.
        advance: told of each section written.

    Raises:
        OutputExistsError: where ``out`` exists and ``overwrite`` is not set.
        StoreError: where the store has no expression.
        InputError: where there is no such section or level.
    """
    import anndata
    import h5py

    chosen = tuple(range(brain.n_sections)) if sections is None else tuple(sections)
    levels = brain.layout("expression").levels
    if not 0 <= level < len(levels):
        raise InputError(
            "no such level",
            f"{brain.url}, expression",
            f"0..{len(levels) - 1}",
            level,
            "Small canvases have few levels; choose a finer one (--level)",
        )
    rows: list[_Bins] = []
    with _fresh_file(out, overwrite) as temporary, h5py.File(temporary, "w") as file:
        for section in chosen:
            for box in tiles(levels[level].box, _BIN_TILE):
                part, counts = _bins(brain, section, box, level)
                if "X" not in file:
                    anndata.io.write_elem(file, "X", counts, dataset_kwargs={"compression": "gzip"})
                else:
                    anndata.io.sparse_dataset(file["X"]).append(counts)
                rows.append(part)
            if advance is not None:
                advance(1)
        _write_rows(brain, file, rows, level)
    return Path(out)


#: Edge in bins of what is made sparse at once: 500 genes of it are 33 MB.
_BIN_TILE = 256


@dataclass(frozen=True)
class _Bins:
    """Bins of one tile that are kept."""

    section: int
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    region: NDArray[Any] | None


def _bins(brain: Brain, section: int, box: Box, level: int) -> tuple[_Bins, Any]:
    """The bins of a tile that are kept, and their counts as CSR (bins, genes)."""
    from scipy.sparse import csr_matrix

    counts = brain.read("expression", section, box, level=level)
    if "tissue" in brain.labels:
        keep = brain.read("tissue", section, box, level=level) != 0
    else:
        keep = counts.any(axis=0)
    y, x = (part.astype(np.int32) for part in np.nonzero(keep))
    region = brain.read("regions", section, box, level=level)[keep] if "regions" in brain.labels else None
    # 64-bit pointers: appended to, they may pass 2**31 values; and scipy wants both of one type.
    matrix = csr_matrix(counts[:, keep].T.astype(np.float32))
    matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return _Bins(section, y + box.y0, x + box.x0, region), matrix


def _write_rows(brain: Brain, file: Any, rows: Sequence[_Bins], level: int) -> None:
    """Everything of the file but X."""
    import anndata
    import pandas as pd

    names = [section.name for section in brain.sections]
    section = np.concatenate([np.full(len(part.y), part.section, np.int32) for part in rows])
    y, x = (np.concatenate([getattr(part, axis) for part in rows]) for axis in "yx")
    obs = pd.DataFrame(
        {
            "section": pd.Categorical.from_codes(section, categories=names),
            "z_um": np.array([s.z_um for s in brain.sections], np.float64)[section],
        },
        index=pd.Index([f"{s}-{i}-{j}" for s, i, j in zip(section, y, x, strict=True)], name="bin"),
    )
    if "regions" in brain.labels:
        ids = np.concatenate([part.region for part in rows if part.region is not None])
        regions = pd.Series(ids).map(brain.region_names).astype("category")
        obs["region"] = regions.to_numpy() if regions.isna().all() else regions.array
    edge = brain.pixel_size_um * BIN_PX * 2**level
    genes = [] if brain.panel is None else list(brain.panel)
    table = anndata.AnnData(
        obs=obs,
        var=pd.DataFrame(index=pd.Index(genes, name="gene")),
        obsm={"spatial": np.stack([(x + 0.5) * edge, (y + 0.5) * edge], axis=1)},
        uns={"bin_um": edge, "source": brain.url},
    )
    for name in ("obs", "var", "obsm", "uns"):
        value = getattr(table, name)
        anndata.io.write_elem(file, name, dict(value) if name in ("obsm", "uns") else value)
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


@contextmanager
def _fresh_file(out: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """A temporary sibling that takes the name ``out``, synced, if the block ends well, and is removed if not."""
    target = Path(out)
    if target.is_dir():
        raise OutputExistsError("output is a folder", target, "a file to make", remedy="Choose another name")
    if target.exists() and not overwrite:
        raise OutputExistsError("output exists", where=target, remedy="Pass --overwrite to replace it")
    if not target.parent.is_dir():
        raise InputError("folder of the output does not exist", target.parent, remedy="Make it first")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
