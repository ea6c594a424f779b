"""Layers shared by the gene branch and the U-Net.

Feature maps are kept channels-last, as contiguous ``(b, y, x, z, c)``: normalisation, modulation, attention and
concatenation then touch contiguous channels, and the same memory read as ``(b, z * c, y, x)`` is what a 2-D
convolution over folded slices wants, without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from teramind_model.network.dropout import KeyedDropout

_EPSILON = 1e-6


class RMSNorm(nn.Module):
    """``weight * x * rsqrt(mean(x^2) + 1e-6)`` over the last axis, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(..., c)``."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + _EPSILON)
        return (self.weight.float() * wide * scale).to(x.dtype)


class SliceConv(nn.Module):
    """A convolution over ``(b, y, x, z, c)`` with kernel ``(kz, 3, 3)`` or ``(1, 1, 1)``, "same" in y and x.

    The weight is a Conv3d's, ``(c_out, c_in, kz, ky, kx)``. ``kz = 3`` pads z by one; ``kz = 1`` treats slices
    apart. With ``fold`` the slices become channels of one 2-D convolution whose weight holds ``w[kz]`` where
    output slice i reads input slice j = i + kz - 1, and zero elsewhere: the same sums in another order.
    """

    def __init__(self, c_in: int, c_out: int, kernel: tuple[int, int, int], *, fold: bool = False) -> None:
        super().__init__()
        self.kernel = kernel
        self.fold = fold
        reference = nn.Conv3d(c_in, c_out, kernel)  # for its initialisation
        self.weight = reference.weight
        self.bias = nn.Parameter(torch.zeros(c_out)) if reference.bias is None else reference.bias
        self._settled: Tensor | None
        self.register_buffer("_settled", None, persistent=False)

    def settle(self, slices: int) -> None:
        """Fold the weight once and for all, where it is folded: for a network that learns no more and sees windows of
        ``slices``. The same numbers without folding at each call; the weight it was made from goes."""
        if self.fold and self.kernel[0] > 1 and slices > 1 and self._settled is None:
            self._settled = fold_weight(self.weight.detach(), slices, pad=self.kernel[0] // 2)
            del self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(b, y, x, z, c_in)`` to ``(b, y, x, z, c_out)``."""
        kz, ky, _ = self.kernel
        if kz == ky == 1:
            return functional.linear(x, self.weight.flatten(1), self.bias)
        batch, slices = x.shape[0], x.shape[3]
        if kz == 1 or slices == 1:
            # One slice sees only the centre of a padded kernel: a 2-D convolution, slices as batch.
            weight = self.weight[:, :, kz // 2]
            flat = x.permute(0, 3, 4, 1, 2).flatten(0, 1)
            out = functional.conv2d(flat, weight, self.bias, padding=1)
            return out.unflatten(0, (batch, slices)).permute(0, 3, 4, 1, 2).contiguous()
        if self.fold:
            flat = x.flatten(3).permute(0, 3, 1, 2)
            kept = self._settled
            folded = fold_weight(self.weight, slices, pad=kz // 2) if kept is None else kept
            out = functional.conv2d(flat, folded, self.bias.repeat(slices), padding=1)
            return out.permute(0, 2, 3, 1).unflatten(3, (slices, -1)).contiguous()
        out = functional.conv3d(x.permute(0, 4, 3, 1, 2), self.weight, self.bias, padding=(kz // 2, 1, 1))
        return out.permute(0, 3, 4, 2, 1).contiguous()


def fold_weight(weight: Tensor, slices: int, pad: int) -> Tensor:
    """A Conv3d weight as that of a 2-D convolution over folded slices.

    Parameters
    ----------
    weight
        ``(o, i, kz, ky, kx)``.
    slices
        Slices that come in.
    pad
        Slices of zeros that the 3-D convolution would see before the first and after the last.

    Returns
    -------
    ``(z_out * o, slices * i, ky, kx)``, ``z_out = slices + 2 * pad - kz + 1``.
    """
    zero = torch.zeros_like(weight[:, :, 0])
    kz = weight.shape[2]
    rows = []
    for out_slice in range(slices + 2 * pad - kz + 1):
        taps = [in_slice - out_slice + pad for in_slice in range(slices)]
        rows.append(torch.cat([weight[:, :, tap] if 0 <= tap < kz else zero for tap in taps], dim=1))
    return torch.cat(rows, dim=0).contiguous(memory_format=torch.channels_last)


def upsample(x: Tensor) -> Tensor:
    """Nearest x2 in y and x of ``(b, y, x, z, c)``."""
    batch, height, width, slices, channels = x.shape
    wide = x[:, :, None, :, None].expand(batch, height, 2, width, 2, slices, channels)
    return wide.reshape(batch, 2 * height, 2 * width, slices, channels)


def identity(x: Tensor) -> Tensor:
    """``x``: the resampling of a block that keeps its resolution."""
    return x


def downsample(x: Tensor) -> Tensor:
    """2 x 2 mean in y and x of ``(b, y, x, z, c)``."""
    batch, height, width, slices, channels = x.shape
    return x.view(batch, height // 2, 2, width // 2, 2, slices, channels).mean(dim=(2, 4))


class ResBlock(nn.Module):
    """Residual block modulated by the time embedding; ``resample`` (:func:`upsample`, :func:`downsample`) changes
    the resolution of both branches."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        time_width: int,
        *,
        dropout: float,
        fold: bool,
        resample: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = RMSNorm(c_in)
        self.conv_in = SliceConv(c_in, c_out, (3, 3, 3), fold=fold)
        self.modulation = nn.Linear(time_width, 2 * c_out)
        self.norm_out = RMSNorm(c_out)
        self.dropout = KeyedDropout(dropout)
        self.conv_out = SliceConv(c_out, c_out, (3, 3, 3), fold=fold)
        self.skip = nn.Identity() if c_in == c_out else SliceConv(c_in, c_out, (1, 1, 1))
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``x`` is ``(b, y, x, z, c_in)``; ``time`` the activated embedding ``(b, time_width)``."""
        h = self.conv_in(self.resample(functional.silu(self.norm_in(x))))
        scale, shift = self.modulation(time)[:, None, None, None].chunk(2, dim=-1)
        h = functional.silu(self.norm_out(h) * (1 + scale) + shift)
        return self.skip(self.resample(x)) + self.conv_out(self.dropout(h))


class TimeEmbedding(nn.Module):
    """C/2 cosines then C/2 sines of ``t * 10000^(-i / (C/2))``, through a two-layer perceptron."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.waves = channels // 2
        self.inner = nn.Linear(channels, width)
        self.outer = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Embed ``(b,)`` time steps as ``(b, time_width)``."""
        # Angles in float32 whatever the network's precision: t reaches 1000.
        index = torch.arange(self.waves, dtype=torch.float32, device=t.device)
        angle = t.float()[:, None] * torch.exp(-math.log(10000.0) * index / self.waves)
        wave = torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.inner.weight.dtype)
        return self.outer(functional.silu(self.inner(wave)))


class MLP(nn.Module):
    """``d - 4d - d`` with tanh-GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., d)`` to ``(..., d)``."""
        return self.outer(functional.gelu(self.inner(x), approximate="tanh"))
