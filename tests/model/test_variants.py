"""Every variant of the specification as configuration: S, P, stains, panel and width; and the presets."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from teramind_data.panel import read_panel
from teramind_model import sample_canvas
from teramind_model.config import resolve
from teramind_model.describe import preset_network, receptive_halo
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.network.collage import collage, collage_between
from teramind_model.network.cost import meta_model
from teramind_model.network.recompute import recompute_blocks
from teramind_model.presets import PRESETS

VARIANTS = [
    NetworkConfig(genes, slices, stains, patch, channels, (4, 3, 2), 8, dropout=0.0)
    for (slices, patch), (genes, stains, channels) in zip(
        product((1, 4, 8, 16), (32, 64, 128)), [(3, 2, 6), (5, 1, 4), (4, 2, 4)] * 4, strict=True
    )
]
LARGE = [
    c
    for c in VARIANTS
    if c.patch * c.image_slices > 128 and c.gene_slices > 1 and (c.patch, c.gene_slices) != (32, 16)
]
SMALL = [c for c in VARIANTS if c.patch * c.image_slices <= 128 and c.gene_slices <= 4]
#: The large ones with numbers take a minute or two; their shapes are tried below without.
EVERY = [pytest.param(c, marks=[pytest.mark.soak] if c in LARGE else []) for c in VARIANTS]


def name(config: NetworkConfig) -> str:
    return f"S={config.gene_slices} P={config.patch} k={config.stains} n={config.genes} C={config.channels}"


def random_network(config: NetworkConfig) -> TeraMind:
    """Weights of which none is zero, so that every path counts."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = TeraMind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5)
    return model


def inputs(config: NetworkConfig, patches: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    edge = (config.patch, config.patch)
    x = torch.randn(patches, config.stains * config.image_slices, *edge, generator=generator)
    rate = torch.full((patches, config.gene_slices, config.genes, config.bins, config.bins), 1.5)
    return x, torch.poisson(rate, generator=generator)


@pytest.mark.parametrize("config", EVERY, ids=name)
def test_both_paths_folded_and_a_training_step(config: NetworkConfig) -> None:
    model = random_network(config)
    folded = TeraMind(replace(config, fold_z=True))
    folded.load_state_dict(model.state_dict())
    x, counts = inputs(config, 4)
    t = torch.tensor([321])
    patch, whole = model(x, t, counts)
    assert patch.shape == x.shape
    assert whole.shape == (1, *x.shape[1:])
    assert patch.dtype == whole.dtype == torch.float32
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = loss(patch, whole, x)
    before.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad():
        again = folded(x, t, counts)
        for ours, theirs in zip(again, (patch, whole), strict=True):
            close(ours, theirs)
        optimiser.step()
        folded.load_state_dict(model.state_dict())
        assert loss(*folded(x, t, counts), x) < before


@pytest.mark.parametrize("config", LARGE, ids=name)
def test_shapes_of_both_paths_and_gradients(config: NetworkConfig) -> None:
    model = meta_model(replace(config, fold_z=config.patch == 64))
    x, counts = (tensor.to("meta") for tensor in inputs(config, 4))
    patch, whole = model(x, torch.zeros(1, device="meta"), counts)
    assert patch.shape == x.shape
    assert whole.shape == (1, *x.shape[1:])
    loss(patch, whole, x).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def loss(patch: Tensor, whole: Tensor, x: Tensor) -> Tensor:
    return (patch - x).square().mean() + (whole - x[:1]).square().mean()


def close(ours: Tensor, theirs: Tensor) -> None:
    """To rounding; a norm over few channels may divide by almost nothing, so single pixels may be further off."""
    difference, spread = (ours - theirs).abs(), theirs.std().item()
    assert spread > 0.01
    assert difference.square().mean().sqrt().item() < 1e-5 * spread
    assert difference.max().item() < 1e-3 * spread


@pytest.mark.parametrize("config", SMALL, ids=name)
def test_a_tile_reads_half_a_patch_around_it_and_no_more(config: NetworkConfig) -> None:
    """Grid A of 2 x 3 patches makes two tiles; the first must not depend on the third column, to the last pixel."""
    model = random_network(config)
    x, counts = inputs(config, 6)
    x.requires_grad_()
    counts.requires_grad_()
    t = torch.full((6,), 500)
    genes = model.gene_features(counts)
    cut, cut_genes = model.collage(model.encode(x, t, genes), genes, 2, 3)
    tiles = model.decode(cut, t[:2], cut_genes)
    assert tiles.shape == (2, *x.shape[1:])
    for slope in torch.autograd.grad(tiles[0].square().sum(), (x, counts)):
        reads = slope.abs().amax(dim=tuple(range(1, slope.dim()))) > 0
        assert reads.tolist() == [True, True, False, True, True, False]
    # The same tile from its own four patches is the same: nothing leaks through the batch.
    four = torch.tensor([0, 1, 3, 4])
    with torch.no_grad():
        alone = model(x[four], t[:1], counts[four])[1]
    close(alone[0], tiles[0].detach())


def test_the_halo_of_several_steps() -> None:
    """(N - 1) P + P/2 = 48 px at P = 32 and two steps: the last pixel inside is read, the first outside is not."""
    config = NetworkConfig(3, 1, 1, 32, 2, (4, 3, 2), 8, dropout=0.0)
    assert receptive_halo(NetworkConfig(229), 15) == 928
    halo = receptive_halo(config, 2)
    assert halo == 48
    model = random_network(config).eval()
    x = torch.randn(1, 32, 128, generator=torch.Generator().manual_seed(3))
    counts = torch.ones(1, 3, 4, 10)
    with torch.inference_mode():
        base = sample_canvas(model, counts, x, steps=2)[..., :32]
        for column, reaches in ((32 + halo - 1, True), (32 + halo, False)):
            other = x.clone()
            other[:, :, column:] += 1.0
            changed = not torch.equal(sample_canvas(model, counts, other, steps=2)[..., :32], base)
            assert changed is reaches


def test_gene_features_are_equal_within_two_by_two_pixels() -> None:
    """What gene-morph attention relies on, in place and after the collage."""
    config = VARIANTS[0]
    features = random_network(config).gene_features(inputs(config, 4)[1])
    for feature in (*features, *(collage(g, 2, 2) for g in features)):
        pixels = feature.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        assert torch.equal(pixels, pixels[:, :, :1, :, :1].expand_as(pixels))
        assert feature.std() > 0


def test_recomputation_changes_nothing() -> None:
    config = replace(VARIANTS[3], dropout=0.3, fold_z=True)
    model = random_network(config).train()
    x, counts = inputs(config, 4)
    gradients = []
    for enabled in (False, True):
        recompute_blocks(model, enabled)
        torch.manual_seed(5)
        model.zero_grad()
        patch, whole = model(x, torch.tensor([10]), counts)
        (patch.square().mean() + whole.square().mean()).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("preset", "genes", "slices", "millions"),
    [
        ("main", 229, 4, 213.8),
        ("main-279", 279, 4, None),
        ("supp", 500, 4, 243.7),
        ("human-81", 81, 1, None),
        ("phantom", 40, 4, None),
    ],
)
def test_presets(preset: str, genes: int, slices: int, millions: float | None) -> None:
    network = preset_network(preset)
    assert (network.genes, network.gene_slices) == (genes, slices)
    if preset != "phantom":
        assert (network.patch, network.channels, network.dropout) == (64, 64, 0.1)
    if millions is not None:
        assert sum(p.numel() for p in meta_model(network).parameters()) / 1e6 == pytest.approx(
            millions, abs=0.05
        )


def test_every_preset_makes_a_configuration() -> None:
    for preset in PRESETS:
        config = resolve({}, {"preset": preset, "atlas": ["A.zarr"]}).config
        assert config.network(PRESETS[preset].genes) == preset_network(preset)


def test_the_human_panel_is_part_of_the_larger_one(reference_dir: Path) -> None:
    human, supp = (read_panel(reference_dir / "panels" / f"{n}.csv") for n in ("human_81", "supp_500"))
    assert len(human) == PRESETS["human-81"].genes
    assert len(supp.positions(human)) == 81


def test_a_collage_between_rows_is_the_collage_of_both() -> None:
    above, below = torch.arange(2 * 6 * 4 * 8 * 2 * 3).view(2, 6, 4, 8, 2, 3)
    assert torch.equal(collage_between(above, below), collage(torch.cat((above, below)), 2, 6))
