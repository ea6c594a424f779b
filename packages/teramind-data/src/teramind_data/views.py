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
from teramind_data.store import Brain

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

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        """Values of a block; ``key`` is one slice of step 1 an axis, as dask asks for them."""
        *channels, sections, rows, columns = (
            slice(*s.indices(n)) for s, n in zip(key, self.shape, strict=True)
        )
        shape = tuple(max(0, s.stop - s.start) for s in (*channels, sections, rows, columns))
        if 0 in shape:
            return np.empty(shape, self.dtype)
        box = Box(rows.start, rows.stop, columns.start, columns.stop)
        planes = [
            self._brain.read(self._name, z, box, level=self._level)[tuple(channels)]
            for z in range(sections.start, sections.stop)
        ]
        return np.stack(planes, axis=len(channels))


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
    return dask.array.from_array(source, chunks=source.chunks, meta=meta)


def to_spatialdata(brain: Brain) -> spatialdata.SpatialData:
    """The store as SpatialData reads it, with pixels lazy and checked.

    Images and labels are dask arrays of the same Zarr arrays, points a dask dataframe; the section table, a row a
    section, is in memory. ``SpatialData.path`` is the store, so that elements can be added to it.

    Raises:
        StoreError: where the store is not complete, or SpatialData cannot read it.
        MissingInputError: where spatialdata is not installed.
    """
    spatialdata = _library("spatialdata")
    if not brain.complete:
        raise StoreError("store is incomplete, so no SpatialData object", brain.url, remedy="Finish it first")
    source: Any = brain.url
    if "://" in brain.url:
        from upath import UPath

        source = UPath(brain.url)
    data: spatialdata.SpatialData = spatialdata.read_zarr(source)
    for name in (*brain.images, *brain.labels):
        element: Any = data[name]
        if hasattr(element, "children"):
            for number in range(len(element.children)):
                element[f"scale{number}"]["image"].data = lazy_level(brain, name, number)
        else:
            element.data = lazy_level(brain, name)
    return data


def to_xarray(brain: Brain) -> xarray.Dataset:
    """Level 0 of every image and label image as one xarray Dataset of dask arrays, with coordinates in um.

    ``morphology`` is ``(stain, section, y, x)``, ``expression`` ``(gene, section, y_bin, x_bin)``, ``tissue`` and
    ``regions`` ``(section, y_bin, x_bin)``; another image has its channels in a dimension ``<name>_channel``. ``y`` and
    ``x`` (and those of bins) are centres in um from the canvas's corner; ``section`` is the name, and ``z_um``
    beside it the true position, gaps included.

    Raises:
        MissingInputError: where xarray is not installed.
    """
    xarray = _library("xarray")
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
    dataset: xarray.Dataset = xarray.Dataset(variables, coordinates, attributes)
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
