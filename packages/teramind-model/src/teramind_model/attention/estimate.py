"""What a job needs before it begins: memory, refused where there is too little, and time, from a short calibration."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.console import counted, duration
from teramind_data.errors import InputError
from teramind_data.geometry import Box, Window, ceil_div
from teramind_data.store import Brain
from teramind_model.attention.kernel import CHANNELS, Kernel
from teramind_model.attention.maps import Matrices, unit_maps
from teramind_model.attention.sums import UnitSums
from teramind_model.attention.units import CountsReader, PatchGrid, Unit
from teramind_model.network.config import NetworkConfig

__all__ = [
    "AttentionMemory",
    "attention_memory",
    "check_attention_memory",
    "paper_patches",
    "pick_batch",
    "projection",
    "seconds_a_patch",
    "seconds_to_read",
    "unit_patches",
]

PAPER_CANVAS = (73_216, 105_984)
"""The paper's, in pixels."""
PAPER_SECTIONS = 50

_FLOAT = 4
_BATCH_BYTES = {"cuda": 1 << 30, "cpu": 1 << 25}
"""What a batch may take where nobody says how large it shall be: on a CPU, what caches can still help with."""


def _a_patch(network: NetworkConfig, union: int, *, full: bool) -> int:
    """Bytes of one patch in a batch: counts and what becomes of them, and the attention rows held at a time."""
    counts = network.genes * network.gene_slices * network.bins**2
    matrices = 6 * network.genes**2 if full else 0
    return _FLOAT * (8 * counts + 3 * union * network.genes + matrices)


def pick_batch(network: NetworkConfig, union: int, device: str, *, full: bool) -> int:
    """Patches computed at once where nobody says how many."""
    kind = "cuda" if device.startswith("cuda") else "cpu"
    return max(1, min(8192, _BATCH_BYTES[kind] // _a_patch(network, union, full=full)))


@dataclass(frozen=True)
class AttentionMemory:
    """Bytes that a job takes, by what takes them; weights apart."""

    counts: int
    batch: int
    maps: int
    sums: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.counts + self.batch + self.maps + self.sums


def attention_memory(
    network: NetworkConfig,
    kernel: Kernel,
    units: tuple[Unit, ...],
    batch: int,
    atlas: tuple[int, int],
    groups: int,
) -> AttentionMemory:
    """Estimate for a job; none of it grows with the canvas but by the regions and sections of the matrix.

    Args:
        network: its shape.
        kernel: with its pathways.
        units: of the job.
        batch: patches at once.
        atlas: genes of the atlas and bytes of a count.
        groups: of the matrix; 0 where it is not asked for.
    """
    bins = max((PatchGrid.over(unit.box, network.bins).box.area for unit in units), default=0)
    genes, width = atlas
    # A block of counts is in use, the next one read meanwhile, and its sections are kept for the window after it;
    # reading a section takes all genes of the atlas.
    counts = bins * (3 * network.gene_slices * network.genes + 2 * genes) * width
    slots = network.image_slices * len(CHANNELS) * kernel.pathways
    return AttentionMemory(
        counts=counts,
        batch=batch * _a_patch(network, len(kernel.union), full=groups > 0),
        maps=3 * bins * slots * _FLOAT,
        # Twice: to keep them over a restart, a group at a time is copied, and a unit has its own.
        sums=2 * groups * 5 * network.genes**2 * 8,
    )


def check_attention_memory(need: AttentionMemory, limit: int, kernel: Kernel) -> None:
    """InputError with number and remedy where ``need`` exceeds ``limit`` bytes."""
    if need.total <= limit:
        return
    parts = {"counts": need.counts, "batches": need.batch, "maps": need.maps, "sums of the matrix": need.sums}
    largest = max(parts, key=lambda name: parts[name])
    remedies = {
        "counts": "a store with smaller shards",
        "batches": "a smaller --batch",
        "maps": f"fewer than {kernel.pathways} pathways at a time",
        "sums of the matrix": "fewer regions, or the matrix of some --sections at a time",
    }
    raise InputError(
        "attention does not fit the memory budget",
        where=f"mostly {largest}, {parts[largest] / (1 << 30):.2f} GiB",
        expected=f"at most {limit / (1 << 30):.2f} GiB",
        found=f"about {need.total / (1 << 30):.2f} GiB",
        remedy=f"Pass --memory {need.total / (1 << 30) + 0.05:.1f}GiB, or {remedies[largest]}",
    )


def seconds_a_patch(kernel: Kernel, batch: int, *, full: bool, budget_s: float = 1.0) -> float:
    """Seconds that a patch of a window takes, all its sections included: the median over a few made-up blocks of one
    batch, in which no patch is empty.

    Args:
        kernel: to be used.
        batch: patches at once.
        full: whether the matrix is summed too.
        budget_s: how long to measure, the first block apart.
    """
    c = kernel.model.config
    first = (c.gene_slices - c.image_slices) // 2
    sections = tuple(range(first, first + c.image_slices))
    box = Box(0, c.bins, 0, c.bins * max(1, batch // 2 - 1))
    unit = Unit(0, box, box, Window(0, sections, tuple(range(c.gene_slices))), sections)
    grid = PatchGrid.over(box, c.bins)
    counts = np.random.default_rng(0).poisson(0.3, (c.gene_slices, c.genes, *grid.box.shape)).astype(np.uint8)
    labels = {z: np.zeros(grid.box.shape, np.int64) for z in sections}
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or (len(times) < 6 and time.perf_counter() - began < budget_s):
        start = time.perf_counter()
        matrices = Matrices(UnitSums(), labels, box) if full else None
        unit_maps(kernel, unit, counts, batch, tissue_only=False, matrices=matrices)
        if matrices is not None:
            matrices.sums.groups()
        times.append(time.perf_counter() - start)
    # The first one also chooses kernels and reserves memory.
    return sorted(times[1:])[len(times[1:]) // 2] / unit_patches(unit, c.bins)


def seconds_to_read(atlas: Brain, channels: NDArray[np.int64], unit: Unit, network: NetworkConfig) -> float:
    """Seconds that reading takes a patch of a window: of one section of a unit's block, at most 1024 px wide."""
    y0, x0 = unit.box.y0, unit.box.x0
    box = unit.box.intersect(Box(y0, y0 + 64, x0, x0 + 64)) or unit.box
    z = unit.sections[0]
    part = replace(unit, box=box, window=Window(unit.window.index, (z,), (z,)), sections=(z,))
    # The first read opens the array.
    CountsReader(atlas, channels, network.bins).read(part)
    start = time.perf_counter()
    CountsReader(atlas, channels, network.bins).read(part)
    # A window brings Z sections that the one before it has not read.
    return (time.perf_counter() - start) * network.image_slices / unit_patches(part, network.bins)


def paper_patches(network: NetworkConfig) -> int:
    """Patches of windows on 50 sections of the paper's canvas."""
    rows, columns = (ceil_div(edge, network.patch) + 1 for edge in PAPER_CANVAS)
    return rows * columns * ceil_div(PAPER_SECTIONS, network.image_slices)


def unit_patches(unit: Unit, bins: int) -> int:
    """Patches of a unit, empty ones included."""
    rows, columns = PatchGrid.over(unit.box, bins).shape
    return rows * columns


def projection(
    network: NetworkConfig, patches: int, computing: float, reading: float, device: torch.device
) -> str:
    """One line on the time for ``patches`` and for 50 sections of the paper's canvas.

    Args:
        network: its shape.
        patches: of the job, empty ones included.
        computing: seconds a patch takes to compute.
        reading: seconds it takes to read.
        device: what computes.
    """
    height, width = PAPER_CANVAS
    # A GPU computes one block while the next is read; a CPU does both itself.
    a_patch = max(computing, reading) if device.type == "cuda" else computing + reading
    return (
        f"{counted(patches, 'patch', 'patches')}; {1 / computing:,.0f} a second computed on {device.type}, "
        f"{1 / reading:,.0f} read: about "
        f"{duration(patches * a_patch)}. {PAPER_SECTIONS} sections of {height:,} x {width:,} px with this network "
        f"(n = {network.genes}, P = {network.patch}): about {duration(paper_patches(network) * a_patch)}. "
        f"Less by the share of empty patches"
    )
