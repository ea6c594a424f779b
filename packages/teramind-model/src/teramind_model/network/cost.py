"""What a network's arithmetic costs, counted by PyTorch on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from teramind_data.geometry import BIN_PX
from teramind_model.network.config import NetworkConfig
from teramind_model.network.unet import PatchUNet, TeraMind

if TYPE_CHECKING:
    from teramind_model.methods.protocol import Method, NetworkShape

__all__ = ["Work", "count_model", "count_tile", "count_work", "meta_model"]


@dataclass(frozen=True)
class Work:
    """Floating-point operations, a multiplication and an addition being two. Convolutions and matrix products only.

    gene_branch, encoder: of one patch (the middle block counts to the encoder). decoder: of one tile.
    """

    gene_branch: int
    encoder: int
    decoder: int

    @property
    def tile_step(self) -> int:
        """A tile in one step of generation, its gene features being there: one patch encoded, one tile decoded."""
        return self.encoder + self.decoder

    @property
    def training_forward(self) -> int:
        """The forward pass of one sample: four patches, decoded in place, and the collage between them."""
        return 4 * (self.gene_branch + self.encoder + self.decoder) + self.decoder


def meta_model(config: NetworkConfig) -> TeraMind:
    """The network without its weights: shapes only."""
    with torch.device("meta"):
        return TeraMind(config).eval()


def count_work(config: NetworkConfig, *, fold_z: bool | None = None) -> Work:
    """Count ``config``'s work, or what it would be with the slices folded or not (about 1 s)."""
    model = meta_model(config if fold_z is None else replace(config, fold_z=fold_z))
    return count_model(model, config.genes, config.gene_slices)


def count_model(model: PatchUNet, n_genes: int, gene_slices: int) -> Work:
    """As :func:`count_work`, of a network on the meta device."""
    c = model.config
    with torch.device("meta"), torch.no_grad():
        x, t = torch.empty(1, c.stains * c.image_slices, c.patch, c.patch), torch.empty(1)
        counts = torch.empty(1, gene_slices, n_genes, c.bins, c.bins)
        genes = model.gene_features(counts)
        encoded = model.encode(x, t, genes)
        return Work(
            _count(lambda: model.gene_features(counts)),
            _count(lambda: model.encode(x, t, genes)),
            _count(lambda: model.decode(encoded, t, genes)),
        )


def count_tile(method: Method, shape: NetworkShape) -> int:
    """FLOP of one tile in one step made by itself, its halo included, by any method."""
    edge = shape.patch + 2 * shape.halo
    bins = edge // BIN_PX
    with torch.device("meta"), torch.no_grad():
        network = method.build(shape).eval()
        x, t = torch.empty(1, shape.stains * shape.image_slices, edge, edge), torch.zeros(1)
        counts = torch.empty(1, shape.gene_slices, shape.genes, bins, bins)
        return _count(lambda: method.noise(network, x, t, counts))


def _count(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
