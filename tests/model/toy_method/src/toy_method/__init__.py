"""A third party's method in one file: a pixel's noise from its 3 x 3 neighbours and the molecules under it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

BIN = 16


@dataclass(frozen=True)
class ToyShape:
    genes: int
    stains: int
    patch: int = 32
    gene_slices: int = 4
    brightness: float = 0.0

    halo = BIN

    @property
    def image_slices(self):
        return max(1, self.gene_slices // 2)

    def to_dict(self):
        return asdict(self)


class ToyNetwork(nn.Module):
    def __init__(self, shape):
        super().__init__()
        channels = shape.stains * shape.image_slices
        self.shape = shape
        self.mix = nn.Conv2d(channels + shape.gene_slices, channels, 3, padding=1)

    def forward(self, x, t, counts):
        molecules = functional.interpolate(torch.log1p(counts.sum(dim=2)), scale_factor=BIN)
        return x + self.mix(torch.cat((x, molecules), dim=1)) - self.shape.brightness


class ToyMethod:
    name = "toy"
    terms = ("error",)
    starts = ("random",)
    options = ("patch", "gene_slices")

    def shape(self, values):
        return ToyShape(**values)

    def build(self, shape, start="random"):
        return ToyNetwork(shape)

    def loss(self, network, block, *, ratio_cap=None):
        return {
            "error": ((network(block.image + block.noise, block.t, block.counts) - block.noise) ** 2).mean()
        }

    def noise(self, network, x, t, counts):
        halo = network.shape.halo
        return network(x, t, counts)[..., halo:-halo, halo:-halo]


METHOD = ToyMethod()
