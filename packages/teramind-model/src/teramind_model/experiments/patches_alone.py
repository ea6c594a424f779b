"""Patches without collage: the paper's network by its patch path alone, patches laid next to each other.

What the boundary-aware path is worth: the same weights, genes and start noise, but grid A aligned with the tiles, each
patch denoised from its own pixels and genes. The weights are a checkpoint's of ``tera-mind``; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from teramind_data.errors import InputError
from teramind_data.store import Brain
from teramind_model.diffusion.objective import Block
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.run import generate
from teramind_model.generate.source import Source, load_source, pick_device
from teramind_model.methods.tera_mind import METHOD as COLLAGE
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.network.unet import PatchUNet

__all__ = ["METHOD", "PatchesAlone", "PatchesAloneConfig", "generate_patches_alone", "without_collage"]


@dataclass(frozen=True)
class PatchesAloneConfig(NetworkConfig):
    """The network's shape, seen as one whose tiles are its patches and look at nothing around them."""

    @property
    def halo(self) -> int:
        """None."""
        return 0


class PatchesAlone:
    """See :class:`teramind_model.methods.protocol.Method`; trained as ``tera-mind`` is."""

    name: str = "tera-mind-patches"
    terms: tuple[str, ...] = COLLAGE.terms
    starts: tuple[str, ...] = COLLAGE.starts
    options: tuple[str, ...] = COLLAGE.options

    def shape(self, values: Mapping[str, Any]) -> PatchesAloneConfig:
        """The network's configuration."""
        return PatchesAloneConfig(**vars(COLLAGE.shape(values)))

    def build(self, shape: PatchesAloneConfig, start: str = "random") -> PatchUNet:
        """The paper's network."""
        return COLLAGE.build(shape, start)

    def loss(
        self, network: Callable[..., Any], block: Block, *, ratio_cap: float | None = None
    ) -> dict[str, Tensor]:
        """The paper's two terms."""
        return COLLAGE.loss(network, block, ratio_cap=ratio_cap)

    def noise(self, network: nn.Module, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """The patch path: each patch decoded in place, from ``(b, k * Z, P, P)`` and ``(b, S, n, g, g)``."""
        assert isinstance(network, TeraMind)
        genes = network.gene_features(counts)
        return network.decode(network.encode(x, t, genes), t, genes)


METHOD = PatchesAlone()


def without_collage(source: Source) -> Source:
    """A checkpoint of the paper's method as one that draws patches alone.

    Raises InputError where it is of another method.
    """
    if not isinstance(source.network, NetworkConfig):
        raise InputError(
            "the method has no patch path of its own",
            where=source.path,
            expected=f"a checkpoint of {COLLAGE.name}",
            found=source.method.name,
        )
    shape = METHOD.shape(source.network.to_dict())
    # The store's request holds this: a store drawn with collage must not pass for one without.
    return replace(source, method=METHOD, network=shape, sha256=f"{source.sha256}:{METHOD.name}")


def generate_patches_alone(config: GenerateConfig) -> Brain:
    """Generate as :func:`teramind_model.generate.run.generate` does, by patches alone."""
    return generate(config, without_collage(load_source(config.checkpoint, pick_device(config.run.device))))
