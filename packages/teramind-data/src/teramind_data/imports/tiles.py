"""The authors' published per-tile data to a store: gene tiles, and image tiles where there are.

A file covers a tile's core of 256 px and a margin around it. Each molecule and pixel is taken once, from the tile whose
core holds it; margins count only where no core is, at the rim. Coordinates are kept.

The molecules pass through a scratch folder on the output's disk: tiles hold all sections of a place and a store holds
all places of a section. So do the planes of bins that tissue is made of. Memory is bounded by a row of tiles, a shard
of expression and a block of images.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.errors import InputError, MissingInputError, PanelError
from teramind_data.geometry import BIN_PX, Box, ceil_div
from teramind_data.imports.grid import Tile, TileGrid, read_folder
from teramind_data.imports.output import (
    begun,
    bin_means,
    check_output,
    key_of,
    listing,
    put_labels,
    scratch,
    software,
)
from teramind_data.imports.painting import TileImages
from teramind_data.imports.sparse_npz import read_gene_tile
from teramind_data.imports.spill import ROW_PX, Band, Spill
from teramind_data.panel import Panel, is_control, read_names
from teramind_data.store import Brain, BrainSpec, BrainWriter, Section, open_brain, store_state

if TYPE_CHECKING:
    from teramind_data.ingest.raster import Rows

__all__ = ["TilesConfig", "TissueMaker", "import_tiles", "numbered_sections"]

_STRIP = 256  # rows of bins


class TissueMaker(Protocol):
    """Makes masks of tissue from planes of bins in files."""

    def plane(self, path: Path, shape: tuple[int, int], dtype: str) -> Rows:
        """A plane of zeros."""
        ...

    def mask(self, molecules: Rows, pixel_size_um: float, dapi: Rows | None, folder: Path) -> Rows:
        """Tissue, uint8, from molecules in bins and mean DAPI where there is any; ``folder`` for what comes between."""
        ...


@dataclass(frozen=True)
class TilesConfig:
    """What to import.

    Attributes:
        genes: folder of ``.npz``. images: folder of ``.zip`` with the same stems; a store without images where None.
        panel: CSV or text with the names in the order of the tiles' channels, or a store.
        canvas: ``(height, width)``; else the tiles' extent in multiples of 256.
        pixel_size_um, spacing_um: edge of a pixel, distance of sections.
    """

    genes: Path
    images: Path | None
    out: str
    panel: str
    stains: tuple[str, ...] = ("DAPI", "PolyT")
    canvas: tuple[int, int] | None = None
    pixel_size_um: float = 0.108
    spacing_um: float = 200.0
    overwrite: bool = False


@dataclass
class _Read:
    """All that was read of the molecules."""

    spill: Spill
    panel: Panel
    canvas: tuple[int, int]
    controls: int
    off_canvas: int


def import_tiles(config: TilesConfig, tissue: TissueMaker) -> tuple[bool, Brain]:
    """Build the store; whether anything was done (not where it was there already), and the open store.

    Raises:
        TeramindError: one line naming the file and what to do; nothing is left of an output that this run began.
    """
    _check_numbers(config)
    grid = read_folder(config.genes, ".npz", margins=True)
    names = tile_names(config.panel)
    images = None if config.images is None else _images(config.images, grid, config.genes)
    inputs = [listing(config.genes, [config.genes / f"{tile.stem}.npz" for tile in grid.tiles.values()])]
    if config.images is not None and images is not None:
        inputs.append(listing(config.images, [images.file(tile) for tile in grid.tiles.values()]))
    settings = {
        "stains": config.stains if images is not None else (),
        "pixel_size_um": config.pixel_size_um,
        "spacing_um": config.spacing_um,
        "canvas": config.canvas,
        "names": names,
    }
    key = key_of("import-tiles", [item.pop("key") for item in inputs], settings)
    if check_output(config.out, key, overwrite=config.overwrite):
        return False, open_brain(config.out)
    if config.canvas is not None:
        grid.check_canvas(config.canvas, config.genes)
    with scratch(config.out) as folder:
        read = _spill(config, grid, names, folder)
        provenance = {
            "tool": "teramind-data import-tiles",
            "key": key,
            "inputs": inputs,
            "software": software(),
            "configuration": {k: v for k, v in settings.items() if k != "names"},
            "tiles": len(grid),
            "controls_left_out": read.controls,
            "off_canvas_left_out": read.off_canvas,
        }
        with begun(config.out, _spec(config, read, provenance), overwrite=config.overwrite) as writer:
            if images is not None:
                with progress(len(writer.pending("morphology")), "images", "shards") as advance:
                    images.write(writer, advance)
            return True, _write(writer, read, tissue, folder)


def _check_numbers(config: TilesConfig) -> None:
    for option, value in (("--pixel-size", config.pixel_size_um), ("--spacing-um", config.spacing_um)):
        if not (np.isfinite(value) and value > 0):
            raise InputError("option is not a length", option, "um > 0", value)


def tile_names(panel: str) -> tuple[str, ...]:
    """The names of the tiles' channels, controls included, from a file or a store's panel.

    Raises:
        MissingInputError, PanelError: naming the file.
    """
    if "://" in panel or Path(panel).is_dir():
        if store_state(panel) not in ("complete", "incomplete"):
            raise MissingInputError("no store to take a panel from", panel, remedy="Give a store or a CSV")
        own = open_brain(panel).panel
        if own is None:
            raise PanelError("store has no panel", where=panel, remedy="Give a CSV of the tiles' genes")
        return own.genes
    names = read_names(panel)
    try:
        Panel(tuple(name for name in names if not is_control(name)))
    except PanelError as error:
        raise PanelError(error.what, where=panel, found=error.found, remedy=error.remedy) from None
    return names


def numbered_sections(count: int, spacing_um: float) -> tuple[Section, ...]:
    """Sections that are known by their number alone."""
    return tuple(
        Section(z, f"section_{z:03d}", z * spacing_um, {"section": z}, "as published") for z in range(count)
    )


def _images(folder: Path, grid: TileGrid, genes: Path) -> TileImages:
    """The image tiles, after looking that they are those of the genes."""
    own = {tile.stem for tile in read_folder(folder, ".zip", margins=True).tiles.values()}
    wanted = {tile.stem for tile in grid.tiles.values()}
    for what, these, where in (("image", wanted - own, folder), ("gene", own - wanted, genes)):
        if these:
            raise MissingInputError(
                f"{what} tiles are missing",
                where=where,
                expected=f"{len(own | wanted)} tiles in both folders",
                found=f"{len(these)} missing, such as {min(these)}",
                remedy="Copy them from the source, or take the others' tiles away",
            )
    return TileImages(folder, grid, "|u1", lambda _, values: values)


def _spill(config: TilesConfig, grid: TileGrid, names: tuple[str, ...], folder: Path) -> _Read:
    """Read all molecules, each once, a row of tiles at a time."""
    panel = Panel(tuple(name for name in names if not is_control(name)))
    code = np.cumsum([not is_control(name) for name in names]) - 1
    code[[is_control(name) for name in names]] = -1
    canvas = config.canvas or grid.extent()
    read: _Read | None = None
    with progress(len(grid), "genes", "tiles") as advance:
        for row in grid.rows():
            parts = []
            for tile in row:
                file = config.genes / f"{tile.stem}.npz"
                sections, molecules = read_gene_tile(file, tile.extent.shape, len(names))
                if read is None:
                    read = _Read(Spill(folder, sections, canvas[0]), panel, canvas, 0, 0)
                if sections != read.spill.sections:
                    raise InputError(
                        "gene tile has another number of sections than the others",
                        where=file,
                        expected=read.spill.sections,
                        found=sections,
                        remedy="Give the tiles of one brain",
                    )
                y, x = molecules.row + tile.extent.y0, molecules.column + tile.extent.x0
                mine = _mine(grid, tile, y, x)
                on = (y < canvas[0]) & (x < canvas[1])
                gene = code[molecules.name]
                read.off_canvas += int((mine & ~on).sum())
                read.controls += int((mine & on & (gene < 0)).sum())
                keep = mine & on & (gene >= 0)
                parts.append([values[keep] for values in (molecules.section, y, x, gene)])
                advance()
            if read is not None:
                read.spill.add(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if read is None or not any(read.spill.total(z) for z in range(read.spill.sections)):
        raise InputError("tiles hold no molecules", config.genes, remedy="Check the folder and --panel")
    return read


def _mine(grid: TileGrid, tile: Tile, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = grid.owned(tile)
    if mask is None:
        core = tile.core
        return (y >= core.y0) & (y < core.y1) & (x >= core.x0) & (x < core.x1)
    return mask[y - tile.extent.y0, x - tile.extent.x0]


def _spec(config: TilesConfig, read: _Read, provenance: dict[str, Any]) -> BrainSpec:
    return BrainSpec(
        kind="expression" if config.images is None else "atlas",
        canvas=read.canvas,
        pixel_size_um=config.pixel_size_um,
        sections=numbered_sections(read.spill.sections, config.spacing_um),
        panel=read.panel,
        stains=() if config.images is None else config.stains,
        provenance=provenance,
        expression_dtype="uint8" if read.spill.most_in_a_bin() <= 255 else "uint16",
    )


def _write(writer: BrainWriter, read: _Read, tissue: TissueMaker, folder: Path) -> Brain:
    """Everything but morphology, which is written."""
    from teramind_data.elements import write_points, write_sections_table

    _write_expression(writer, read)
    writer.write_molecules(_molecules(read.spill))
    quality: list[dict[str, Any]] = []
    put_labels(writer, "tissue", _tissue(writer, read, tissue, folder, quality))
    writer.set_sections(
        [replace(section, qc=qc) for section, qc in zip(writer.spec.sections, quality, strict=True)]
    )
    # A run that was stopped may have left either.
    write_points(writer.url, overwrite=True)
    write_sections_table(writer.url, overwrite=True)
    return writer.finish()


def _write_expression(writer: BrainWriter, read: _Read) -> None:
    pending = writer.pending("expression")
    with progress(len(pending), "expression", "shards") as advance:
        # Shards come row by row: a row's molecules are read once for all its columns.
        for (z, y0, y1), units in groupby(pending, key=lambda unit: (unit[0], unit[1].y0, unit[1].y1)):
            band = read.spill.read(z, y0 * BIN_PX // ROW_PX, ceil_div(y1 * BIN_PX, ROW_PX))
            for _, bins in units:
                counts = band.counts(len(read.panel), bins.refine(BIN_PX))
                writer.write("expression", z, bins, counts.astype(writer.spec.expression_dtype))
                advance()


def _molecules(spill: Spill) -> Iterator[tuple[int, Any, Any, Any]]:
    for section in range(spill.sections):
        for _, band in spill.bands(section):
            yield section, band.y, band.x, band.gene


def _tissue(
    writer: BrainWriter, read: _Read, tissue: TissueMaker, folder: Path, quality: list[dict[str, Any]]
) -> Iterator[Rows]:
    """Tissue section by section, whose numbers are added to ``quality``; a plane lives until the next is asked for."""
    stains = writer.spec.stains
    shape = (read.canvas[0] // BIN_PX, read.canvas[1] // BIN_PX)
    for z in range(read.spill.sections):
        own = folder / f"tissue_{z}"
        own.mkdir()
        density = tissue.plane(own / "molecules", shape, "int32")
        for row, band in read.spill.bands(z):
            box = Box(row * ROW_PX, min((row + 1) * ROW_PX, read.canvas[0]), 0, read.canvas[1])
            density.write(box.y0 // BIN_PX, _all_genes(band, box))
        dapi = None
        if "DAPI" in stains:
            dapi = tissue.plane(own / "dapi", shape, "float32")
            for y0, means in bin_means(writer, stains.index("DAPI"), z):
                dapi.write(y0, means)
        mask = tissue.mask(density, writer.spec.pixel_size_um, dapi, own)
        quality.append(_quality(density, mask))
        yield mask
        shutil.rmtree(own)


def _quality(density: Rows, mask: Rows) -> dict[str, Any]:
    total = within = 0
    for y0 in range(0, density.shape[0], _STRIP):
        y1 = min(y0 + _STRIP, density.shape[0])
        molecules = density.read(y0, y1)
        total += int(molecules.sum(dtype=np.int64))
        within += int(molecules[mask.read(y0, y1) > 0].sum(dtype=np.int64))
    return {"transcripts": total, "transcripts_in_tissue": within / total if total else 0.0}


def _all_genes(band: Band, box: Box) -> NDArray[np.int64]:
    one = Band(np.stack([band.y, band.x, np.zeros_like(band.gene)], axis=1))
    return one.counts(1, box)[0]
