"""What methods share whose network is a U-Net of patches with two paths: patches in place, and their collage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from teramind_data.errors import InputError
from teramind_model.diffusion.ddim import Inside, sample_canvas
from teramind_model.diffusion.objective import Block, block_loss, split_block
from teramind_model.diffusion.steps import Step
from teramind_model.network.identity_start import start_as_identity
from teramind_model.network.unet import PatchUNet

__all__ = ["TwoPathMethod"]


class TwoPathMethod(ABC):
    """All of :class:`teramind_model.methods.protocol.Method` but name, shape, options, and :meth:`network`."""

    terms = ("patch", "collage")
    starts = ("random", "identity")

    @abstractmethod
    def network(self, shape: Any) -> PatchUNet:
        """The network of a shape, its weights drawn at random."""

    def build(self, shape: Any, start: str = "random") -> PatchUNet:
        """The network, started at random as published, or as the identity (``network.identity_start``)."""
        if start not in self.starts:
            raise InputError("unknown start", expected=", ".join(self.starts), found=start)
        network = self.network(shape)
        if start == "identity":
            start_as_identity(network, shape)
        return network

    def loss(
        self, network: Callable[..., Any], block: Block, *, ratio_cap: float | None = None
    ) -> dict[str, Tensor]:
        """Noise of the patches and of their collage: the paper's two terms (section 3.3)."""
        return block_loss(network, block, ratio_cap=ratio_cap)._asdict()

    def noise(self, network: nn.Module, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """The boundary-aware path on a tile: the collage of the four patches around it."""
        collage: Tensor = network(split_block(x), t, split_block(counts))[1]
        return collage

    def sample_canvas(
        self,
        network: PatchUNet,
        counts: Tensor,
        x_T: Tensor,
        steps: int | Sequence[Step],
        *,
        inside: Inside = None,
        on_row: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Each patch encoded once a step, where tiles apart would encode it four times."""
        return sample_canvas(network, counts, x_T, steps, inside=inside, on_row=on_row)
