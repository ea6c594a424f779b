"""An ingest that is killed anywhere: never taken for complete, and continued to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from teramind_data.errors import OutputExistsError
from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.ingest.scratch import scratch_folder
from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import open_brain, store_state
from tests.data.faults import Killed, failing_disk, sample, tree

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
    with pytest.raises(Killed), failing_disk(out, at, torn):
        ingest(config)
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
    raw: Path, whole: tuple[dict[str, bytes], int], tmp_path: Path, torn: bool
) -> None:
    import shutil

    for at in range(whole[1]):
        shutil.rmtree(tmp_path / "A.zarr", ignore_errors=True)
        stopped_then_continued(raw, tmp_path / "A.zarr", at, torn, whole)


COMMAND = """
import sys
from teramind_data.cli import app
from teramind_data.console import run_cli
run_cli(app, sys.argv[1:])
"""


def killed_after_files(raw: Path, out: Path, files: int, *options: str) -> bool:
    """Run the command and SIGKILL it and its workers once so many files are there; whether it was in time."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "ingest", str(raw), str(out), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if sum(1 for path in out.rglob("*") if path.is_file()) >= files:
            break
        time.sleep(0.002)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return process.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("files", [1, 12, 24, 40])
def test_sigkill(raw: Path, whole: tuple[dict[str, bytes], int], tmp_path: Path, files: int) -> None:
    out = tmp_path / "A.zarr"
    assert killed_after_files(raw, out, files)
    if store_state(out) == "complete":
        assert open_brain(out).complete
    ingest(IngestConfig(raw=raw, out=str(out)))
    assert tree(out) == whole[0]
    assert os.listdir(tmp_path) == ["A.zarr"]


@pytest.mark.soak
def test_hundreds_of_random_kills(raw: Path, whole: tuple[dict[str, bytes], int], tmp_path: Path) -> None:
    import random

    rng = random.Random(1)
    out = tmp_path / "A.zarr"
    kills = 0
    while kills < 200:
        kills += killed_after_files(raw, out, rng.randrange(1, len(whole[0])))
        if store_state(out) == "complete":
            ingest(IngestConfig(raw=raw, out=str(out)))
            assert tree(out) == whole[0]
            import shutil

            shutil.rmtree(out)
    ingest(IngestConfig(raw=raw, out=str(out)))
    assert tree(out) == whole[0]


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
