"""Published checkpoints: every kind of file, every parameter accounted for, nothing unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from teramind_data.console import run_cli
from teramind_data.errors import InputError, PanelError
from teramind_model import load_model
from teramind_model.checkpoint import load_checkpoint
from teramind_model.cli import app
from teramind_model.diffusion.schedule import alpha_bar
from teramind_model.import_published import Meaning, import_published
from teramind_model.importer import convert, infer_config, our_name, published_name
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.panel_source import fitting_panel
from teramind_model.published_file import read_published
from tests.model.plain_names import parameter_shapes
from tests.model.tiny import ATLAS_GENES, tiny_atlas


@pytest.fixture(scope="module")
def published(reference_dir: Path) -> dict[str, Tensor]:
    return read_published(reference_dir / "parity" / "state_dict.npz").weights


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


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.module."])
def test_averaged_twins_win_unless_the_last_are_asked_for(
    wrapper: str, published: dict[str, Tensor], tmp_path: Path
) -> None:
    both = {f"model.{n}": torch.zeros_like(t) for n, t in published.items()}
    both |= {f"ema_model.{wrapper}{n}": t for n, t in published.items()}
    both["ema_model.n_averaged"] = torch.tensor(7)
    torch.save({"state_dict": both}, tmp_path / "both.ckpt")
    read = read_published(tmp_path / "both.ckpt")
    assert set(read.weights) == set(published)
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in published.items())
    assert not read.left_over
    assert read.notes == (
        "averaged weights taken (ema_model.), not their twins (model.)",
        "left out, as no weights: ema_model.n_averaged",
    )
    assert read.averaged is True
    last = read_published(tmp_path / "both.ckpt", averaged=False)
    assert last.averaged is False
    assert not any(tensor.any() for tensor in last.weights.values())
    assert last.notes[0] == "last weights taken (model.), not their twins (ema_model.)"


def test_an_average_alone_is_taken_and_said(published: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {f"ema_model.module.{n}": t for n, t in published.items()}}, tmp_path / "ema.ckpt"
    )
    read = read_published(tmp_path / "ema.ckpt", averaged=False)
    assert set(read.weights) == set(published)
    assert read.notes == ("averaged weights taken (ema_model.); there are no others",)
    assert read.averaged is True


@pytest.mark.parametrize(
    ("extra", "beside", "named"),
    [
        ({"loss_net.conv.weight": torch.zeros(2)}, {}, "loss_net.conv.weight"),
        ({"ema_model.spare.weight": torch.zeros(2)}, {}, "ema_model.spare.weight"),
        ({}, {"averaging_state": {"stem.weight": torch.zeros(2)}}, "averaging_state.stem.weight"),
    ],
    ids=["another prefix", "a twin without its like", "beside the state_dict"],
)
def test_parameters_elsewhere_are_left_over(
    extra: dict[str, Tensor],
    beside: dict[str, Any],
    named: str,
    published: dict[str, Tensor],
    panel: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = {f"model.{n}": t for n, t in published.items()} | extra
    torch.save({"state_dict": tensors, **beside}, tmp_path / "odd.ckpt")
    arguments = ("import-checkpoint", tmp_path / "odd.ckpt", tmp_path / "out", "--panel", panel, "--last")
    assert run(*arguments) == 2
    assert f"left-over parameters: {tmp_path / 'odd.ckpt'} (found {named})" in capsys.readouterr().err


def test_other_state_is_said(
    published: dict[str, Tensor], panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {f"model.{n}": t for n, t in published.items()}
    tensors |= {"x_T": torch.zeros(4), "model.alphas_cumprod": torch.tensor(alpha_bar().copy())}
    state = {"state_dict": tensors, "epoch": 3, "optimizer_states": [{"state": {0: torch.zeros(1)}}]}
    torch.save(state, tmp_path / "whole.ckpt")
    assert run("import-checkpoint", tmp_path / "whole.ckpt", tmp_path / "out", "--panel", panel) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"panel: {panel}",
        "left out, as no weights: model.alphas_cumprod, x_T",
        "left out, as no weights: epoch, optimizer_states",
    ]


def test_another_noise_schedule_is_refused(published: dict[str, Tensor], tmp_path: Path) -> None:
    tensors = {**published, "alphas_cumprod": torch.linspace(1, 0, 1000)}
    with pytest.raises(InputError, match="another noise schedule"):
        read_published(write("npz", tmp_path, tensors))


def test_half_precision_is_widened_and_said(
    published: dict[str, Tensor], panel: Path, tmp_path: Path
) -> None:
    source = write("safetensors", tmp_path, {n: t.half() for n, t in published.items()})
    imported = import_published(source, Meaning((str(panel),)))
    assert imported.notes[-1] == "stored as float16, kept as float32"


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
        ({"out.2.bias": None}, r"lacks parameters: .*\(found out\.2\.bias\)"),
        (
            {"time_embed.time_embed.0.weight": None},
            r"lacks parameters: .*\(found time_embed\.time_embed\.0\.weight\)",
        ),
        ({"out.2.bias": torch.zeros(7)}, r"wrongly shaped parameters: .*\(found out\.2\.bias\)"),
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


def test_the_list_that_fits_is_taken(
    published: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write("npz", tmp_path, published)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "a5.csv").write_text("gene\n" + "".join(f"A{i}\n" for i in range(5)))
    (lists / "b12.csv").write_text("gene\n" + "".join(f"B{i}\n" for i in range(12)))
    (lists / "table.csv").write_text("x,y\n1,2\n")
    assert run("import-checkpoint", source, tmp_path / "out", "--panel", lists) == 0
    assert f"panel: {lists / 'b12.csv'}" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "out").panel.genes[0] == "B0"
    # A checkpoint is a source too; here of the same genes, so nothing is in doubt.
    assert len(fitting_panel([str(lists), str(tmp_path / "out")], 12, source)[0]) == 12
    (lists / "c12.csv").write_text("gene\n" + "".join(f"C{i}\n" for i in range(12)))
    with pytest.raises(
        PanelError, match=r"several panels fit .* \(expected one of 12 genes, found .*b12.csv, .*c12"
    ):
        fitting_panel([str(lists)], 12, source)
    with pytest.raises(PanelError, match=r"expected 7 genes, found .*a5.csv: 5"):
        fitting_panel([str(lists)], 7, source)
    assert run("import-checkpoint", source, tmp_path / "none") == 2
    assert "does not name its genes" in capsys.readouterr().err


def test_the_panel_of_a_store(tmp_path: Path) -> None:
    tiny_atlas(tmp_path / "a.zarr")
    panel, name = fitting_panel([str(tmp_path / "a.zarr")], len(ATLAS_GENES), "x")
    assert (panel.genes, name) == (ATLAS_GENES, str(tmp_path / "a.zarr"))


def test_export_and_import_are_inverse_bit_for_bit(
    reference_dir: Path, panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = reference_dir / "parity" / "state_dict.npz"
    ours, back, again = tmp_path / "ours", tmp_path / "back.ckpt", tmp_path / "again"
    assert run("import-checkpoint", source, ours, "--panel", panel, "--pixel-size", 0.2) == 0
    assert run("export-checkpoint", ours, back) == 0
    state = torch.load(back, weights_only=True)["state_dict"]
    with np.load(source) as arrays:
        assert {f"model.{name}" for name in arrays.files} == set(state)
        for name in arrays.files:
            there = state[f"model.{name}"].numpy()
            assert there.shape == arrays[name].shape
            assert there.tobytes() == arrays[name].tobytes()
    # The other way, with nothing said: panel, stains and pixel size come back from the file.
    assert run("import-checkpoint", back, again) == 0
    assert "panel: as exported" in capsys.readouterr().err
    assert (again / "model.safetensors").read_bytes() == (ours / "model.safetensors").read_bytes()
    assert load_checkpoint(again).pixel_size_um == 0.2
    assert load_checkpoint(again).panel == load_checkpoint(ours).panel
    # Weights without a twin may be an average or not; nobody says that they are.
    for checkpoint in (ours, again):
        assert json.loads((checkpoint / "config.json").read_text())["ema"] is None
        assert "does not say whether they are an average" in (checkpoint / "README.md").read_text()


def test_what_no_shape_shows_comes_back_too(tmp_path: Path) -> None:
    assert run("export-checkpoint", "phantom", tmp_path / "phantom.ckpt") == 0
    assert run("import-checkpoint", tmp_path / "phantom.ckpt", tmp_path / "again") == 0
    phantom, again = load_checkpoint("phantom"), load_checkpoint(tmp_path / "again")
    assert phantom.network.fold_z
    assert again.network == phantom.network
    assert "Weights are the exponential moving average." in (tmp_path / "again" / "README.md").read_text()


def test_export_replaces_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "phantom.ckpt"
    out.write_text("mine")
    assert run("export-checkpoint", "phantom", out) == 2
    assert "output exists" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run("export-checkpoint", "phantom", out, "--overwrite") == 0
    assert run("export-checkpoint", "phantom", tmp_path / "phantom.pt") == 2
    assert "expected a file OUT.ckpt" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["phantom.ckpt"]


@pytest.mark.parametrize(
    "block",
    [{"panel": [1, 2]}, {"pixel_size_um": "0.1"}, {"lineage": ["x"]}, {"dropout": "0"}, {"fold_z": 1}],
    ids=lambda block: next(iter(block)),
)
def test_our_block_written_by_a_stranger(
    block: dict[str, Any], published: dict[str, Tensor], panel: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": published, "teramind": block}, tmp_path / "odd.ckpt")
    with pytest.raises(InputError, match="wrong kind"):
        import_published(tmp_path / "odd.ckpt", Meaning((str(panel),)))


@pytest.mark.parametrize("patch", [32, 64, 128])
@pytest.mark.parametrize("slices", [1, 4])
def test_names_of_every_variant_there_and_back(slices: int, patch: int) -> None:
    shapes = parameter_shapes(5, slices, patch, 2, (4, 2, 2), 8)
    config = NetworkConfig(5, slices, patch=patch, channels=2, gene_widths=(4, 2, 2), time_width=8)
    names = {our_name(name): name for name in shapes}
    assert {ours: published_name(ours, config) for ours in TeraMind(config).state_dict()} == names
    with pytest.raises(InputError, match=r"spare\.weight"):
        published_name("spare.weight", config)


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
