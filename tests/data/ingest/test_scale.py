"""Processes, a cluster, and memory: where and under what limits the tasks run changes no byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.ingest.build import ingest
from teramind_data.ingest.memory import MIB, Limits, limits, parse_bytes
from teramind_data.ingest.plan import IngestConfig
from teramind_data.ingest.tissue import tissue_mask
from teramind_data.store import Brain, store_state
from teramind_data.workers import Pool, WorkerError, runner
from tests.cluster import dask_cluster
from tests.data.faults import tree

COMMAND = """
import sys
from teramind_data.cli import app
from teramind_data.console import run_cli
run_cli(app, sys.argv[1:])
"""


def double_or_die(item: tuple[int, Path]) -> int:
    number, flags = item
    if number == 3 and not (flags / "died").exists():
        (flags / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def always_die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuse(item: int) -> int:
    raise InputError("bad", where=f"item {item}")


def test_a_pool_replaces_dead_processes_and_repeats_their_work(tmp_path: Path) -> None:
    with runner(2) as where:
        found = dict(where.map(double_or_die, [(i, tmp_path) for i in range(12)]))
        assert sorted(found.values()) == [2 * i for i in range(12)]
        assert (tmp_path / "died").exists()
        with pytest.raises(InputError, match="item 0"):
            list(where.map(refuse, [0]))


def test_a_task_that_always_kills_its_process_ends_the_run() -> None:
    pool = Pool(1)
    try:
        with pytest.raises(WorkerError, match="worker processes die"):
            list(pool.map(always_die, [1]))
    finally:
        pool.close()


def refuse_or_sleep(item: int) -> int:
    if item == 0:
        raise InputError("bad", where=f"item {item}")
    time.sleep(300)
    return item


def test_an_error_does_not_wait_for_what_others_have_in_hand() -> None:
    begin = time.monotonic()
    with pytest.raises(InputError, match="item 0"), runner(2) as where:
        list(where.map(refuse_or_sleep, [1, 0]))
    assert time.monotonic() - begin < 200


def sleep_in(item: Path) -> None:
    (item / f"{os.getpid()}.pid").touch()
    time.sleep(60)


DRIVER = """
import sys
from pathlib import Path
from tests.data.ingest.test_scale import sleep_in
from teramind_data.workers import Pool
if __name__ == "__main__":
    list(Pool(2).map(sleep_in, [Path(sys.argv[1])] * 2))
"""


def test_workers_do_not_outlive_a_killed_driver(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}
    )
    end = time.monotonic() + 60
    while len(workers := [int(file.stem) for file in tmp_path.glob("*.pid")]) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert len(workers) == 2
    end = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(running, workers))


def running(pid: int) -> bool:
    """Whether a process is there and no zombie (whose parent is gone)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_processes_give_the_same_bytes(ingested: Brain, raw_brain: Path, tmp_path: Path) -> None:
    out = tmp_path / "A.zarr"
    ingest(IngestConfig(raw=raw_brain, out=str(out), workers=2, scratch=tmp_path / "scratch"))
    assert tree(out) == tree(Path(ingested.url))
    assert os.listdir(tmp_path / "scratch") == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers on loopback: its address and the workers."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with dask_cluster(tmp_path) as started:
        yield started


def test_a_cluster_that_loses_a_worker_gives_the_same_bytes(
    ingested: Brain, raw_brain: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    out = tmp_path / "A.zarr"
    words = ["ingest", str(raw_brain), str(out), "--scheduler", address]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *words], stdout=said, stderr=said)
    try:
        # In the middle: the first section's images are written.
        end = time.monotonic() + 120
        journal = out / ".journal" / "images" / "morphology"
        while process.poll() is None and time.monotonic() < end and not any(journal.glob("[0-9]*")):
            time.sleep(0.002)
        state = store_state(out)
        workers[0].kill()
        code = process.wait(180)
    finally:
        process.kill()
        process.wait()
    assert (state, code) == ("incomplete", 0), (tmp_path / "said").read_text()
    assert workers[1].poll() is None
    assert tree(out) == tree(Path(ingested.url))


def test_no_scheduler_is_one_line(
    raw_brain: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run_command("ingest", raw_brain, tmp_path / "A.zarr", "--workers", 0)
    assert code == 2
    assert "number of workers is not usable" in err
    code, _, err = run_command("ingest", raw_brain, tmp_path / "A.zarr", "--memory", "much")
    assert code == 2
    assert "memory is no size: much" in err
    assert os.listdir(tmp_path) == []


def test_too_little_memory_is_refused_with_a_number(
    raw_brain: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run_command("ingest", raw_brain, tmp_path / "A.zarr", "--memory", "300MiB")
    assert code == 2
    assert len(err.strip().splitlines()[-1:]) == 1
    least = int(err.split("expected at least ")[1].split(" MiB")[0])
    assert 300 < least < 2048
    assert f"Pass --memory {least}MiB or more" in err
    assert os.listdir(tmp_path) == []
    limits(least * MIB, 2, 0)
    with pytest.raises(InputError):
        limits((least - 1) * MIB, 2, 0)


def test_the_limits_follow_the_budget_and_change_no_byte(
    ingested: Brain, raw_brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = limits(2 << 30, 2, 500, 2), limits(1 << 30, 2, 500, 2)
    assert small.molecules < large.molecules
    assert small.strip_rows(10_000) >= 1
    from teramind_data.ingest import measure

    monkeypatch.setattr(measure, "limits", lambda *_: Limits(bins=100, molecules=100_000))
    ingest(IngestConfig(raw=raw_brain, out=str(tmp_path / "A.zarr")))
    assert tree(tmp_path / "A.zarr") == tree(Path(ingested.url))


def test_too_many_molecules_in_one_place_are_refused_with_a_number(
    raw_brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from teramind_data.ingest import measure

    monkeypatch.setattr(measure, "limits", lambda *_: Limits(bins=1 << 20, molecules=100))
    with pytest.raises(
        InputError, match=r"more molecules in one place .*expected at most 100 .*Pass --memory"
    ):
        ingest(IngestConfig(raw=raw_brain, out=str(tmp_path / "A.zarr")))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rows", [1, 7, 50, 64])
def test_tissue_does_not_depend_on_strips(rows: int) -> None:
    from scipy import ndimage

    rng = np.random.default_rng(4)
    field = ndimage.gaussian_filter(rng.random((130, 90)), 8)
    counts = rng.poisson(np.where(field > np.median(field), 0.8, 0.02))
    dapi = field * 200 + rng.random(field.shape)
    np.testing.assert_array_equal(
        tissue_mask(counts, 0.108, dapi, rows=rows), tissue_mask(counts, 0.108, dapi)
    )


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2 << 30), ("800 MB", 800_000_000), ("1.5g", 3 << 29), ("4096", 4096)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size
