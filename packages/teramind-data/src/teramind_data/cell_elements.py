"""Cells as SpatialData elements: ``shapes/cells_<section>``, one a section, and ``tables/cells``, which annotates all.

A section has its own element because its outlines are plane figures: all sections in one would lie over each other in
every query and picture, and be read together (SpatialData holds shapes in memory). The table is one, so that
cells of a brain are compared in one place; its ``region`` column names the element and ``cell_id`` the outline.

Needs pandas, anndata and pyarrow, not spatialdata. Written a section and a column at a time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.panel import Panel
from teramind_data.store import Location, open_brain, refresh_metadata
from teramind_data.store.metadata import group_json
from teramind_data.store.schema import CELL_TABLE, cells_element

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["CELL_ID", "SectionCells", "write_cells"]

CELL_ID = "cell_id"
_REGION = "region"


@dataclass(frozen=True)
class SectionCells:
    """A section's cells in scratch files: outlines (GeoParquet), counts (npz) where there are, columns (npy) by name.

    ``shapes`` is None where it has no cells. numbers: for its quality record.
    """

    section: int
    shapes: Path | None
    counts: Path | None
    columns: Mapping[str, Path]
    numbers: Mapping[str, int]

    def column(self, name: str) -> NDArray[Any]:
        """One column, a value a cell."""
        return np.asarray(np.load(self.columns[name], allow_pickle=False))


def write_cells(url: str | os.PathLike[str], cells: Sequence[SectionCells]) -> None:
    """Write the outlines and the table into a store, replacing what an earlier run left of them.

    ``X`` (float32, CSR) holds the counts of the panel's genes, and is left out where no section has a table of counts.
    Cells of a section without one, or that its table lacks, have a row of zeros.
    """
    brain = open_brain(url, incomplete=True)
    location = Location(url)
    location.delete_tree("shapes")
    location.delete_tree(f"tables/{CELL_TABLE}")
    placed = [own for own in cells if own.shapes is not None]
    if not placed:
        return
    location.write("shapes/zarr.json", group_json({}))
    for own in placed:
        _write_shapes(location, own)
    assert brain.panel is not None
    location.write("tables/zarr.json", group_json({}))
    with warnings.catch_warnings():
        # anndata warns of zarr's young string type, which SpatialData writes just so.
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        with location.small_arrays(f"tables/{CELL_TABLE}") as store:
            _write_table(store, placed, brain.panel)
    refresh_metadata(url)


def _write_shapes(location: Location, own: SectionCells) -> None:
    group = f"shapes/{cells_element(own.section)}"
    assert own.shapes is not None
    location.write(f"{group}/shapes.parquet", own.shapes.read_bytes())
    axes = [{"name": name, "type": "space", "unit": "unit"} for name in "xy"]
    to_global = {
        "type": "identity",
        "input": {"name": "xy", "axes": axes},
        "output": {"name": "global", "axes": axes},
    }
    attributes = {
        "encoding-type": "ngff:shapes",
        "axes": ["x", "y"],
        "coordinateTransformations": [to_global],
        "spatialdata_attrs": {"version": "0.3"},
    }
    # The group's metadata comes last: without it nobody takes the file for an element.
    location.write(f"{group}/zarr.json", group_json(attributes))


def _write_table(store: Store, cells: Sequence[SectionCells], panel: Panel) -> None:
    import anndata
    import pandas as pd
    import zarr
    from anndata.io import write_elem

    regions = [cells_element(own.section) for own in cells]
    keys = {"region": regions, "region_key": _REGION, "instance_key": CELL_ID}
    tables = zarr.open_group(store, path="tables", mode="a", zarr_format=3, use_consolidated=False)
    var = pd.DataFrame(index=pd.Index(list(panel), name="gene"))
    # A frame of the table without rows; its parts follow one by one, so that they never lie in memory together.
    write_elem(tables, CELL_TABLE, anndata.AnnData(var=var, uns={"spatialdata_attrs": keys}))
    table: Any = tables[CELL_TABLE]
    _write_obs(table, cells, regions)
    _write_counts(table, cells, len(panel))
    centres = [np.column_stack([own.column("x"), own.column("y")]) for own in cells]
    write_elem(table["obsm"], "spatial", np.concatenate(centres))
    table.attrs.update({"spatialdata-encoding-type": "ngff:regions_table", **keys, "version": "0.2"})


def _write_obs(table: Any, cells: Sequence[SectionCells], regions: list[str]) -> None:
    """``obs``, a column at a time."""
    import pandas as pd
    from anndata.io import write_elem

    sizes = [len(own.column("z_index")) for own in cells]
    which = np.repeat(np.arange(len(cells)), sizes)
    # Ids are one section's own; with the section they are the brain's.
    names = [f"{own.section:03d}_{name}" for own in cells for name in own.column(CELL_ID).tolist()]
    write_elem(table, "obs", pd.DataFrame(index=pd.Index(names, name="cell")))
    del names
    obs: Any = table["obs"]
    ids = np.concatenate([own.column(CELL_ID) for own in cells]).astype(object)
    write_elem(obs, CELL_ID, ids)
    write_elem(obs, _REGION, pd.Categorical.from_codes(which, categories=regions))
    write_elem(obs, "section", np.repeat(np.array([own.section for own in cells], np.int32), sizes))
    others = [name for name in cells[0].columns if name not in (CELL_ID, "x", "y")]
    for name in others:
        write_elem(obs, name, np.concatenate([own.column(name) for own in cells]))
    obs.attrs["column-order"] = [CELL_ID, _REGION, "section", *others]


def _write_counts(table: Any, cells: Sequence[SectionCells], genes: int) -> None:
    """``X``, a section at a time."""
    import scipy.sparse
    from anndata.io import sparse_dataset, write_elem

    if all(own.counts is None for own in cells):
        return
    for number, own in enumerate(cells):
        if own.counts is None:
            part = scipy.sparse.csr_matrix((len(own.column("z_index")), genes), dtype=np.float32)
        else:
            part = scipy.sparse.load_npz(own.counts)
        if number:
            sparse_dataset(table["X"]).append(part)
            continue
        # Of a whole brain there may be more counts than 32 bits number.
        part.indptr, part.indices = part.indptr.astype(np.int64), part.indices.astype(np.int32)
        write_elem(table, "X", part)
