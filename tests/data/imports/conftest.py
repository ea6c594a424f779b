"""Tiles as the authors publish them, cut from a small brain that is known whole."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from teramind_data.geometry import Box

MARGIN = 128
NAMES = ("Aa", "Bb", "Blank-1", "Cc", "Dd")
GENES = tuple(name for name in NAMES if not name.startswith("Blank"))
SECTIONS = 3
#: Cells of the 256-px grid that have a tile: an L, so that there are holes and a rim.
CELLS = ((1, 1), (1, 2), (2, 1))
EXTENT = (1024, 1024)

_ENCODE = {
    "zstd": imagecodecs.zstd_encode,
    "blosc": lambda data: imagecodecs.blosc_encode(data, typesize=1),
    "zlib": imagecodecs.zlib_encode,
    None: bytes,
}


@dataclass
class World:
    """A brain's molecules (section, y, x, name) and images (stain, section, y, x), and its tiles' folders."""

    molecules: np.ndarray
    images: np.ndarray
    genes: Path
    tiles: Path
    panel: Path

    def covered(self) -> np.ndarray:
        """Pixels that some tile's file covers."""
        mask = np.zeros(EXTENT, bool)
        for core in map(core_of, CELLS):
            mask[core.expand(MARGIN).slices] = True
        return mask


def core_of(cell: tuple[int, int]) -> Box:
    return Box.from_shape((256, 256), (cell[0] * 256, cell[1] * 256))


def stem_of(core: Box, margin: int = MARGIN) -> str:
    around = core.expand(margin)
    edges = [core.y0, core.y1, core.x0, core.x1]
    if margin:
        edges += [around.y0, around.y1, around.x0, around.x1]
    return "_".join(map(str, edges))


def npz_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def sparse_members(dense_index: np.ndarray, counts: np.ndarray, shape: tuple[int, ...]) -> dict[str, bytes]:
    return {
        "data.npy": npz_bytes(counts.astype(np.uint16)),
        "shape.npy": npz_bytes(np.array(shape)),
        "fill_value.npy": npz_bytes(np.zeros((), np.uint16)),
        "coords.npy": npz_bytes(np.asfortranarray(dense_index)),
    }


def write_genes(folder: Path, core: Box, molecules: np.ndarray) -> Path:
    """One gene tile of all molecules (section, y, x, name) around a core."""
    around = core.expand(MARGIN)
    z, y, x, name = molecules
    keep = (y >= around.y0) & (y < around.y1) & (x >= around.x0) & (x < around.x1)
    place = np.stack([y - around.y0, x - around.x0, z * len(NAMES) + name])[:, keep]
    index, counts = np.unique(place, axis=1, return_counts=True)
    shape = (*around.shape, SECTIONS * len(NAMES))
    return write_zip(folder / f"{stem_of(core)}.npz", sparse_members(index, counts, shape))


def zarr_members(
    array: np.ndarray, chunks: tuple[int, ...] = (4, 256, 256), compressor: str | None = "zstd"
) -> dict[str, bytes]:
    """A Zarr v2 array; chunks of zeros are left out, as Zarr does."""
    meta = {
        "shape": array.shape,
        "chunks": chunks,
        "dtype": array.dtype.str,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": ".",
        "compressor": compressor and {"id": compressor, "level": 0},
        "zarr_format": 2,
    }
    out = {".zarray": json.dumps(meta).encode(), ".zattrs": b"{}"}
    grid = [-(-n // c) for n, c in zip(array.shape, chunks, strict=True)]
    for index in np.ndindex(*grid):
        part = array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
        if part.any():
            chunk = np.zeros(chunks, array.dtype)
            chunk[tuple(slice(0, n) for n in part.shape)] = part
            out[".".join(map(str, index))] = bytes(_ENCODE[compressor](chunk.tobytes()))
    return out


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Read only."""
    return make_world(tmp_path_factory.mktemp("tiles"))


@pytest.fixture
def own_world(tmp_path: Path) -> World:
    """For damage."""
    return make_world(tmp_path)


def make_world(root: Path) -> World:
    rng = np.random.default_rng(3)
    n = 30_000
    molecules = np.stack([rng.integers(0, top, n) for top in (SECTIONS, *EXTENT, len(NAMES))])
    molecules = np.concatenate([molecules, molecules[:, :500]], axis=1)  # two of a gene in one pixel
    images = rng.integers(0, 256, (2, SECTIONS, *EXTENT)).astype(np.uint8)
    images[1, 2] = 0  # a chunk that is left out
    world = World(molecules, images, root / "gene", root / "img", root / "panel.csv")
    for folder in (world.genes, world.tiles):
        folder.mkdir()
    world.panel.write_text("gene\n" + "\n".join(NAMES) + "\n")
    for cell, compressor in zip(CELLS, ("zstd", "blosc", None), strict=True):
        core = core_of(cell)
        write_genes(world.genes, core, molecules)
        around = core.expand(MARGIN)
        planes = images[(..., *around.slices)].reshape(-1, *around.shape)
        write_zip(world.tiles / f"{stem_of(core)}.zip", zarr_members(planes, compressor=compressor))
    return world
