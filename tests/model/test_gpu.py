"""What only a CUDA device can show; everything here is skipped, saying so, where there is none.

Run alone with ``python -m pytest -m gpu``: about three minutes, most of them compiling.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from teramind_data.store import Brain, open_brain
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.generate.config import RunOptions
from teramind_model.generate.ready import computing, made_ready
from teramind_model.generate.source import Source, load_source
from teramind_model.network.config import NetworkConfig
from teramind_model.network.unet import PatchUNet
from tests.model.test_ready import noise
from tests.model.tiny import tiny_atlas, tiny_source

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def saved(source: Source, folder: Path) -> str:
    """A checkpoint of it."""
    assert isinstance(source.network, NetworkConfig)
    info = ModelInfo(source.network, source.panel, source.stains, source.pixel_size_um, {"lineage": []})
    save_checkpoint(folder, info, source.model.state_dict())
    return str(folder)


def teramind_model(*words: object, cache: Path | None = None) -> str:
    """A command in a process of its own, with a compiler's cache of its own where one is given; what it prints."""
    environment = dict(os.environ)
    if cache is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    start = "from teramind_model.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("gpu") / "a.zarr", (256, 512), 2)


def test_it_finds_the_noise_that_a_cpu_finds(tmp_path: Path) -> None:
    checkpoint = saved(tiny_source(), tmp_path / "c")
    here, there = load_source(checkpoint), load_source(checkpoint, "cuda")
    assert not here.network.to_dict()["fold_z"]
    assert isinstance(there.model, PatchUNet) and there.model.config.fold_z
    exact = noise(here.model)  # type: ignore[arg-type]
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = noise(made_ready(there, RunOptions()).model).cpu()  # type: ignore[arg-type]
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


def test_compiled_it_computes_the_same(tmp_path: Path) -> None:
    source = load_source(saved(tiny_source(channels=16), tmp_path / "c"), "cuda")
    run = RunOptions(precision="bfloat16")
    plain = made_ready(source, run).model
    fused = made_ready(source, RunOptions(precision="bfloat16", compile=True)).model
    with computing(plain, "bfloat16"):
        a, b = noise(plain), noise(fused)  # type: ignore[arg-type]
    assert 0 < (a - b).norm() / a.norm() < 0.02


def test_compiled_anew_and_in_parts_it_gives_the_same_bytes(atlas: Brain, tmp_path: Path) -> None:
    checkpoint = saved(tiny_source(channels=16), tmp_path / "c")
    words = ["generate", "--atlas", atlas.url, "--checkpoint", checkpoint, "--device", "cuda", "--steps", 3]
    words += ["--precision", "bfloat16", "--compile", "--memory", "64MiB"]
    for number in range(2):
        teramind_model(*words, "--out", tmp_path / f"{number}.zarr", cache=tmp_path / f"cache{number}")
    for part in ("1/2", "2/2"):
        teramind_model(*words, "--out", tmp_path / "2.zarr", "--units", part, cache=tmp_path / "cache2")
    first, *others = (open_brain(tmp_path / f"{number}.zarr").morphology[:] for number in range(3))
    assert first.std() > 5, "flat pictures would agree whatever was done"
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("compiled", [(), ("--compile",)], ids=["eager", "compiled"])
def test_memory_is_as_planned(atlas: Brain, tmp_path: Path, compiled: tuple[str, ...]) -> None:
    """At the width of ``main``, where tensors are large beside everything else."""
    checkpoint = saved(tiny_source(channels=64), tmp_path / "c")
    out = tmp_path / "g.zarr"
    words = ["--atlas", atlas.url, "--checkpoint", checkpoint, "--device", "cuda", *compiled]
    words += ["--precision", "bfloat16"]
    teramind_model("generate", *words, "--out", out)
    found = json.loads(teramind_model("plan", *words, "--beside", out, "--json"))
    planned, taken = found["memory"]["device"] + found["weights"], found["beside"]["taken"]["device_peak"]
    assert 0.85 * taken < planned < 1.15 * taken, (planned >> 20, taken >> 20)


def test_it_learns_what_a_cpu_learns(atlas: Brain, tmp_path: Path) -> None:
    words = [
        "train",
        "--atlas",
        atlas.url,
        "--preset",
        "phantom",
        "--batch",
        2,
        "--steps",
        3,
        "--sample-every",
        0,
    ]
    losses = []
    for device in ("cpu", "cuda"):
        run = tmp_path / device
        teramind_model(*words, "--device", device, "--out", run)
        with (run / "log.csv").open(newline="") as log:
            losses.append([float(row["loss"]) for row in csv.DictReader(log)])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
