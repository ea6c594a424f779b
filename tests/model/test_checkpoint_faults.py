"""Checkpoints on a disk that fails, and training that is killed: never one that does not load, always the same end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from teramind_data.errors import MissingInputError
from teramind_data.store import Brain
from teramind_model.checkpoint import load_checkpoint, load_trainer_state, run_checkpoints, save_checkpoint
from teramind_model.train.run_directory import RunDirectory
from tests.data.faults import Disk, Killed, failing_disk, soak_kills
from tests.model.test_checkpoint import INFO, WEIGHTS
from tests.model.test_train import assert_same_run, run_to_end
from tests.model.tiny import tiny_atlas

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@contextmanager
def counted_writers(disk: Disk) -> Iterator[None]:
    """The two libraries that write files by themselves count as well; torn, half of the file arrives."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, place in ((safetensors.torch, "save_file", 1), (torch, "save", 1)):
            patch.setattr(module, name, _counted(disk, getattr(module, name), place))
        yield


def _counted(disk: Disk, real: Any, place: int) -> Any:
    def write(*arguments: Any, **options: Any) -> None:
        file = Path(arguments[place])
        torn = disk.step("write", file)
        real(*arguments, **options)
        if torn:
            os.truncate(file, file.stat().st_size // 2)
            raise Killed("write")

    return write


def save(path: Path, **options: Any) -> None:
    save_checkpoint(path, INFO, WEIGHTS, trainer={"weights": WEIGHTS, "step": 2}, **options)


def operations(root: Path, path: Path, **options: Any) -> list[str]:
    with failing_disk(root) as disk, counted_writers(disk):
        save(path, **options)
    return disk.log


@pytest.mark.parametrize("torn", [False, True])
def test_stopped_at_any_operation_the_run_has_its_last_whole_checkpoint(tmp_path: Path, torn: bool) -> None:
    whole = RunDirectory(tmp_path / "whole")
    save(whole.checkpoint(1))
    log = operations(whole.path, whole.checkpoint(2))
    # A folder, two files by libraries, two by us, a sync of each and of the folder, the rename, its sync, tidying.
    assert len(log) >= 11, log
    for at in range(len(log)):
        run = RunDirectory(tmp_path / f"run-{at}")
        save(run.checkpoint(1))
        with failing_disk(run.path, at, torn) as disk, counted_writers(disk), pytest.raises(Killed):
            save(run.checkpoint(2))
        found = run_checkpoints(run.path)
        assert [step for step, _ in found] in ([1], [1, 2])
        for _, folder in found:
            assert load_checkpoint(folder).weights().keys() == WEIGHTS.keys()
            assert load_trainer_state(folder)["step"] == 2
        # The next part of the run sweeps up what was left half-written.
        with run.opened({}):
            assert not list((run.path / "checkpoints").glob(".*"))


def test_a_replacement_stopped_at_any_operation_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    save(tmp_path / "count" / "model")
    log = operations(tmp_path / "count", tmp_path / "count" / "model", overwrite=True)
    between = 0
    for at in range(len(log)):
        path = tmp_path / f"{at}" / "model"
        save(path)
        with failing_disk(path.parent, at) as disk, counted_writers(disk), pytest.raises(Killed):
            save(path, overwrite=True)
        if path.exists():
            assert load_checkpoint(path).weights().keys() == WEIGHTS.keys()
        else:
            between += 1
            with pytest.raises(MissingInputError, match=r"no checkpoint.*Rename .*\.old to it"):
                load_checkpoint(path)
            (old,) = path.parent.glob(".model.*.old")
            assert load_checkpoint(old).weights().keys() == WEIGHTS.keys()
    assert between == 1  # between the two renames


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("faults") / "atlas.zarr", canvas=(128, 144))


def train_in_a_child(atlas: Brain, run: Path, kill_after: float | None, **options: Any) -> bool:
    """Train in a forked process, kill it after some seconds; whether it came to its end."""
    # Slow to import, so here, once, and not in each child.
    import lightning.fabric  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401

    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_to_end(atlas, run, **options)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


def kill_until_done(atlas: Brain, folder: Path, kills: int, seed: int, **options: Any) -> int:
    """Kill one run after another at random moments until some were killed; each ends as undisturbed."""
    straight = folder / "straight"
    begun = time.monotonic()
    assert train_in_a_child(atlas, straight, None, **options)
    took = time.monotonic() - begun
    chance, done, number = random.Random(seed), 0, 0
    while done < kills:
        run, number = folder / f"run-{number}", number + 1
        for _ in range(20):
            if train_in_a_child(atlas, run, chance.uniform(0, took), **options):
                break
            done += 1
            for _, checkpoint in run_checkpoints(run):
                load_checkpoint(checkpoint).weights()
                load_trainer_state(checkpoint)
        else:
            assert train_in_a_child(atlas, run, None, **options)
        assert_same_run(run, straight)
    return done


def test_killed_at_random_it_ends_the_same(atlas: Brain, tmp_path: Path) -> None:
    assert kill_until_done(atlas, tmp_path, 2, 1, steps=3, checkpoint_every=1, workers=0) >= 2


@pytest.mark.soak
def test_killed_at_random_many_times_it_ends_the_same(atlas: Brain, tmp_path: Path) -> None:
    done = kill_until_done(atlas, tmp_path, soak_kills(), 2, steps=12, checkpoint_every=1, workers=1)
    print(f"\ntraining was killed {done} times")
