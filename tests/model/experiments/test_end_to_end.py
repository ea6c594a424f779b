"""A whole experiment through the command lines, stopped once on its way: minutes, so with the slow tests."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

START = [sys.executable, "-m", "teramind_model.cli"]


def experiment(out: Path, *words: str) -> list[str]:
    return [
        *START,
        "experiment",
        "main",
        "--out",
        str(out),
        "--budget",
        "tiny",
        "--methods",
        "tera-mind,patch-dm",
        *words,
    ]


def test_main_on_a_tiny_budget_stopped_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen(experiment(out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (out / "steps" / "data--male.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 128 + signal.SIGTERM, said
    assert "goes on there" in said
    again = subprocess.run(experiment(out), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    with (out / "table.csv").open() as file:
        rows = [(row["method"], row["condition"]) for row in csv.DictReader(file)]
    assert rows == [
        ("real", "real"),
        *(("tera-mind", made) for made in ("true genes", "shuffled", "neighbour", "patches alone")),
        ("patch-dm", "no genes"),
    ]
    for name in (
        "table.md",
        "table.png",
        "main/tera-mind/seams/borders.png",
        "main/tera-mind/interactions/maps.png",
    ):
        assert (out / name).stat().st_size
    attempts = {file.name: json.loads(file.read_text())["attempts"] for file in (out / "steps").iterdir()}
    assert attempts["data--phantom.json"] == 1
    times = {file: file.stat().st_mtime_ns for file in (out / "main").rglob("metrics.json")}
    done = subprocess.run(experiment(out), capture_output=True, text=True, check=True)
    assert "16 steps, 16 of them done before" in done.stderr
    assert times == {file: file.stat().st_mtime_ns for file in times}


def test_all_ablations_on_a_tiny_budget(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*START, "ablate", "--out", str(out), "--budget", "tiny", "--jobs", str(os.cpu_count() or 1)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (out / "ablation.csv").open() as file:
        places = [(row["axis"], row["z"], row["patch"], row["ddim_steps"]) for row in csv.DictReader(file)]
    assert places == [
        *(("z", z, "32", "1") for z in "1248"),
        *(("patch", "2", patch, "1") for patch in ("32", "64", "128")),
        *(("steps", "2", "32", steps) for steps in "12"),
    ]
    assert (out / "ablation.png").stat().st_size


def test_a_failing_step_is_one_line_with_its_log(tmp_path: Path) -> None:
    stores = [
        word for name in ("main", "male", "female") for word in ("--atlas", f"{name}={tmp_path / name}")
    ]
    done = subprocess.run(experiment(tmp_path / "out", *stores), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: step data/shared failed: log ")
    assert "Traceback" not in done.stderr
