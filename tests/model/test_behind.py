"""Writing behind compute: it does not hold up what is made meanwhile, is bounded, and fails where somebody looks."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from teramind_data.console import run_cli
from teramind_data.store import Brain, BrainWriter, Location, store_state
from teramind_model.cli import app
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.behind import WriteBehind
from teramind_model.generate.strips import Strips
from tests.model.generating import STEPS, TILES, killed, make, shards_there
from tests.model.test_generate import arrays, checkpoint
from tests.model.tiny import tiny_atlas, tiny_source

PATIENCE_S = 60.0
"""Of a test that has failed: nothing waits so long where compute goes on."""


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Three shards, one below the other, of two tile rows each."""
    canvas = (32 * TILES[0], 32 * TILES[1])
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=canvas, sections=1)


@pytest.fixture(scope="module")
def whole(atlas: Brain, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "g.zarr"
    make(atlas.url, str(out))
    return arrays(out)


# ------------------------------------------------------------------------------------------------ the thread


def test_jobs_are_done_in_order_and_one_is_in_hand_at_most() -> None:
    done: list[int] = []
    with WriteBehind() as behind:
        for number in range(20):
            behind.put(lambda number=number: done.append(number))  # type: ignore[misc]
            # Those before it, and perhaps itself.
            assert done[:number] == list(range(number))
    assert done == list(range(20))


def test_who_hands_over_goes_on_while_the_job_is_done() -> None:
    go = threading.Event()
    with WriteBehind() as behind:
        behind.put(lambda: go.wait(PATIENCE_S) or pytest.fail("the giver waits"))  # type: ignore[func-returns-value]
        behind.check()
        go.set()


def fail(error: BaseException) -> None:
    raise error


def failing(where: str, error: BaseException, further: list[str]) -> None:
    """A scope whose first job fails."""
    with WriteBehind() as behind:
        behind.put(lambda: fail(error))
        if where == "put":
            behind.put(lambda: further.append("begun"))
        end = time.monotonic() + PATIENCE_S
        while where == "check" and time.monotonic() < end:
            behind.check()


@pytest.mark.parametrize("where", ["put", "check", "end"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_failed_job_is_raised_as_it_is_and_the_last(where: str, kind: type[BaseException]) -> None:
    error, further = kind("full"), list[str]()
    with pytest.raises(kind) as raised:
        failing(where, error, further)
    assert raised.value is error
    assert not further
    assert not getattr(error, "__notes__", [])


def failing_beside(job: Callable[[], object]) -> None:
    """A scope that fails while a job is in hand."""
    with WriteBehind() as behind:
        behind.put(job)  # type: ignore[arg-type]
        raise ValueError("counts")


def test_another_error_waits_for_the_job_and_does_not_hide_its_own() -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match="counts") as raised:
        failing_beside(lambda: (time.sleep(0.05), done.append(1)))  # type: ignore[func-returns-value]
    assert done and not getattr(raised.value, "__notes__", [])
    with pytest.raises(ValueError, match="counts") as raised:
        failing_beside(lambda: fail(OSError("full")))
    assert raised.value.__notes__ == ["Writing failed, too: OSError: full"]


# ------------------------------------------------------------------------------------------------ a generation


def test_the_next_band_is_made_while_the_last_is_written(
    atlas: Brain, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clock: the first shard's write does not end before a row of the next band is made."""
    writing, made = threading.Event(), threading.Event()
    write, bands = BrainWriter.write, Strips._bands
    compute = threading.current_thread()

    def slow_write(self: BrainWriter, name: str, *rest: object) -> None:
        if name == "morphology" and threading.current_thread() is not compute:
            writing.set()
            assert made.wait(PATIENCE_S), "compute waits for the disk"
        write(self, name, *rest)  # type: ignore[arg-type]

    def told_bands(self: Strips, unit: object, rows: object, reader: object, done: object, advance: object):  # type: ignore[no-untyped-def]
        count = 0

        def tell(tile_steps: int) -> None:
            nonlocal count
            count += 1
            if count == 3:  # a band is two rows
                assert writing.wait(PATIENCE_S), "the first band is not handed over"
                made.set()
            advance(tile_steps)  # type: ignore[operator]

        return bands(self, unit, rows, reader, done, tell)  # type: ignore[arg-type]

    monkeypatch.setattr(BrainWriter, "write", slow_write)
    monkeypatch.setattr(Strips, "_bands", told_bands)
    out = tmp_path / "g.zarr"
    make(atlas.url, str(out))
    assert made.is_set()
    assert arrays(out) == whole


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    atlas: Brain,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, run = tmp_path / "g.zarr", checkpoint(tmp_path / "run", tiny_source())
    options = ("--steps", STEPS, "--sections", "0:1", "--batch", 8, "--threads", 1, "--device", "cpu")
    arguments = ["generate", "--atlas", atlas.url, "--checkpoint", run, "--out", out, *options]

    def full(self: Location, file: Path, key: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / key))

    with monkeypatch.context() as patch:
        patch.setattr(Location, "adopt", full)
        with pytest.raises(SystemExit) as stopped:
            run_cli(app, [str(argument) for argument in arguments])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: No space left on device: ") and last.endswith("the disk")
    assert store_state(out) == "incomplete"
    assert not shards_there(out, 1)()
    config = GenerateConfig(
        atlas.url, str(run), str(out), steps=STEPS, sections=(0, 1), run=RunOptions(batch=8, threads=1)
    )
    generate(config, say=lambda line: None)
    assert arrays(out) == whole


@pytest.mark.parametrize("by", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_stopped_by_a_signal(atlas: Brain, whole: dict[str, bytes], tmp_path: Path, by: int) -> None:
    out = tmp_path / "g.zarr"
    assert killed(atlas.url, str(out), shards_there(out, 1), by=by)
    make(atlas.url, str(out))
    assert arrays(out) == whole
    assert os.listdir(tmp_path) == ["g.zarr"]
