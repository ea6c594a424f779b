"""Cells of a section on the canvas: outlines pushed through its registration as transcripts are, with their counts.

Every vertex of an outline is mapped; edges stay straight (a cell is small against the bends of a registration).
What is read lies in scratch files, a section each, until the store takes it (``cell_elements``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.cell_elements import CELL_ID, SectionCells
from teramind_data.errors import InputError, RegistrationError
from teramind_data.ingest.cell_files import (
    CellFiles,
    count_names,
    measure_names,
    outlines,
    read_counts,
    read_measures,
)
from teramind_data.ingest.measure import Measured, collect
from teramind_data.ingest.plan import Plan, PlannedSection
from teramind_data.ingest.rasterize import push
from teramind_data.ingest.spill import Frame
from teramind_data.panel import Panel, canonical
from teramind_data.workers import Runner


@dataclass(frozen=True)
class ReadCells:
    """Reads a section's cells into scratch files."""

    scratch: Path
    frame: Frame
    pixel_size_um: float
    panel: Panel
    aliases: Mapping[str, str]
    measures: tuple[str, ...]

    def __call__(self, section: PlannedSection) -> SectionCells:
        """Read one section."""
        files = section.cells
        shapes = self.scratch / f"{section.index}-shapes.parquet"
        if files is None or files.boundaries is None:
            return SectionCells(section.index, None, None, {}, {})
        found = _Placed()
        try:
            self._place(section, files.boundaries, files, shapes, found)
        except RegistrationError as error:
            what = f"{error.what} {error.where}"
            raise RegistrationError(
                what, section.registration, error.expected, error.found, error.remedy
            ) from error
        counts, columns, with_counts = self._tables(section.index, files, found)
        numbers = {
            "cells": len(found.ids),
            "cells_off_canvas": found.off_canvas,
            "cells_no_outline": found.no_outline,
            "cells_mended": found.mended,
        }
        if files.counts is not None:
            numbers["cells_no_counts"] = len(found.ids) - with_counts
        return SectionCells(section.index, shapes if found.ids else None, counts, columns, numbers)

    def _place(
        self, section: PlannedSection, boundaries: Path, files: CellFiles, shapes: Path, found: _Placed
    ) -> None:
        import pyarrow.parquet as pq

        writer = None
        try:
            for ids, z, wkb in outlines(boundaries, files.z_index):
                keep, geometry = self._on_canvas(section, boundaries, wkb, found)
                if not keep.any():
                    continue
                kept = [name for name, on in zip(ids, keep.tolist(), strict=True) if on]
                table = _shapes_table(kept, z[keep], geometry[keep], section.index)
                if writer is None:
                    writer = pq.ParquetWriter(shapes, table.schema, compression="zstd")
                writer.write_table(table)
                found.add(kept, z[keep], geometry[keep])
        finally:
            if writer is not None:
                writer.close()

    def _on_canvas(
        self, section: PlannedSection, file: Path, wkb: NDArray[Any], found: _Placed
    ) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Which outlines touch the canvas, and all of them in um from its corner."""
        import shapely

        try:
            geometry = shapely.from_wkb(wkb)
        except (shapely.errors.GEOSException, TypeError, ValueError) as error:
            raise InputError(
                "cell outlines are damaged", where=file, found=error, remedy="Copy the file again"
            ) from error
        good = np.isin(shapely.get_type_id(geometry), (3, 6)) & np.isfinite(shapely.bounds(geometry)).all(
            axis=1
        )
        found.no_outline += int((~good).sum())
        moved = np.full(len(geometry), None, object)
        if good.any():
            moved[good] = self._moved(section, geometry[good])
        broken = good & ~shapely.is_valid(moved)
        moved[broken] = shapely.make_valid(moved[broken], method="structure", keep_collapsed=False)
        whole = good & ~shapely.is_empty(moved) & np.isin(shapely.get_type_id(moved), (3, 6))
        found.mended += int((broken & whole).sum())
        found.no_outline += int((good & ~whole).sum())
        low_x, low_y, high_x, high_y = shapely.bounds(moved).T
        height, width = (edge * self.pixel_size_um for edge in self.frame.canvas)
        with np.errstate(invalid="ignore"):
            on = whole & (high_x > 0) & (high_y > 0) & (low_x < width) & (low_y < height)
        found.off_canvas += int((whole & ~on).sum())
        return on, moved

    def _moved(self, section: PlannedSection, geometry: NDArray[Any]) -> NDArray[Any]:
        """Polygons with every corner mapped, as multipolygons."""
        import shapely

        kind = shapely.GeometryType.MULTIPOLYGON
        multi = geometry.copy()
        single = shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON
        multi[single] = shapely.multipolygons(geometry[single][:, None])
        _, corners, offsets = shapely.to_ragged_array(multi, include_z=False)
        # To a ten-thousandth of a um: what a processor's arithmetic rounds otherwise is not kept.
        moved = np.round(self._to_canvas(section, corners), 4)
        # The ends of a ring are one corner, which may have been rounded in two ways.
        moved[offsets[0][1:] - 1] = moved[offsets[0][:-1]]
        return np.asarray(shapely.from_ragged_array(kind, moved, offsets))

    def _to_canvas(self, section: PlannedSection, xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Section um to um from the canvas's corner (whole pixels are centres in a registration)."""
        pixels = push(section.to_image, section.folder.micron_to_mosaic, xy_um)
        shift = np.array([self.frame.shift[1], self.frame.shift[0]])
        return (pixels - shift + 0.5) * self.pixel_size_um

    def _tables(
        self, index: int, files: CellFiles, found: _Placed
    ) -> tuple[Path | None, dict[str, Path], int]:
        """Scratch files of counts and of each column of ``obs``, and how many cells have counts."""
        import scipy.sparse

        rows = {name: place for place, name in enumerate(found.ids)}
        counts, with_counts = None, 0
        if files.counts is not None and found.ids:
            places = {
                gene: place for place, gene in enumerate(canonical(g, self.aliases) for g in self.panel)
            }
            names = {name: canonical(name, self.aliases) for name in count_names(files.counts)}
            columns = {name: places[key] for name, key in names.items() if key in places}
            matrix, there = read_counts(files.counts, rows, columns, (len(rows), len(self.panel)))
            counts, with_counts = self.scratch / f"{index}-cells.npz", int(there.sum())
            scipy.sparse.save_npz(counts, matrix, compressed=False)
        measures = np.full((len(rows), len(self.measures)), np.nan)
        if files.metadata is not None:
            measures = read_measures(files.metadata, rows, list(self.measures))
        arrays: dict[str, NDArray[Any]] = {
            CELL_ID: np.array(found.ids, dtype=np.str_),
            "z_index": np.array(found.z, np.int32),
            "x": np.array(found.x),
            "y": np.array(found.y),
            "area_um2": np.array(found.area),
            **{name: measures[:, number] for number, name in enumerate(self.measures)},
        }
        columns_of = {}
        for number, (name, array) in enumerate(arrays.items()):
            columns_of[name] = self.scratch / f"{index}-cells-{number}.npy"
            np.save(columns_of[name], array)
        return counts, columns_of, with_counts


class _Placed:
    """What is known of a section's cells so far."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.z: list[int] = []
        self.x: list[float] = []
        self.y: list[float] = []
        self.area: list[float] = []
        self.no_outline = self.off_canvas = self.mended = 0

    def add(self, ids: list[str], z: NDArray[np.int32], geometry: NDArray[Any]) -> None:
        """Note cells that are placed."""
        import shapely

        centre = shapely.centroid(geometry)
        self.ids += ids
        self.z += z.tolist()
        self.x += shapely.get_x(centre).tolist()
        self.y += shapely.get_y(centre).tolist()
        self.area += shapely.area(geometry).tolist()


def _shapes_table(ids: list[str], z: NDArray[np.int32], geometry: NDArray[Any], section: int) -> Any:
    """GeoParquet of some cells, as geopandas writes it, its index their ids."""
    import pandas as pd
    import pyarrow as pa
    import shapely

    frame = pd.DataFrame(
        {
            "geometry": shapely.to_wkb(geometry),
            "section": np.full(len(ids), section, np.int32),
            "z_index": z.astype(np.int32),
        },
        index=pd.Index(ids, name=CELL_ID),
    )
    schema = pa.schema(
        [("geometry", pa.binary()), ("section", pa.int32()), ("z_index", pa.int32()), (CELL_ID, pa.string())]
    )
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=True)
    column = {"encoding": "WKB", "crs": None, "geometry_types": ["MultiPolygon", "Polygon"]}
    geo = {"primary_column": "geometry", "columns": {"geometry": column}, "version": "1.1.0"}
    return table.replace_schema_metadata({**table.schema.metadata, b"geo": json.dumps(geo).encode()})


def read_cells(measured: Measured, scratch: Path, runner: Runner) -> tuple[SectionCells, ...] | None:
    """Read the cells of all sections; None where no section has outlines.

    Raises:
        TeramindError: one line naming the file that is not usable.
    """
    plan = measured.plan
    files = [section.cells for section in plan.sections]
    if not any(own is not None and own.boundaries is not None for own in files):
        return None
    measures: dict[str, None] = {}
    for own in files:
        measures.update(dict.fromkeys(measure_names(None if own is None else own.metadata)))
    task = ReadCells(
        scratch, measured.frame, plan.pixel_size_um, measured.panel, plan.aliases, tuple(measures)
    )
    found = {
        section.index: cells for section, cells in collect(runner, task, plan.sections, ("cells", "sections"))
    }
    return tuple(found[section.index] for section in plan.sections)


def cell_notes(plan: Plan, cells: tuple[SectionCells, ...] | None) -> list[str]:
    """What of the cells is missing or was left out, a line a section; nothing of a brain without any."""
    if all(section.cells is None for section in plan.sections):
        return []
    said = []
    for section in plan.sections:
        lacks = "no files of cells" if section.cells is None else section.cells.lacks()
        if lacks is not None:
            said.append(f"{section.name}: {lacks}")
        numbers = {} if cells is None else cells[section.index].numbers
        words = {
            "cells_off_canvas": "lie off the canvas and are left out",
            "cells_no_outline": "have no outline and are left out",
            "cells_mended": "had outlines that cross themselves, which were mended",
            "cells_no_counts": "are not in the table of counts and count nothing",
        }
        said += [
            f"{section.name}: {numbers[key]:,} cells {text}"
            for key, text in words.items()
            if numbers.get(key)
        ]
    return said
