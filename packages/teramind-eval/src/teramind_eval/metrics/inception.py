"""FID's Inception network on torch alone, and the features of tiles that it gives.

The network of 2015-12-05 (Szegedy et al. 2015) as FID uses it: the layers of torchvision's `inception_v3` under its
names, with three differences that come from the TensorFlow graph (as in pytorch-fid): averages of the pool branches
leave the padding out, the pool branch of the last block takes the maximum, and there is no auxiliary head. Features:

- `pooled`: the mean of the last 8 x 8 map, 2,048 numbers (`pool_3`), for FID and KID;
- `spatial`: the first 7 channels of the 17 x 17 map of `mixed_6/conv`, here `Mixed_6d.branch1x1`, 2,023 numbers, for
  sFID (Nash et al. 2021).

Tiles are prepared as the paper's published code does it: bicubic with antialiasing to 299 x 299 px in float, cut to
0..255, then `x / 127.5 - 1`; a single stain fills all three channels, two stains are green and blue with red empty.

Importing this module imports torch (`teramind-eval[fid]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teramind_eval.metrics.distribution import Features

EDGE = 299
POOLED, SPATIAL = 2048, 2023

_SPATIAL_CHANNELS = 7
_BATCH = 32

Size = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, cin: int, cout: int, size: Size, stride: int = 1, pad: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, size, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, cin, y, x)` to `(b, cout, y', x')`."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _across(cin: int, cout: int) -> Conv:
    return Conv(cin, cout, (1, 7), pad=(0, 3))


def _down(cin: int, cout: int) -> Conv:
    return Conv(cin, cout, (7, 1), pad=(3, 0))


class MixedA(nn.Module):
    """35 x 35 px; `pool` channels of the pool branch."""

    def __init__(self, cin: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(cin, 64, 1)
        self.branch5x5_1 = Conv(cin, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, pad=2)
        self.branch3x3dbl_1 = Conv(cin, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, pad=1)
        self.branch_pool = Conv(cin, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, cin, 35, 35)` to `(b, 224 + pool, 35, 35)`."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        parts = [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double]
        return torch.cat([*parts, self.branch_pool(_average(x))], 1)


class MixedB(nn.Module):
    """35 x 35 to 17 x 17 px."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(cin, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(cin, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, cin, 35, 35)` to `(b, 480 + cin, 17, 17)`."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class MixedC(nn.Module):
    """17 x 17 px; `inner` channels between the long convolutions."""

    def __init__(self, cin: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(cin, 192, 1)
        self.branch7x7_1 = Conv(cin, inner, 1)
        self.branch7x7_2 = _across(inner, inner)
        self.branch7x7_3 = _down(inner, 192)
        self.branch7x7dbl_1 = Conv(cin, inner, 1)
        self.branch7x7dbl_2 = _down(inner, inner)
        self.branch7x7dbl_3 = _across(inner, inner)
        self.branch7x7dbl_4 = _down(inner, inner)
        self.branch7x7dbl_5 = _across(inner, 192)
        self.branch_pool = Conv(cin, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, cin, 17, 17)` to `(b, 768, 17, 17)`."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x))], 1)


class MixedD(nn.Module):
    """17 x 17 to 8 x 8 px."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(cin, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(cin, 192, 1)
        self.branch7x7x3_2 = _across(192, 192)
        self.branch7x7x3_3 = _down(192, 192)
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, cin, 17, 17)` to `(b, 512 + cin, 8, 8)`."""
        long = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        parts = [self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(long)]
        return torch.cat([*parts, F.max_pool2d(x, 3, stride=2)], 1)


class MixedE(nn.Module):
    """8 x 8 px; the pool branch takes averages, or the maximum where it is the last block."""

    def __init__(self, cin: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = Conv(cin, 320, 1)
        self.branch3x3_1 = Conv(cin, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), pad=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), pad=(1, 0))
        self.branch3x3dbl_1 = Conv(cin, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, pad=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), pad=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), pad=(1, 0))
        self.branch_pool = Conv(cin, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, cin, 8, 8)` to `(b, 2048, 8, 8)`."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.last else _average(x)
        return torch.cat([*parts, self.branch_pool(pooled)], 1)


class Inception(nn.Module):
    """The network up to its last pooling, under torchvision's parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, pad=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = MixedA(192, 32)
        self.Mixed_5c = MixedA(256, 64)
        self.Mixed_5d = MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(768, 128)
        self.Mixed_6c = MixedC(768, 160)
        self.Mixed_6d = MixedC(768, 160)
        self.Mixed_6e = MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b = MixedE(1280, last=False)
        self.Mixed_7c = MixedE(2048, last=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(b, 3, 299, 299)` in [-1, 1] to pooled `(b, 2048)` and spatial `(b, 2023)` (channel, then y, then x)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        spatial = self.Mixed_6d.branch1x1(x)[:, :_SPATIAL_CHANNELS].flatten(1)
        x = self.Mixed_6e(self.Mixed_6d(x))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3)), spatial


class InceptionFeatures:
    """Features of tiles; an `Extractor`.

    On a CPU it uses one thread: sums then do not depend on how many cores there are, and workers are what uses them.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: str = "auto") -> None:
        """`weights` as `inception_weights.read_weights` gives them; `device` "auto" is a GPU where there is one."""
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        with torch.device("meta"):
            network = Inception()
        network.load_state_dict(dict(weights), strict=True, assign=True)
        self._network = network.eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def __call__(self, tiles: Sequence[npt.NDArray[np.uint8]]) -> Features:
        """Features of tiles `(3, y, x)` uint8, each of any size."""
        pooled, spatial = (
            np.empty((len(tiles), POOLED), np.float32),
            np.empty((len(tiles), SPATIAL), np.float32),
        )
        with _reproducible():
            for start in range(0, len(tiles), _BATCH):
                batch = torch.cat([self._prepared(tile) for tile in tiles[start : start + _BATCH]])
                outputs = self._network(batch)
                for values, into in zip(outputs, (pooled, spatial), strict=True):
                    into[start : start + len(batch)] = values.cpu().numpy()
        return Features(pooled, spatial)

    def _prepared(self, tile: npt.NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(tile)).to(self.device)[None].float()
        sized = F.interpolate(pixels, (EDGE, EDGE), mode="bicubic", align_corners=False, antialias=True)
        return sized.clamp_(0, 255) / 127.5 - 1


@contextmanager
def _reproducible() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)
