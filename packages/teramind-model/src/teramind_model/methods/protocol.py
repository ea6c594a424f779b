"""What a method is: a network built from plain values, its training loss, and one denoising step with its halo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from teramind_model.diffusion.ddim import Inside
from teramind_model.diffusion.objective import Block
from teramind_model.diffusion.steps import Step

__all__ = ["CanvasMethod", "Method", "NetworkShape", "sees_genes"]


class NetworkShape(Protocol):
    """The numbers that fix a network's parameters and what it sees. A frozen dataclass will do.

    A *tile* is what one call of :meth:`Method.noise` makes; its *halo* is how far beyond the tile's edges pixels
    and genes take part. A shape whose network sees no genes says so by a field ``gene_width`` of 0 (see
    :func:`sees_genes`).
    """

    @property
    def genes(self) -> int:
        """Genes in the panel, n."""
        ...

    @property
    def stains(self) -> int:
        """Image channels, k."""
        ...

    @property
    def gene_slices(self) -> int:
        """Gene slices of a window, S: 1, 4, 8 or 16."""
        ...

    @property
    def image_slices(self) -> int:
        """Image slices that a window makes, Z: S / 2, or 1 where S is 1."""
        ...

    @property
    def patch(self) -> int:
        """Edge of a tile in pixels, P; a multiple of 16. Training samples are 2P wide."""
        ...

    @property
    def halo(self) -> int:
        """Pixels around a tile that its noise depends on; a multiple of 16, at most P."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which :meth:`Method.shape` makes an equal one."""
        ...


def sees_genes(shape: NetworkShape) -> bool:
    """Whether other genes could change what a network of ``shape`` makes: unless it has a ``gene_width`` of 0."""
    return bool(getattr(shape, "gene_width", None) != 0)


class Method(Protocol):
    """A way of making images from genes by denoising. Stateless; all state is in the network it builds.

    Attributes:
        name: as users give it to ``--method``.
        terms: names of the parts of the loss, as they are logged.
        starts: ways that :meth:`build` can draw the first weights, "random" among them.
        options: keys of :meth:`shape` beside ``genes`` and ``stains``; the rest of the training configuration is
            not offered to it.
    """

    name: str
    terms: tuple[str, ...]
    starts: tuple[str, ...]
    options: tuple[str, ...]

    def shape(self, values: Mapping[str, Any]) -> NetworkShape:
        """The shape that plain values mean; InputError naming the one that is unknown or out of range."""
        ...

    def build(self, shape: Any, start: str = "random") -> nn.Module:
        """A network of this shape, its weights drawn from torch's generator; InputError on an unknown ``start``.

        Its ``forward`` is what :meth:`loss` calls, once for each loss: with several devices gradients are gathered
        there.
        """
        ...

    def loss(
        self, network: Callable[..., Any], block: Block, *, ratio_cap: float | None = None
    ) -> dict[str, Tensor]:
        """Parts of the loss of a batch by name; their sum is minimised.

        Args:
            network: the network, perhaps wrapped (compiled, distributed): only to be called.
            block: images, noise, mask, counts and times (see :class:`Block`).
            ratio_cap: weigh each sample by ``min((1 - a) / a, ratio_cap)``; None weighs all alike.
        """
        ...

    def noise(self, network: nn.Module, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """Noise of tiles, each from its surroundings alone.

        Args:
            network: as :meth:`build` makes it, in eval mode.
            x: tiles with their halo ``(b, k * Z, P + 2 halo, P + 2 halo)``, stain slow; -1 outside the canvas.
            t: time steps ``(b,)``.
            counts: raw counts under them ``(b, S, n, (P + 2 halo) / 16, (P + 2 halo) / 16)``.

        Returns:
            ``(b, k * Z, P, P)`` float32.
        """
        ...


@runtime_checkable
class CanvasMethod(Protocol):
    """A method that also denoises a whole canvas faster than tile by tile, to the same numbers."""

    def sample_canvas(
        self,
        network: Any,
        counts: Tensor,
        x_T: Tensor,
        steps: int | Sequence[Step],
        *,
        inside: Inside = None,
        on_row: Callable[[int], None] | None = None,
    ) -> Tensor:
        """As :func:`teramind_model.diffusion.tiles.sample_tiles`."""
        ...
