"""Random 256-px crops on one core: two stains of two sections, with the counts of four in bins from the crop's corner.

Through tensorstore as `CropReader` does it, beside plain zarr (`Brain.read` and `Molecules.counts`). Rates are told by
wall and by CPU seconds, which change less when others use the machine. Crops of a brain seldom lie where others lay
before: `cold` keeps next to no chunks, `warm` all of this small store.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data import Box, Brain, BrainSpec, Panel, Section, create_brain
from teramind_data.store import CropReader
from teramind_data.store.crops import Limits
from teramind_data.store.molecules import binned

EDGE = 4096
SECTIONS = 4
GENES, TAKEN = 500, 229
DENSITY = 0.08  # molecules a pixel; a MERSCOPE section of 500 genes has 0.05 to 0.1 in tissue
CROP = 256
AIM = 60.0

Read = Callable[[int, Box], int]


@dataclass(frozen=True)
class Rate:
    """Crops a second of wall and of CPU time; and the sum of what was read."""

    wall: float
    cpu: float
    total: int


def write_store(path: Path) -> Brain:
    """A brain whose stains compress about as real ones do, and whose molecules are everywhere."""
    rng = np.random.default_rng(1)
    spec = BrainSpec(
        kind="atlas",
        canvas=(EDGE, EDGE),
        pixel_size_um=0.108,
        sections=tuple(Section(z, f"section_{z}", 100.0 * z) for z in range(SECTIONS)),
        panel=Panel(tuple(f"gene_{i}" for i in range(GENES))),
        stains=("DAPI", "PolyT"),
    )
    writer = create_brain(path, spec)
    molecules = []
    for z in range(SECTIONS):
        coarse = rng.integers(0, 200, (2, EDGE // 16, EDGE // 16), dtype=np.uint8)
        stains = coarse.repeat(16, axis=1).repeat(16, axis=2)
        writer.write("morphology", z, None, stains + rng.integers(0, 16, stains.shape, dtype=np.uint8))
        count = int(DENSITY * EDGE * EDGE)
        y, x = rng.integers(0, EDGE, (2, count), dtype=np.int32)
        # Few genes are frequent, most are rare.
        gene = np.minimum(rng.exponential(GENES / 5, count), GENES - 1).astype(np.uint16)
        molecules.append((z, y, x, gene))
        for _, box in (unit for unit in writer.shards("expression") if unit[0] == z):
            counts = binned(y, x, gene, box.refine(16), np.arange(GENES, dtype=np.int64), GENES)
            writer.write("expression", z, box, counts.astype(np.uint8))
    writer.write_molecules(molecules)
    return writer.finish()


def crops_per_second(read: Read, crops: int, seed: int = 2) -> Rate:
    """Read crops at random places and sections."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, (SECTIONS - 1, EDGE - CROP, EDGE - CROP), (crops, 3))
    total = 0
    wall, cpu = time.perf_counter(), time.process_time()
    for z, y, x in places:
        total += read(int(z), Box(int(y), int(y) + CROP, int(x), int(x) + CROP))
    return Rate(crops / (time.perf_counter() - wall), crops / (time.process_time() - cpu), total)


def through_tensorstore(brain: Brain, genes: NDArray[np.int64], cache_bytes: int) -> Read:
    """A crop as training reads it."""
    reader = CropReader(brain, limits=Limits(cache_bytes=cache_bytes, threads=1), tensorstore=True)

    def read(z: int, box: Box) -> int:
        pixels = reader.pixels("morphology", (z, z + 1), box)
        return int(pixels.sum()) + int(reader.counts(range(z - 1, z + 3), box, genes).sum())

    return read


def through_zarr(brain: Brain, genes: NDArray[np.int64]) -> Read:
    """The same values through zarr alone."""

    def read(z: int, box: Box) -> int:
        total = sum(int(brain.read("morphology", section, box).sum()) for section in (z, z + 1))
        for section in range(z - 1, z + 3):
            if 0 <= section < SECTIONS:
                total += int(brain.molecules.counts(section, box, genes).sum())
        return total

    return read


@contextmanager
def one_core() -> Iterator[None]:
    """A scope in which this process, with threads that it starts, runs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Print rates, their ratio, and the aim."""
    print(
        f"\nrandom crops of {CROP} px, 2 stains x 2 sections, counts of {TAKEN} of {GENES} genes in 4 sections"
    )
    with one_core(), tempfile.TemporaryDirectory(prefix="teramind-bench-") as name:
        brain = write_store(Path(name) / "brain.zarr")
        genes = np.sort(np.random.default_rng(3).permutation(GENES)[:TAKEN])
        print(f"  {SECTIONS} sections of {EDGE} x {EDGE} px, {brain.molecules.total:,} molecules; one core")
        plain = crops_per_second(through_zarr(brain, genes), 60)
        print(f"  {'zarr':<24} {plain.wall:8.1f} crops/s  {plain.cpu:8.1f} crops/CPU s")
        for label, cache in (("tensorstore, cold", 4 << 20), ("tensorstore, warm", 1 << 30)):
            read = through_tensorstore(brain, genes, cache)
            if cache > 4 << 20:
                crops_per_second(read, 400)
            same = crops_per_second(read, 60)
            rate = crops_per_second(read, 400, seed=4)
            if same.total != plain.total:
                raise AssertionError(f"{label}: other values than zarr's")
            print(
                f"  {label:<24} {rate.wall:8.1f} crops/s  {rate.cpu:8.1f} crops/CPU s  "
                f"{rate.cpu / plain.cpu:5.1f} x zarr; aim {AIM:g} crops/s a core"
            )
