"""FID's Inception once more, written as TensorFlow's graph names it: one function over a table of arrays, float64.

The names are those of NVIDIA's TorchScript file: `layers.mixed_4.tower.conv_1` with weight, beta, mean and var.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

Table = dict[str, Tensor]

# Towers of a block: layer, output channels, height and width of the kernel. A pool comes before "tower_2".
_A = (
    ("conv", 64, 1, 1),
    ("tower.conv", 48, 1, 1),
    ("tower.conv_1", 64, 5, 5),
    ("tower_1.conv", 64, 1, 1),
    ("tower_1.conv_1", 96, 3, 3),
    ("tower_1.conv_2", 96, 3, 3),
)
_B = (("conv", 384, 3, 3), ("tower.conv", 64, 1, 1), ("tower.conv_1", 96, 3, 3), ("tower.conv_2", 96, 3, 3))


def _c(inner: int) -> tuple[tuple[str, int, int, int], ...]:
    return (
        ("conv", 192, 1, 1),
        ("tower.conv", inner, 1, 1),
        ("tower.conv_1", inner, 1, 7),
        ("tower.conv_2", 192, 7, 1),
        ("tower_1.conv", inner, 1, 1),
        ("tower_1.conv_1", inner, 7, 1),
        ("tower_1.conv_2", inner, 1, 7),
        ("tower_1.conv_3", inner, 7, 1),
        ("tower_1.conv_4", 192, 1, 7),
        ("tower_2.conv", 192, 1, 1),
    )


_D = (
    ("tower.conv", 192, 1, 1),
    ("tower.conv_1", 320, 3, 3),
    ("tower_1.conv", 192, 1, 1),
    ("tower_1.conv_1", 192, 1, 7),
    ("tower_1.conv_2", 192, 7, 1),
    ("tower_1.conv_3", 192, 3, 3),
)
_E = (
    ("conv", 320, 1, 1),
    ("tower_conv", 384, 1, 1),
    ("tower_mixed_conv", 384, 1, 3),
    ("tower_mixed_conv_1", 384, 3, 1),
    ("tower_1_conv", 448, 1, 1),
    ("tower_1_conv_1", 384, 3, 3),
    ("tower_1_mixed_conv", 384, 1, 3),
    ("tower_1_mixed_conv_1", 384, 3, 1),
    ("tower_2_conv", 192, 1, 1),
)
BLOCKS = (
    ("mixed", 192, (*_A, ("tower_2.conv", 32, 1, 1))),
    ("mixed_1", 256, (*_A, ("tower_2.conv", 64, 1, 1))),
    ("mixed_2", 288, (*_A, ("tower_2.conv", 64, 1, 1))),
    ("mixed_3", 288, _B),
    ("mixed_4", 768, _c(128)),
    ("mixed_5", 768, _c(160)),
    ("mixed_6", 768, _c(160)),
    ("mixed_7", 768, _c(192)),
    ("mixed_8", 768, _D),
    ("mixed_9", 1280, _E),
    ("mixed_10", 2048, _E),
)
STEM = (
    ("conv", 32, 3, 3),
    ("conv_1", 32, 3, 3),
    ("conv_2", 64, 3, 3),
    ("conv_3", 80, 1, 1),
    ("conv_4", 192, 3, 3),
)

# What a layer of the last blocks reads, where it is not the block's input.
_E_INPUTS = {
    "tower_mixed_conv": "tower_conv",
    "tower_mixed_conv_1": "tower_conv",
    "tower_1_conv_1": "tower_1_conv",
    "tower_1_mixed_conv": "tower_1_conv_1",
    "tower_1_mixed_conv_1": "tower_1_conv_1",
}


def layers() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Every convolution: name and shape of its weight."""
    cin = 3
    for name, cout, height, width in STEM:
        yield f"layers.{name}", (cout, cin, height, width)
        cin = cout
    for block, block_in, towers in BLOCKS:
        made: dict[str, int] = {}
        for name, cout, height, width in towers:
            tower = name.rpartition(".")[0]
            before = [one for one in made if tower and one.rpartition(".")[0] == tower]
            reads = _E_INPUTS.get(name) or (before[-1] if before else None)
            made[name] = cout
            yield f"layers.{block}.{name}", (cout, made[reads] if reads else block_in, height, width)


def random_table(seed: int) -> Table:
    """Weights under which values neither die out nor grow, so that every layer matters."""
    generator = torch.Generator().manual_seed(seed)
    table: Table = {}
    for name, shape in layers():
        fan = shape[1] * shape[2] * shape[3]
        table[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        for leaf, low, high in (("beta", -0.2, 0.4), ("mean", -0.3, 0.3), ("var", 0.5, 1.5)):
            table[f"{name}.{leaf}"] = torch.rand(shape[0], generator=generator) * (high - low) + low
    return table


def save_torchscript(table: Table, path: Path) -> None:
    """A TorchScript archive with these parameters, as NVIDIA's file has them."""

    class Nothing(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    root = Nothing()
    for name, value in table.items():
        *parents, leaf = name.split(".")
        module: torch.nn.Module = root
        for part in parents:
            if part not in dict(module.named_children()):
                module.add_module(part, Nothing())
            module = getattr(module, part)
        module.register_buffer(leaf, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(root).save(str(path))


def features(table: Table, x: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled `(b, 2048)` and spatial `(b, 2023)` features of `(b, 3, 299, 299)` in [-1, 1]."""
    x = x.double()

    def conv(x: Tensor, name: str, stride: int = 1, same: bool = True) -> Tensor:
        weight, beta, mean, var = (
            table[f"layers.{name}.{leaf}"].double() for leaf in ("weight", "beta", "mean", "var")
        )
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if same else 0
        y = F.conv2d(x, weight, stride=stride, padding=padding)
        column = (slice(None), None, None)
        return ((y - mean[column]) / (var[column] + 1e-3).sqrt() + beta[column]).clamp(min=0)

    def average(x: Tensor) -> Tensor:
        ones = torch.ones_like(x[:1, :1])
        kernel = torch.ones(1, 1, 3, 3, dtype=x.dtype)
        sums = F.conv2d(x.flatten(0, 1)[:, None], kernel, padding=1).view_as(x)
        return sums / F.conv2d(ones, kernel, padding=1)

    x = conv(x, "conv", 2, same=False)
    x = conv(conv(x, "conv_1", same=False), "conv_2")
    x = conv(F.max_pool2d(x, 3, 2), "conv_3")
    x = F.max_pool2d(conv(x, "conv_4", same=False), 3, 2)
    spatial = torch.zeros(0)
    for block, _, towers in BLOCKS:
        if block == "mixed_6":
            spatial = conv(x, "mixed_6.conv")[:, :7].flatten(1)
        if towers is _E:
            x = _last_block(x, block, conv, average)
            continue
        shrinks = block in ("mixed_3", "mixed_8")
        ends: dict[str, Tensor] = {}
        for place, (name, *_rest) in enumerate(towers):
            tower = name.rpartition(".")[0] or name
            source = ends.get(tower, average(x) if tower == "tower_2" else x)
            last = place + 1 == len(towers) or (towers[place + 1][0].rpartition(".")[0] or "") != tower
            ends[tower] = conv(
                source, f"{block}.{name}", 2 if shrinks and last else 1, same=not (shrinks and last)
            )
        x = torch.cat([*ends.values(), *([F.max_pool2d(x, 3, 2)] if shrinks else [])], 1)
    return x.mean((2, 3)), spatial


def _last_block(x: Tensor, block: str, conv, average) -> Tensor:  # type: ignore[no-untyped-def]
    pooled = average(x) if block == "mixed_9" else F.max_pool2d(x, 3, 1, 1)
    made: dict[str, Tensor] = {}
    for name, *_ in _E:
        source = pooled if name == "tower_2_conv" else made.get(_E_INPUTS.get(name, ""), x)
        made[name] = conv(source, f"{block}.{name}")
    return torch.cat([one for name, one in made.items() if name not in set(_E_INPUTS.values())], 1)
