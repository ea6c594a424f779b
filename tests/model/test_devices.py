"""Several processes, precisions, and activations computed twice: the same training."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from teramind_data.console import run_cli
from teramind_data.errors import InputError
from teramind_data.store import Brain
from teramind_model.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from teramind_model.cli import app
from teramind_model.data.batches import batch_parts
from teramind_model.methods.registry import find_method
from teramind_model.methods.tera_mind import TeraMindMethod
from teramind_model.network import known_traps
from teramind_model.network.blocks import ResBlock
from teramind_model.network.dropout import KeyedDropout, set_dropout_keys
from teramind_model.network.recompute import recompute_blocks
from teramind_model.train.devices import agreed, launch
from teramind_model.train.run_directory import RunDirectory
from tests.model.test_methods import block
from tests.model.test_train import OPTIONS, curve, run_to_end
from tests.model.tiny import tiny_atlas

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FLAGS = "--patch 32 --channels 2 --gene-widths 4,2,2 --time-width 8 --device cpu --steps 2 --batch 4 --accumulate 2"
FLAGS += " --lr 1e-3 --sample-every 0 --held-out 0.3 --dropout 0.3"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("devices") / "atlas.zarr", canvas=(512, 256))


def train_command(atlas: Brain, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "teramind_model.cli", "train", "--atlas", atlas.url, "--out", str(out)]
    return subprocess.run(
        [*command, *FLAGS.split(), *more],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train_here(atlas: Brain, out: Path, *more: str) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, ["train", "--atlas", atlas.url, "--out", str(out), *FLAGS.split(), *more])
    return stopped.value.code


def test_two_processes_train_as_one(atlas: Brain, tmp_path: Path) -> None:
    """The same global batch: losses and weights agree within rounding, and only one process speaks."""
    two = train_command(atlas, tmp_path / "two", "--devices", "2", "--validate-every", "2")
    assert two.returncode == 0, two.stderr
    assert train_here(atlas, tmp_path / "one", "--devices", "1") == 0
    assert two.stdout.count("trained 2 steps") == 1
    rows = [[float(v) for v in row[1:6]] for run in ("one", "two") for row in curve(tmp_path / run)[1:]]
    torch.testing.assert_close(torch.tensor(rows[2:]), torch.tensor(rows[:2]), rtol=1e-5, atol=1e-6)
    ours, theirs = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    for name, tensor in ours.weights().items():
        torch.testing.assert_close(theirs.weights()[name], tensor, rtol=0, atol=1e-4)
    assert theirs.training["lineage"][-1]["device"].startswith("2 x ")
    with (tmp_path / "two" / "validation.csv").open() as handle:
        assert len(list(csv.reader(handle))) == 7
    # Processes are how, not what: a run of two goes on with one.
    assert train_here(atlas, tmp_path / "two", "--devices", "1", "--steps", "3") == 0


@pytest.mark.parametrize("seen", [(2, 2, 2), (2, 1, 2), (2, -1, -1), (-1, -1, -1)], ids=str)
def test_processes_that_see_other_checkpoints_all_stop(tmp_path: Path, seen: tuple[int, ...]) -> None:
    """As where a run lies on a disk of each machine's own: each would go on from another step."""
    runs = []
    for rank, step in enumerate(seen):
        run = RunDirectory(tmp_path / f"machine-{rank}")
        for earlier in range(1, step + 1):
            folder = run.checkpoint(earlier)
            folder.mkdir(parents=True)
            for name in (CONFIG, WEIGHTS):
                (folder / name).touch()
        runs.append(run)
    fabric = types.SimpleNamespace(
        world_size=len(seen), device=torch.device("cpu"), all_gather=lambda mine: torch.tensor(seen)
    )
    for run, step in zip(runs, seen, strict=True):
        if len(set(seen)) == 1:
            assert agreed(fabric, run) == run.newest()
            assert (agreed(fabric, run) or (-1,))[0] == step
        else:
            with pytest.raises(
                InputError, match=r"do not see the same checkpoints.*expected one newest step"
            ):
                agreed(fabric, run)


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"batch cannot be shared out .expected a multiple of 2 parts x 3 devices"
    ):
        batch_parts(8, 2, 0, 3)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_parts_hold_the_same_samples_whatever_the_processes(world: int) -> None:
    parts = [batch_parts(8, 2, rank, world) for rank in range(world)]
    for number, expected in enumerate(([0, 1, 2, 3], [4, 5, 6, 7])):
        assert [i for mine in parts for i in mine[number]] == expected


def dropped(keys: list[int], maps: int, layer: int = 0) -> torch.Tensor:
    module = KeyedDropout(0.3).train()
    module.layer, module.keys = layer, torch.tensor(keys, dtype=torch.int32)
    return module(torch.ones(len(keys) * maps, 50, 40)) == 0


def test_dropout_depends_on_sample_layer_and_place_alone() -> None:
    both, one = dropped([7, 9], 4), dropped([9], 4)
    assert torch.equal(both[4:], one)
    assert not torch.equal(one, dropped([9], 4, layer=1))
    maps = [*one, dropped([9], 1)[0]]
    for i, first in enumerate(maps):
        assert first.float().mean() == pytest.approx(0.3, abs=0.04)
        for second in maps[i + 1 :]:
            # Independent: they agree as often as chance has it.
            assert (first == second).float().mean() == pytest.approx(0.58, abs=0.05)


def test_dropout_keeps_the_mean_and_is_off_in_eval() -> None:
    module = KeyedDropout(0.25).train()
    module.keys = torch.tensor([3], dtype=torch.int32)
    x = torch.ones(1, 400, 400)
    assert module(x).mean() == pytest.approx(1.0, abs=0.01)
    assert module.eval()(x) is x


@pytest.mark.parametrize("name", ["tera-mind", "patch-dm-genes", "sinfusion-genes"])
def test_activations_computed_twice_give_the_same_gradients(name: str) -> None:
    method = find_method(name)
    values = {"genes": 5, "patch": 32, "channels": 4, "time_width": 8, "dropout": 0.3, "fold_z": True}
    if name == "tera-mind":
        values["gene_widths"] = (8, 4, 4)
    shape = method.shape(values)
    torch.manual_seed(0)
    network = method.build(shape).train()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.1)
    gradients = []
    runs = {False: 0, True: 0}

    def count(*_: object) -> None:
        runs[recompute] += 1

    next(m for m in network.modules() if isinstance(m, ResBlock)).dropout.register_forward_hook(count)
    for recompute in (False, True):
        assert recompute_blocks(network, recompute) > 0
        set_dropout_keys(network, torch.tensor([5, 6], dtype=torch.int32))
        network.zero_grad()
        sum(method.loss(network, block(shape)).values()).backward()
        gradients.append(
            {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        )
    assert runs[True] == 2 * runs[False] > 0
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_recomputing_a_whole_run_changes_nothing(atlas: Brain, tmp_path: Path) -> None:
    run_to_end(atlas, tmp_path / "kept", steps=2)
    run_to_end(atlas, tmp_path / "twice", steps=2, recompute=True)
    assert curve(tmp_path / "kept") == curve(tmp_path / "twice")


def test_a_network_without_blocks_cannot_be_recomputed(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TeraMindMethod, "build", lambda *_: torch.nn.Linear(1, 1))
    with pytest.raises(
        InputError, match=r"no blocks that can be recomputed: tera-mind\. Leave --recompute out"
    ):
        run_to_end(atlas, tmp_path / "run", recompute=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["tera-mind", "patch-dm", "sinfusion"])
def test_devices_are_checked_for_traps_of_any_methods_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(known_traps, "warn_of_traps", lambda *arguments: shown.append(arguments))
    shape = find_method(name).shape({"genes": 5})
    launch(replace(OPTIONS, precision="bf16-mixed"), shape)
    assert [(dtype, network) for _, dtype, network in shown] == [(torch.bfloat16, shape)]


def test_half_precision_trains_near_full(atlas: Brain, tmp_path: Path) -> None:
    run_to_end(atlas, tmp_path / "half", steps=2, precision="bf16-mixed")
    run_to_end(atlas, tmp_path / "full", steps=2)
    half, full = (torch.tensor([float(r[1]) for r in curve(tmp_path / n)[1:]]) for n in ("half", "full"))
    torch.testing.assert_close(half, full, rtol=0.02, atol=0)


@pytest.mark.parametrize("there", [False, True], ids=["no GPU", "a GPU that is not asked for"])
def test_16_bit_floats_without_a_gpu_are_refused(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    with pytest.raises(InputError, match="16-bit floats are for GPUs"):
        run_to_end(atlas, tmp_path / "run", precision="16-mixed")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="16-bit floats need a GPU")
def test_16_bit_floats_train_near_full(atlas: Brain, tmp_path: Path) -> None:
    run_to_end(atlas, tmp_path / "half", precision="16-mixed", device="cuda")
    run_to_end(atlas, tmp_path / "full", device="cuda")
    half, full = (torch.tensor([float(r[1]) for r in curve(tmp_path / n)[1:]]) for n in ("half", "full"))
    torch.testing.assert_close(half, full, rtol=0.05, atol=0)


class FakeWandb(types.ModuleType):
    """What is called of Weights & Biases, kept."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []

    def init(self, **settings: Any) -> FakeWandb:
        self.calls.append(("init", settings))
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", (step, values)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_weights_and_biases_gets_the_curves(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run_to_end(atlas, tmp_path / "run", steps=2, wandb="brains")
    kinds = [kind for kind, _ in fake.calls]
    assert kinds == ["init", "log", "log", "finish"]
    begun = fake.calls[0][1]
    assert (begun["project"], begun["name"]) == ("brains", "run")
    step, values = fake.calls[1][1]
    assert step == 1
    assert {"loss/loss", "loss/patch", "loss/collage", "training/lr"} <= set(values)
    # Going on is the same run there; a folder of the same name elsewhere is another.
    run_to_end(atlas, tmp_path / "run", steps=3, wandb="brains")
    run_to_end(atlas, tmp_path / "elsewhere" / "run", steps=1, wandb="brains")
    ids = [settings["id"] for kind, settings in fake.calls if kind == "init"]
    assert ids[0] == ids[1] != ids[2]


def test_weights_and_biases_missing_is_one_line(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SystemExit) as stopped:
        run_cli(
            app, ["train", "--atlas", atlas.url, "--out", str(tmp_path / "r"), *FLAGS.split(), "--wandb", "x"]
        )
    assert stopped.value.code == 2
    assert "Weights & Biases is not installed" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
