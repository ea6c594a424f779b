"""OME-Zarr 0.4 (Zarr v2) and 0.5 (Zarr v3): the finest level of the first multiscale image, chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import Box
from teramind_data.ingest.images.protocol import (
    CACHE_BYTES,
    DTYPES,
    TileCache,
    TiledPlane,
    broken,
    check_kind,
    unsupported,
)

_UM = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4}
_AXES = "tczyx"


class ZarrPlane(TiledPlane):
    """One channel of one z plane of an array."""

    def __init__(self, path: Path, array: Any, before: tuple[int, ...], key: int, cache: TileCache) -> None:
        shape, chunks = array.shape[-2:], array.chunks[-2:]
        super().__init__(
            (int(shape[0]), int(shape[1])),
            np.dtype(array.dtype.name),
            (min(int(chunks[0]), int(shape[0])), min(int(chunks[1]), int(shape[1]))),
            key,
            cache,
        )
        self._path, self._array, self._before = path, array, before

    def decode(self, row: int, column: int) -> NDArray[Any]:
        """Read and decode one chunk."""
        height, width = self.tile
        box = Box.from_shape(self.tile, (row * height, column * width)).clip(self.shape)
        if box is None:
            return np.zeros((0, 0), self.dtype)
        try:
            pixels = np.asarray(self._array[(*self._before, *box.slices)])
        except Exception as error:
            found = f"chunk {row}, {column}: {str(error) or type(error).__name__}"
            raise broken(self._path, found, "a whole OME-Zarr image") from error
        return pixels.astype(self.dtype, copy=False)


class ZarrStack:
    """An open OME-Zarr image (or the first image of a bioformats2raw collection).

    Raises InputError where it is no OME-Zarr of version 0.4 or 0.5 or of a kind not supported.
    """

    unnamed = 0

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES, dtypes: tuple[str, ...] = DTYPES) -> None:
        import zarr

        self.path = path
        self._cache = TileCache(cache_bytes)
        self._dtypes = dtypes
        try:
            group = zarr.open_group(str(path), mode="r")
            metadata = _metadata(group)
            if metadata is None and "0" in group:  # bioformats2raw's collection: images 0, 1, ...
                group = zarr.open_group(str(path / "0"), mode="r")
                metadata = _metadata(group)
        except Exception as error:
            raise broken(path, str(error) or type(error).__name__, "an OME-Zarr group") from error
        if metadata is None:
            raise unsupported(path, "OME-Zarr 0.4 or 0.5", "a Zarr group without multiscales")
        self._open(group, metadata)

    def _open(self, group: Any, metadata: dict[str, Any]) -> None:
        try:
            image = metadata["multiscales"][0]
            version = str(metadata.get("version") or image.get("version"))
            axes = [str(axis["name"]) for axis in image["axes"]]
            level = image["datasets"][0]
            array = group[level["path"]]
            units = [axis.get("unit") for axis in image["axes"]]
            scale = next(
                (
                    list(t["scale"])
                    for t in level.get("coordinateTransformations", ())
                    if t.get("type") == "scale"
                ),
                None,
            )
        except Exception as error:
            raise broken(
                self.path, f"{type(error).__name__}: {error}", "OME-Zarr 0.4 or 0.5 metadata"
            ) from error
        if not version.startswith(("0.4", "0.5")):
            raise unsupported(self.path, "OME-Zarr 0.4 or 0.5", version)
        if (
            axes != [axis for axis in _AXES if axis in axes]
            or axes[-2:] != ["y", "x"]
            or len(axes) != array.ndim
        ):
            raise unsupported(self.path, "axes t, c, z, y, x in this order", ", ".join(axes))
        tile_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
        check_kind(self.path, array.dtype, tile_bytes, self._dtypes)
        sizes = dict(zip(axes, array.shape, strict=True))
        if sizes.get("t", 1) != 1:
            raise unsupported(self.path, "one time point", sizes["t"])
        self._array, self._axes = array, axes
        self.planes = int(sizes.get("z", 1))
        self.channels = _channels(metadata, int(sizes.get("c", 1)))
        self.pixel_size_um = _pixel_size(scale, units)

    def plane(self, channel: int, z: int, page: int = 0) -> ZarrPlane:
        """One channel of one z plane."""
        at = {"t": 0, "c": channel, "z": z}
        before = tuple(at[axis] for axis in self._axes[:-2])
        return ZarrPlane(self.path, self._array, before, channel * self.planes + z, self._cache)

    def close(self) -> None:
        """Forget decoded chunks."""
        self._cache.clear()


def _metadata(group: Any) -> dict[str, Any] | None:
    """The block that holds ``multiscales``: the attributes themselves (0.4) or their ``ome`` (0.5)."""
    attributes = dict(group.attrs)
    for block in (attributes.get("ome"), attributes):
        if isinstance(block, dict) and block.get("multiscales"):
            return block
    return None


def _channels(metadata: dict[str, Any], count: int) -> tuple[str, ...]:
    """Labels of the transitional ``omero`` block, else numbers."""
    omero = metadata.get("omero")
    listed = omero.get("channels") if isinstance(omero, dict) else None
    labels = [str(item.get("label") or "") for item in listed or () if isinstance(item, dict)]
    if len(labels) != count:
        labels = [""] * count
    return tuple(label or str(number) for number, label in enumerate(labels))


def _pixel_size(scale: list[Any] | None, units: list[Any]) -> tuple[float, float] | None:
    if scale is None or len(scale) != len(units):
        return None
    found = [float(s) * _UM.get(str(u), np.nan) for s, u in zip(scale[-2:], units[-2:], strict=True)]
    return (found[0], found[1]) if all(np.isfinite(v) and v > 0 for v in found) else None
