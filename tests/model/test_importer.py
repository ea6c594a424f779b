"""Published checkpoints: every kind of file, every parameter accounted for, nothing unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from teramind_data.console import run_cli
from teramind_model import load_model
from teramind_model.checkpoint import load_checkpoint
from teramind_model.cli import app
from teramind_model.importer import convert, infer_config, our_name, read_published
from teramind_model.network import NetworkConfig, TeraMind


@pytest.fixture(scope="module")
def published(reference_dir: Path) -> dict[str, Tensor]:
    return read_published(reference_dir / "parity" / "state_dict.npz")


@pytest.fixture
def panel(tmp_path: Path) -> Path:
    file = tmp_path / "panel.csv"
    file.write_text("gene\n" + "".join(f"G{i}\n" for i in range(12)))
    return file


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, [str(a) for a in arguments])
    code = stopped.value.code
    return code if isinstance(code, int) else 1


def write(kind: str, path: Path, tensors: dict[str, Any]) -> Path:
    file = path / f"published.{kind}"
    if kind == "ckpt":
        lightning = {f"model.{name}": t for name, t in tensors.items()}
        torch.save({"state_dict": lightning, "epoch": 3, "hyper_parameters": {"lr": 2e-5}}, file)
    elif kind == "safetensors":
        save_file({f"model.{name}": t.contiguous() for name, t in tensors.items()}, file)
    else:
        np.savez(file, **{name: t.numpy() for name, t in tensors.items()})
    return file


@pytest.mark.parametrize("kind", ["ckpt", "npz", "safetensors"])
def test_any_kind_of_file_gives_the_same_model(
    kind: str, published: dict[str, Tensor], panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(kind, tmp_path, published)
    assert run("import-checkpoint", source, tmp_path / "out", "--panel", panel) == 0
    assert "403 parameters: n=12 S=4 Z=2 P=64 C=4 k=2" in capsys.readouterr().out
    expected = convert(published)
    model = load_model(tmp_path / "out")
    assert len(model.state_dict()) == len(expected) == 403
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name])
    checkpoint = load_checkpoint(tmp_path / "out")
    assert checkpoint.panel.genes[:2] == ("G0", "G1")
    assert checkpoint.pixel_size_um == 0.108
    assert checkpoint.training["lineage"][0]["imported_from"] == source.name


def test_averaged_twins_win(published: dict[str, Tensor], tmp_path: Path) -> None:
    both = {f"model.{n}": torch.zeros_like(t) for n, t in published.items()}
    both |= {f"ema_model.{n}": t for n, t in published.items()}
    torch.save({"state_dict": both}, tmp_path / "both.ckpt")
    read = read_published(tmp_path / "both.ckpt")
    assert all(torch.equal(read[name], tensor) for name, tensor in published.items())


def test_names_map_one_to_one(published: dict[str, Tensor]) -> None:
    assert len({our_name(name) for name in published}) == len(published)
    assert set(convert(published)) == set(TeraMind(infer_config(published)).state_dict())


def test_sizes_are_inferred(published: dict[str, Tensor]) -> None:
    assert infer_config(published) == NetworkConfig(genes=12, channels=4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"spare.weight": torch.zeros(2)}, "left-over parameters"),
        ({"output_blocks.9.9.weight": torch.zeros(2)}, "left-over parameters"),
        ({"out.2.bias": None}, "lacks parameters: .*head.bias"),
        ({"out.2.bias": torch.zeros(7)}, "wrongly shaped parameters: .*head.bias"),
        ({"input_blocks.0.0.weight": None}, "not a published checkpoint: .*published.npz"),
        ({"input_blocks.0.0.weight": torch.zeros(7)}, "another shape: .*published.npz"),
        ({"out.2.bias": torch.zeros(2, dtype=torch.int64)}, "not floating-point numbers: .*out.2.bias"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_left(
    damage: dict[str, Any],
    message: str,
    published: dict[str, Tensor],
    panel: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    tensors = {n: t for n, t in {**published, **damage}.items() if t is not None}
    source = write("npz", tmp_path, tensors)
    assert run("import-checkpoint", source, tmp_path / "out", "--panel", panel) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_panel_of_another_size_is_refused(
    published: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write("npz", tmp_path, published)
    (tmp_path / "short.csv").write_text("gene\nTh\n")
    assert run("import-checkpoint", source, tmp_path / "out", "--panel", tmp_path / "short.csv") == 2
    assert "expected 12 genes, found 1" in capsys.readouterr().err


def test_code_in_a_checkpoint_never_runs(
    panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    assert run("import-checkpoint", tmp_path / "evil.ckpt", tmp_path / "out", "--panel", panel) == 2
    error = capsys.readouterr().err
    assert "that can be read safely" in error
    assert "found an object of posix.mkdir" in error
    assert "weights_only" not in error  # torch's own words advise loading it all the same
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["ckpt", "npz", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, world", b"truncated"], ids=["empty", "text", "truncated"])
def test_a_damaged_file_is_one_line(
    kind: str,
    content: bytes,
    published: dict[str, Tensor],
    panel: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(kind, tmp_path, published)
    source.write_bytes(source.read_bytes()[:9000] if content == b"truncated" else content)
    assert run("import-checkpoint", source, tmp_path / "out", "--panel", panel) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"published.{kind}" in error
    assert "Copy " in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"state_dict": {1: torch.zeros(1)}}, {"state_dict": {"model.out.2.bias": 3}}],
    ids=["a list", "numbers as names", "a number as weights"],
)
def test_a_checkpoint_without_tensors_is_refused(
    content: object, panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "odd.ckpt")
    assert run("import-checkpoint", tmp_path / "odd.ckpt", tmp_path / "out", "--panel", panel) == 2
    assert "the checkpoint holds no state_dict of tensors" in capsys.readouterr().err


def test_a_missing_file_is_named(panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import-checkpoint", tmp_path / "no.ckpt", tmp_path / "out", "--panel", panel) == 2
    assert "no checkpoint to import" in capsys.readouterr().err
