"""Running plans: once, in order, on from where it stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from teramind_data.errors import InputError, MissingInputError, StoreError
from teramind_model.experiments.journal import Journal
from teramind_model.experiments.plan import Plan, Step
from teramind_model.experiments.runner import RunOptions, finished_steps, run_plan
from tests.model.experiments.fake_program import install, step


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path, monkeypatch)
    return tmp_path / "out"


def quiet(plan: Plan, **options: object) -> int:
    return run_plan(plan, RunOptions(**options), say=lambda line: None)  # type: ignore[arg-type]


def test_steps_run_once_and_a_lost_product_is_made_again(root: Path) -> None:
    plan = Plan(root, (step(root, "a"), step(root, "b", "make", ("a",))))
    assert quiet(plan) == 2
    assert finished_steps(plan) == ("a", "b")
    assert quiet(plan) == 0
    (root / "b").unlink()
    assert quiet(plan) == 1
    record = Journal(root).read(plan.steps[1])
    assert record is not None
    assert (record.attempts, record.done) == (2, True)


def test_a_plan_that_is_done_says_so_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(root, (step(root, "a"),))
    quiet(plan)
    capsys.readouterr()
    assert run_plan(plan) == 0
    assert capsys.readouterr().err == f"{root}: 1 step, 1 of them done before\n"


def test_a_failure_is_one_line_that_names_the_log_and_the_rest_waits(root: Path) -> None:
    plan = Plan(root, (step(root, "a"), step(root, "b", "fail", ("a",)), step(root, "c", "make", ("b",))))
    with pytest.raises(StoreError) as caught:
        quiet(plan)
    message = str(caught.value)
    assert "\n" not in message
    assert str(root / "logs" / "b.log") in message
    assert "cannot do it: here" in message
    assert (root / "a").exists()
    assert not (root / "c").exists()
    assert "told to fail" in (root / "logs" / "b.log").read_text()
    mended = Plan(root, (plan.steps[0], step(root, "b", "make", ("a",))))
    assert quiet(mended) == 1


def test_success_without_a_product_is_a_failure(root: Path) -> None:
    with pytest.raises(StoreError, match="made nothing"):
        quiet(Plan(root, (step(root, "a", "nothing"),)))
    assert finished_steps(Plan(root, (step(root, "a", "nothing"),))) == ()


def test_a_product_of_another_command_is_refused_and_left(root: Path) -> None:
    quiet(Plan(root, (step(root, "a"), step(root, "b", "make", ("a",)))))
    before = (root / "a").read_text()
    # The second step's command is the same, but what it was made from is not.
    changed = Plan(root, (step(root, "a", "make", (), "other"), step(root, "b", "make", ("a",))))
    with pytest.raises(InputError, match="done with other options.*remove"):
        quiet(changed)
    assert (root / "a").read_text() == before


def test_a_plan_that_was_moved_is_still_done(root: Path) -> None:
    quiet(Plan(root, (step(root, "a"),)))
    moved = root.rename(root.with_name("moved"))
    assert finished_steps(Plan(moved, (step(moved, "a"),))) == ("a",)


def test_two_at_a_time_are_two_at_a_time(root: Path) -> None:
    root.mkdir()
    names = ("a", "b")
    plan = Plan(root, tuple(step(root, name, "wait") for name in names))
    begun = [root / f"{name}.begun" for name in names]

    def release() -> None:
        # Each waits until both have begun: run one after the other, they would wait for ever.
        deadline = time.monotonic() + 30
        while not all(file.exists() for file in begun) and time.monotonic() < deadline:
            time.sleep(0.02)
        for name in names:
            (root / f"{name}.go").touch()

    helper = threading.Thread(target=release)
    helper.start()
    assert quiet(plan, jobs=2) == 2
    helper.join()


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_stopped_runner_stops_its_child_and_goes_on_next_time(
    root: Path, number: signal.Signals, raised: type[BaseException]
) -> None:
    root.mkdir()
    plan = Plan(root, (step(root, "a", "wait"),))

    def stop() -> None:
        deadline = time.monotonic() + 30
        while not (root / "a.begun").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    helper = threading.Thread(target=stop)
    helper.start()
    with pytest.raises(raised):
        quiet(plan)
    helper.join()
    assert (root / "a.kept").exists()
    record = Journal(root).read(plan.steps[0])
    assert record is not None
    assert not record.done
    (root / "a.go").touch()
    assert quiet(plan) == 1


def test_a_missing_program_is_named_before_anything_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_model.experiments.plan.PROGRAMS", ("teramind-fake", "teramind-absent"))
    absent = Step("b", ("teramind-absent", "make"), root / "b")
    with pytest.raises(MissingInputError, match="not installed: teramind-absent"):
        quiet(Plan(root, (step(root, "a"), absent)))
    assert not root.exists()


def test_a_second_runner_is_kept_out(root: Path) -> None:
    with Journal(root).opened(), pytest.raises(InputError, match="another process"):
        quiet(Plan(root, (step(root, "a"),)))
