"""Several runs of one output: kept apart, or sharing its units."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.store import Brain, open_brain, store_state
from teramind_model.generate import GenerateConfig, Source, generate, lock
from teramind_model.generate.lock import hold_output
from teramind_model.generate.parts import Hands, Part, parse_devices, parse_part
from tests.model.test_generate import arrays, strips_of_one_band
from tests.model.tiny import tiny_atlas, tiny_source


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Two windows of two strips: four units, the second window's of one section."""
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=(64, 96), sections=3)


@pytest.fixture(scope="module")
def source() -> Source:
    return tiny_source()


def make(
    atlas: Brain, out: Path, source: Source, part: str | None = None, lines: list[str] | None = None
) -> Brain:
    run = strips_of_one_band(source, atlas.canvas, 4)
    hands = Hands(part=None if part is None else parse_part(part))
    config = GenerateConfig(atlas.url, "tiny", str(out), steps=2, run=run, hands=hands)
    return generate(config, source, say=(lines if lines is not None else []).append)


@pytest.fixture(scope="module")
def whole(atlas: Brain, source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The undisturbed bytes of a run by itself."""
    out = tmp_path_factory.mktemp("whole") / "g.zarr"
    make(atlas, out, source)
    return arrays(out)


@pytest.mark.parametrize("order", [(3, 1, 2)], ids=str)
def test_parts_in_any_order_are_the_whole(
    atlas: Brain, source: Source, whole: dict[str, bytes], tmp_path: Path, order: tuple[int, ...]
) -> None:
    out = tmp_path / "g.zarr"
    for index in order:
        assert store_state(out) in ("absent", "incomplete")
        lines: list[str] = []
        made = make(atlas, out, source, f"{index}/3", lines)
        assert made.complete == (index == order[-1])
        assert made.complete or any("left to other parts" in line for line in lines)
    assert arrays(out) == whole
    assert os.listdir(tmp_path) == ["g.zarr"], "locks are left"
    run = open_brain(out).provenance["run"]
    assert sorted(entry["part"] for entry in run["parts"]) == ["1/3", "2/3", "3/3"]
    assert sum(entry["shards_written"] for entry in run["parts"]) == 6
    lines = []
    make(atlas, out, source, "2/3", lines)
    assert lines == [f"{out}: up to date, nothing to do"]


def test_a_run_without_units_ends_what_parts_began(
    atlas: Brain, source: Source, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "g.zarr"
    make(atlas, out, source, "2/2")
    again = make(atlas, out, source).provenance["run"]
    assert again["shards_written"] < 6, "what the part had made was made again"
    assert arrays(out) == whole


def test_parts_at_once_are_the_whole_and_one_completes_it(
    atlas: Brain, source: Source, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Threads stand for processes: a lock belongs to the file handle, not to the process."""
    out = tmp_path / "g.zarr"
    made: list[bool] = []

    def part(index: int) -> None:
        made.append(make(atlas, out, source, f"{index}/4").complete)

    threads = [threading.Thread(target=part, args=(index,)) for index in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert any(made)
    assert arrays(out) == whole
    assert os.listdir(tmp_path) == ["g.zarr"]


@given(count=st.integers(0, 40), of=st.integers(1, 12))
def test_parts_share_the_units(count: int, of: int) -> None:
    shares = [Part(index, of).choose(range(count)) for index in range(1, of + 1)]
    assert sorted(itertools.chain(*shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# ------------------------------------------------------------------------------------------------ locks


@contextmanager
def holding(out: Path, part: str | None) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the output; it ends with the block at the latest."""
    script = (
        "import sys\n"
        "from teramind_model.generate.lock import hold_output\n"
        "from teramind_model.generate.parts import parse_part\n"
        "part = parse_part(sys.argv[2]) if len(sys.argv) > 2 else None\n"
        "with hold_output(sys.argv[1], part, print):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(out), *([part] if part else [])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_two_runs_of_one_output_one_refuses(
    atlas: Brain, source: Source, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Whole runs and parts, in one line that names the process and host; a killed holder blocks nobody."""
    out = tmp_path / "g.zarr"
    with holding(out, None) as other:
        for part in (None, "1/2"):
            with pytest.raises(OutputExistsError) as error:
                make(atlas, out, source, part)
            assert "another run is writing this output" in str(error.value)
            assert f"process {other.pid} on {os.uname().nodename}: a whole run" in str(error.value)
            assert "\n" not in str(error.value)
        assert not out.exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert os.listdir(tmp_path) == [".g.zarr.lock"]
        make(atlas, out, source)
    assert arrays(out) == whole
    assert os.listdir(tmp_path) == ["g.zarr"]


def test_a_part_keeps_out_its_like_and_whole_runs_only(atlas: Brain, source: Source, tmp_path: Path) -> None:
    out = tmp_path / "g.zarr"
    with holding(out, "1/2") as other:
        for part in (None, "1/2"):
            with pytest.raises(OutputExistsError, match=f"process {other.pid} on .*: part 1/2"):
                make(atlas, out, source, part)
        lines: list[str] = []
        assert not make(atlas, out, source, "2/2", lines).complete
    assert "left to other parts" in lines[-1]


def test_the_last_completes_and_whoever_comes_meanwhile_waits(tmp_path: Path) -> None:
    out = str(tmp_path / "g.zarr")
    lines: list[str] = []
    with hold_output(out, Part(1, 2), print) as first:
        with hold_output(out, Part(2, 2), print) as second:
            assert not first.become_last(), "another is at work"
            assert second.become_last()
            assert second.become_last()
            late: list[bool] = []

            def come() -> None:
                with hold_output(out, Part(2, 2), lines.append) as third:
                    late.append(third.become_last())

            thread = threading.Thread(target=come)
            thread.start()
            time.sleep(0.5)
            assert late == []
        thread.join()
        assert late == [True]
    assert len(lines) == 1
    assert "waiting for process" in lines[0] and "part 2/2, which completes the store" in lines[0]
    assert os.listdir(tmp_path) == []


def test_a_part_that_ends_while_another_looks_leaves_nobody_to_complete_but_that_one(
    atlas: Brain, source: Source, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's last shard is written, and it is told that somebody is still at work, as this one begins to look."""
    out = tmp_path / "g.zarr"
    become_last = lock._Lock.become_last

    def other_ends_first(held: Any) -> bool:
        monkeypatch.setattr(lock._Lock, "become_last", become_last)
        assert not make(atlas, out, source, "2/2").complete
        return become_last(held)

    monkeypatch.setattr(lock._Lock, "become_last", other_ends_first)
    assert make(atlas, out, source, "1/2").complete
    assert arrays(out) == whole
    assert os.listdir(tmp_path) == ["g.zarr"]


def test_parts_of_another_number_wait_until_all_of_the_first_are_over(
    atlas: Brain, source: Source, tmp_path: Path
) -> None:
    out = tmp_path / "g.zarr"
    with holding(out, "1/2") as other:
        words = rf"expected parts I/3, found process {other.pid} on .*: part 1/2"
        with pytest.raises(OutputExistsError, match=words):
            make(atlas, out, source, "2/3")
        assert not out.exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert not make(atlas, out, source, "2/3").complete
    assert not list(tmp_path.glob(".*.lock/1-of-2"))


def test_where_a_filesystem_cannot_lock_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def cannot(handle: int, mode: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", cannot)
    for part in (None, Part(1, 2)):
        lines: list[str] = []
        with hold_output(str(tmp_path / "g.zarr"), part, lines.append) as hold:
            assert not hold.certain
            assert hold.become_last() == (part is None), "a part cannot know that it is alone"
        assert "has no locks" in lines[0]


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "1/3/5", "-1/3"])
def test_parts_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError, match="part of the units"):
        parse_part(text)
    with pytest.raises(InputError, match="expected I/N with N of at least 1, found 1/0"):
        parse_part("1/0")


def test_who_works_is_checked() -> None:
    assert parse_part(" 2/8 ") == Part(2, 8)
    assert parse_devices("0,2") == (0, 2)
    for text in ("", "0,", "cuda:0", "0,0"):
        with pytest.raises(InputError, match="device"):
            parse_devices(text)
    with pytest.raises(InputError, match="--workers and --scheduler exclude each other"):
        Hands(workers=2, scheduler="tcp://localhost:1")
    with pytest.raises(InputError, match="number of workers"):
        Hands(workers=0)


def test_parts_are_of_the_wavefront_and_replace_nothing(atlas: Brain, source: Source, tmp_path: Path) -> None:
    from teramind_model.generate import RunOptions

    for run, words in (
        (RunOptions(overwrite=True), "--overwrite is not for --units"),
        (RunOptions(engine="straightforward"), "only the wavefront has units"),
    ):
        with pytest.raises(InputError, match=words):
            generate(
                GenerateConfig(
                    atlas.url, "tiny", str(tmp_path / "g.zarr"), run=run, hands=Hands(part=Part(1, 2))
                ),
                source,
            )
    assert os.listdir(tmp_path) == []


def test_parts_keep_to_the_strips_that_were_agreed_on(
    atlas: Brain, source: Source, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A part with room for wider strips makes those of the others; one with less says so."""
    from teramind_model.generate import RunOptions

    out = tmp_path / "g.zarr"
    make(atlas, out, source, "1/2")
    config = GenerateConfig(
        atlas.url, "tiny", str(out), steps=2, run=RunOptions(batch=4), hands=Hands(part=Part(2, 2))
    )
    assert generate(config, source, say=lambda line: None).complete
    assert arrays(out) == whole
    wide = tmp_path / "wide.zarr"
    config = GenerateConfig(
        atlas.url, "tiny", str(wide), steps=2, run=RunOptions(batch=4), hands=Hands(part=Part(1, 2))
    )
    generate(config, source, say=lambda line: None)
    with pytest.raises(InputError, match="wider strips than fit"):
        make(atlas, wide, source, "2/2")
