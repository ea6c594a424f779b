"""Who makes the units changes no byte: processes of this machine, a cluster that loses a worker, this process."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from teramind_data.errors import InputError, MissingInputError, OutputExistsError
from teramind_data.store import Brain, open_brain, resume_brain
from teramind_data.workers import WorkerError
from teramind_model.generate import GenerateConfig, execute, generate
from teramind_model.generate.config import WatchOptions
from teramind_model.generate.job import layout_of
from teramind_model.generate.parts import Hands, Part
from teramind_model.generate.setting import prepare
from teramind_model.generate.strips import Strips
from teramind_model.generate.units import units
from tests.cluster import dask_cluster
from tests.model.test_generate import arrays, checkpoint, strips_of_one_band
from tests.model.tiny import tiny_atlas, tiny_source

UNITS = 4


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Two windows of two strips, two rows of shards each."""
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=(128, 96), sections=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that other processes can load."""
    return checkpoint(tmp_path_factory.mktemp("run") / "run", tiny_source())


@pytest.fixture(scope="module")
def config(atlas: Brain, run: Path, tmp_path_factory: pytest.TempPathFactory) -> GenerateConfig:
    """One process with one thread, whose bytes are those of all the others."""
    out = tmp_path_factory.mktemp("whole") / "g.zarr"
    options = replace(strips_of_one_band(tiny_source(), atlas.canvas, 4), threads=1, device="cpu")
    return GenerateConfig(
        atlas.url, str(run), str(out), steps=2, run=options, watch=WatchOptions(None, atlas.url)
    )


@pytest.fixture(scope="module")
def whole(config: GenerateConfig) -> tuple[dict[str, bytes], dict[str, int], list[str]]:
    """The undisturbed bytes, what was counted, and what was said."""
    lines: list[str] = []
    made = generate(config, say=lines.append)
    assert any(f"{UNITS} units" in line for line in lines)
    return arrays(Path(config.out)), made.provenance["run"], lines


def test_two_processes(
    config: GenerateConfig,
    whole: tuple[dict[str, bytes], dict[str, int], list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "g.zarr"
    lines: list[str] = []
    made = generate(replace(config, out=str(out), hands=Hands(workers=2)), say=lines.append)
    assert arrays(out) == whole[0]
    for what in ("bins_read", "tile_steps", "shards_written", "threads"):
        assert made.provenance["run"][what] == whole[1][what], what
    # Progress and figures as by one process, though others write.
    total = whole[1]["tile_steps"]
    assert f"generate: {total}/{total} tile-steps" in capsys.readouterr().err
    told = [
        [line for line in said if "so far" in line][-1].partition("so far")[2] for said in (lines, whole[2])
    ]
    assert told[0] == told[1]
    assert os.listdir(tmp_path) == ["g.zarr"]


def test_a_cluster_that_loses_a_worker(
    config: GenerateConfig, whole: tuple[dict[str, bytes], dict[str, int], list[str]], tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    out = tmp_path / "out" / "g.zarr"
    journal = out / ".journal" / "images" / "morphology"
    left: list[int] = []

    def kill_one() -> None:
        end = time.monotonic() + 120
        while not any(journal.glob("[0-9]*")) and time.monotonic() < end:
            time.sleep(0.002)
        left.append(len(list(journal.glob("[0-9]*"))))
        workers[0].kill()

    with dask_cluster(tmp_path) as (address, workers):
        thread = threading.Thread(target=kill_one)
        thread.start()
        made = generate(replace(config, out=str(out), hands=Hands(scheduler=address)), say=lambda line: None)
        thread.join()
        assert workers[1].poll() is None
    assert 0 < left[0] < whole[1]["shards_written"], "the worker was not killed in the middle"
    assert made.complete
    assert arrays(out) == whole[0]


def test_a_worker_left_behind_writes_nothing_into_a_store_begun_anew(
    config: GenerateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver is gone; the store was replaced by one of another seed, while it computes or before it begins."""
    out = str(tmp_path / "g.zarr")
    part = Hands(part=Part(2, 2))
    first = replace(config, out=out, hands=part, watch=WatchOptions())
    assert not generate(first, say=lambda line: None).complete
    brain = open_brain(out, incomplete=True)
    task = execute.MakeUnit(replace(first, hands=Hands()), json.dumps(brain.provenance["request"]), 1)
    setting = prepare(replace(first, hands=Hands()), "cpu")
    unit = units(setting.job.windows, layout_of(setting.source, setting.atlas, setting.job), 1)[0]

    def begun_anew() -> None:
        shutil.rmtree(out)
        assert not generate(replace(first, seed=1), say=lambda line: None).complete

    write_band = Strips._write_band

    def begun_anew_first(strips: Strips, *band: Any) -> None:
        monkeypatch.undo()
        begun_anew()
        write_band(strips, *band)

    monkeypatch.setattr(Strips, "_write_band", begun_anew_first)
    for _ in range(2):
        with pytest.raises(OutputExistsError, match=r"removed or begun anew while a unit.*another seed"):
            task(unit)
        left = resume_brain(out).pending("morphology")
        assert {z for z, _ in left} >= {0}
        assert open_brain(out, incomplete=True).provenance["request"]["seed"] == 1
    shutil.rmtree(out)
    with pytest.raises(OutputExistsError, match="found absent"):
        task(unit)
    assert not (tmp_path / "g.zarr").exists()


@pytest.mark.filterwarnings("ignore")  # of distributed, which tries for a while
def test_no_scheduler_is_one_line(
    config: GenerateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    from teramind_data import workers

    monkeypatch.setattr(workers, "_CONNECT_S", 0.5)
    asked = replace(config, out=str(tmp_path / "g.zarr"), hands=Hands(scheduler="tcp://127.0.0.1:9"))
    with pytest.raises(WorkerError, match="scheduler cannot be reached: tcp://127.0.0.1:9") as error:
        generate(asked)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_worker_that_finds_other_files_says_so(config: GenerateConfig, atlas: Brain) -> None:
    """As on a machine where the same path leads to another checkpoint."""
    import json

    from teramind_model.generate.execute import MakeUnit
    from teramind_model.generate.setting import prepare
    from teramind_model.generate.units import Unit

    request = prepare(config, "cpu").request
    unit = Unit(window=None, columns=range(2))  # type: ignore[arg-type]  never looked at
    for change, words in (
        ({"checkpoint": "00"}, "another checkpoint"),
        ({"device": "cuda"}, "another device"),
    ):
        with pytest.raises(InputError, match=words):
            MakeUnit(config, json.dumps(request | change), 1)(unit)


def test_what_cannot_be_leaves_nothing(config: GenerateConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a store in memory belongs to one process"):
        generate(replace(config, out="memory://g.zarr", hands=Hands(workers=2)))
    missing = replace(config, checkpoint=str(tmp_path / "none"), out=str(tmp_path / "g.zarr"))
    with pytest.raises(MissingInputError):
        generate(replace(missing, hands=Hands(workers=2)))
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="no such device here"):
        generate(replace(missing, run=replace(config.run, device="auto"), hands=Hands(devices=(97,))))
    with pytest.raises(InputError, match="exclude each other"):
        generate(replace(missing, hands=Hands(devices=(0,))))


def test_names_called_like_a_file_stay_names(
    config: GenerateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("left", "mask.npy"):
        (tmp_path / name).touch()
    writer = SimpleNamespace(url="g")

    def elsewhere(asked: GenerateConfig) -> GenerateConfig:
        setting = SimpleNamespace(atlas=SimpleNamespace(url="a"), config=asked)
        return execute._anywhere(setting, writer)  # type: ignore[arg-type]

    def region(text: str | None) -> str | None:
        asked = replace(config, edits=("Th*0",), edit_region=text)
        return elsewhere(asked).edit_region

    (tmp_path / "phantom").mkdir()
    shipped = replace(config, checkpoint="phantom")
    assert elsewhere(shipped).checkpoint == "phantom"
    assert [region(text) for text in (None, "left", "mask.npy")] == [None, "left", str(tmp_path / "mask.npy")]


def test_what_ends_the_following_is_told_at_once_and_raised_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Follower:
        def __init__(self, *arguments: object) -> None: ...

        def look(self) -> None:
            raise OSError("disk full")

    monkeypatch.setattr(execute, "_Follower", Follower)
    monkeypatch.setattr(execute, "_LOOK_S", 0.01)
    told: list[str] = []

    def wait_for_a_line() -> None:
        end = time.monotonic() + 30
        with execute._following(*[None] * 5):  # type: ignore[arg-type]
            while not any(told) and time.monotonic() < end:
                time.sleep(0.01)
                told.append(capsys.readouterr().err)

    with pytest.raises(OSError, match="disk full"):
        wait_for_a_line()
    line = "".join(told)
    assert "progress stops here" in line and line.endswith("disk full\n")


@pytest.mark.gpu
def test_a_process_for_each_device(config: GenerateConfig, tmp_path: Path) -> None:
    import torch

    count = torch.cuda.device_count()
    if not count:
        pytest.skip("no CUDA device")
    options = replace(config.run, device="cuda")
    one, each = tmp_path / "one.zarr", tmp_path / "each.zarr"
    generate(replace(config, out=str(one), run=options))
    generate(replace(config, out=str(each), run=options, hands=Hands(devices=tuple(range(count)))))
    assert arrays(one) == arrays(each)
    assert open_brain(each).provenance["run"]["device"] == "cuda"
