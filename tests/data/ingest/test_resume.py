"""An ingest that is killed anywhere: never taken for complete, and continued to the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from teramind_data.errors import OutputExistsError
from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.ingest.scratch import scratch_folder
from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import open_brain, store_state
from tests.data.faults import Killed, failing_disk, sample, soak_kills, soak_points, tree

SMALLEST = PhantomConfig(
    brains=("A",), panels=(1,), seed=3, sections=1, canvas=(256, 256), genes=34, shared=33, blanks=1
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom")
    write_phantom(SMALLEST, out / "p")
    return out / "p" / "raw" / "A"


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """The undisturbed bytes, and how many operations they took."""
    out = tmp_path_factory.mktemp("whole") / "A.zarr"
    with failing_disk(out) as disk:
        ingest(IngestConfig(raw=raw, out=str(out)))
    return tree(out), disk.done


def stopped_then_continued(
    raw: Path, out: Path, at: int, torn: bool, whole: tuple[dict[str, bytes], int]
) -> None:
    config = IngestConfig(raw=raw, out=str(out))
    with failing_disk(out, at, torn) as disk:
        try:
            ingest(config)
        except Killed:
            pass
        else:
            # Two threads may both make a folder, or one of them: a run may have an operation less than was counted.
            assert whole[1] - 3 <= disk.done <= at
    if store_state(out) == "complete":
        found = tree(out)
        assert {name: found[name] for name in whole[0]} == whole[0]
    ingest(config)
    assert store_state(out) == "complete"
    assert tree(out) == whole[0]
    assert os.listdir(out.parent) == [out.name]


@pytest.mark.parametrize("part", range(8))
def test_stopped_at_an_operation(
    raw: Path, whole: tuple[dict[str, bytes], int], tmp_path: Path, part: int
) -> None:
    points = sample(whole[1], 4)
    at = points[round(part * (len(points) - 1) / 7)]
    stopped_then_continued(raw, tmp_path / "A.zarr", at, bool(part % 2), whole)


@pytest.mark.soak
@pytest.mark.parametrize("torn", [False, True])
def test_stopped_at_every_operation(
    raw: Path,
    whole: tuple[dict[str, bytes], int],
    tmp_path: Path,
    torn: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = soak_points(whole[1])
    for at in points:
        shutil.rmtree(tmp_path / "A.zarr", ignore_errors=True)
        stopped_then_continued(raw, tmp_path / "A.zarr", at, torn, whole)
    with capsys.disabled():
        print(f"\ningest: stopped at {len(points)} of {whole[1]} operations, torn: {torn}")


COMMAND = """
import sys
from teramind_data.cli import app
from teramind_data.console import run_cli
run_cli(app, sys.argv[1:])
"""


def killed(raw: Path, out: Path, moment: Callable[[], bool], *options: str) -> bool:
    """Run the command and SIGKILL it and its workers at a moment; whether it was in time."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "ingest", str(raw), str(out), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    try:
        while process.poll() is None and time.monotonic() < end and not moment():
            time.sleep(0.002)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait(60)
    return status == -signal.SIGKILL


def files_there(out: Path, count: int) -> Callable[[], bool]:
    """The moment when an output has so many files."""
    # Folders come and go meanwhile: os.walk goes on without one that is gone.
    return lambda: sum(len(files) for _, _, files in os.walk(out)) >= count


def seconds_from_now(seconds: float) -> Callable[[], bool]:
    """The moment when so much time has gone."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


@pytest.mark.parametrize("files", [1, 12, 24, 40])
def test_sigkill(raw: Path, whole: tuple[dict[str, bytes], int], tmp_path: Path, files: int) -> None:
    out = tmp_path / "A.zarr"
    assert killed(raw, out, files_there(out, files))
    if store_state(out) == "complete":
        assert open_brain(out).complete
    ingest(IngestConfig(raw=raw, out=str(out)))
    assert tree(out) == whole[0]
    assert os.listdir(tmp_path) == ["A.zarr"]


@pytest.mark.soak
def test_hundreds_of_random_kills(
    raw: Path, whole: tuple[dict[str, bytes], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By turns when there are some number of files, and after some time: also while transcripts are read."""
    rng = random.Random(1)
    out = tmp_path / "A.zarr"
    begin = time.monotonic()
    killed(raw, out, lambda: False)
    usual = time.monotonic() - begin
    kills = finished = complete = 0
    while kills < soak_kills():
        by_files = files_there(out, rng.randrange(1, len(whole[0])))
        if killed(raw, out, by_files if kills % 2 else seconds_from_now(rng.uniform(0, usual))):
            kills += 1
        else:
            finished += 1
        if store_state(out) == "complete":
            complete += 1
            ingest(IngestConfig(raw=raw, out=str(out)))
            assert tree(out) == whole[0]
            shutil.rmtree(out)
    ingest(IngestConfig(raw=raw, out=str(out)))
    assert tree(out) == whole[0]
    assert os.listdir(tmp_path) == [out.name]
    with capsys.disabled():
        print(
            f"\ningest: {kills} SIGKILLs at random; {finished} runs ended before theirs; the store was complete "
            f"{complete} times on the way, and the same bytes each time"
        )


def test_a_second_run_of_the_same_output_is_refused(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "A.zarr"
    with (
        scratch_folder(str(out)),
        pytest.raises(OutputExistsError, match="another run is writing this output"),
    ):
        ingest(IngestConfig(raw=raw, out=str(out)))
    assert os.listdir(tmp_path) == []
    with scratch_folder(str(out)) as folder:
        (folder / "half").write_bytes(b"x")
