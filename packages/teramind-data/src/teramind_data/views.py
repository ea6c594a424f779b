"""A store as other people's objects: SpatialData and xarray, lazily, over the same arrays.

Nothing is read until a value is asked for, and then through ``Brain.read``: a lost shard is an error here, where
plain Zarr readers would give zeros. Needs dask, xarray and, for ``to_spatialdata``, spatialdata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError, StoreError
from teramind_data.geometry import Box
from teramind_data.mirror import read_spatialdata
from teramind_data.store import Brain, Location
from teramind_data.store.schema import CELL_TABLE, cells_element

if TYPE_CHECKING:
    import dask.array
    import spatialdata
    import xarray

__all__ = ["lazy_level", "to_spatialdata", "to_xarray"]


class CheckedLevel:
    """One level of an image as an array to slice: shape, dtype and ``[...]``, reading through ``Brain.read``."""

    def __init__(self, brain: Brain, name: str, level: int) -> None:
        array = brain.levels(name)[level]
        self._brain, self._name, self._level = brain, name, level
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.ndim = len(self.shape)
        self.chunks: tuple[int, ...] = array.chunks

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return type(self).__name__, self._brain.url, self._name, self._level, self._brain.complete

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        """Values of a block, as dask asks for them once it has merged slicings: a slice or an index an axis."""
        ranges = [range(n)[k] for k, n in zip(key, self.shape, strict=True)]
        # What covers each axis, and what is then taken of that.
        cover = [_cover(r) for r in ranges]
        taken = tuple(
            r - c.start if isinstance(r, int) else [i - c.start for i in r]
            for r, c in zip(ranges, cover, strict=True)
        )
        *channels, sections, rows, columns = cover
        if not all(len(c) for c in cover):
            block = np.empty([len(c) for c in cover], self.dtype)
        else:
            box = Box(rows.start, rows.stop, columns.start, columns.stop)
            first = tuple(slice(c.start, c.stop) for c in channels)
            planes = [self._brain.read(self._name, z, box, level=self._level)[first] for z in sections]
            block = np.stack(planes, axis=len(channels))
        # From the last axis on: an index removes its axis, and those before it stay where they are.
        for axis in reversed(range(self.ndim)):
            whole = list(range(len(cover[axis])))
            if taken[axis] != whole:
                block = np.take(block, taken[axis], axis=axis)
        return block


def _cover(chosen: range | int) -> range:
    """The smallest rising range of step 1 that holds an index or a range."""
    if isinstance(chosen, int):
        return range(chosen, chosen + 1)
    return range(min(chosen), max(chosen) + 1) if len(chosen) else range(0)


def lazy_level(brain: Brain, name: str, level: int = 0) -> dask.array.Array:
    """A level of an image, ``(c, z, y, x)`` (labels ``(z, y, x)``), as a dask array of the store's own chunks.

    Raises:
        StoreError: where the store has no such image.
        InputError: where the image has no such level.
    """
    import dask.array

    count = len(brain.layout(name).levels)
    if not 0 <= level < count:
        raise InputError("no such level", f"{brain.url}, {name}", f"0..{count - 1}", level)
    source = CheckedLevel(brain, name, level)
    meta = np.empty((0,) * source.ndim, source.dtype)
    return dask.array.from_array(source, chunks=source.chunks, meta=meta, fancy=False)


def to_spatialdata(brain: Brain, section: int | None = None) -> spatialdata.SpatialData:
    """The store as SpatialData reads it, with pixels lazy and checked; or one section of it, in two dimensions.

    Images and labels are dask arrays of the same Zarr arrays, points a dask dataframe; the section table, a row a
    section, is in memory. ``SpatialData.path`` is the store, so that elements can be added to it; of a remote store it
    is None, and images that teramind did not write are left out.

    With ``section``, images are ``(c, y, x)``, labels ``(y, x)``, points have no z, cells are the section's own, and
    there is no section table: what of SpatialData works on planes only (polygons of labels, spatialdata-plot) works on
    these. Coordinates are the same um.

    Raises:
        StoreError: where the store is not complete, or SpatialData cannot read it.
        InputError: where there is no such section.
        MissingInputError: where spatialdata is not installed.
    """
    _library("spatialdata")
    if not brain.complete:
        raise StoreError("store is incomplete, so no SpatialData object", brain.url, remedy="Finish it first")
    if section is not None and not 0 <= section < brain.n_sections:
        raise InputError("no such section", brain.url, f"0..{brain.n_sections - 1}", section)
    location = Location(brain.url)
    data = read_spatialdata(location)
    if not location.is_local:
        for name in {*data.images, *data.labels} - {*brain.images, *brain.labels}:
            del data[name]
    for name in (*brain.images, *brain.labels):
        element: Any = data[name]
        if hasattr(element, "children"):
            for number in range(len(element.children)):
                element[f"scale{number}"]["image"].data = lazy_level(brain, name, number)
        else:
            element.data = lazy_level(brain, name)
    return data if section is None else _section(brain, data, section)


def _section(brain: Brain, data: spatialdata.SpatialData, section: int) -> spatialdata.SpatialData:
    """One section of a SpatialData object of the whole brain."""
    from spatialdata import SpatialData

    elements = {
        name: _plane(data[name], section, brain.pixel_size_um * brain.layout(name).image.step)
        for name in (*brain.images, *brain.labels)
    }
    points = {name: _points(brain, frame, section) for name, frame in data.points.items()}
    images = {name: elements[name] for name in brain.images}
    labels = {name: elements[name] for name in brain.labels}
    name = cells_element(section)
    if name not in data.shapes or CELL_TABLE not in data.tables:
        return SpatialData(images=images, labels=labels, points=points)
    tables = {CELL_TABLE: _cells(data.tables[CELL_TABLE], name)}
    shapes = {name: data.shapes[name]}
    return SpatialData(images=images, labels=labels, points=points, shapes=shapes, tables=tables)


def _cells(table: Any, element: str) -> Any:
    """The rows of a section's cells."""
    from spatialdata.models import TableModel

    keys = table.uns[TableModel.ATTRS_KEY]
    chosen = table[table.obs[keys["region_key"]] == element].copy()
    chosen.obs[keys["region_key"]] = chosen.obs[keys["region_key"]].cat.remove_unused_categories()
    chosen.uns[TableModel.ATTRS_KEY] = {**keys, "region": [element]}
    return chosen


def _plane(element: Any, section: int, um: float) -> Any:
    """A section of a raster element, on all its levels."""
    import xarray
    from spatialdata.transformations import Scale, set_transformation

    if hasattr(element, "children"):
        # The z of a level is the section's everywhere: the pyramid is in the plane.
        levels = {
            name: child.to_dataset().isel(z=section, drop=True) for name, child in element.children.items()
        }
        for level in levels.values():
            level["image"].attrs = {}
        plane: Any = xarray.DataTree.from_dict(levels)
    else:
        plane = element.isel(z=section, drop=True)
        plane.attrs = {}
    to_global = Scale([um, um], axes=("y", "x"))
    set_transformation(plane, {"global": to_global}, set_all=True)
    return plane


def _points(brain: Brain, frame: Any, section: int) -> Any:
    """The transcripts of one section, without z."""
    from spatialdata.models import PointsModel

    chosen = frame[frame["section"] == section][["x", "y", "gene"]]
    genes = [] if brain.panel is None else list(brain.panel)
    # Known categories: SpatialData would read everything to find them.
    chosen["gene"] = chosen["gene"].cat.set_categories(genes)
    return PointsModel.parse(chosen, coordinates={"x": "x", "y": "y"}, feature_key="gene")


def to_xarray(brain: Brain) -> xarray.Dataset:
    """Level 0 of every image and label image as one xarray Dataset of dask arrays, with coordinates in um.

    ``morphology`` is ``(stain, section, y, x)``, ``expression`` ``(gene, section, y_bin, x_bin)``, ``tissue`` and
    ``regions`` ``(section, y_bin, x_bin)``; another image has its channels in a dimension ``<name>_channel``. ``y`` and
    ``x`` (and those of bins) are centres in um from the canvas's corner; ``section`` is the name, and ``z_um``
    beside it the true position, gaps included.

    Raises:
        MissingInputError: where xarray is not installed.
    """
    library = _library("xarray")
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {
        "section": [section.name for section in brain.sections],
        "z_um": ("section", [float(section.z_um) for section in brain.sections], {"units": "um"}),
    }
    named: Mapping[str, str] = {"morphology": "stain", "expression": "gene"}
    for name in (*brain.images, *brain.labels):
        image = brain.layout(name).image
        suffix = "" if image.step == 1 else "_bin"
        dims = ["section", f"y{suffix}", f"x{suffix}"]
        if not image.labels:
            channel = named.get(name, f"{name}_channel")
            dims.insert(0, channel)
            coordinates[channel] = list(image.channels)
        edge = image.step * brain.pixel_size_um
        for axis, size in zip("yx", brain.canvas, strict=True):
            centres = (np.arange(size // image.step) + 0.5) * edge
            coordinates[f"{axis}{suffix}"] = (f"{axis}{suffix}", centres, {"units": "um"})
        variables[name] = (dims, lazy_level(brain, name), {"reduce": image.reduce})
    attributes = {"kind": brain.kind, "pixel_size_um": brain.pixel_size_um, "url": brain.url}
    dataset: xarray.Dataset = library.Dataset(variables, coordinates, attributes)
    return dataset


def _library(name: str) -> Any:
    """An optional library, or MissingInputError that says how to get it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingInputError(
            f"{name} is not installed", remedy="Install it with: pip install 'teramind-data[spatialdata]'"
        ) from None
