"""Writing a section into a store, and reading crops from it, beside zarr-python on an array of the same layout.

The writer does more than the baseline (it makes the pyramid and a journal) but writes through the zarrs codec pipeline.
Reads check for missing shards first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from teramind_data import Box, Brain, BrainSpec, Panel, Section, create_brain
from tests.benchmarks.measure import Case, compare

EDGE = 4096
CROP = 256
CROPS = 100
STAINS = ("DAPI", "PolyT")


def picture(seed: int) -> NDArray[np.uint8]:
    """A section (c, y, x) that compresses about as stains do: smooth blobs and some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (len(STAINS), EDGE // 16, EDGE // 16), dtype=np.uint8)
    fine = coarse.repeat(16, axis=1).repeat(16, axis=2)
    fine += rng.integers(0, 8, fine.shape, dtype=np.uint8)
    return fine


def write_plain(path: Path, values: NDArray[np.uint8], layout: dict[str, Any]) -> None:
    """The baseline: one sharded array through zarr-python's own codec pipeline."""
    array = zarr.create_array(store=path, shape=(values.shape[0], 1, EDGE, EDGE), overwrite=True, **layout)
    array[:, 0] = values


def write_store(path: Path, values: NDArray[np.uint8]) -> Brain:
    """The same section as a whole store."""
    spec = BrainSpec(
        kind="generated",
        canvas=(EDGE, EDGE),
        pixel_size_um=0.108,
        sections=(Section(0, "one", 0.0),),
        panel=Panel(("Gad1",)),
        stains=STAINS,
    )
    writer = create_brain(path, spec, overwrite=True)
    writer.write("morphology", 0, None, values)
    return writer.finish()


def read_crops(read: Callable[[Box], NDArray[Any]], seed: int) -> int:
    """Read crops at random places; their sum, so that nothing is left unread."""
    rng = np.random.default_rng(seed)
    total = 0
    for y, x in rng.integers(0, EDGE - CROP, (CROPS, 2)):
        box = Box(int(y), int(y) + CROP, int(x), int(x) + CROP)
        total += int(read(box).sum())
    return total


def main() -> None:
    """Print rates and ratios."""
    values = picture(1)
    megabytes = values.nbytes / 1e6
    with tempfile.TemporaryDirectory(prefix="teramind-bench-") as name:
        folder = Path(name)
        made = write_store(folder / "first.zarr", values).morphology
        layout = {
            "chunks": made.chunks,
            "shards": made.shards,
            "dtype": made.dtype,
            "compressors": made.compressors,
        }
        compare(
            f"write one section of {EDGE} x {EDGE} px, {len(STAINS)} stains",
            "MB",
            Case(
                "zarr-python, array alone",
                lambda: write_plain(folder / "plain.zarr", values, layout),
                megabytes,
            ),
            Case(
                "store writer, with pyramid and journal",
                lambda: write_store(folder / "store.zarr", values),
                megabytes,
            ),
        )
        plain = zarr.open_array(folder / "plain.zarr", mode="r")
        with_store = write_store(folder / "store.zarr", values)
        compare(
            f"read {CROPS} crops of {CROP} px, {len(STAINS)} stains",
            "crops",
            Case(
                "zarr-python, array alone", lambda: read_crops(lambda b: plain[(..., 0, *b.slices)], 2), CROPS
            ),
            Case(
                "Brain.read, checking for missing shards",
                lambda: read_crops(lambda b: with_store.read("morphology", 0, b), 2),
                CROPS,
            ),
        )
