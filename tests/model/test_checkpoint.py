"""Checkpoints: whole or absent, read without unpickling, and clear about what does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from teramind_data.errors import InputError, MissingInputError, OutputExistsError, StoreError
from teramind_model import checkpoint as module
from teramind_model import load_model
from teramind_model.checkpoint import (
    ModelInfo,
    load_checkpoint,
    load_trainer_state,
    means_shipped,
    resolve_checkpoint,
    run_checkpoints,
    save_checkpoint,
)
from teramind_model.methods.registry import find_method
from teramind_model.model_card import model_card
from teramind_model.pretrained import shipped
from tests.model.tiny import tiny_source

SOURCE = tiny_source()
LINEAGE = {"steps": 10, "seconds": 90.0, "batch": 8, "device": "a toaster", "data": [{"name": "A.zarr"}]}
INFO = ModelInfo(
    SOURCE.model.config, SOURCE.panel, SOURCE.stains, SOURCE.pixel_size_um, {"lineage": [LINEAGE]}
)
WEIGHTS = SOURCE.model.state_dict()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", INFO, WEIGHTS, trainer={"step": 3, "weights": dict(WEIGHTS)})
    return tmp_path / "model"


def edit_config(path: Path, **changes: Any) -> None:
    file = path / "config.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def test_what_is_saved_is_loaded(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    assert checkpoint.info == INFO
    model = load_model(saved)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, WEIGHTS[name])
    assert load_trainer_state(saved)["step"] == 3
    assert len({file.stat().st_mode for file in saved.iterdir()}) == 1  # whoever reads one file reads all
    assert len(checkpoint.digest) == 64
    assert not list(saved.parent.glob(".*"))


def test_half_weights_come_back_as_float32(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "half", INFO, WEIGHTS, half=True)
    save_checkpoint(tmp_path / "full", INFO, WEIGHTS)
    size = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")}
    assert size["half"] < 0.6 * size["full"]
    for name, tensor in load_checkpoint(tmp_path / "half").weights().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, WEIGHTS[name].half().float())


def test_folding_may_be_chosen_when_building(saved: Path) -> None:
    model = load_checkpoint(saved).build(fold_z=True)
    assert model.config == replace(INFO.network, fold_z=True)


def test_a_run_means_its_newest_whole_checkpoint(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    with pytest.raises(MissingInputError, match=r"no checkpoint: .*run .*Train first"):
        resolve_checkpoint(tmp_path / "run")
    for name in ("step-0000002", "step-0000010", ".step-0000020.99.tmp", "step-0000030.tmp"):
        shutil.copytree(saved, run / name)
    assert [step for step, _ in run_checkpoints(tmp_path / "run")] == [2, 10]
    assert resolve_checkpoint(tmp_path / "run") == run / "step-0000010"


def test_only_a_checkpoint_or_run_hides_the_shipped_one(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path("phantom")
    (here / "raw").mkdir(parents=True)
    assert means_shipped("phantom")
    assert resolve_checkpoint("phantom") == shipped("phantom")
    (here / "checkpoints").mkdir()
    with pytest.raises(MissingInputError, match="Train first"):
        resolve_checkpoint("phantom")
    shutil.rmtree(here)
    shutil.copytree(saved, here)
    assert not means_shipped("phantom")
    assert resolve_checkpoint("phantom") == here


def test_the_card_says_what_it_is_and_what_it_is_not_for(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    for words in (
        "10 steps of 8 crops from A.zarr in 2 min on a toaster",
        "diagnosis",
        "100 to 200 um apart",
        "0.432 um",
    ):
        assert words in card


def test_the_shipped_card_is_the_one_that_is_made_today() -> None:
    checkpoint = load_checkpoint("phantom")
    assert (checkpoint.path / "README.md").read_text(encoding="utf-8") == model_card(checkpoint.info)


def test_the_card_says_how_it_was_trained() -> None:
    options = {"lr": 2e-5, "schedule": "cosine", "warmup": 1, "ema": 0.9999, "ratio_cap": 20.0, "batch": 32}
    options |= {"accumulate": 2, "precision": "bf16-mixed", "seed": 7, "held_out": 0.01}
    stage = {"steps": 1, "seconds": 0.42, "batch": 1, "device": "2 x 1 CPU threads", "data": LINEAGE["data"]}
    imported = {"imported_from": "main.ckpt"}
    info = replace(INFO, training={"lineage": [imported, LINEAGE, {**stage, "options": options}]})
    lines = model_card(info).splitlines()
    start = lines.index("1. Converted from published weights (main.ckpt).")
    assert lines[start + 1 : start + 5] == [
        "2. 10 steps of 8 crops from A.zarr in 2 min on a toaster.",
        "3. 1 step of 1 crop from A.zarr in 0.42 s on 2 x 1 CPU thread.",
        "   Learning rate 2e-05, cosine after 1 step of warm-up; EMA decay 0.9999; min-SNR weights up to 20; batch 32 "
        "in 2 parts; random start; precision bf16-mixed; seed 7; 0.01 of the tiles held out.",
        "",
    ]


@pytest.mark.parametrize("method", ["patch-dm", "sinfusion", "patch-dm-genes", "tera-mind"])
def test_the_card_of_a_method_says_whether_it_sees_genes(method: str) -> None:
    network = find_method(method).shape({"genes": INFO.network.genes, "stains": 2, "patch": 32})
    card = model_card(replace(INFO, network=network, method=method))
    blind = method in ("patch-dm", "sinfusion")
    assert card.startswith(
        "# Tera-MIND checkpoint" if method == "tera-mind" else f"# Checkpoint of {method}\n"
    )
    assert ("from spatial gene expression" in card, "which molecules" in card) == (not blind, not blind)
    assert ("without genes" in card, "| genes | none seen" in card, "It sees no genes" in card) == (
        blind,
    ) * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, r"unknown checkpoint format: .*config\.json \(expected 1, found 2\)"),
        ({"panel": ["Th", "Gad1", "Gad2", "Cldn5", "Aqp4"]}, "panel does not match its fingerprint"),
        ({"panel": ["Th"]}, r"panel and network differ in genes: .*config\.json \(expected 5, found 1\)"),
        ({"stains": ["DAPI"]}, "stains and network differ"),
        ({"network": None}, "lacks a key: .*expected network"),
        ({"network": [1]}, r"unknown keys: .*config\.json"),
        ({"network": {"channels": 2}}, r"value of the wrong kind: .*config\.json .*'genes'"),
        ({"panel": 5}, r"value of the wrong kind: .*config\.json"),
        ({"pixel_size_um": "fine"}, r"value of the wrong kind: .*config\.json .*'fine'"),
        ({"pixel_size_um": 0}, r"pixel size is not a positive number: .*config\.json"),
        ({"training": [1]}, r"value of the wrong kind: .*config\.json"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    saved: Path, changes: dict[str, Any], message: str
) -> None:
    edit_config(saved, **changes)
    with pytest.raises(InputError, match=message):
        load_checkpoint(saved)


def test_files_that_are_damaged_or_missing_are_named(saved: Path, tmp_path: Path) -> None:
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"weights cannot be read: .*model\.safetensors"):
        load_model(saved)
    weights.write_bytes(whole)
    (saved / "config.json").write_text("{")
    with pytest.raises(InputError, match="configuration is not JSON"):
        load_checkpoint(saved)
    (saved / "config.json").unlink()
    with pytest.raises(MissingInputError, match="no configuration"):
        load_checkpoint(saved)
    with pytest.raises(MissingInputError, match=r"no checkpoint: .*nowhere .*or one of phantom"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match=r"ships no such checkpoint: nessie"):
        shipped("nessie")


def test_every_parameter_is_accounted_for(tmp_path: Path) -> None:
    names = list(WEIGHTS)
    cases = {
        "lacks parameters": {n: WEIGHTS[n] for n in names[1:]},
        "has left-over parameters": {**WEIGHTS, "stray.weight": torch.zeros(1)},
        "has wrongly shaped parameters": {**WEIGHTS, names[0]: torch.zeros(3, 3, 3)},
    }
    for number, (message, weights) in enumerate(cases.items()):
        save_checkpoint(tmp_path / str(number), INFO, weights)
        with pytest.raises(
            InputError, match=f"checkpoint {message}: .*{'stray' if number == 1 else names[0]}"
        ):
            load_model(tmp_path / str(number))


def test_nothing_is_unpickled(saved: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"step": Evil()}, saved / "trainer.pt")
    with pytest.raises(InputError, match=r"trainer state cannot be read: .*trainer\.pt"):
        load_trainer_state(saved)
    assert not (tmp_path / "pwned").exists()


def test_what_is_there_is_kept_unless_asked(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="--overwrite"):
        save_checkpoint(saved, INFO, WEIGHTS)
    save_checkpoint(saved, replace(INFO, pixel_size_um=0.5), WEIGHTS, overwrite=True)
    assert load_checkpoint(saved).pixel_size_um == 0.5
    assert not list(tmp_path.glob(".*"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(OutputExistsError, match="no checkpoint of ours"):
        save_checkpoint(mine, INFO, WEIGHTS, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "irreplaceable"


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failing_disk_leaves_the_old_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = load_checkpoint(saved).digest
    calls = 0
    real = getattr(os, call)

    def fail_at(number: int) -> Any:
        def failing(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return failing

    stages = {"fsync": 5, "rename": 2}[call]
    for number in range(1, stages + 1):
        calls = 0
        monkeypatch.setattr(module.os, call, fail_at(number))
        with pytest.raises(StoreError, match="checkpoint cannot be written: .*No space left"):
            save_checkpoint(saved, INFO, WEIGHTS, overwrite=True)
        assert calls >= number  # one more rename gives the old one its name back
        monkeypatch.setattr(module.os, call, real)
        assert load_checkpoint(saved).digest == before
        assert not list(saved.parent.glob(".*"))


def test_training_data_and_checkpoints_import_with_torch_and_zarr_alone() -> None:
    absent = [
        "pydantic",
        "typer",
        "rich",
        "lightning",
        "pandas",
        "PIL",
        "tensorboard",
        "tensorstore",
        "spatialdata",
    ]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import teramind_model.checkpoint, teramind_model.attention_matrix, teramind_model.train.loop\n"
        "import teramind_model.data.batches, teramind_model.train.atlases, teramind_model.presets\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
