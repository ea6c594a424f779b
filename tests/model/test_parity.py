"""The network against figures of the published implementation, in float32 on a CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model import gene_gene_attention, sample_canvas, training_loss
from teramind_model.importer import convert, infer_config
from teramind_model.network import TeraMind
from teramind_model.published_file import read_published


@pytest.fixture(scope="module")
def figures(reference_dir: Path) -> dict[str, Tensor]:
    with np.load(reference_dir / "parity" / "io.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "folded"])
def model(request: pytest.FixtureRequest, reference_dir: Path) -> TeraMind:
    published = read_published(reference_dir / "parity" / "state_dict.npz").weights
    model = TeraMind(replace(infer_config(published), fold_z=request.param)).eval()
    model.load_state_dict(convert(published))
    return model


def furthest(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


@torch.inference_mode()
def test_forward(model: TeraMind, figures: dict[str, Tensor]) -> None:
    patch, collage = model(figures["fwd_x"], figures["fwd_t"], figures["fwd_counts"])
    assert furthest(patch, figures["fwd_eps_patch"]) <= 2e-5
    assert furthest(collage, figures["fwd_eps_collage"]) <= 2e-5


@torch.inference_mode()
def test_losses(model: TeraMind, figures: dict[str, Tensor], reference_dir: Path) -> None:
    losses = json.loads((reference_dir / "parity" / "meta.json").read_text())["losses"]
    assert set(losses) == {"0,0", "1,2", "3,3"}
    image, noise, counts, t = (figures[f"loss_{name}"] for name in ("image", "noise", "counts", "t"))
    for place, expected in losses.items():
        row, column = map(int, place.split(","))
        ours = training_loss(model, image, noise, counts, t, (row, column))
        assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_attention(model: TeraMind, figures: dict[str, Tensor]) -> None:
    counts, expected = figures["attn_counts"].float(), figures["attn_prev_cur_next_all"]
    for version, kept in enumerate([(0, 1), (1, 2), (2, 3), (0, 1, 2, 3)]):
        some = torch.zeros_like(counts)
        some[:, list(kept)] = counts[:, list(kept)]
        ours = gene_gene_attention(model, some)
        assert furthest(ours, expected[version]) <= 1e-6
        assert ours.sum(dim=-1).numpy() == pytest.approx(1, abs=1e-5)


def test_attention_refuses_counts_of_another_network(model: TeraMind) -> None:
    with pytest.raises(
        InputError, match=r"expected \(b, S, n, g, g\) = \(b, 4, 12, 4, 4\), found \(3, 4, 12, 2, 2\)"
    ):
        gene_gene_attention(model, torch.zeros(3, 4, 12, 2, 2))


@pytest.mark.parametrize("model", [True], indirect=True, ids=["folded"])
def test_canvas(model: TeraMind, figures: dict[str, Tensor]) -> None:
    seen: dict[int, Tensor] = {}
    last = sample_canvas(
        model,
        figures["gen_counts"],
        figures["gen_x_T"],
        steps=15,
        on_step=lambda n, x: seen.update({n: x.clone()}),
    )
    assert furthest(seen[1], figures["gen_x_1"]) <= 1e-4
    assert furthest(seen[8], figures["gen_x_8"]) <= 5e-4
    assert furthest(last, figures["gen_x_0"]) <= 1e-3
    assert torch.equal(seen[15], last)
