"""Simulations: a tiny one that is killed, against brute force and an undisturbed run; and what they notice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from teramind_data.console import run_cli
from teramind_data.errors import InputError, StoreError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, open_brain
from teramind_data.workers import WorkerError
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.cli import app
from teramind_model.commands.simulating import _lines
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.schedule import alpha_bar, ddim_timesteps
from teramind_model.generate import GenerateConfig, RunOptions, Source, generate
from teramind_model.generate.budget import unit_memory
from teramind_model.generate.job import work_of
from teramind_model.generate.setting import prepare
from teramind_model.network import NetworkConfig
from teramind_model.simulation import atlas as made_up
from teramind_model.simulation import lives, run
from teramind_model.simulation.atlas import TISSUE, parse_canvas, sparse_atlas
from teramind_model.simulation.check import Expected, check_once, check_pixels, file_marks
from teramind_model.simulation.null import null_source
from teramind_model.simulation.run import fitted, simulate
from tests.model import generating
from tests.model.tiny import tiny_atlas, tiny_source

CANVAS = (3, 288, 400)
"""No multiple of the shard (128), nor of the patch (32): 9 x 13 tiles, the last sticking out; two windows."""

STEPS, SHARD = 3, 128
SHARDS = [
    (z, Box(y, min(y + SHARD, 288), x, min(x + SHARD, 400)))
    for z in range(3)
    for y in range(0, 288, SHARD)
    for x in range(0, 400, SHARD)
]


@pytest.fixture(autouse=True)
def _quick_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes forked from one that has torch imported already."""
    monkeypatch.setattr(lives, "_context", generating._context)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    path = tmp_path_factory.mktemp("atlas") / "a.zarr"
    return sparse_atlas(str(path), CANVAS, chunk=64, shard=SHARD)


SOURCE = tiny_source()
PLANNED = replace(SOURCE, pixel_size_um=0.108)


@pytest.fixture(scope="module")
def null(atlas: Brain) -> Source:
    return null_source(PLANNED, atlas.panel)


def asked(atlas: Brain, out: Path) -> GenerateConfig:
    """In a memory that has room for strips of two shards of the network planned for."""
    config = GenerateConfig(atlas.url, "", str(out), steps=STEPS, tissue_only=True, run=RunOptions(batch=5))
    need = unit_memory(work_of(config, PLANNED), 8, 13, SHARD)
    return replace(config, run=replace(config.run, memory=need))


def made_by_hand() -> np.ndarray:
    """Tiles of each section that are made: with a bin within the ellipse, in themselves or beside them."""
    made = np.zeros((9, 13), bool)
    for y in range(CANVAS[1] // BIN_PX):
        for x in range(CANVAS[2] // BIN_PX):
            far = ((y + 0.5) * BIN_PX / 288 - 0.5) ** 2 + ((x + 0.5) * BIN_PX / 400 - 0.5) ** 2
            if far * np.pi <= TISSUE:
                made[max(0, y // 2 - 1) : y // 2 + 2, max(0, x // 2 - 1) : x // 2 + 2] = True
    return made


def files(out: Path) -> dict[str, bytes]:
    root = out / "images" / "morphology" / "ome.zarr"
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def undisturbed(atlas: Brain, null: Source, tmp_path_factory: pytest.TempPathFactory) -> GenerateConfig:
    """What a sound store was made from."""
    config = fitted(asked(atlas, tmp_path_factory.mktemp("made") / "g.zarr"), PLANNED, null)
    generate(config, null, say=lambda line: None)
    return config


def test_killed_and_continued_it_is_what_was_planned(
    atlas: Brain, null: Source, undisturbed: GenerateConfig, tmp_path: Path
) -> None:
    config = asked(atlas, tmp_path / "g.zarr")
    outcome = simulate(config, PLANNED, null, restarts=1, seed=3)
    made = made_by_hand()
    shown = [
        made[box.y0 // 32 : -(-box.y1 // 32), box.x0 // 32 : -(-box.x1 // 32)].any() for _, box in SHARDS
    ]
    assert (outcome.restarts, len(outcome.lives)) == (1, 2)
    # Two windows, and columns of shards 0-1, 2-3.
    assert (outcome.plan.units, outcome.plan.strips) == (4, 2)
    assert outcome.plan.tiles_made == 2 * made.sum()
    assert (outcome.shards, outcome.stored) == (len(SHARDS), sum(shown))
    assert outcome.compared == sum(shown) < len(SHARDS)
    assert outcome.last.decoded <= outcome.plan.counts.decoded
    assert max(outcome.quarters) > 50 << 20
    assert outcome.size > sum(map(len, files(tmp_path / "g.zarr").values()))
    assert files(tmp_path / "g.zarr") == files(Path(undisturbed.out))


def test_what_is_expected_by_hand(atlas: Brain, null: Source, tmp_path: Path) -> None:
    """DDIM where all of x is noise, in double precision."""
    setting = prepare(replace(asked(atlas, tmp_path / "g.zarr"), seed=5), "cpu", null)
    whole = Box.from_shape(CANVAS[1:])
    x = start_noise(5, (1,), (0, 1), whole)[:, 0].astype(float)
    a = alpha_bar()
    visited = [float(a[t]) for t in ddim_timesteps(STEPS)]
    for now, after in reversed(list(zip(visited, [1.0, *visited], strict=False))):
        x_0 = np.clip((x - (1 - now) ** 0.5 * x) / now**0.5, -1, 1)
        x = after**0.5 * x_0 + (1 - after) ** 0.5 * (x - now**0.5 * x_0) / (1 - now) ** 0.5
    made = np.kron(made_by_hand(), np.ones((32, 32), bool))[:288, :400]
    found = Expected(setting).pixels(1, whole).astype(int)
    levels = np.where(made, np.clip((x + 1) * 127.5, 0, 255), 0)
    assert np.abs(found - levels).max() < 1.01
    assert 0 < made.mean() < 1
    # Any box is that part of the whole.
    box = Box(64, 128, 0, 64)
    np.testing.assert_array_equal(Expected(setting).pixels(1, box), found[(..., *box.slices)])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "not those of the start noise"),
        ({"roi": Box(0, 32, 0, 32)}, "shard of background is stored"),
    ],
)
def test_other_pixels_are_noticed(
    undisturbed: GenerateConfig, null: Source, other: dict[str, object], said: str
) -> None:
    brain = open_brain(undisturbed.out)
    assert check_pixels(brain, Expected(prepare(undisturbed, "cpu", null)), 0)[0] > 0
    changed = replace(undisturbed, **other)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=said):
        check_pixels(brain, Expected(prepare(changed, "cpu", null)), 0)


def test_a_shard_written_twice_is_noticed(undisturbed: GenerateConfig) -> None:
    layout = open_brain(undisturbed.out).layout("morphology")
    marks = file_marks(undisturbed.out, layout, SHARDS)
    check_once(marks, file_marks(undisturbed.out, layout, SHARDS))
    file = Path(undisturbed.out, "images/morphology/ome.zarr/0/c/0/1/1/1")
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"finished shard was written again: .*/0/c/0/1/1/1"):
        check_once(marks, file_marks(undisturbed.out, layout, SHARDS))


def test_a_generation_that_fails_ends_it(atlas: Brain, null: Source, tmp_path: Path) -> None:
    config = replace(asked(atlas, tmp_path / "g.zarr"), atlas=str(tmp_path / "nowhere.zarr"))
    with pytest.raises(WorkerError, match="ended before its work: .*exit code 2"):
        lives.live(config, null, len(SHARDS))


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, ["plan", *map(str, arguments)])
    out = capsys.readouterr()
    return int(stopped.value.code or 0), out.out, out.err


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(config: GenerateConfig, source: Source, total: int, moment: object) -> lives.Life:
        generate(config, source, say=lambda line: None)
        return lives.Life(False, 0.1, ())

    monkeypatch.setattr(run, "live", here)
    monkeypatch.chdir(tmp_path)
    given = ("--simulate", "--canvas", "2x256x512", "--tissue-only", "--steps", 2, "--restarts", 0)
    code, out, err = command(capsys, *given, "--json", "--out", "kept")
    assert code == 0, err
    found = json.loads(out)
    assert (found["plan"]["units"], found["shards"], found["restarts"]) == (1, 2, 0)
    assert {path.name for path in Path("kept").iterdir()} >= {"atlas.zarr", "generated.zarr"}
    code, _, err = command(capsys, *given, "--out", "kept")
    assert (code, "output exists" in err) == (2, True)
    # One's own brain and network, and nothing left of it.
    own = tiny_atlas(Path("own.zarr"), (96, 160), 2)
    network = SOURCE.network
    assert isinstance(network, NetworkConfig)
    info = ModelInfo(network, SOURCE.panel, SOURCE.stains, SOURCE.pixel_size_um, {"lineage": []})
    save_checkpoint(Path("network"), info, SOURCE.model.state_dict())
    before = sorted(tmp_path.iterdir())
    mine = ("--simulate", "--atlas", own.url, "--checkpoint", "network", "--steps", 2, "--restarts", 0)
    code, out, err = command(capsys, *mine)
    assert code == 0, err
    for said in ("1 of 1 planned: 1 strip of 5 tiles", "12 written once: 12 stored, 0 empty", "12 blocks"):
        assert said in out
    assert sorted(tmp_path.iterdir()) == before


def assert_refused(capsys: pytest.CaptureFixture[str], said: str, *arguments: object) -> None:
    code, _, err = command(capsys, *arguments)
    assert (code, said in err) == (2, True), err
    assert list(Path.cwd().iterdir()) == [], "nor a folder, which would be in the way of another try"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--simulate", "--canvas", "2x73216"), "SECTIONSxHEIGHTxWIDTH"),
        (("--simulate", "--canvas", "2x250x256"), "multiples of 16"),
        (("--simulate", "--device-tflops", 400), "--device-tflops and --simulate exclude each other"),
        (("--simulate", "--atlas", "A.zarr"), "both --atlas and --checkpoint"),
        (("--simulate", "--atlas", "A", "--checkpoint", "C", "--canvas", "2x256x256"), "exclude each other"),
        (("--simulate", "--canvas", "2x256x256", "--steps", 2, "--memory", "1MiB"), "Pass --memory"),
        (("--simulate", "--canvas", "2x256x256", "--steps", 2, "--restarts", 2), "0 .. 1"),
        (("--restarts", 2, "--out", "x"), "--restarts, --out are for simulations"),
        ((), "Pass --atlas and --checkpoint, or --simulate"),
    ],
)
def test_what_cannot_be_simulated(
    arguments: tuple[object, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, said, *arguments)


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--memory", "1MiB"), "Pass --memory"), (("--restarts", 2), "0 .. 1"), (("--sections", "0:9"), "0:2")],
)
def test_no_atlas_is_made_for_what_is_refused(
    option: tuple[object, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(made_up, "sparse_atlas", lambda *given: pytest.fail("made"))
    asked = ("--simulate", "--canvas", "2x256x256", "--steps", 2, "--out", "kept", *option)
    assert_refused(capsys, said, *asked)


def test_quarters_in_which_no_shard_was_made_have_no_peak() -> None:
    samples = (
        lives.Sample(0, 3 << 20, False),
        lives.Sample(1, 5 << 20, False),
        lives.Sample(2, 7 << 20, True),
    )
    counts = SimpleNamespace(decoded=1)
    plan = SimpleNamespace(
        units=1, strips=1, strip_tiles=1, tiles=1, tiles_made=1, steps=2, counts=counts, bytes_out=1
    )
    outcome = run.Outcome(plan, 2, 2, 2, 1, (lives.Life(False, 1.0, samples),), 1.0, 1.0, counts)  # type: ignore[arg-type]
    told = dict(_lines(outcome, "{} B".format))
    assert told["memory"] == (
        "peak 3145728 B, –, 5242880 B, – in the quarters of the shards, 7340032 B while closing"
    )


def test_canvases() -> None:
    assert parse_canvas("2x73216x105984") == (2, 73216, 105984)
    with pytest.raises(InputError, match="canvas cannot be read"):
        parse_canvas("0x256x256")
    with pytest.raises(InputError, match=r"canvas does not fit the bins .*multiples of 16, found 1x100x100"):
        parse_canvas("1x100x100")
