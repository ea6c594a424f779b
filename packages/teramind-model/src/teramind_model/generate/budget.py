"""What the samplers need to hold, and the refusal of what does not fit."""

from __future__ import annotations

from dataclasses import dataclass

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box
from teramind_model.methods.protocol import NetworkShape
from teramind_model.network.config import NetworkConfig
from teramind_model.network.unet import UNetShape

__all__ = ["WindowMemory", "Work", "check_memory", "check_unit", "unit_memory", "window_memory"]

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
    how many images its steps hand on beside x."""

    network: UNetShape
    genes: int
    gene_slices: int
    steps: int
    batch: int
    history: int = 0


def unit_memory(work: Work, strip: int, region: int, band: int) -> int:
    """Estimate in bytes for a strip of ``strip`` tiles of a region ``region`` tiles wide, float32, weights not counted.

    Rows of skips (one a step kept, one a step just made), gene features of 2 N rows, rows of x and its
    history, counts of two bands of 256 px, and the output's band of ``band`` px.
    """
    network, steps = work.network, work.steps
    patch, depth = network.patch, network.image_slices
    widths = [min(strip + 2 * (steps - 1 - s), region) + 1 for s in range(steps)]
    skips = _skips(network)
    places = work.batch * (_ROW_FACTOR * skips + _decoding(network))
    features = widths[0] * (2 * steps + 1) * _gene_features(network)
    rows_of_x = 3 * (1 + work.history) * sum(widths) * network.stains * patch**2
    bins = (widths[0] * patch // BIN_PX) * (3 * 256 // BIN_PX) * work.genes * work.gene_slices
    output = network.stains * depth * band * strip * patch
    return _FLOAT * depth * (2 * sum(widths) * skips + places + features + rows_of_x) + 2 * bins + output


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
