"""Stores as SpatialData objects, wherever they lie.

SpatialData 0.7 opens local folders only. Of a remote store everything but pixels and points is small: that is copied
into a temporary folder, which SpatialData reads, so that the elements are what it makes of a local store. Pixels and
points are then taken from where they lie.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teramind_data.errors import StoreError
from teramind_data.store import Location

if TYPE_CHECKING:
    import spatialdata

__all__ = ["read_spatialdata"]

#: Elements that are read into memory, so that their files are needed for the reading only.
_COPIED = ("tables", "shapes")


def read_spatialdata(location: Location) -> spatialdata.SpatialData:
    """What ``spatialdata.read_zarr`` gives of the store.

    Of a remote store images and labels have no pixels: the caller puts its own into those it knows, and removes the
    others. Its ``path`` is None.

    Raises:
        StoreError: where the metadata of a remote store are not those of a finished store.
    """
    import spatialdata

    if location.is_local:
        return spatialdata.read_zarr(location.path)
    with tempfile.TemporaryDirectory(prefix="teramind-mirror-") as name:
        folder = Path(name)
        _copy(location, folder)
        data = spatialdata.read_zarr(folder)
    data.path = None
    for element in list(data.points):
        data.points[element] = _points(location, element, data.points[element])
    return data


def _copy(location: Location, folder: Path) -> None:
    """Metadata of all elements, the small elements whole, and an empty table for each of points."""
    for path in _nodes(location):
        _put(folder, f"{path}/zarr.json" if path else "zarr.json", location)
    for kind in _COPIED:
        for key in location.keys(kind):
            _put(folder, f"{kind}/{key}", location)
    for element in location.children("points") - {"zarr.json"}:
        _empty_parts(location, f"points/{element}/points.parquet", folder)


def _nodes(location: Location) -> Iterator[str]:
    """Paths of all groups and arrays, as the root lists them."""
    root = json.loads(location.read("zarr.json") or b"{}")
    listed = root.get("consolidated_metadata") or {}
    if "metadata" not in listed:
        raise StoreError("store lists no elements", location, "consolidated metadata", "none")
    yield ""
    yield from listed["metadata"]


def _put(folder: Path, key: str, location: Location) -> None:
    target = (folder / key).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise StoreError("key leads out of the store", f"{location}/{key}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(location.read(key) or b"")


def _empty_parts(location: Location, key: str, folder: Path) -> None:
    """Points without rows, of the columns that the stored ones have."""
    import pyarrow.parquet

    parts = sorted(location.children(key))
    if parts:
        with location.open(f"{key}/{parts[0]}") as file:
            schema = pyarrow.parquet.read_schema(file)
        target = folder / key / parts[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(schema.empty_table(), target)


def _points(location: Location, name: str, like: Any) -> Any:
    """Points where they lie, lazily, with what SpatialData knows of the element."""
    import dask.dataframe
    from spatialdata.transformations import get_transformation, set_transformation

    from teramind_data.store.remote import storage_options

    url = f"{location.url}/points/{name}/points.parquet"
    points = dask.dataframe.read_parquet(url, storage_options=storage_options(location.url))
    points.attrs.update(like.attrs)
    points.attrs.pop("transform", None)
    set_transformation(points, get_transformation(like, get_all=True), set_all=True)
    return points
