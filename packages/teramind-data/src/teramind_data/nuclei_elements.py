"""Nuclei as SpatialData elements: ``labels/nuclei``, and ``tables/nuclei_table``, which annotates it.

Labels are numbered through the whole brain: a number names one nucleus, in the table its ``nucleus_id``. Needs pandas
and anndata, not spatialdata. The table is written a section and a column at a time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.store import ImageSpec, Location
from teramind_data.store.metadata import group_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["NUCLEI", "NUCLEI_TABLE", "NUCLEUS_ID", "SectionNuclei", "nuclei_labels", "write_nuclei_table"]

#: Names of the label image and of its table: SpatialData wants every element to have a name of its own.
NUCLEI = "nuclei"
NUCLEI_TABLE = "nuclei_table"
NUCLEUS_ID = "nucleus_id"
_ELEMENT = "element"


@dataclass(frozen=True)
class SectionNuclei:
    """Nuclei of one section, in the order of their numbers.

    Attributes:
        first: number of the first one.
        spatial: ``(n, 2)`` x, y of the centroids in um from the canvas's corner.
        columns: ``(n,)`` each, by name; the same names in every section. Text is stored as categories.
        counts: ``(n, genes)`` molecules, or None.
    """

    first: int
    spatial: NDArray[np.float64]
    columns: Mapping[str, NDArray[Any]]
    counts: csr_matrix | None = None

    def __len__(self) -> int:
        return len(self.spatial)


def nuclei_labels(attrs: Mapping[str, Any]) -> ImageSpec:
    """The label image: canvas pixels, 0 is background, ``attrs`` say how it was made."""
    return ImageSpec(NUCLEI, (), "uint32", reduce="mode", attrs=dict(attrs), labels=True)


def write_nuclei_table(
    url: str | os.PathLike[str],
    sections: Sequence[SectionNuclei],
    genes: Sequence[str],
    made: Mapping[str, str],
) -> None:
    """Write ``tables/nuclei_table``, replacing what an earlier run left. It is seen once metadata is consolidated.

    Args:
        url: the store.
        sections: with counts for all of them or for none; without there are no genes and no ``X``.
        genes: columns of the counts.
        made: how it was made, kept in ``uns["nuclei"]``.

    Raises:
        InputError: where some sections have counts and others have not, or their genes are others.
    """
    import anndata
    import pandas as pd
    import zarr
    from anndata.io import write_elem

    counted = [one.counts is not None for one in sections]
    wide = {one.counts.shape[1] for one in sections if one.counts is not None}
    if any(counted) != all(counted) or wide - {len(genes)}:
        raise InputError(
            "counts of nuclei do not fit together", url, f"{len(genes)} genes in every section, or none"
        )
    location = Location(url)
    location.delete_tree(f"tables/{NUCLEI_TABLE}")
    if not location.exists("tables/zarr.json"):
        location.write("tables/zarr.json", group_json({}))
    keys = {"region": NUCLEI, "region_key": _ELEMENT, "instance_key": NUCLEUS_ID}
    with location.small_arrays(f"tables/{NUCLEI_TABLE}") as store, warnings.catch_warnings():
        # anndata warns of zarr's young string type, which SpatialData writes just so.
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        tables = zarr.open_group(store, path="tables", mode="a", zarr_format=3, use_consolidated=False)
        var = pd.DataFrame(index=pd.Index(list(genes) if any(counted) else [], name="gene", dtype=object))
        uns = {"spatialdata_attrs": keys, NUCLEI: dict(made)}
        # A frame of the table without rows; its parts follow one by one, so that they never lie in memory together.
        write_elem(tables, NUCLEI_TABLE, anndata.AnnData(var=var, uns=uns))
        table: Any = tables[NUCLEI_TABLE]
        _write_obs(table, sections)
        _write_counts(table, sections)
        write_elem(table["obsm"], "spatial", np.concatenate([one.spatial for one in sections]))
        table.attrs.update({"spatialdata-encoding-type": "ngff:regions_table", **keys, "version": "0.2"})


def _write_obs(table: Any, sections: Sequence[SectionNuclei]) -> None:
    import pandas as pd
    from anndata.io import write_elem

    ids = np.concatenate([np.arange(one.first, one.first + len(one), dtype=np.int64) for one in sections])
    write_elem(table, "obs", pd.DataFrame(index=pd.Index(ids.astype(str), name="nucleus")))
    obs: Any = table["obs"]
    write_elem(obs, NUCLEUS_ID, ids)
    write_elem(obs, _ELEMENT, pd.Categorical.from_codes(np.zeros(len(ids), np.int8), categories=[NUCLEI]))
    names = list(sections[0].columns)
    for name in names:
        values = np.concatenate([one.columns[name] for one in sections])
        write_elem(obs, name, pd.Categorical(values.astype(object)) if values.dtype.kind in "UO" else values)
    obs.attrs["column-order"] = [NUCLEUS_ID, _ELEMENT, *names]


def _write_counts(table: Any, sections: Sequence[SectionNuclei]) -> None:
    from anndata.io import sparse_dataset, write_elem

    for number, one in enumerate(sections):
        if one.counts is None:
            return
        part = one.counts.astype(np.float32)
        if number:
            sparse_dataset(table["X"]).append(part)
            continue
        # Of a whole brain there may be more counts than 32 bits number.
        part.indptr, part.indices = part.indptr.astype(np.int64), part.indices.astype(np.int32)
        write_elem(table, "X", part)
