"""``plan --beside``: what a run took, as its store tells it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from teramind_data.console import run_cli
from teramind_data.store import Brain
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.cli import app
from teramind_model.generate.meter import Taken, metered
from tests.model.tiny import tiny_atlas, tiny_source


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", (64, 96), 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    source = tiny_source()
    info = ModelInfo(source.network, source.panel, source.stains, source.pixel_size_um, {"lineage": []})
    save_checkpoint(folder, info, source.model.state_dict())
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    # No calibration: what is planned of time is not looked at here.
    further = ("--device-tflops", "1") if arguments[0] == "plan" else ("--device", "cpu")
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, [*map(str, arguments), *further, "--steps", "2"])
    out = capsys.readouterr()
    return int(stopped.value.code or 0), out.out, out.err


@pytest.mark.parametrize("parts", [("",), ("1/2", "2/2"), ("2/2", "")], ids=["whole", "parts", "mixed"])
def test_what_a_run_took(
    atlas: Brain, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: tuple[str, ...]
) -> None:
    given, out = ("--atlas", atlas.url, "--checkpoint", run), tmp_path / "g.zarr"
    for part in [("--units", part) if part else () for part in parts]:
        code, _, err = command(capsys, "generate", *given, "--out", out, "--seed", 3, *part)
        assert code == 0, err
    code, said, err = command(capsys, "plan", *given, "--beside", out, "--json")
    assert code == 0, err
    found = json.loads(said)
    took, counts = found["beside"], found["counts"]
    assert took["tile_steps"] == counts["decoded"] > 0
    assert (took["bins_read"], took["shards_written"]) == (counts["bins_read"], counts["shards_written"])
    assert took["taken"]["seconds"] > 0 and took["taken"]["cpu_seconds"] > 0
    assert took["taken"]["resident_peak"] >= took["taken"]["resident_before"] > 100 << 20
    if len(parts) > 1:
        return
    code, said, _ = command(capsys, "plan", *given, "--beside", out)
    assert f"taken     {counts['decoded']:,} of {counts['decoded']:,} tile-steps planned" in said
    assert "with libraries and weights" in said and "are not counted" not in said


def test_another_run_is_not_compared(
    atlas: Brain, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = ("--atlas", atlas.url, "--checkpoint", run), tmp_path / "g.zarr"
    assert command(capsys, "generate", *given, "--out", out, "--sections", "0:2")[0] == 0
    code, _, err = command(capsys, "plan", *given, "--beside", out)
    assert code == 2
    assert "another sections than is planned" in err and "expected [0, 3]" in err and "found [0, 2]" in err
    code, _, err = command(capsys, "plan", *given, "--beside", atlas.url)
    assert code == 2 and "no generated store" in err
    made = shutil.copytree(out, tmp_path / "old.zarr") / "zarr.json"
    meta = json.loads(made.read_text())
    run_record = _find(meta, "taken")
    same = ("plan", *given, "--sections", "0:2", "--beside", made.parent)
    run_record["strip"] = 9
    made.write_text(json.dumps(meta))
    code, _, err = command(capsys, *same)
    assert (
        code == 2 and "strips of another width" in err and "Give plan the --memory that generate had" in err
    )
    del run_record["taken"], run_record["strip"]
    made.write_text(json.dumps(meta))
    code, _, err = command(capsys, *same)
    assert code == 2 and "does not say what it took" in err


def _find(tree: dict[str, object], key: str) -> dict[str, object]:
    """The object with ``key``, however deep; empty where there is none."""
    if key in tree:
        return tree
    inner = [_find(value, key) for value in tree.values() if isinstance(value, dict)]
    return next(filter(None, inner), {})


def test_a_meter_adds_times_and_keeps_the_greatest_rise() -> None:
    taken = Taken()
    for mib in (64, 8):
        with metered(taken, torch.device("cpu")):
            held = os.urandom(mib << 20)
            time.sleep(0.05)
        del held
    assert taken.seconds >= 0.1
    assert taken.resident_peak - taken.resident_before >= 60 << 20
    taken.add(Taken(1.0, 2.0, 100, 200, 7))
    assert taken.device_peak == 7 and taken.seconds >= 1.1
    assert taken.resident_peak > 200, "the memory of the process that took most"


def test_a_meter_tells_of_work_that_fails() -> None:
    taken = Taken()
    with pytest.raises(ZeroDivisionError), metered(taken, torch.device("cpu")):
        1 / 0  # noqa: B018
    assert taken.seconds > 0
