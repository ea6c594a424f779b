"""Training: exact resuming, refusals, what a run leaves behind."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from teramind_data.console import run_cli
from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.store import Brain, open_brain
from teramind_model.checkpoint import (
    Checkpoint,
    ModelInfo,
    load_checkpoint,
    load_trainer_state,
    run_checkpoints,
    save_checkpoint,
)
from teramind_model.cli import app
from teramind_model.config import TrainConfig, resolve
from teramind_model.data.crops import Geometry
from teramind_model.methods.registry import _OURS
from teramind_model.methods.tera_mind import TeraMindMethod
from teramind_model.network import NetworkConfig
from teramind_model.presets import PRESETS
from teramind_model.train import pictures, validation
from teramind_model.train.atlases import open_atlases
from teramind_model.train.ema import Ema, ema_decay
from teramind_model.train.log import Row, TrainLog
from teramind_model.train.loop import DivergedError, Training, TrainResult, train
from teramind_model.train.options import TrainOptions, learning_rate
from teramind_model.train.run_directory import RunDirectory
from tests.model.tiny import ATLAS_GENES, tiny_atlas

# Third parties' own deprecations, on import.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

OPTIONS = TrainOptions(
    steps=6,
    batch=2,
    accumulate=2,
    lr=1e-3,
    schedule="cosine",
    warmup=2,
    clip=1.0,
    ema=0.9,
    ratio_cap=20.0,
    device="cpu",
    checkpoint_every=2,
    sample_every=0,
)
SMALL = {
    "patch": 32,
    "channels": 2,
    "gene_widths": (4, 2, 2),
    "time_width": 8,
    "fold_z": True,
    "dropout": 0.1,
}
SMALL_FLAGS = "--patch 32 --channels 2 --gene-widths 4,2,2 --time-width 8 --fold-z"
SMALL_FLAGS += " --device cpu --batch 1 --accumulate 1"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("train") / "atlas.zarr", canvas=(128, 144))


def training(atlas: Brain, init: Checkpoint | None = None, **options: Any) -> Training:
    chosen = replace(OPTIONS, **options)
    atlases = open_atlases([atlas.url], None, ("DAPI", "PolyT"))
    network = NetworkConfig(genes=len(atlases.panel), **SMALL)
    info = ModelInfo(network, atlases.panel, atlases.stains, atlases.pixel_size_um)
    geometry = Geometry(network.patch, network.gene_slices, network.image_slices, network.stains)
    return Training(info, atlases.source(geometry, chosen.seed, 2**30), chosen, atlases.provenance(), init)


def run_to_end(atlas: Brain, path: Path, **options: Any) -> TrainResult:
    return train(training(atlas, **options), RunDirectory(path), {"options": {"steps": 6}})


def curve(run: Path) -> list[list[str]]:
    """The log but for its two columns of time."""
    with (run / "log.csv").open() as handle:
        return [row[:6] for row in csv.reader(handle)]


@pytest.fixture(scope="module")
def straight(atlas: Brain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    assert run_to_end(atlas, run, sample_every=6).step == 6
    return run


def assert_same_run(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    ours, theirs = load_checkpoint(one), load_checkpoint(other)
    assert ours.digest == theirs.digest
    raw, their_raw = (load_trainer_state(c.path) for c in (ours, theirs))
    for name, tensor in raw["weights"].items():
        assert torch.equal(tensor, their_raw["weights"][name])


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_it_trains_alike_and_is_traced_once(
    atlas: Brain, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the backend that makes no code: what is tried is the tracing, with new keys of dropout at every step."""
    graphs: list[Any] = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    def compiled(module: Any, **options: Any) -> Any:
        return whole(module, **{**options, "backend": count})

    whole = torch.compile
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", compiled)
    run_to_end(atlas, tmp_path / "run", compile=True)
    torch._dynamo.reset()
    assert len(graphs) == 1
    run, other = tmp_path / "run", straight
    ours, theirs = (torch.tensor([[float(v) for v in row] for row in curve(r)[1:]]) for r in (run, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    weights, expected = (load_checkpoint(r).weights() for r in (run, other))
    assert set(weights) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-4)


def test_compiling_needs_a_compiler(atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_model.network.compiler.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"--compile needs a C\+\+ compiler"):
        run_to_end(atlas, tmp_path / "run", compile=True)
    assert not (tmp_path / "run").exists()


def test_a_run_leaves_what_it_should(straight: Path) -> None:
    assert [step for step, _ in run_checkpoints(straight)] == [4, 6]
    rows = curve(straight)
    assert rows[0] == ["step", "loss", "patch", "collage", "lr", "grad_norm"]
    assert [int(row[0]) for row in rows[1:]] == [1, 2, 3, 4, 5, 6]
    for row in rows[1:]:
        loss, patch, collage = map(float, row[1:4])
        assert loss == patch + collage > 0
    assert list((straight / "tensorboard").iterdir())
    from PIL import Image

    with Image.open(straight / "samples" / "step-0000006.png") as picture:
        assert picture.size == (4 * 128, 2 * 128)
    checkpoint = load_checkpoint(straight)
    stage = checkpoint.training["lineage"][-1]
    assert (stage["steps"], stage["data"][0]["name"], checkpoint.training["steps"]) == (6, "atlas.zarr", 6)
    assert str(straight) not in json.dumps(checkpoint.info.to_dict())
    assert checkpoint.panel.genes == ATLAS_GENES
    assert not checkpoint.build().training


def test_stopped_by_a_signal_it_resumes_exactly(
    atlas: Brain, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, add = tmp_path / "run", TrainLog.add

    def add_and_signal(self: TrainLog, row: Row) -> None:
        add(self, row)
        if row.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainLog, "add", add_and_signal)
    stopped = run_to_end(atlas, run, workers=0)
    assert (stopped.step, stopped.signal) == (3, signal.SIGTERM)
    assert stopped.checkpoint == load_checkpoint(run).path
    monkeypatch.setattr(TrainLog, "add", add)
    assert run_to_end(atlas, run, workers=2).step == 6
    assert_same_run(run, straight)


def test_killed_between_checkpoints_it_resumes_exactly(
    atlas: Brain, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, add = tmp_path / "run", TrainLog.add

    def add_and_die(self: TrainLog, row: Row) -> None:
        add(self, row)
        if row.step == 5:
            raise MemoryError

    monkeypatch.setattr(TrainLog, "add", add_and_die)
    with pytest.raises(MemoryError):
        run_to_end(atlas, run)
    monkeypatch.setattr(TrainLog, "add", add)
    (run / "checkpoints" / ".step-0000006.1.tmp").mkdir()  # and as if killed while writing
    assert len(curve(run)) == 1 + 5
    assert run_to_end(atlas, run).step == 6
    assert_same_run(run, straight)
    assert not list((run / "checkpoints").glob(".*"))


def test_a_finished_run_is_up_to_date(atlas: Brain, straight: Path) -> None:
    before = sorted((file, file.stat().st_mtime_ns) for file in straight.rglob("*"))
    result = run_to_end(atlas, straight)
    assert result.up_to_date
    assert result.step == 6
    assert sorted((file, file.stat().st_mtime_ns) for file in straight.rglob("*")) == before


def test_starting_from_a_checkpoint_goes_on_from_its_average(
    atlas: Brain, straight: Path, tmp_path: Path
) -> None:
    init = load_checkpoint(straight)
    tuned = training(atlas, init, steps=1, lr=1e-12, schedule="constant", warmup=0)
    train(tuned, RunDirectory(tmp_path / "run"), {})
    after = load_checkpoint(tmp_path / "run")
    for name, tensor in after.weights().items():
        torch.testing.assert_close(tensor, init.weights()[name], atol=1e-6, rtol=0)
    assert [stage["steps"] for stage in after.training["lineage"]] == [6, 1]
    assert after.training["steps"] == 7


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = TeraMindMethod.loss, 0

    def nan_in_step_3(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        loss = real(*arguments, **options)
        return loss | {"patch": loss["patch"] * math.nan} if calls == 5 else loss

    monkeypatch.setattr(TeraMindMethod, "loss", nan_in_step_3)
    remedy = r"another --out with --init (.*/step-0000002) and a lower --lr; the batch is in .*0000003\.pt$"
    with pytest.raises(DivergedError, match=r"training diverged: step 3 .*found loss nan") as diverged:
        run_to_end(atlas, tmp_path / "run")
    named = re.search(remedy, str(diverged.value))
    assert named is not None
    parts = torch.load(tmp_path / "run" / "diverged-step-0000003.pt", weights_only=True)
    assert len(parts) == 2
    assert parts[0]["image"].shape == (1, 4, 64, 64)
    assert run_checkpoints(tmp_path / "run")[-1] == (2, Path(named[1]))
    # What it says to do.
    lower = training(atlas, load_checkpoint(named[1]), steps=1, lr=1e-4, warmup=0)
    assert train(lower, RunDirectory(tmp_path / "lower"), {}).step == 1

    calls = 0
    with pytest.raises(
        DivergedError, match=r"no checkpoint yet: .* another --out and a lower --lr; the batch"
    ):
        run_to_end(atlas, tmp_path / "early", checkpoint_every=0)


def test_a_network_too_narrow_for_the_start_leaves_nothing_and_can_be_trained_on(
    atlas: Brain, straight: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="too narrow to start as the identity"):
        run_to_end(atlas, tmp_path / "run", start="identity")
    assert not (tmp_path / "run").exists()
    tuned = training(atlas, load_checkpoint(straight), steps=1, start="identity")
    assert train(tuned, RunDirectory(tmp_path / "run"), {}).step == 1
    longer = replace(tuned, options=replace(tuned.options, steps=2))
    assert train(longer, RunDirectory(tmp_path / "run"), {}).step == 2


def test_weights_that_do_not_fit_leave_nothing(atlas: Brain, straight: Path, tmp_path: Path) -> None:
    shutil.copytree(load_checkpoint(straight).path, tmp_path / "init")
    (tmp_path / "init" / "model.safetensors").write_bytes(b"junk")
    damaged = training(atlas, load_checkpoint(tmp_path / "init"))
    with pytest.raises(InputError, match="weights cannot be read"):
        train(damaged, RunDirectory(tmp_path / "run"), {})
    assert not (tmp_path / "run").exists()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file takes another byte meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


ROW = Row(1, 2.0, (2.0,), 1e-3, 0.5, 1.0, 1.0)


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_model.train.board.find_spec", lambda name: None)

    def add_row() -> None:
        with TrainLog(tmp_path / "added.csv", tmp_path / "board", 0, ("noise",)) as log, full_disk():
            log.add(ROW)

    def configure() -> None:
        with RunDirectory(tmp_path / "run").opened({"steps": 1}):
            pytest.fail("opened")

    losses = {10: {"noise": 1.0}}
    picture = np.zeros((8, 8), np.uint8)
    writers: dict[str, Callable[[], Any]] = {
        "begun.csv": lambda: TrainLog(tmp_path / "begun.csv", tmp_path / "board", 0, ("noise",)),
        "validation.csv": lambda: validation.append_scores(
            tmp_path / "validation.csv", 1, ("noise",), losses
        ),
        "sample.png": lambda: pictures.save(picture, tmp_path / "sample.png"),
        "config.json": configure,
    }
    for name, write in writers.items():
        with pytest.raises(StoreError, match=rf"run cannot be written: .*{name} .*Free space"), full_disk():
            write()
    with pytest.raises(StoreError, match=r"run cannot be written: .*added\.csv"):
        add_row()


@pytest.mark.parametrize("opened", [False, True], ids=["from the start", "on the way"])
def test_without_room_for_tensorboard_training_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    opened: bool,
) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not opened:
        monkeypatch.setattr(RecordWriter, "flush", refuse)
    with TrainLog(tmp_path / "log.csv", tmp_path / "board", 0, ("noise",)) as log:
        monkeypatch.setattr(RecordWriter, "write", refuse)
        for step in range(1, 40):
            log.add(replace(ROW, step=step))
        log.scores(40, {10: {"noise": 1.0}})
        log.picture(40, np.zeros((8, 8), np.uint8))
    assert len(curve(tmp_path)) == 40
    said = capsys.readouterr().err
    assert said.count("\n") == said.count("note: no more for TensorBoard") == 1, said
    assert "board cannot be written (No space left on device)" in said
    assert not [warning for warning in recwarn if "Thread" in str(warning.category)]


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.opened({}), pytest.raises(InputError, match="another process is training here"), run.opened({}):
        pytest.fail("opened twice")


def test_milestones_are_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for step in range(1, 9):
        run.checkpoint(step).mkdir(parents=True)
    run.prune(keep=2, milestone_every=3)
    assert [step for step, _ in run_checkpoints(tmp_path)] == [3, 6, 7, 8]


def test_learning_rate() -> None:
    options = replace(OPTIONS, steps=110, warmup=10, lr=2.0)
    assert learning_rate(options, 0) == pytest.approx(0.2)
    assert learning_rate(options, 9) == learning_rate(options, 10) == 2.0
    assert learning_rate(options, 60) == pytest.approx(1.0)
    assert learning_rate(options, 109) < 1e-3
    assert learning_rate(replace(options, schedule="constant"), 109) == 2.0


def test_ema_is_the_weighted_mean_of_the_weights() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(4.0)
    ema = Ema(module, 0.9)
    expected = 4.0
    for step, value in enumerate([8.0, -2.0, 5.0]):
        with torch.no_grad():
            module.weight.fill_(value)
        ema.update(step)
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * value
    assert ema.weights["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert ema_decay(0.9, 10_000) == 0.9


def test_presets_are_the_papers_and_the_phantoms() -> None:
    main = resolve({}, {"atlas": ["A"], "preset": "main"}).config
    assert main.network(229) == NetworkConfig(genes=229)
    assert (main.lr, main.schedule, main.batch, main.accumulate) == (2e-5, "constant", 32, 2)
    assert (main.ema, main.clip, main.ratio_cap) == (0.9999, 1.0, None)
    phantom = resolve({}, {"atlas": ["A"], "preset": "phantom"}).config
    c = phantom.channels
    network = phantom.network(40)
    assert (network.patch, c, network.gene_widths, network.time_width) == (32, 8, (2 * c, c, c // 2), 8 * c)
    assert (phantom.ratio_cap, phantom.schedule, network.fold_z) == (100.0, "cosine", True)
    assert PRESETS["supp"].genes == 500


def test_flags_win_over_the_file_and_the_file_over_the_preset() -> None:
    resolved = resolve(
        {"lr": 0.1, "batch": 4}, {"atlas": ["A"], "preset": "phantom", "batch": 2, "seed": None}
    )
    assert (resolved.config.lr, resolved.config.batch, resolved.config.channels) == (0.1, 2, 8)
    assert resolved.given == {"lr", "batch", "atlas", "preset"}
    assert resolve({}, {"atlas": ["A"], "preset": "phantom", "init": "x"}).config.lr == 3e-4
    uncapped = resolve({"ratio_cap": 20.0}, {"atlas": ["A"], "preset": "phantom", "ratio_cap": 0.0})
    assert uncapped.config.ratio_cap is None
    one = resolve({"atlas": "A", "stains": "DAPI", "preset": "phantom"}, {}).config
    assert (one.atlas, one.stains) == (("A",), ("DAPI",))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"learning_rate": 1}, r"unknown training option: learning_rate \(expected an option of"),
        ({"stain": ["DAPI"]}, r"unknown training option: stain \(expected stains, found \['DAPI'\]"),
        (
            {"method_options": {"channels": 4}},
            r"not one method's own: method_options: channels.*Give --channels",
        ),
        ({"lr": -1}, r"bad training option: lr \(expected .*greater than 0, found -1"),
        ({"steps": "many"}, "bad training option: steps"),
        ({"batch": 8, "accumulate": 3}, r"batch \(8\) is not a multiple of accumulate \(3\)"),
        (
            {"preset": "huge"},
            r"unknown preset \(expected main, main-279, supp, human-81, phantom, found huge\)",
        ),
    ],
)
def test_a_bad_option_is_named(file: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(file, {"atlas": ["A"]})


def test_every_key_of_the_configuration_has_a_flag_and_every_method_is_named() -> None:
    program: Any = typer.main.get_command(app)
    options = {option.name: option for option in program.commands["train"].params}
    flags = set(options) - {"out", "config"}
    keys = {"stains": "stain", "compile": "compile_", "method_options": "method_option"}
    assert {keys.get(key, key) for key in TrainConfig.model_fields} == flags
    for name in ("compile_", "recompute", "fold_z"):
        assert options[name].secondary_opts[0].startswith("--no-")
    assert options["method"].help.startswith(", ".join(_OURS))


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, ["train", *(str(a) for a in arguments)])
    code = stopped.value.code
    return code if isinstance(code, int) else 1


def test_the_command_trains_resumes_and_exports(
    atlas: Brain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "panel.csv").write_text("gene\nTh\nCldn5\nBlank-1\n")
    (tmp_path / "more.yaml").write_text("sample_every: 0\ngene_slices: 4\n")
    arguments = ["--atlas", atlas.url, "--panel", tmp_path / "panel.csv", "--config", tmp_path / "more.yaml"]
    arguments += ["--out", tmp_path / "run", *SMALL_FLAGS.split()]
    assert command(*arguments, "--steps", 1) == 0
    said = capsys.readouterr()
    assert "trained 1 step:" in said.out
    assert "preset main stands for 229 genes, this network has the 2 of the panel" in said.err
    assert load_checkpoint(tmp_path / "run").panel.genes == ("Th", "Cldn5")
    assert command(*arguments, "--steps", 1) == 0
    assert "up to date" in capsys.readouterr().out
    assert command(*arguments, "--steps", 2) == 0  # longer, at a constant rate
    assert "trained 2 steps" in capsys.readouterr().out

    assert command(*arguments, "--steps", 3, "--lr", "0.5", "--seed", 9) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "options.lr 2e-05 there, 0.5 here; options.seed 0 there, 9 here" in error

    with pytest.raises(SystemExit) as stopped:
        run_cli(app, ["export", str(tmp_path / "run"), str(tmp_path / "ship"), "--float16"])
    assert not stopped.value.code
    assert {file.name for file in (tmp_path / "ship").iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
    }
    assert load_checkpoint(tmp_path / "ship").training["steps"] == 2


def test_bad_input_is_one_line_and_leaves_nothing(
    atlas: Brain, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking, other, alien = (tmp_path / f"{name}.csv" for name in ("lacking", "other", "alien"))
    lacking.write_text("gene\nTh\nUnheardof\n")
    other.write_text("gene\nTh\n")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("irreplaceable")
    small = tiny_atlas(tmp_path / "small.zarr", canvas=(64, 64), sections=2)
    out = tmp_path / "run"
    usual = ["--atlas", atlas.url, "--out", out, *SMALL_FLAGS.split(), "--steps", 1]
    cases: list[tuple[list[Any], str]] = [
        ([*usual, "--panel", lacking], "atlas lacks genes of the training panel: .*missing Unheardof"),
        ([*usual, "--panel", alien], "panel not found: .*alien.csv"),
        ([*usual, "--atlas", tmp_path / "none.zarr"], "store not found: .*none.zarr"),
        ([*usual, "--atlas", small.url], "canvas is smaller than a training crop: small.zarr"),
        ([*usual, "--stain", "GFAP"], "atlas lacks a stain: .*expected GFAP, found DAPI, PolyT"),
        ([*usual, "--gene-widths", "4,x"], "--gene-widths is malformed"),
        ([*usual, "--init", tmp_path / "void"], "no checkpoint: .*void"),
        (
            [*usual, "--init", straight, "--channels", 4],
            r"channels differs from the checkpoint.*expected 2, found 4",
        ),
        (
            [*usual, "--init", straight, "--panel", other],
            "panel differs from the checkpoint.*1 genes, without",
        ),
        ([*usual, "--config", tmp_path], "configuration is not YAML: "),
        ([*usual, "--config", tmp_path / "none.yaml"], "no configuration file: .*none.yaml"),
        ([*usual[2:], "--steps", 1], "bad training option: atlas"),
        ([*usual, "--out", mine], "output exists and is no training run: .*mine"),
    ]
    for arguments, message in cases:
        assert command(*arguments) == 2, message
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert re.match(f"error: .*{message}", lines[0]), (lines[0], message)
        assert not out.exists(), message
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]


def test_brains_without_a_common_gene_are_refused(
    atlas: Brain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "other.zarr"
    shutil.copytree(atlas.url, copy)
    root = copy / "zarr.json"
    text = root.read_text()
    for number, gene in enumerate(ATLAS_GENES):
        text = text.replace(f'"{gene}"', f'"Other{number}"')
    root.write_text(text)
    assert open_brain(copy).panel is not None
    out = tmp_path / "run"
    assert (
        command("--atlas", atlas.url, "--atlas", copy, "--out", out, *SMALL_FLAGS.split(), "--steps", 1) == 2
    )
    assert "panels have no gene in common: atlas.zarr, other.zarr" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"", r"trainer state cannot be read: .*trainer\.pt"),
        (b"no zip", r"trainer state cannot be read: .*trainer\.pt"),
        ([1], r"trainer state is not one of ours: .*expected a dict, found list"),
        ({"weights": {}, "step": 2}, "lacks what resuming needs: .*found no optimizer, seconds"),
    ],
    ids=["empty", "junk", "a list", "keys missing"],
)
def test_a_damaged_trainer_state_is_named(
    atlas: Brain, straight: Path, tmp_path: Path, state: object, message: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    shutil.rmtree(run / "checkpoints" / "step-0000006")
    file = run / "checkpoints" / "step-0000004" / "trainer.pt"
    if isinstance(state, bytes):
        file.write_bytes(state)
    else:
        torch.save(state, file)
    with pytest.raises(InputError, match=message) as error:
        run_to_end(atlas, run)
    assert "weights_only" not in str(error.value)


def test_places_where_no_run_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    below = RunDirectory(tmp_path / "file" / "run")
    below.check({}, frozenset())
    with (
        pytest.raises(StoreError, match="run cannot be written: .*file/run.*choose another --out"),
        below.opened({}),
    ):
        pytest.fail("opened")
    with pytest.raises(OutputExistsError, match="no training run: .*link"):
        RunDirectory(tmp_path / "link").check({}, frozenset())
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_alone_do_not_resume(straight: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(straight)
    save_checkpoint(tmp_path / "bare", checkpoint.info, checkpoint.weights())
    with pytest.raises(FileNotFoundError, match=r"cannot be resumed: no trainer state.*--init"):
        load_trainer_state(tmp_path / "bare")
