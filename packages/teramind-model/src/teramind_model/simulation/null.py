"""The network that does nothing: it says that what it is shown is noise, all of it.

What comes out is then known pixel by pixel: the sampler's own arithmetic on the start noise. But patches are cut, kept,
collaged and put together as any network's, so one row, column or step taken for another shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from teramind_data.errors import InputError
from teramind_data.panel import Panel
from teramind_model.generate.source import Source
from teramind_model.methods.two_paths import TwoPathMethod
from teramind_model.network import NetworkConfig
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded, PatchUNet, UNetShape

__all__ = ["NullMethod", "NullNetwork", "null_source"]


class NullNetwork(PatchUNet):
    """Copies its input: the noise that it finds in ``x`` is ``x``."""

    def __init__(self, config: UNetShape) -> None:
        nn.Module.__init__(self)  # none of the U-Net's layers
        self.config = config
        self.nothing = nn.Parameter(torch.zeros(1))  # engines ask parameters for the device

    def gene_features(self, counts: Tensor) -> GeneFeatures:
        """Features without channels."""
        none = counts.new_zeros((len(counts), 1, 1, 1, 0))
        return none, none, none, none

    def encode(self, x: Tensor, t: Tensor, genes: GeneFeatures) -> Encoded:
        """``x (b, k * Z, P, P)`` itself, without skips."""
        return Encoded(x, ())

    def decode(self, encoded: Encoded, t: Tensor, genes: GeneFeatures) -> Tensor:
        """What was encoded, ``(b, k * Z, P, P)``."""
        return encoded.middle

    def collage_between(
        self, rows: tuple[Encoded, Encoded], genes: tuple[GeneFeatures, GeneFeatures]
    ) -> tuple[Encoded, GeneFeatures]:
        """As any network's, of maps ``(b, k * Z, P, P)``, to transpose none."""
        above, below = (row.middle for row in rows)
        half = above.shape[-1] // 2
        cut = above.new_empty((len(above) - 1, *above.shape[1:]))
        cut[..., :half, :half] = above[:-1, :, half:, half:]
        cut[..., :half, half:] = above[1:, :, half:, :half]
        cut[..., half:, :half] = below[:-1, :, :half, half:]
        cut[..., half:, half:] = below[1:, :, :half, :half]
        g_0, g_1, g_2, g_3 = (g[:-1] for g in genes[0])
        return Encoded(cut, ()), (g_0, g_1, g_2, g_3)


class NullMethod(TwoPathMethod):
    """The method of the null network; see :class:`teramind_model.methods.protocol.Method`. Not to be trained."""

    name = "null"
    options = ()

    def shape(self, values: Mapping[str, Any]) -> NetworkConfig:
        """As the paper's."""
        return NetworkConfig.from_dict(values)

    def network(self, shape: Any) -> NullNetwork:
        """A null network for patches of this shape."""
        return NullNetwork(shape)


METHOD = NullMethod()


def null_source(source: Source, panel: Panel | None = None) -> Source:
    """A source of the same shape, panel and stains, whose network does nothing.

    Args:
        source: what it stands for; needs no weights.
        panel: genes that are read instead.

    Raises:
        InputError: where the method has no wavefront, and so no units.
    """
    if not isinstance(source.method, TwoPathMethod):
        raise InputError(
            "only the wavefront is simulated", expected="a method that has it", found=source.method.name
        )
    network = source.model.config
    if panel is not None:
        network = replace(network, genes=len(panel))
    made = replace(source, method=METHOD, network=network, model=METHOD.network(network).eval(), training={})
    return replace(made, panel=panel or source.panel, path="null network", sha256="null")
