"""The network against the plain second implementation where the reference has no figures.

The reference's one instance is S = 4, P = 64. Here random weights under the published names go into both
implementations at the other numbers of slices, patches and widths. No reference data is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from teramind_data.geometry import Box
from teramind_model.diffusion.ddim import sample_canvas
from teramind_model.diffusion.objective import training_loss
from teramind_model.diffusion.steps import dpm_steps
from teramind_model.generate.wavefront import Wavefront
from teramind_model.importer import convert, infer_config
from teramind_model.network import TeraMind
from teramind_model.network.config import NetworkConfig
from tests.model.plain_names import parameter_shapes
from tests.model.plain_reference import PlainModel


@dataclass(frozen=True)
class Size:
    """A small network."""

    gene_slices: int = 4
    patch: int = 32
    genes: int = 6
    channels: int = 4
    gene_widths: tuple[int, int, int] = (8, 4, 2)
    time_width: int = 32
    stains: int = 2

    def __str__(self) -> str:
        return f"S={self.gene_slices} P={self.patch} k={self.stains}"

    @property
    def image_slices(self) -> int:
        return max(1, self.gene_slices // 2)

    @property
    def bins(self) -> int:
        return self.patch // 16


SIZES = [
    Size(gene_slices=1),
    Size(gene_slices=4),
    Size(gene_slices=8),
    Size(gene_slices=16),
    Size(patch=64),
    Size(gene_slices=1, patch=128),
    Size(stains=1),
    Size(gene_slices=1, stains=3),
]
#: The rest of the specification's variants take a minute or two.
LARGE = [Size(s, p) for p in (64, 128) for s in (1, 4, 8, 16) if (s, p) not in ((4, 64), (1, 128))]
EVERY = [*SIZES, *(pytest.param(size, marks=pytest.mark.soak) for size in LARGE)]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def random_weights(size: Size) -> dict[str, torch.Tensor]:
    """Weights that let every path count: fan-in scaled, norms near 1, sharp attention, nothing zero."""
    generator = torch.Generator().manual_seed(7)
    weights = {}
    shapes = parameter_shapes(
        genes=size.genes,
        gene_slices=size.gene_slices,
        patch=size.patch,
        channels=size.channels,
        gene_widths=size.gene_widths,
        time_width=size.time_width,
        stains=size.stains,
    )
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator)
        is_norm = name.endswith("weight") and (
            len(shape) == 1 or (shape[0] == 1 != shape[1] and len(shape) == 4)
        )
        if name.endswith(("attn.q_norm.weight", "attn.k_norm.weight")):
            # At 1 the softmax is all but uniform, and a mistake in the queries would hide in rounding.
            weights[name] = 4 + drawn
        elif is_norm:
            weights[name] = 1 + 0.1 * drawn
        elif name.endswith("bias"):
            weights[name] = 0.1 * drawn
        else:
            weights[name] = drawn / drawn[0].numel() ** 0.5
    return weights


def both(size: Size, *, fold_z: bool = False) -> tuple[PlainModel, TeraMind]:
    weights = random_weights(size)
    config = NetworkConfig(
        genes=size.genes,
        gene_slices=size.gene_slices,
        stains=size.stains,
        patch=size.patch,
        channels=size.channels,
        gene_widths=size.gene_widths,
        time_width=size.time_width,
        fold_z=fold_z,
    )
    network = TeraMind(config).eval()
    network.load_state_dict(convert(weights))
    return PlainModel(weights), network


def random_counts(*shape: int) -> torch.Tensor:
    return torch.poisson(torch.full(shape, 1.5), generator=torch.Generator().manual_seed(11))


def normal(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Agreement to rounding: tight on the whole, looser on the few pixels whose norm divides by almost nothing."""
    assert found.shape == expected.shape
    spread = expected.std().item()
    assert spread > 0.05  # a flat output would agree with anything
    difference = (found - expected).abs()
    assert difference.square().mean().sqrt().item() < tolerance * spread
    assert difference.max().item() < 20 * tolerance * spread


@pytest.mark.parametrize("fold_z", [False, True], ids=["conv3d", "folded"])
@pytest.mark.parametrize("size", EVERY, ids=str)
def test_forward(size: Size, fold_z: bool) -> None:
    plain, network = both(size, fold_z=fold_z)
    crops = 2 if size.patch * size.gene_slices <= 512 else 1
    x = normal(crops * 4, size.stains * size.image_slices, size.patch, size.patch)
    counts = random_counts(crops * 4, size.gene_slices, size.genes, size.bins, size.bins)
    t = torch.tensor([3, 870])[:crops]
    for found, expected in zip(network(x, t, counts), plain.forward(x, t, counts), strict=True):
        close(found, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_config_from_published_shapes(size: Size) -> None:
    plain = PlainModel(random_weights(size))
    config = infer_config(plain.w)
    assert (config.gene_slices, config.patch) == (size.gene_slices, size.patch)
    assert (config.gene_widths, config.time_width) == (size.gene_widths, size.time_width)
    assert (config.genes, config.channels, config.stains) == (size.genes, size.channels, size.stains)
    assert (plain.gene_slices, plain.image_slices, plain.patch) == (
        size.gene_slices,
        size.image_slices,
        size.patch,
    )


@pytest.mark.parametrize(
    ("size", "grid", "block"),
    [
        (Size(), 4, (0, 3)),
        (Size(gene_slices=1), 4, (2, 1)),
        (Size(gene_slices=1, patch=128), 2, (1, 0)),
    ],
    ids=str,
)
def test_loss(size: Size, grid: int, block: tuple[int, int]) -> None:
    plain, network = both(size)
    channels, edge, bins = size.stains * size.image_slices, grid * size.patch, grid * size.bins
    image = normal(2, channels, edge, edge).clamp(-1, 1)
    noise = normal(2, channels, edge + size.patch, edge + size.patch, seed=4)
    counts = random_counts(2, size.gene_slices, size.genes, bins, bins)
    t = torch.tensor([40, 700])
    found = training_loss(network, image, noise, counts, t, block).item()
    expected = plain.loss(image, noise, counts, t, block).item()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [Size(), Size(gene_slices=1), Size(gene_slices=8)], ids=str)
def test_canvas(size: Size) -> None:
    plain, network = both(size)
    rows, columns = 2, 3
    x_T = normal(size.stains * size.image_slices, rows * size.patch, columns * size.patch)
    counts = random_counts(size.gene_slices, size.genes, (rows + 1) * size.bins, (columns + 1) * size.bins)
    found = sample_canvas(network, counts, x_T, steps=3)
    close(found, plain.sample(x_T, counts, steps=3), 1e-4)


def test_canvas_of_dpmpp_2m() -> None:
    """At every step, through the wavefront too."""
    size, steps = Size(), 4
    plain, network = both(size)
    x_T = normal(size.stains * size.image_slices, 2 * size.patch, 3 * size.patch)
    counts = random_counts(size.gene_slices, size.genes, 3 * size.bins, 4 * size.bins)
    expected: dict[int, torch.Tensor] = {}
    plain.sample_dpmpp_2m(x_T, counts, steps, expected.__setitem__)
    found: dict[int, torch.Tensor] = {}
    last = sample_canvas(network, counts, x_T, dpm_steps(steps), on_step=found.__setitem__)
    assert sorted(found) == sorted(expected) == [1, 2, 3, 4]
    for done, x in expected.items():
        close(found[done], x, 1e-4)
    whole = Box(0, 2, 0, 3)
    rows = Wavefront(network, InMemory(counts, x_T, size), dpm_steps(steps), whole, whole, (64, 96), 5).rows()
    flowed = torch.cat([x for _, x in rows], dim=-2)
    close(flowed, last, 1e-4)
    close(flowed, expected[steps], 1e-4)


@dataclass(frozen=True)
class InMemory:
    """Rows of whole arrays."""

    everything: torch.Tensor
    x_T: torch.Tensor
    size: Size

    def counts(self, patch_row: int, columns: range) -> torch.Tensor:
        g = self.size.bins
        return self.everything[..., patch_row * g : (patch_row + 1) * g, columns.start * g : columns.stop * g]

    def noise(self, tile_row: int, columns: range) -> torch.Tensor:
        p = self.size.patch
        return self.x_T[:, tile_row * p : (tile_row + 1) * p, columns.start * p : columns.stop * p]

    def live(self, tile_row: int, columns: range) -> np.ndarray:
        return np.ones(len(columns), bool)
