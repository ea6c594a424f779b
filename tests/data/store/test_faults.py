"""A store whose writer is killed anywhere: never taken for complete, and continued to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import IncompleteStoreError, MissingInputError, OutputExistsError, StoreError
from teramind_data.store import (
    Brain,
    ImageSpec,
    append_image,
    create_brain,
    open_brain,
    resume_brain,
    store_state,
    tidy_store,
)
from tests.data.faults import Killed, failing_disk, sample, soak_points, tree

CANVAS = (128, 192)


@pytest.fixture(scope="module")
def small(truth_maker: Any) -> Any:
    return truth_maker(canvas=CANVAS, n_genes=3, shard=128)


def write(truth: Any, url: Path) -> None:
    """What any writer of a whole store does, run again as often as need be."""
    state = store_state(url)
    if state == "complete":
        tidy_store(url)
        return
    writer = create_brain(url, truth.spec) if state in ("absent", "empty") else resume_brain(url, truth.spec)
    truth.write_images(writer)
    for name, array in (("tissue", truth.tissue.astype(np.uint8)), ("regions", truth.regions)):
        if name not in writer.names:
            names = {1: "left", 300: "right"} if name == "regions" else None
            writer.add_labels(name, array.dtype.name, names=names)
        for z, box in writer.pending(name):
            writer.write(name, z, box, array[(z, *box.slices)])
    if not writer.has_molecules:
        writer.write_molecules(truth.molecules)
    writer.finish()


@pytest.fixture(scope="module")
def whole(small: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """The undisturbed bytes, and how many operations they took."""
    url = tmp_path_factory.mktemp("whole") / "b.zarr"
    with failing_disk(url) as disk:
        write(small, url)
    kinds = {line.split()[0] for line in disk.log}
    assert {"replace", "fsync", "write", "rmtree"} <= kinds
    return tree(url), disk.done


def check_state(url: Path, files: dict[str, bytes]) -> None:
    """Complete only where it is: all that was to be written is there with its bytes."""
    if store_state(url) == "complete":
        found = tree(url)
        assert {name: found[name] for name in files} == files
        assert not [name for name in set(found) - set(files) if not name.startswith(".journal/")]
        return
    with pytest.raises((IncompleteStoreError, MissingInputError, StoreError)):
        open_brain(url)


def stop_at(small: Any, whole: tuple[dict[str, bytes], int], url: Path, at: int, torn: bool) -> None:
    shutil.rmtree(url, ignore_errors=True)
    try:
        with failing_disk(url, at, torn):
            write(small, url)
    except Killed:
        check_state(url, whole[0])
    else:
        # zarr's threads make a few operations more or fewer from run to run: only the last ones may not be met.
        assert at > 0.98 * whole[1]
    # And once more while it continues.
    with failing_disk(url, 1 + (at * 7) % 60, torn):
        try:
            write(small, url)
        except Killed:
            check_state(url, whole[0])
    write(small, url)
    assert store_state(url) == "complete"
    assert tree(url) == whole[0]


def test_killed_anywhere_it_ends_the_same(
    small: Any, whole: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    for number, at in enumerate(sample(whole[1], 20)):
        stop_at(small, whole, tmp_path / "b.zarr", at, torn=bool(number % 2))


@pytest.mark.soak
@pytest.mark.parametrize("torn", [False, True])
def test_killed_everywhere_it_ends_the_same(
    small: Any,
    whole: tuple[dict[str, bytes], int],
    tmp_path: Path,
    torn: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = soak_points(whole[1])
    for at in points:
        stop_at(small, whole, tmp_path / "b.zarr", at, torn)
    with capsys.disabled():
        print(f"\nwriter of a store: stopped at {len(points)} of {whole[1]} operations, torn: {torn}")


def test_killed_while_replacing_it_needs_to_be_told_again(
    small: Any, whole: tuple[dict[str, bytes], int], tmp_path: Path
) -> None:
    url = tmp_path / "b.zarr"
    refused = 0
    for at in (0, 1, 2, 4, 5, 7, 10, 13):
        shutil.rmtree(url, ignore_errors=True)
        write(small, url)
        append_image(url, ImageSpec("extra", ("a",), "float16", 16), extra())
        with pytest.raises(Killed), failing_disk(url, at, torn=at % 2 == 0):
            create_brain(url, small.spec, overwrite=True)
        if store_state(url) == "incomplete" and open_brain(url, incomplete=True).provenance.get(
            "being_replaced"
        ):
            with pytest.raises(OutputExistsError, match="was being replaced"):
                resume_brain(url, small.spec)
            refused += 1
        if store_state(url) not in ("absent", "empty"):
            create_brain(url, small.spec, overwrite=True)
        write(small, url)
        assert tree(url) == whole[0]
    assert refused


def extra() -> list[tuple[int, None, np.ndarray]]:
    return [(z, None, np.ones((1, CANVAS[0] // 16, CANVAS[1] // 16), np.float16)) for z in range(4)]


def test_an_addition_killed_anywhere_is_invisible_or_whole(small: Any, tmp_path: Path) -> None:
    first, url = tmp_path / "first.zarr", tmp_path / "b.zarr"
    write(small, first)
    shutil.copytree(first, url)
    image = ImageSpec("extra", ("a",), "float16", 16)
    with failing_disk(url) as disk:
        append_image(url, image, extra())
    done = tree(url)
    for at in sample(disk.done, 12):
        shutil.rmtree(url)
        shutil.copytree(first, url)
        with pytest.raises(Killed), failing_disk(url, at, torn=at % 2 == 1):
            append_image(url, image, extra())
        if "extra" in open_brain(url).images:
            assert np.asarray(open_brain(url).image("extra")).all()
            tidy_store(url)
        else:
            append_image(url, image, extra())
        found = {name: data for name, data in tree(url).items() if not name.endswith(".tmp")}
        assert found == done


def test_tidying_leaves_a_complete_store_as_it_is(brain: Brain) -> None:
    before = tree(Path(brain.url))
    tidy_store(brain.url)
    assert tree(Path(brain.url)) == before
    assert json.loads(before["zarr.json"])["attributes"]["teramind"]["complete"] is True
