"""One run an output: a second is refused, what a killed one left goes, other outputs are left alone."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from teramind_data.errors import OutputExistsError, StoreError
from teramind_eval.report.build import write_report
from teramind_eval.report.lock import claimed, held
from teramind_eval.report.output import State, written_whole
from tests.eval.conftest import Stores
from tests.eval.test_report import config

KILLED = """
import os, signal, sys
from pathlib import Path
from teramind_eval.report.lock import claimed, held
from teramind_eval.report.output import State, written_whole
with held(Path(sys.argv[1])), written_whole(Path(sys.argv[1])) as draft:
    (draft / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGTERM)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_report_is_refused_and_harms_nothing(stores: Stores, tmp_path: Path) -> None:
    out = tmp_path / "out"
    journal = tmp_path / ".out.journal" / "of the first"
    journal.mkdir(parents=True)
    with (
        held(out),
        pytest.raises(
            OutputExistsError, match=rf"another run is writing.*out \(found process {os.getpid()} "
        ),
    ):
        write_report(config(stores, out))
    assert journal.is_dir()
    assert _names(tmp_path) == [".out.journal"]


@pytest.mark.parametrize("finished", [False, True])
def test_another_may_have_finished_before_the_lock_was_free(tmp_path: Path, finished: bool) -> None:
    states: list[State] = ["absent", "current" if finished else "absent"]
    with claimed(tmp_path / "out", lambda: states.pop(0)) as wanted:
        assert wanted == (not finished)
        assert not states and _names(tmp_path) == [".out.lock"]
    with claimed(tmp_path / "out", lambda: "current") as wanted:
        assert not wanted and _names(tmp_path) == [], "what is current needs no lock"


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert ended.returncode < 0
    (draft,) = tmp_path.glob(".out.*.partial")
    others = [".out.x.abcdefgh.partial", ".outer.abcdefgh.partial", ".out.journal", ".out.abcdefgh.old"]
    for name in others:
        (tmp_path / name).mkdir()
    with held(out), written_whole(out):
        assert not draft.exists()
    assert _names(tmp_path) == sorted([*others, "out"])
    # The one that was being replaced is of no use once there is another.
    with held(out):
        assert _names(tmp_path) == sorted([*others[:3], ".out.lock", "out"])


def test_where_nothing_can_be_locked_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def refuse(handle: int, mode: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".out.abcdefgh.partial").mkdir()
    with held(tmp_path / "out"), written_whole(tmp_path / "out"):
        pass
    assert "this file system has no locks" in capsys.readouterr().err
    assert _names(tmp_path) == [".out.abcdefgh.partial", "out"]


def test_a_folder_in_which_no_file_can_be_made_is_named() -> None:
    # /proc is a folder, and says of every new file that it is not there.
    with (
        pytest.raises(StoreError, match=r"/proc/report.*found No such file or directory"),
        held(Path("/proc/report")),
    ):
        pytest.fail("was let in")
