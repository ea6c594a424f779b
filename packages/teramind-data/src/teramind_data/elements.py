"""SpatialData elements of a store that are no images: transcripts as points, sections as a table.

Needs pandas, pyarrow and anndata (not spatialdata itself: what it reads is written here directly, a section at a
time, so that a brain's transcripts never lie in memory together).
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.store import Brain, Location, Section, open_brain, refresh_metadata

if TYPE_CHECKING:
    import anndata
    import pandas as pd

__all__ = ["POINTS", "TABLE", "point_frames", "write_points", "write_sections_table", "write_table"]

#: Element names.
POINTS = "transcripts"
TABLE = "sections"

#: Molecules a part, whatever the canvas: about 30 MB while it is made.
_ROWS = 1 << 19


def write_points(url: str | os.PathLike[str], *, overwrite: bool = False) -> int:
    """Write ``points/transcripts`` from the store's molecules, and return how many.

    Columns ``x``, ``y``, ``z`` (float32, um from the canvas corner: centres of pixel and of section, by the median
    spacing), ``gene`` (categorical) and ``section`` (int32 index). The store may be complete or not yet; its
    molecules must be written.

    Raises:
        OutputExistsError: where the element exists and ``overwrite`` is not set.
        StoreError: where the store has no molecules.
    """
    brain = open_brain(url, incomplete=True)
    location = Location(url)
    group = f"points/{POINTS}"
    _make_room(location, group, overwrite)
    total = 0
    for part, frame in enumerate(point_frames(brain)):
        # An empty first part keeps the columns known where there are no molecules at all.
        location.write(f"{group}/points.parquet/part.{part}.parquet", _parquet(frame))
        total += len(frame)
    location.write("points/zarr.json", _group({}))
    axes = [{"name": name, "type": "space", "unit": "unit"} for name in "xyz"]
    to_global = {
        "type": "identity",
        "input": {"name": "xyz", "axes": axes},
        "output": {"name": "global", "axes": axes},
    }
    attributes = {
        "encoding-type": "ngff:points",
        "axes": ["x", "y", "z"],
        "coordinateTransformations": [to_global],
        "spatialdata_attrs": {"feature_key": "gene", "version": "0.2"},
    }
    # The group's metadata comes last: without it nobody takes the files for an element.
    location.write(f"{group}/zarr.json", _group(attributes))
    refresh_metadata(url)
    return total


def point_frames(brain: Brain) -> Iterator[pd.DataFrame]:
    """Molecules as data frames of bounded length, in the order of the store; one that is empty where there are none."""
    first = True
    for section in brain.sections:
        z = (section.index + 0.5) * brain.z_spacing_um
        for y, x, gene in brain.molecules.batches(section.index, _ROWS):
            first = False
            yield _frame(brain, (y, x, gene), z, section.index)
    if first:
        none = np.zeros(0, np.int32)
        yield _frame(brain, (none, none, none), 0.0, 0)


def _frame(brain: Brain, molecules: tuple[NDArray[Any], ...], z: float, section: int) -> pd.DataFrame:
    import pandas as pd

    y, x, gene = molecules
    genes = () if brain.panel is None else brain.panel.genes
    return pd.DataFrame(
        {
            "x": ((x + 0.5) * brain.pixel_size_um).astype(np.float32),
            "y": ((y + 0.5) * brain.pixel_size_um).astype(np.float32),
            "z": np.full(len(y), z, np.float32),
            "gene": pd.Categorical.from_codes(gene.astype(np.int32), categories=list(genes)),
            "section": np.full(len(y), section, np.int32),
        }
    )


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", compression="zstd", index=False)
    return buffer.getvalue()


def write_sections_table(
    url: str | os.PathLike[str],
    counts: ArrayLike | None = None,
    *,
    excluded: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
) -> None:
    """Write ``tables/sections``: one row a section, one column a gene of the panel.

    ``obs`` holds index, true z in um, distance to the section before, and source, registration and QC as JSON; ``X``
    the molecules of each gene in each section; ``uns["excluded"]`` (JSON) the sections left out and why.

    Args:
        url: the store, complete or not.
        counts: (sections, genes); where None, counted from the molecules. A store without any has no ``X``.
        excluded: sections that were left out.
        overwrite: replace the table.

    Raises:
        OutputExistsError: where the table exists and ``overwrite`` is not set.
        InputError: where ``counts`` has another shape.
        StoreError: where the store has no panel.
    """
    import anndata
    import pandas as pd

    brain = open_brain(url, incomplete=True)
    location = Location(url)
    if brain.panel is None:
        raise StoreError("store has no panel, so no table of genes", where=location)
    shape = (brain.n_sections, len(brain.panel))
    values = _sums(brain) if counts is None else np.asarray(counts)
    if values is not None and values.shape != shape:
        raise InputError("counts have another shape than sections and genes", location, shape, values.shape)
    _check_room(location, f"tables/{TABLE}", overwrite)
    obs = pd.DataFrame(
        _rows(brain), index=pd.Index([section.name for section in brain.sections], name="section")
    )
    table = anndata.AnnData(
        X=None if values is None else values.astype(np.float32),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(list(brain.panel), name="gene")),
        uns={"excluded": json.dumps([dict(item) for item in excluded])},
    )
    write_table(url, TABLE, table, overwrite=overwrite)


def write_table(
    url: str | os.PathLike[str], name: str, table: anndata.AnnData, *, overwrite: bool = False
) -> None:
    """Write ``tables/<name>``: an AnnData that annotates no element, as SpatialData and scanpy read it.

    Args:
        url: the store, complete or not.
        name: of the element: letters, digits, ``_``, ``-``, ``.``.
        table: small enough to lie in memory.
        overwrite: replace a table of this name.

    Raises:
        InputError: where the name is not usable.
        OutputExistsError: where there is one of this name and ``overwrite`` is not set.
    """
    import anndata
    import zarr

    if not name or any(not (c.isalnum() or c in "_-.") for c in name) or name[0] in "._":
        raise InputError("name of a table is not usable", url, "letters, digits, _ - .", name)
    location = Location(url)
    _make_room(location, f"tables/{name}", overwrite)
    if not location.exists("tables/zarr.json"):
        location.write("tables/zarr.json", _group({}))
    with location.small_arrays(f"tables/{name}") as store, warnings.catch_warnings():
        group = zarr.open_group(store, path="tables", mode="a", zarr_format=3, use_consolidated=False)
        # anndata warns of zarr's young string type, which SpatialData writes just so.
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        anndata.io.write_elem(group, name, table)
        group[name].attrs.update(
            {
                "spatialdata-encoding-type": "ngff:regions_table",
                "region": None,
                "region_key": None,
                "instance_key": None,
                "version": "0.2",
            }
        )
    refresh_metadata(url)


def _rows(brain: Brain) -> dict[str, list[Any]]:
    sections = brain.sections
    gaps = [0.0, *(b.z_um - a.z_um for a, b in pairwise(sections))]
    return {
        "index": [section.index for section in sections],
        "z_um": [float(section.z_um) for section in sections],
        "gap_um": [float(gap) for gap in gaps],
        "source": [json.dumps(section.source, sort_keys=True) for section in sections],
        "registration": [json.dumps(section.registration, sort_keys=True) for section in sections],
        "qc": [json.dumps(section.qc, sort_keys=True) for section in sections],
        **_quality(sections),
    }


def _quality(sections: Sequence[Section]) -> dict[str, list[Any]]:
    """Quality numbers as columns: NaN where a section has none, lines of text joined by semicolons."""
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for section in sections for key in section.qc):
        values = [section.qc.get(key) for section in sections]
        if all(value is None or isinstance(value, int | float) for value in values):
            # Whole numbers stay so where no section lacks its own.
            whole = all(isinstance(value, int) for value in values)
            columns[key] = values if whole else [np.nan if v is None else float(v) for v in values]
        else:
            columns[key] = ["; ".join(v) if isinstance(v, list) else str(v or "") for v in values]
    return columns


def _sums(brain: Brain) -> NDArray[np.int64] | None:
    """(sections, genes) molecules, from the molecules themselves; None where the store has none."""
    if not brain.has_molecules:
        return None
    return np.stack([brain.molecules.totals(section.index) for section in brain.sections])


def _make_room(location: Location, group: str, overwrite: bool) -> None:
    _check_room(location, group, overwrite)
    location.delete_tree(group)


def _check_room(location: Location, group: str, overwrite: bool) -> None:
    if location.exists(f"{group}/zarr.json") and not overwrite:
        raise OutputExistsError(
            "element exists", where=f"{location}/{group}", remedy="Pass overwrite=True to replace it"
        )


def _group(attributes: dict[str, Any]) -> bytes:
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}).encode()
