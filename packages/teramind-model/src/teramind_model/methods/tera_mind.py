"""The paper's method: the gene-morph U-Net with its patch path and boundary-aware path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from teramind_data.errors import InputError
from teramind_model.diffusion.ddim import sample_canvas
from teramind_model.diffusion.objective import Block, block_loss, split_block
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.network.identity_start import start_as_identity

__all__ = ["METHOD", "TeraMindMethod"]


class TeraMindMethod:
    """See :class:`teramind_model.methods.protocol.Method`."""

    name = "tera-mind"
    terms = ("patch", "collage")
    starts = ("random", "identity")
    options = ("gene_slices", "patch", "channels", "gene_widths", "time_width", "dropout", "fold_z")

    def shape(self, values: Mapping[str, Any]) -> NetworkConfig:
        """The network's configuration."""
        return NetworkConfig.from_dict(values)

    def build(self, shape: NetworkConfig, start: str = "random") -> TeraMind:
        """The network, started at random as published, or as the identity (``network.identity_start``)."""
        if start not in self.starts:
            raise InputError("unknown start", expected=", ".join(self.starts), found=start)
        network = TeraMind(shape)
        if start == "identity":
            start_as_identity(network, shape)
        return network

    def loss(
        self, network: Callable[..., Any], block: Block, *, ratio_cap: float | None = None
    ) -> dict[str, Tensor]:
        """The paper's two terms (section 3.3)."""
        return block_loss(network, block, ratio_cap=ratio_cap)._asdict()

    def noise(self, network: nn.Module, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """The boundary-aware path on a tile: the collage of the four patches around it."""
        collage: Tensor = network(split_block(x), t, split_block(counts))[1]
        return collage

    def sample_canvas(
        self,
        network: TeraMind,
        counts: Tensor,
        x_T: Tensor,
        steps: int,
        *,
        inside: tuple[int, int] | None = None,
        on_row: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Each patch encoded once a step, where tiles apart would encode it four times."""
        return sample_canvas(network, counts, x_T, steps, inside=inside, on_row=on_row)


METHOD = TeraMindMethod()
