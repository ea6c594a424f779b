"""Methods: what every one of them keeps to, and one that comes from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from teramind_data.console import run_cli
from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_data.store import open_brain
from teramind_model.baselines.patch_dm import PatchDM
from teramind_model.cli import app
from teramind_model.config import resolve
from teramind_model.diffusion.objective import Block
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.diffusion.tiles import sample_tiles
from teramind_model.methods import registry
from teramind_model.methods.canvas import denoise_canvas
from teramind_model.methods.protocol import CanvasMethod, Method, NetworkShape
from teramind_model.methods.registry import GROUP, find_method, method_names
from tests.model.tiny import GENES, tiny_atlas, tiny_source

OURS = ("tera-mind", "patch-dm", "patch-dm-genes", "sinfusion", "sinfusion-genes")
WITH_GENES = ("tera-mind", "patch-dm-genes", "sinfusion-genes")
FAST = ("tera-mind", "patch-dm", "patch-dm-genes")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def small(name: str, **changes: object) -> tuple[Method, NetworkShape, torch.nn.Module]:
    """A method and a tiny network of its, all weights random, zero-initialised ones included."""
    method = find_method(name)
    values = {"genes": 5, "stains": 2, "patch": 32, "channels": 4, "time_width": 8, "dropout": 0.0, **changes}
    if name == "tera-mind":
        values["gene_widths"] = (8, 4, 4)
    shape = method.shape(values)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = method.build(shape).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5)
    return method, shape, network


def block(shape: NetworkShape, batch: int = 2) -> Block:
    generator = torch.Generator().manual_seed(3)
    edge, channels = 2 * shape.patch, shape.stains * shape.image_slices
    image = torch.rand((batch, channels, edge, edge), generator=generator) * 2 - 1
    noise = torch.randn(image.shape, generator=generator)
    counts = torch.poisson(
        torch.full((batch, shape.gene_slices, shape.genes, edge // 16, edge // 16), 2.0), generator=generator
    )
    return Block(image, noise, torch.ones_like(image[:, :1]), counts, torch.tensor([10, 700])[:batch])


def test_ours_are_offered_as_entry_points() -> None:
    project = tomllib.loads((ROOT / "packages/teramind-model/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"][GROUP] == registry._OURS
    assert set(OURS) <= set(method_names())


@pytest.mark.parametrize("name", OURS)
def test_shape_makes_the_round_trip_through_json(name: str) -> None:
    method, shape, _ = small(name, gene_slices=8)
    assert method.shape(json.loads(json.dumps(shape.to_dict()))) == shape
    assert shape.halo % 16 == 0
    assert 0 < shape.halo <= shape.patch


@pytest.mark.parametrize("name", OURS)
def test_unknown_keys_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="unknown keys.*colour"):
        find_method(name).shape({"genes": 5, "stains": 2, "colour": 3})


@pytest.mark.parametrize("name", OURS)
def test_the_loss_has_its_terms_and_every_parameter_learns(name: str) -> None:
    method, shape, network = small(name)
    loss = method.loss(network, block(shape), ratio_cap=20.0)
    assert tuple(loss) == method.terms
    torch.stack(list(loss.values())).sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A constant added to all queries' or keys' scores, or lost in a norm, moves nothing.
    assert [n for n in still if not n.endswith(".bias")] == []


@pytest.mark.parametrize("gene_slices", [1, 4])
@pytest.mark.parametrize("name", OURS)
def test_noise_depends_on_the_halo_and_not_beyond(name: str, gene_slices: int) -> None:
    method, shape, network = small(name, gene_slices=gene_slices)
    edge, far = shape.patch + 2 * shape.halo, shape.patch + 2 * shape.halo + 32
    generator = torch.Generator().manual_seed(4)
    x = torch.randn((1, shape.stains * shape.image_slices, far, far), generator=generator)
    counts = torch.poisson(
        torch.full((1, gene_slices, shape.genes, far // 16, far // 16), 2.0), generator=generator
    )
    t = torch.tensor([500])
    inner, bins = slice(16, 16 + edge), slice(1, 1 + edge // 16)
    with torch.inference_mode():
        before = method.noise(network, x[..., inner, inner], t, counts[..., bins, bins])
        assert before.shape == (1, shape.stains * shape.image_slices, shape.patch, shape.patch)
        x[..., 16 + shape.halo - 1, 16 + shape.halo - 1] += 1.0
        moved = method.noise(network, x[..., inner, inner], t, counts[..., bins, bins])
        genes = method.noise(network, x[..., inner, inner], t, counts[..., bins, bins] + 1)
    assert not torch.equal(before, moved)
    assert torch.equal(moved, genes) == (name not in WITH_GENES)


@pytest.mark.parametrize("name", ["sinfusion", "sinfusion-genes"])
def test_a_wider_surrounding_changes_no_tile(name: str) -> None:
    """What convolutions see lies within the halo: the same tile from a wider piece of canvas is the same."""
    method, shape, network = small(name)
    edge = shape.patch + 4 * shape.halo
    x = torch.randn((1, 4, edge, edge), generator=torch.Generator().manual_seed(5))
    counts = torch.ones((1, 4, 5, edge // 16, edge // 16))
    inner = slice(shape.halo, -shape.halo)
    bins = slice(shape.halo // 16, -(shape.halo // 16))
    with torch.inference_mode():
        tile = method.noise(network, x[..., inner, inner], torch.tensor([300]), counts[..., bins, bins])
        whole = network(x, torch.tensor([300]), counts)
    torch.testing.assert_close(
        tile, whole[..., 2 * shape.halo : -2 * shape.halo, 2 * shape.halo : -2 * shape.halo]
    )


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
@pytest.mark.parametrize("name", FAST)
def test_the_fast_canvas_equals_tile_by_tile(name: str, sampler: str) -> None:
    method, shape, network = small(name)
    assert isinstance(method, CanvasMethod)
    generator = torch.Generator().manual_seed(6)
    x_T = torch.randn((4, 64, 96), generator=generator)
    counts = torch.poisson(torch.full((4, 5, 96 // 16, 128 // 16), 2.0), generator=generator)

    def noise(x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return method.noise(network, x, t, c)

    steps = sampler_steps(sampler, 4)
    slow = sample_tiles(noise, shape, counts, x_T, steps, batch=3, inside=(64, 80))
    fast = denoise_canvas(method, shape, network, counts, x_T, steps, inside=(64, 80))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


def test_tiles_of_any_batch_are_the_same() -> None:
    method, shape, network = small("sinfusion-genes")
    x_T = torch.randn((4, 64, 96), generator=torch.Generator().manual_seed(7))
    counts = torch.ones((4, 5, 96 // 16, 128 // 16))

    def noise(x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return method.noise(network, x, t, c)

    one, many = (sample_tiles(noise, shape, counts, x_T, 3, batch=batch) for batch in (1, 16))
    torch.testing.assert_close(one, many, atol=1e-4, rtol=0)


def test_patch_dm_without_genes_has_no_gene_parameters() -> None:
    _, _, network = small("patch-dm")
    assert isinstance(network, PatchDM)
    assert not [name for name, _ in network.named_parameters() if "gene" in name]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 9}, r"network.depth is out of range .expected 1 .. 7 at P = 32, found 9"),
        ({"gene_width": 8}, r"gene_width does not fit the method .expected 0, for it sees no genes, found 8"),
        ({"gene_slices": 5}, "network.gene_slices is out of range"),
        ({"channels": 3}, "network.channels is out of range"),
    ],
)
def test_sizes_out_of_range_are_named(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_method("sinfusion").shape({"genes": 5, "patch": 32, **values})


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"unknown method .expected tera-mind, patch-dm.*found gan"):
        find_method("gan")


def test_an_option_the_method_lacks_is_refused() -> None:
    flags = {"atlas": ["A"], "preset": "phantom", "method": "sinfusion", "gene_widths": [4, 2, 2]}
    with pytest.raises(InputError, match=r"the method has no such option: sinfusion.*found gene_widths"):
        resolve({}, flags)


def test_a_start_of_the_preset_that_the_method_lacks_is_random() -> None:
    chosen = resolve({}, {"atlas": ["A"], "preset": "phantom", "method": "sinfusion"})
    assert chosen.config.start == "random"
    assert resolve({}, {"atlas": ["A"], "preset": "phantom"}).config.start == "identity"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:METHOD", "method cannot be loaded: broken"),
        ("json:loads", "not a method: broken"),
        ("teramind_model.baselines.sinfusion:METHOD", "found name 'sinfusion'"),
    ],
)
def test_a_broken_plugin_is_named(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda **_: (EntryPoint("broken", value, GROUP),))
    with pytest.raises(InputError, match=message):
        find_method("broken")


def test_two_packages_of_one_name_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = tuple(EntryPoint("twice", f"{module}:METHOD", GROUP) for module in ("one", "two"))
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    with pytest.raises(
        InputError, match=r"several packages claim this method: twice .found one:METHOD, two:METHOD"
    ):
        find_method("twice")


def run(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "teramind_model.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_method_from_outside_trains_and_generates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Installed from its folder, found by name, trained, kept in the checkpoint, and generated with elsewhere."""
    site = tmp_path / "site"
    install = [
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run(
        [sys.executable, "-m", *install, str(ROOT / "tests/model/toy_method")],
        check=True,
        capture_output=True,
        timeout=120,
    )
    atlas = tiny_atlas(tmp_path / "atlas.zarr", canvas=(128, 128), sections=2)
    path = os.pathsep.join([str(site), *(entry for entry in sys.path if entry)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    train = f"train --atlas {atlas.url} --out {tmp_path / 'run'} --method toy --patch 32 --steps 2 --batch 2"
    train += " --accumulate 1 --sample-every 0 --device cpu --method-option brightness=0.5"
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, train.split())
    said = capsys.readouterr()
    assert not stopped.value.code, said.err
    assert "toy, P=32" in said.out + said.err
    log = (tmp_path / "run" / "log.csv").read_text(encoding="utf-8").splitlines()
    assert log[0].startswith("step,loss,error,lr")
    assert len(log) == 3
    out = tmp_path / "generated.zarr"
    command = (
        f"generate --atlas {atlas.url} --checkpoint {tmp_path / 'run'} --out {out} --steps 2 --device cpu"
    )
    run(command.split(), environment)
    made = open_brain(str(out))
    assert made.provenance["checkpoint"]["method"] == "toy"
    assert made.provenance["checkpoint"]["network"]["brightness"] == 0.5
    assert made.read("morphology", 0).std() > 0


@pytest.mark.parametrize("name", ["patch-dm", "sinfusion-genes"])
def test_baselines_train_and_generate(name: str, tmp_path: Path) -> None:
    from teramind_model.generate import GenerateConfig, RunOptions, generate

    atlas = tiny_atlas(tmp_path / "atlas.zarr", canvas=(128, 128), sections=2)
    flags = f"--atlas {atlas.url} --out {tmp_path / 'run'} --method {name} --patch 32 --channels 4"
    flags += " --time-width 8 --steps 2 --batch 2 --accumulate 1 --sample-every 0 --device cpu"
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, ["train", *flags.split()])
    assert not stopped.value.code
    config = GenerateConfig(
        atlas.url,
        str(tmp_path / "run"),
        str(tmp_path / "G.zarr"),
        steps=2,
        roi=Box(0, 64, 0, 64),
        run=RunOptions(device="cpu", threads=1, batch=4),
    )
    made = generate(config)
    assert made.provenance["checkpoint"]["method"] == name
    assert made.read("morphology", 1).std() > 0


def test_attention_of_a_method_without_it_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from teramind_model.attention import AttentionConfig, write_attention
    from teramind_model.pathways import Pathway

    atlas = tiny_atlas(tmp_path / "atlas.zarr")
    method, shape, network = small("patch-dm", genes=len(GENES))
    source = replace(tiny_source(), method=method, network=shape, model=network)
    config = AttentionConfig(atlas.url, "x", str(tmp_path / "out.zarr"), Pathway("P", GENES[:2]))
    with pytest.raises(InputError, match="no attention between genes.*found patch-dm"):
        write_attention(config, source)
