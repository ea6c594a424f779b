"""Regions from a three-dimensional atlas: the plane of each section cut out of a volume, bin by bin.

The canvas is the registered plane, so a bin's place in the atlas follows from the canvas alone, and the registration
(which brought the section there) is not applied a second time::

    bin centre, canvas px -> plane um: origin_um + pixel_size_um * (x, y)   (whole pixels are centres)
    (x, y, depth) um      -> atlas um (AP, DV, LR): by ``plane`` or ``matrix``; the depth is the manifest's
                             (atlas_depth_um of the section), else the registration's own, which may lean, else z
    atlas um              -> voxel: floor((um - origin_um) / voxel_um)      (nearest voxel)

with CCF's conventions: axes anterior to posterior, superior to inferior, left to right, and atlas 0 at the *corner*
of the first voxel. A coronal plane has x along LR, y along DV and its depth along AP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.ingest.annotation_entries import AtlasEntry
from teramind_data.ingest.paths import inside
from teramind_data.ingest.space import Depth
from teramind_data.ingest.structures import as_ids
from teramind_data.ingest.volumes import CCF, Triple, VolumeFile, axes_of, open_volume

if TYPE_CHECKING:
    from teramind_data.ingest.plan import Plan, PlannedSection
    from teramind_data.ingest.spill import Frame

_CHUNK = 64  # voxels: edge of what is read of the laid-out volume
_BLOCK = 256  # bins looked up at once
_MOST_VOXELS = 1 << 24  # read for a block of bins
_ROUNDING = 1e-6  # of a voxel: a centre on the face of two belongs to the second, however the product rounds
_AXES = ("AP", "DV", "LR")
_PLANES = {
    "coronal": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "horizontal": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
}


@dataclass(frozen=True)
class Cut:
    """How bins of sections lie in the volume.

    linear, offset: (x, y, depth) in um of the plane to voxels (AP, DV, LR), floors to be taken. corner_um, bin_um: y, x
    of the first bin's centre in the plane, and the edge of a bin. depth_um: of each section. voxels: of the volume.
    """

    linear: NDArray[np.float64]
    offset: NDArray[np.float64]
    corner_um: tuple[float, float]
    bin_um: float
    depth_um: tuple[Depth, ...]
    voxels: tuple[int, int, int]

    def at(self, section: int, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Voxels ``(3, len(y), len(x))`` under bins of rows y and columns x; may lie outside the volume."""
        plane_y = self.corner_um[0] + y * self.bin_um
        plane_x = self.corner_um[1] + x * self.bin_um
        depth = self.depth_um[section]
        by_x, by_y = (
            self.linear[:, axis] + self.linear[:, 2] * lean
            for axis, lean in enumerate((depth.per_x, depth.per_y))
        )
        at = (
            by_x[:, None, None] * plane_x[None, None, :]
            + by_y[:, None, None] * plane_y[None, :, None]
            + (self.linear[:, 2] * depth.at + self.offset)[:, None, None]
        )
        return np.floor(at + _ROUNDING).astype(np.int64)

    def reach(self, section: int, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last voxel (AP, DV, LR) that the bins of a box touch: an affine's extremes are at the corners."""
        y = np.array([box.y0, box.y1 - 1], float)
        x = np.array([box.x0, box.x1 - 1], float)
        corners = self.at(section, y, x).reshape(3, -1)
        return corners.min(axis=1), corners.max(axis=1)


@dataclass(frozen=True)
class AtlasCut:
    """Sections' region ids, read from a volume laid out in chunks of a scratch array (``RegionSource``)."""

    array: Path
    first: tuple[int, int, int]  # voxel of the volume that is the array's first
    shape: tuple[int, int, int]
    cut: Cut

    def blocks(self, section: int, band: Box) -> Iterator[tuple[Box, NDArray[np.uint32]]]:
        """Ids of the bins of a band; 0 outside the volume."""
        import zarr

        array = zarr.open_array(str(self.array), mode="r")
        for box in tiles(band, _BLOCK):
            yield box, self._read(array, section, box)

    def _read(self, array: Any, section: int, box: Box) -> NDArray[np.uint32]:
        low, high = self.cut.reach(section, box)
        low = np.maximum(low - self.first, 0)
        stop = np.minimum(high - self.first + 1, self.shape)
        if (stop <= low).any():
            return np.zeros(box.shape, np.uint32)
        if np.prod(stop - low) > _MOST_VOXELS and max(box.shape) > 1:
            # A plane that leans so far is read in parts, each of a small block of voxels.
            out = np.zeros(box.shape, np.uint32)
            half = (-(-box.height // 2), -(-box.width // 2))
            for part in tiles(box, half):
                out[part.shift(-box.y0, -box.x0).slices] = self._read(array, section, part)
            return out
        block = np.asarray(array[tuple(slice(int(a), int(b)) for a, b in zip(low, stop, strict=True))])
        y, x = np.arange(box.y0, box.y1, dtype=float), np.arange(box.x0, box.x1, dtype=float)
        at = self.cut.at(section, y, x) - (low + self.first)[:, None, None]
        on = ((at >= 0) & (at < np.array(block.shape)[:, None, None])).all(axis=0)
        out = np.zeros(box.shape, np.uint32)
        out[on] = block[tuple(axis[on] for axis in at)]
        return out


def atlas_cut(plan: Plan, entry: AtlasEntry, frame: Frame, scratch: Path) -> AtlasCut:
    """Check the volume, find where each section cuts it, and lay out the part of it that the sections need.

    Raises:
        InputError: unreadable; orientation or voxel size not told or contradictory; a section outside it (named).
    """
    path = inside(plan.config.raw, entry.volume, "atlas volume")
    volume = open_volume(path)
    axes = axes_of(_orientation(entry, volume), path)
    voxel = _voxel(entry, volume, axes)
    shape = [0, 0, 0]
    for edge, (axis, _) in zip(volume.shape, axes, strict=True):
        shape[axis] = edge
    cut = _cut(plan, entry, frame, voxel, (shape[0], shape[1], shape[2]))
    low, stop = _needed(plan, cut, frame, voxel, path)
    array = scratch / "atlas.zarr"
    _lay_out(volume, axes, (low, stop), array, plan.config.memory)
    size = stop - low
    return AtlasCut(
        array,
        (int(low[0]), int(low[1]), int(low[2])),
        (int(size[0]), int(size[1]), int(size[2])),
        cut,
    )


def check_volume(entry: AtlasEntry, path: Path) -> None:
    """Read a volume's header: refuse what cannot be read, before anything else is."""
    volume = open_volume(path)
    _voxel(entry, volume, axes_of(_orientation(entry, volume), path))


def _orientation(entry: AtlasEntry, volume: VolumeFile) -> str:
    told, given = volume.orientation, entry.orientation
    if given is None:
        return told or CCF
    axes_of(given, volume.path)
    if told is not None and told.upper() != given.upper():
        raise InputError(
            "orientation of an atlas volume is not the one its file tells",
            where=volume.path,
            expected=told,
            found=given.upper(),
            remedy="Leave atlas.orientation out of the manifest, or correct the file's header",
        )
    return given


def _voxel(entry: AtlasEntry, volume: VolumeFile, axes: tuple[tuple[int, bool], ...]) -> Triple:
    """Voxel size along AP, DV, LR."""
    told, given = volume.voxel_um, entry.voxel_um
    if isinstance(given, float | int):
        given = (float(given),) * 3
    if told is None and given is None:
        raise InputError(
            "atlas volume does not tell the size of its voxels",
            where=volume.path,
            remedy="Give atlas.voxel_um in the manifest (CCF: 10, 25 or 50)",
        )
    if told is not None and given is not None and not np.allclose(told, given, rtol=0.01):
        raise InputError(
            "voxel size of an atlas volume is not the one its file tells",
            where=volume.path,
            expected=f"{' x '.join(f'{edge:g}' for edge in told)} um",
            found=f"{' x '.join(f'{edge:g}' for edge in given)} um",
            remedy="Leave atlas.voxel_um out of the manifest, or correct the file's header",
        )
    own = told if told is not None else given
    edges = [0.0, 0.0, 0.0]
    for edge, (axis, _) in zip(own or (), axes, strict=True):
        edges[axis] = edge
    return edges[0], edges[1], edges[2]


def _cut(plan: Plan, entry: AtlasEntry, frame: Frame, voxel: Triple, voxels: tuple[int, int, int]) -> Cut:
    matrix = np.zeros((3, 4))
    if entry.matrix is not None:
        matrix = np.array(entry.matrix, float)
        matrix[:, 3] *= 1e3  # its last column is mm
    else:
        matrix[:, :3] = _PLANES[entry.plane]
    pixel = plan.pixel_size_um
    corner = [
        plan.origin_um[i] + (frame.shift[i] + (BIN_PX - 1) / 2) * pixel for i in (0, 1)
    ]  # whole pixels are centres: a bin's centre lies between the 8th and the 9th
    scale = 1.0 / np.array(voxel)
    depths = tuple(_depth(section, entry) for section in plan.sections)
    return Cut(
        matrix[:, :3] * scale[:, None],
        (matrix[:, 3] - np.array(entry.origin_um)) * scale,
        (corner[0], corner[1]),
        BIN_PX * pixel,
        depths,
        voxels,
    )


def _depth(section: PlannedSection, entry: AtlasEntry) -> Depth:
    """What a person said of this section, else what its registration says, else its z in the stack."""
    if section.entry.atlas_depth_um is not None:
        return Depth(section.entry.atlas_depth_um)
    return section.depth_um or Depth(section.z_um + entry.depth_um)


def _needed(
    plan: Plan, cut: Cut, frame: Frame, voxel: Triple, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel and end of the part of the volume that the canvases of all sections touch."""
    canvas = Box(0, frame.canvas[0] // BIN_PX, 0, frame.canvas[1] // BIN_PX)
    ends = np.array(cut.voxels)
    lows, stops = [], []
    for section in plan.sections:
        low, high = cut.reach(section.index, canvas)
        if (high < 0).any() or (low >= ends).any():
            axis = int(np.flatnonzero((high < 0) | (low >= ends))[0])
            edge = voxel[axis]
            raise InputError(
                "section lies outside the atlas volume",
                where=f"{section.name}, {path}",
                expected=f"{_AXES[axis]} within 0 .. {ends[axis] * edge:g} um of the volume",
                found=f"{low[axis] * edge:g} .. {(high[axis] + 1) * edge:g} um",
                remedy="Check the section's z_um or atlas_depth_um, and atlas.depth_um, origin_um, orientation and "
                "voxel_um, in the manifest",
            )
        lows.append(np.maximum(low, 0))
        stops.append(np.minimum(high + 1, ends))
    return np.min(lows, axis=0), np.max(stops, axis=0)


def _lay_out(
    volume: VolumeFile,
    axes: tuple[tuple[int, bool], ...],
    part: tuple[NDArray[np.int64], NDArray[np.int64]],
    array: Path,
    memory: int,
) -> None:
    """Write a part of the volume, its axes as CCF's, as a chunked array of ids; memory holds one slab of the file."""
    import zarr

    low, stop = part
    axis, turned = axes[volume.slow]
    plane = int(np.prod(volume.shape)) // volume.shape[volume.slow]
    depth = _slab_depth(plane * (volume.dtype.itemsize + 4) * 2, memory, volume.path)
    edge = tuple(depth if i == axis else _CHUNK for i in range(3))
    size = tuple(int(n) for n in stop - low)
    out = zarr.create_array(
        store=str(array), shape=size, chunks=tuple(map(min, edge, size)), dtype="uint32", overwrite=True
    )
    # Slabs end where chunks do, so that each chunk is written once.
    targets = [(a, min(a + depth, size[axis])) for a in range(0, size[axis], depth)]
    if turned:
        targets.reverse()
    whole = volume.shape[volume.slow]
    edges = [_along(low[axis] + a, low[axis] + b, whole, turned) for a, b in targets]
    with progress(len(targets), "atlas", "slabs") as advance:
        for (a, b), slab in zip(targets, volume.slabs(edges), strict=True):
            upright = np.transpose(slab, [next(i for i in range(3) if axes[i][0] == t) for t in range(3)])
            flips = tuple(own for own, other in axes if other)
            upright = np.flip(upright, flips) if flips else upright
            cropped = upright[
                tuple(slice(None) if t == axis else slice(int(low[t]), int(stop[t])) for t in range(3))
            ]
            at = tuple(slice(a, b) if t == axis else slice(None) for t in range(3))
            out[at] = as_ids(cropped, volume.path)
            advance()


def _along(start: int, stop: int, whole: int, turned: bool) -> tuple[int, int]:
    """A range of an axis, in the direction of the file."""
    return (whole - int(stop), whole - int(start)) if turned else (int(start), int(stop))


def _slab_depth(plane_bytes: int, memory: int, path: Path) -> int:
    """How many planes of the file may be held at once: a power of two, at most a chunk."""
    room = memory // 4
    if plane_bytes > room:
        raise InputError(
            "memory is too little",
            where="--memory",
            expected=f"at least {plane_bytes * 4 >> 20} MiB for the planes of {path}",
            found=f"{memory >> 20} MiB",
            remedy="Pass more",
        )
    depth = 1
    while depth * 2 <= _CHUNK and depth * 2 * plane_bytes <= room:
        depth *= 2
    return depth
