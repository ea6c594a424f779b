"""The identity start: both paths copy their input, whatever the genes and t, and everything can still learn."""

from __future__ import annotations

import pytest
import torch

from teramind_data.errors import InputError
from teramind_model.diffusion.objective import Block, block_loss
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.network.identity_start import start_as_identity


def network(channels: int = 8, patch: int = 32, stains: int = 2) -> TeraMind:
    torch.manual_seed(0)
    widths = (2 * channels, channels, channels // 2)
    return TeraMind(
        NetworkConfig(
            genes=5,
            patch=patch,
            channels=channels,
            stains=stains,
            gene_widths=widths,
            time_width=16,
            dropout=0.0,
        )
    )


@pytest.mark.parametrize(("channels", "patch", "stains"), [(8, 32, 2), (8, 64, 2), (4, 32, 1)])
def test_both_paths_copy_their_input(channels: int, patch: int, stains: int) -> None:
    model = network(channels, patch, stains)
    x = torch.randn(4, 2 * stains, patch, patch)
    counts = torch.poisson(torch.full((4, 4, 5, patch // 16, patch // 16), 3.0))
    before = model(x, torch.tensor([700]), counts)[0]
    start_as_identity(model, model.config)
    patches, collage = model(x, torch.tensor([700]), counts)
    block = torch.cat([torch.cat([x[0], x[1]], -1), torch.cat([x[2], x[3]], -1)], -2)
    centre = block[:, patch // 2 : -patch // 2, patch // 2 : -patch // 2]
    assert (patches - x).square().mean() < 1e-3
    assert (collage[0] - centre).square().mean() < 1e-3
    assert (before - x).square().mean() > 0.1, "a random start copies nothing"


def test_genes_and_early_layers_learn_within_two_steps() -> None:
    model = network()
    start_as_identity(model, model.config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    edge = 64
    block = Block(
        image=torch.rand(2, 4, edge, edge) * 2 - 1,
        noise=torch.randn(2, 4, edge, edge),
        mask=torch.ones(2, 1, edge, edge),
        counts=torch.poisson(torch.full((2, 4, 5, 4, 4), 3.0)),
        t=torch.tensor([300, 800]),
    )
    # The residual branches end in zeros: the first step moves those, the next what lies before them.
    for _ in range(3):
        optimizer.zero_grad()
        block_loss(model, block).total.backward()
        optimizer.step()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_a_network_too_narrow_says_so() -> None:
    narrow = network(channels=4)
    with pytest.raises(InputError, match=r"too narrow.*expected channels >= 6, found 4"):
        start_as_identity(narrow, narrow.config)
