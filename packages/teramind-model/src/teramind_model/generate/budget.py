"""What the samplers need to hold, and the refusal of what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box, ceil_div
from teramind_model.diffusion.noise import BLOCK_PX
from teramind_model.generate.config import Precision
from teramind_model.methods.protocol import NetworkShape
from teramind_model.methods.tera_mind import METHOD as TERA_MIND
from teramind_model.methods.two_paths import TwoPathMethod
from teramind_model.network.config import NetworkConfig
from teramind_model.network.training_memory import LiveStorages
from teramind_model.network.unet import UNetShape

__all__ = [
    "UnitMemory",
    "WindowMemory",
    "Work",
    "check_memory",
    "check_unit",
    "unit_memory",
    "unit_needs",
    "window_memory",
]

_FLOAT = 4
_CANVASES = 8
"""Float images of the canvas alive at once in a DDIM step: noise, x, its padded copy, eps (in rows, then joined), x0
and the next x with their intermediates."""
_HISTORY = 2
"""More for each image that steps hand on: the one handed on, and the mixture of it with x0."""

_ROW_FACTOR = 5
"""Skips of one patch row: held for two rows, joined, and cut again for the decoder; a fifth for the allocator."""


@dataclass(frozen=True)
class WindowMemory:
    """Bytes that a window takes, by what takes them."""

    images: int
    counts: int
    gene_features: int
    row: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.images + self.counts + self.gene_features + self.row


def window_memory(network: NetworkShape, tiles: tuple[int, int], history: int = 0) -> WindowMemory:
    """Estimate for a canvas of ``tiles = (rows, columns)`` of P x P pixels, float32, weights not counted.

    ``history``: images that steps hand on beside x.
    Of methods but the paper's, the network's own work is not counted either.

    Gene features are computed once and kept for all steps; images and counts are whole canvases; the network
    itself works on one row of patches at a time. All but the last grow with the area.
    """
    rows, columns = tiles
    patch, depth = network.patch, network.image_slices
    bins = (rows * patch + 2 * network.halo) * (columns * patch + 2 * network.halo) // BIN_PX**2
    # Raw counts as float32, and the integer copy they came from (at most two bytes).
    counts = network.gene_slices * network.genes * bins * (_FLOAT + 2)
    images = (_CANVASES + _HISTORY * history) * network.stains * depth * rows * columns * patch**2 * _FLOAT
    if not isinstance(network, NetworkConfig):
        # Another method works tile by tile: what it needs for some tiles does not grow with the canvas.
        return WindowMemory(images=images, counts=counts, gene_features=0, row=0)
    patches = (rows + 1) * (columns + 1)
    skips, work = _skips(network), _decoding(network)
    return WindowMemory(
        images=images,
        counts=counts,
        gene_features=patches * _gene_features(network) * depth * _FLOAT,
        row=(columns + 1) * (_ROW_FACTOR * skips + work) * depth * _FLOAT,
    )


def check_memory(network: NetworkShape, box: Box, limit: int, history: int = 0) -> WindowMemory:
    """The estimate for ``box`` (whole tiles); InputError with number and remedy where it exceeds ``limit`` bytes."""
    tiles = box.coarsen(network.patch)
    need = window_memory(network, tiles.shape, history)
    if need.total > limit:
        edge = network.patch
        while window_memory(network, (2 * edge // network.patch,) * 2, history).total <= limit and edge < max(
            box.shape
        ):
            edge *= 2
        remedy = f"Pass --memory {_gib(need.total, up=True)}"
        if window_memory(network, (edge // network.patch,) * 2, history).total <= limit:
            remedy += f", or a --roi of {edge} x {edge} px or less"
        raise InputError(
            "a window of this canvas does not fit the memory budget",
            where=f"{box.height} x {box.width} px, {network.genes} genes in {BIN_PX}-px bins",
            expected=f"at most {_gib(limit)}",
            found=f"about {_gib(need.total)}",
            remedy=remedy,
        )
    return need


@dataclass(frozen=True)
class Work:
    """What a wavefront does: its network, counts of which genes, how many steps, how many places a batch,
    how many images its steps hand on beside x, by which method, in which precision, beside how many draws."""

    network: UNetShape
    genes: int
    gene_slices: int
    steps: int
    batch: int
    history: int = 0
    method: TwoPathMethod = TERA_MIND
    precision: Precision = "float32"
    draws: int = 1


@dataclass(frozen=True)
class UnitMemory:
    """Bytes that a unit takes at the worst moment beside the weights: ``device`` in tensors, ``host`` in arrays, both
    of the same memory where the device is a CPU."""

    device: int
    host: int

    @property
    def total(self) -> int:
        """Both."""
        return self.device + self.host


def unit_memory(work: Work, strip: int, region: int, band: int) -> int:
    """As :func:`unit_needs`, both kinds together."""
    return unit_needs(work, strip, region, band).total


def unit_needs(work: Work, strip: int, region: int, band: int) -> UnitMemory:
    """Estimate for one draw of a strip of ``strip`` tiles of a region ``region`` tiles wide, weights not counted.

    On the device: encoded rows (one a step kept, one a step just made), gene features of 2 N rows, rows of x and its
    history, and a batch on its way. In the host: counts of two bands of 256 px (in two bytes, or in one and what passes
    in reading) and the row of them that is asked for, noise of one band, the output's band of ``band`` px twice (being
    made and being written), and a shard on its way to the disk: itself, its pyramid, its share of mean and SD.
    """
    network, steps, batch = work.network, work.steps, work.batch
    patch, depth = network.patch, network.image_slices
    widths = [min(strip + 2 * (steps - 1 - s), region) + 1 for s in range(steps)]
    counts_shape = (work.genes, work.gene_slices)
    one = patch_memory(work.method, network, counts_shape, batch, work.precision)  # type: ignore[arg-type]
    padded = ceil_div(widths[0], batch) * batch
    row = network.stains * depth * patch**2 * _FLOAT
    held = 2 * steps * padded * one.genes + 2 * sum(widths) * one.encoded
    held += (2 * (1 + work.history) + 2) * sum(widths) * row
    # Several steps' places are cut one by one, joined, and filled up.
    cutting = 3 * batch * (one.genes + one.encoded)
    passing = max(cutting, batch * (one.genes + one.decoding), widths[0] * one.encoded)
    bins = (widths[0] * patch // BIN_PX) * work.genes * work.gene_slices
    counts = bins * (2 * 2 * BLOCK_PX + patch * _FLOAT) // BIN_PX
    noise = network.stains * depth * BLOCK_PX * min(strip + 2 * steps, region) * patch * _FLOAT
    # Measured: 3 bytes a pixel and stain; of several draws 2 each, and 8 for mean and SD.
    shard = 3 if work.draws == 1 else 2 + ceil_div(8, work.draws)
    output = network.stains * (2 * depth * band * strip * patch + shard * band**2)
    return UnitMemory(held + passing, counts + noise + output)


@dataclass(frozen=True)
class PatchMemory:
    """Bytes of one of a batch's patches: its gene features, what is encoded of it, and the most that decoding it takes
    beside both."""

    genes: int
    encoded: int
    decoding: int


@cache
def patch_memory(
    method: TwoPathMethod, network: Any, counts: tuple[int, int], batch: int, precision: Precision = "float32"
) -> PatchMemory:
    """Counted on tensors without numbers (some seconds), as of a CPU; ``counts``: genes and gene slices. The kernels'
    own work space is not in it."""
    with _without_numbers(precision), torch.no_grad():
        model = method.network(network).eval()
        x = torch.zeros(batch, network.stains * network.image_slices, network.patch, network.patch)
        t = torch.zeros(batch, dtype=torch.long)
        genes = model.gene_features(torch.zeros(batch, counts[1], counts[0], *[network.bins] * 2))
        features = sum(g.nbytes for g in genes)
        encoded = model.encode(x, t, genes)
        held = encoded.middle.nbytes + sum(skip.nbytes for skip in encoded.skips)
        with LiveStorages() as storages:
            model.decode(encoded, t, genes)
    return PatchMemory(features // batch, held // batch, storages.peak // batch + held // batch)


@contextmanager
def _without_numbers(precision: Precision) -> Iterator[None]:
    if precision == "float32":
        with torch.device("meta"):
            yield
        return
    # Autocast passes meta tensors by; fake ones take three times as long. In inference mode it keeps no copies of
    # the weights that it casts, nor does it here.
    casting = torch.autocast("cpu", getattr(torch, precision), cache_enabled=False)
    with FakeTensorMode(), casting:
        yield


def _gene_features(network: UNetShape) -> int:
    """Numbers of a patch's gene features, a slice."""
    return sum(
        channels * (network.patch // 8 << index) ** 2 for index, channels in enumerate(network.gene_channels)
    )


def _skips(network: UNetShape) -> int:
    """Numbers of a patch's skips, a slice."""
    return sum(
        width * (network.patch >> level) ** 2 * (3 if level else 4)
        for level, width in enumerate(network.widths)
    )


def _decoding(network: UNetShape) -> int:
    """Numbers of the widest concatenation in the decoder: features, skip and genes at full resolution, and its
    products; of a patch, a slice."""
    return 12 * (2 * network.channels + network.gene_channels[-1]) * network.patch**2


def check_unit(size: int, *, up: bool = False) -> str:
    """Bytes as people write them, rounded up where asked."""
    return _gib(size, up=up)


def _gib(size: int, *, up: bool = False) -> str:
    value = size / (1 << 30)
    return f"{value + 0.05:.1f}GiB" if up else f"{value:.2f} GiB"
