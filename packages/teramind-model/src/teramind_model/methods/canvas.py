"""Denoising a canvas with any method: by its own faster way where it has one, else tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from teramind_model.diffusion.ddim import Inside
from teramind_model.diffusion.steps import Step
from teramind_model.diffusion.tiles import sample_tiles
from teramind_model.methods.protocol import CanvasMethod, Method, NetworkShape

__all__ = ["denoise_canvas"]


def denoise_canvas(
    method: Method,
    shape: NetworkShape,
    network: nn.Module,
    counts: Tensor,
    x_T: Tensor,
    steps: int | Sequence[Step],
    *,
    inside: Inside = None,
    on_row: Callable[[int], None] | None = None,
) -> Tensor:
    """From start noise to image; arguments and result as :func:`teramind_model.diffusion.tiles.sample_tiles`."""
    if isinstance(method, CanvasMethod):
        return method.sample_canvas(network, counts, x_T, steps, inside=inside, on_row=on_row)
    was_training = network.training
    network.eval()
    try:
        noise = partial(method.noise, network)
        return sample_tiles(noise, shape, counts, x_T, steps, inside=inside, on_row=on_row)
    finally:
        network.train(was_training)
