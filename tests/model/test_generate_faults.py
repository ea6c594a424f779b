"""A generation that is stopped anywhere: never taken for complete, continued to the same bytes, little made twice."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from teramind_data.store import Brain, store_state
from tests.data.faults import Killed, failing_disk, sample, soak_kills, soak_points
from tests.model.generating import (
    STEPS,
    TILES,
    killed,
    make,
    seconds_from_now,
    shards_there,
    work_left,
)
from tests.model.test_generate import arrays
from tests.model.tiny import tiny_atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    canvas = (32 * TILES[0], 32 * TILES[1])
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=canvas, sections=1)


@pytest.fixture(scope="module")
def whole(atlas: Brain, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """The undisturbed bytes, and how many operations they took, the locks' included."""
    folder = tmp_path_factory.mktemp("whole")
    with failing_disk(folder) as disk:
        make(atlas.url, str(folder / "g.zarr"))
    return arrays(folder / "g.zarr"), disk.done


def stopped_then_continued(
    atlas: Brain, folder: Path, at: int, torn: bool, whole: tuple[dict[str, bytes], int]
) -> None:
    out = folder / "g.zarr"
    with failing_disk(folder, at, torn):
        try:
            make(atlas.url, str(out))
        except Killed:
            pass
        else:
            assert at >= whole[1] - 3, "it was not stopped"
    if store_state(out) == "complete":
        found = arrays(out)
        assert {name: found[name] for name in whole[0]} == whole[0]
    make(atlas.url, str(out))
    assert store_state(out) == "complete"
    assert arrays(out) == whole[0]


@pytest.mark.parametrize("part", range(4))
def test_stopped_at_an_operation(
    atlas: Brain, whole: tuple[dict[str, bytes], int], tmp_path: Path, part: int
) -> None:
    points = sample(whole[1], 4)
    at = points[round(part * (len(points) - 1) / 3)]
    stopped_then_continued(atlas, tmp_path, at, bool(part % 2), whole)


@pytest.mark.soak
@pytest.mark.parametrize("torn", [False, True])
def test_stopped_at_every_operation(
    atlas: Brain,
    whole: tuple[dict[str, bytes], int],
    tmp_path: Path,
    torn: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = soak_points(whole[1])
    for at in points:
        folder = tmp_path / str(at)
        folder.mkdir()
        stopped_then_continued(atlas, folder, at, torn, whole)
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\ngenerate: stopped at {len(points)} of {whole[1]} operations, torn: {torn}")


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_sigkill_and_what_is_made_again(
    atlas: Brain, whole: tuple[dict[str, bytes], int], tmp_path: Path, shards: int
) -> None:
    """At most the unfinished rows of shards of the unit in flight, and the rows of tiles that lead in."""
    out = tmp_path / "g.zarr"
    begun = shards_there(out, shards) if shards else lambda: store_state(out) == "incomplete"
    assert killed(atlas.url, str(out), begun)
    state = store_state(out)
    left = work_left(out) if state == "incomplete" and shards else None
    again = make(atlas.url, str(out)).provenance["run"]
    if left is not None:
        assert again["tile_steps"] == left
        assert left < STEPS * TILES[0] * TILES[1]
    assert arrays(out) == whole[0]
    assert os.listdir(tmp_path) == ["g.zarr"]


def test_killed_parts_are_taken_up_by_others(
    atlas: Brain, whole: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    out = tmp_path / "g.zarr"
    assert killed(atlas.url, str(out), shards_there(out, 1), "1/2")
    assert not make(atlas.url, str(out), "2/2").complete
    assert make(atlas.url, str(out), "1/2").complete
    assert arrays(out) == whole[0]
    assert os.listdir(tmp_path) == ["g.zarr"]


@pytest.mark.soak
def test_thousands_of_random_kills(
    atlas: Brain, whole: tuple[dict[str, bytes], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By turns when there are some number of shards, and after some time; a third of the runs are parts."""
    rng = random.Random(1)
    out = tmp_path / "g.zarr"
    for _ in range(2):  # the first has to import everything
        begin = time.monotonic()
        killed(atlas.url, str(out), lambda: False)
        usual = time.monotonic() - begin
        shutil.rmtree(out)
    kills = finished = complete = 0
    while kills < soak_kills(3000):
        by_shards = shards_there(out, rng.randrange(1, 4))
        moment = by_shards if kills % 2 else seconds_from_now(rng.uniform(0, usual))
        if killed(atlas.url, str(out), moment, rng.choice([None, None, "1/1"])):
            kills += 1
        else:
            finished += 1
        if store_state(out) == "complete":
            complete += 1
            make(atlas.url, str(out))
            assert arrays(out) == whole[0]
            shutil.rmtree(out)
    make(atlas.url, str(out))
    assert arrays(out) == whole[0]
    # A run that was killed at its very end may have left its locks, which nobody holds.
    assert {*os.listdir(tmp_path)} <= {"g.zarr", ".g.zarr.lock"}
    with capsys.disabled():
        print(
            f"\ngenerate: {kills} SIGKILLs at random; {finished} runs ended before theirs; the store was complete "
            f"{complete} times on the way, and the same bytes each time"
        )
