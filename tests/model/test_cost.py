"""Counted work and computed memory against figures, formulas and real tensors; what `info` says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from teramind_data.console import run_cli
from teramind_data.errors import InputError
from teramind_model.checkpoint import load_checkpoint, save_checkpoint
from teramind_model.cli import app
from teramind_model.describe import describe_network, describe_training_memory, preset_network
from teramind_model.methods.registry import find_method, method_names
from teramind_model.network import NetworkConfig, TeraMind, cost
from teramind_model.network.cost import count_work, meta_model
from teramind_model.network.recompute import recompute_blocks
from teramind_model.network.training_memory import LiveStorages, TrainingMemory, step_memory, training_memory

TINY = NetworkConfig(6, channels=4, gene_widths=(8, 4, 2), time_width=16, patch=32, dropout=0.0)
counted_once = cache(count_work)
PUBLISHED_STEP = 829e9
"""FLOP of the published implementation's forward pass for four patches and their collage."""


def test_a_step_of_main_costs_no_more_than_the_published_one(capsys: pytest.CaptureFixture[str]) -> None:
    network = preset_network("main")
    plain, folded = (count_work(network, fold_z=fold).training_forward for fold in (False, True))
    with capsys.disabled():
        print(
            f"\nfour patches and collage of main: {plain / 1e9:.1f} GFLOP, folded {folded / 1e9:.1f}", end=" "
        )
    assert 0.5 * PUBLISHED_STEP < plain <= PUBLISHED_STEP
    assert folded < 0.75 * plain


@pytest.mark.parametrize("fold_z", [False, True])
def test_parts_add_up_to_the_whole(fold_z: bool) -> None:
    config = replace(TINY, fold_z=fold_z)
    model = meta_model(config)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(4, 4, 32, 32), torch.empty(1), torch.empty(4, 4, 6, 2, 2))
    assert counter.get_total_flops() == count_work(config).training_forward


def test_convolutions_by_formula() -> None:
    """The counter against 2 * out * in * taps a pixel, convolution by convolution (one slice, so none is padding)."""
    config = replace(TINY, gene_slices=1)
    model = meta_model(config)
    expected = 0

    def count(module: torch.nn.Module, _: Any, output: Tensor) -> None:
        nonlocal expected
        weight = module.weight
        assert isinstance(weight, Tensor)
        taps = prod(weight.shape[3:])  # kernel in y and x; of its depth one slice sees the centre
        expected += 2 * weight.shape[0] * weight.shape[1] * taps * output[..., 0].numel()

    for module in model.decoder.modules():
        if type(module).__name__ == "SliceConv":
            module.register_forward_hook(count)
    x, t, counts = torch.empty(1, 2, 32, 32), torch.empty(1), torch.empty(1, 1, 6, 2, 2)
    with torch.no_grad():
        genes = model.gene_features(counts.to("meta"))
        encoded = model.encode(x.to("meta"), t.to("meta"), genes)
        with FlopCounterMode(display=False) as counter:
            model.decode(encoded, t.to("meta"), genes)
    counted = counter.get_flop_counts()["Global"]
    by_name = {str(op): number for op, number in counted.items()}
    head = 2 * 2 * config.channels * 9 * 32 * 32
    pointwise = sum(
        2 * m.weight.shape[0] * m.weight.shape[1] * _pixels(name, config)
        for name, m in model.decoder.named_modules()
        if type(m).__name__ == "SliceConv" and m.weight.shape[-1] == 1
    )
    assert by_name["aten.convolution"] == expected + head - pointwise


def _pixels(name: str, config: NetworkConfig) -> int:
    level = 3 - int(name.partition(".")[0])
    return config.edge(level) ** 2


def test_live_storages_are_counted_to_their_end() -> None:
    with LiveStorages() as storages:
        kept = torch.zeros(1000)
        view = kept[10:].view(-1)
        assert storages.live == 4000
        passing = kept + 1
        assert storages.live == 8000
        del passing
        assert (storages.live, storages.peak) == (4000, 8000)
        del kept
        assert storages.live == 4000  # the view holds it
        del view
    assert (storages.live, storages.peak) == (0, 8000)


def test_what_is_kept_is_what_autograd_saves() -> None:
    """Fake tensors against real ones, gathered by autograd's own hooks."""
    memory = training_memory(TINY, 2, bf16=False)
    model = TeraMind(TINY).train()
    x, counts = torch.randn(8, 4, 32, 32), torch.ones(8, 4, 6, 2, 2)
    given = {p.untyped_storage().data_ptr() for p in (*model.parameters(), x, counts)}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        patch, collage = model(x, torch.zeros(2, dtype=torch.long), counts)
        loss = patch.square().mean() + collage.square().mean()
    assert loss > 0  # and holds the graph until here
    assert memory.kept == pytest.approx(sum(saved.values()), rel=0.02)
    assert memory.weights == sum(p.nbytes for p in model.parameters())
    assert memory.step >= memory.kept
    assert memory.peak == 4 * memory.weights + memory.step


def test_memory_grows_with_the_batch_and_shrinks_with_recomputation_and_half_precision() -> None:
    model = TeraMind(TINY).train()
    one, three = (step_memory(model, batch, bf16=False) for batch in (1, 3))
    assert three.kept == pytest.approx(3 * one.kept, rel=0.05)
    assert 0.4 * three.kept < step_memory(model, 3, bf16=True).kept < 0.9 * three.kept
    recompute_blocks(model)
    assert step_memory(model, 3, bf16=False).kept < 0.3 * three.kept


def run(*arguments: object) -> int:
    """The command; a network that several tests ask about is counted for the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "count_work", counted_once)
        with pytest.raises(SystemExit) as stopped:
            run_cli(app, [str(a) for a in arguments])
    code = stopped.value.code
    return code if isinstance(code, int) else 1


def test_info_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantom = load_checkpoint("phantom")
    scores = {
        "step": 1,
        "held_out_loss": 1.5,
        "held_out_loss_at_t": {"50": 2.071, "800": 0.929},
        "PSNR": 21.5,
    }
    training = {**phantom.training, "scores": scores}
    save_checkpoint(tmp_path / "scored", replace(phantom.info, training=training), phantom.weights())
    assert run("info", tmp_path / "scored", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    total = sum(w.numel() for w in phantom.weights().values())
    parts = found["parameters"]
    assert parts.pop("total") == total == sum(parts.values())
    assert found["panel"]["names"] == list(phantom.panel.genes)
    assert found["panel"]["fingerprint"] == phantom.panel.fingerprint
    assert found["receptive_halo_px"] == {"one_step": 16, "generation": 464, "steps": 15}
    assert found["flop"]["folded"]["tile_step"] < found["flop"]["plain"]["tile_step"]
    assert found["training"]["steps"] == 3000
    assert found["scores"] == scores
    assert run("info", tmp_path / "scored") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "scores      Loss on held-out tiles after 1 step: 1.5 (2.071 at t = 50, 0.929 at t = 800)",
        "            PSNR: 21.5",
    ]


def test_info_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "phantom", "--steps", 2) == 0
    shown = capsys.readouterr().out
    assert "3,441,930 (" in shown
    assert "40 genes: Slc17a6, " in shown
    assert "Snap25" not in shown or "all with --genes" in shown
    assert "16 px around it in one step, on 48 px in 2" in shown
    assert "history     1. 3,000 steps" in shown
    assert shown.rstrip().endswith("in 69 min on 1 CPU thread.")
    assert run("info", "phantom", "--genes") == 0
    shown = capsys.readouterr().out
    assert all(gene in shown for gene in load_checkpoint("phantom").panel)
    assert run("info", "phantom", "--preset", "main") == 2
    assert "give a checkpoint or --preset" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in method_names() if name != "tera-mind"])
def test_other_methods_are_described_too(name: str) -> None:
    shape = find_method(name).shape({"genes": 5, "stains": 2, "channels": 8, "patch": 32, "time_width": 16})
    found = describe_network(shape, 3, name)
    parts = found["parameters"]
    assert parts.pop("total") == sum(parts.values()) > 0
    assert found["receptive_halo_px"]["generation"] == 64 + shape.halo
    assert found["flop"]["tile_alone"] > 0
    with pytest.raises(InputError, match="paper's network only"):
        describe_training_memory(shape, 1)


def test_info_of_training_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The computation is tested above and takes long; here, what is said of it."""
    from teramind_model.network import training_memory as module

    gib = 2**30

    def computed(
        network: NetworkConfig, batch: int, *, bf16: bool = True, recompute: bool = False
    ) -> TrainingMemory:
        assert (network.genes, batch) == (229, 16)
        step = (6 if recompute else 20) + (0 if bf16 else 9)
        return TrainingMemory(gib, 2 * gib, gib, 5 * gib, step * gib)

    monkeypatch.setattr(module, "training_memory", computed)
    assert run("info", "--preset", "main", "--training-memory", 16) == 0
    shown = capsys.readouterr().out
    assert "16 samples at once, with activation checkpointing in brackets:" in shown
    assert "--precision 32-true (the default): peak 33.0 GiB (19.0 GiB)" in shown
    assert "--precision bf16-mixed: peak 24.0 GiB (10.0 GiB)" in shown
    assert "weights, Adam and average 4.0 GiB" in shown
    assert "822 (560) a training sample" in shown
