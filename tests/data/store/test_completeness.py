"""What is not all there must never pass for background."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import (
    IncompleteStoreError,
    InputError,
    MissingInputError,
    MissingShardError,
    OutputExistsError,
    StoreError,
)
from teramind_data.geometry import Box, windows
from teramind_data.store import Brain, ImageSpec, append_image, create_brain, open_brain, resume_brain
from teramind_data.store.journal import in_ranges, to_ranges


def test_an_unfinished_store_opens_only_by_name_and_says_what_is_missing(truth: Any, tmp_path: Path) -> None:
    writer = create_brain(tmp_path / "b.zarr", truth.spec)
    z, box = writer.shards("morphology")[0]
    writer.write("morphology", z, box, truth.morphology[(slice(None), z, *box.slices)])
    with pytest.raises(IncompleteStoreError) as caught:
        open_brain(writer.url)
    text = str(caught.value)
    assert f"store is incomplete: {writer.url} " in text
    assert "missing 23 of 24 shards of morphology, 24 of 24 shards of expression, molecules" in text
    assert text.endswith("Resume or repeat the command that writes it")
    brain = open_brain(writer.url, incomplete=True)
    assert not brain.complete
    np.testing.assert_array_equal(
        brain.read("morphology", z, box), truth.morphology[(slice(None), z, *box.slices)]
    )
    with pytest.raises(MissingShardError, match="It is not written yet"):
        brain.read("morphology", 3)


def test_finish_refuses_while_anything_is_missing(truth: Any, tmp_path: Path) -> None:
    writer = create_brain(tmp_path / "b.zarr", truth.spec)
    truth.write_images(writer)
    with pytest.raises(IncompleteStoreError, match=r"cannot be finished: .* \(found missing molecules\)"):
        writer.finish()
    writer.write_molecules([])
    writer.add_labels("tissue")
    with pytest.raises(IncompleteStoreError, match="missing 24 of 24 shards of tissue"):
        writer.finish()


def test_everything_but_the_last_metadata_is_still_incomplete(truth: Any, tmp_path: Path) -> None:
    writer = truth.write(tmp_path / "b.zarr", finish=False)
    with pytest.raises(IncompleteStoreError, match="missing the closing metadata"):
        open_brain(writer.url)


def test_a_killed_writer_leaves_a_store_that_is_refused_and_resumed(tmp_path: Path) -> None:
    url = tmp_path / "b.zarr"
    code = """
import os, sys, numpy as np
from teramind_data import BrainSpec, Section, create_brain
w = create_brain(sys.argv[1], BrainSpec("generated", (64, 128), 1.0, (Section(0, "a", 0.0),), chunk=32, shard=32))
for n, (z, b) in enumerate(w.shards("morphology")):
    w.write("morphology", z, b, np.full((2, *b.shape), n + 1, np.uint8))
    if n == 4:
        os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(url)], check=False).returncode == 9
    with pytest.raises(IncompleteStoreError, match="missing 3 of 8 shards of morphology"):
        open_brain(url)
    # A torn shard under its final name, as a killed codec pipeline leaves it.
    writer = resume_brain(url)
    z, box = writer.pending("morphology")[0]
    torn = url / writer.image("morphology").layout.chunk_key(0, z, box.y0 // 32, box.x0 // 32)
    torn.parent.mkdir(parents=True, exist_ok=True)
    torn.write_bytes(b"torn")
    for n, (z, box) in enumerate(writer.shards("morphology")):
        if (z, box) in writer.pending("morphology"):
            writer.write("morphology", z, box, np.full((2, *box.shape), n + 1, np.uint8))
    brain = writer.finish()
    numbers = np.arange(1, 9, dtype=np.uint8).reshape(2, 4)
    np.testing.assert_array_equal(brain.morphology[0, 0], np.kron(numbers, np.ones((32, 32), np.uint8)))


def test_resuming_needs_the_same_specification(truth: Any, truth_maker: Any, tmp_path: Path) -> None:
    create_brain(tmp_path / "b.zarr", truth.spec)
    with pytest.raises(InputError, match="begun with other settings"):
        resume_brain(tmp_path / "b.zarr", truth_maker(n_genes=6).spec)
    with pytest.raises(MissingInputError, match="store not found"):
        resume_brain(tmp_path / "other.zarr", truth.spec)


def test_a_complete_store_is_not_resumed(brain: Brain) -> None:
    with pytest.raises(OutputExistsError, match="complete already"):
        resume_brain(brain.url)


def test_empty_shards_are_listed_and_read_as_zeros(truth: Any, brain: Brain) -> None:
    root = Path(brain.url) / "images/morphology/ome.zarr/0"
    assert not (root / "c/0/1/0/0").exists()
    listed = json.loads((root / "zarr.json").read_text())["attributes"]["teramind"]["empty_shards"]
    assert listed == [[6, 6]]  # section 1, first of 2 x 3 shards
    assert not brain.read("morphology", 1, Box(0, 128, 0, 128)).any()
    assert brain.blank("morphology", 1, Box(0, 128, 0, 128))
    assert not brain.blank("morphology", 0, Box(0, 128, 0, 128))
    assert not brain.blank("morphology", 1, Box.from_shape(brain.canvas))  # other shards hold something


@pytest.mark.parametrize("name", ["morphology", "expression", "tissue"])
def test_a_lost_shard_is_noticed_by_checked_reads(own_brain: Brain, name: str) -> None:
    layout = own_brain.layout(name)
    key = layout.chunk_key(0, 2, 0, 0)
    (Path(own_brain.url) / key).unlink()
    again = open_brain(own_brain.url)
    with pytest.raises(MissingShardError, match=f"not listed as empty: .*{key}"):
        again.read(name, 2)
    # Elsewhere it still reads.
    assert again.read(name, 0).any()
    if name == "expression":
        with pytest.raises(MissingShardError):
            again.window_counts(windows(4, 4, 2)[1], Box(0, 16, 0, 16))


def test_a_lost_pyramid_shard_is_noticed(truth_maker: Any, tmp_path: Path) -> None:
    brain = truth_maker(canvas=(304, 336)).write(tmp_path / "b.zarr")
    (Path(brain.url) / brain.layout("morphology").chunk_key(1, 0, 1, 1)).unlink()
    with pytest.raises(MissingShardError):
        brain.read("morphology", 0, level=1)


def test_lost_molecules_are_noticed(own_brain: Brain) -> None:
    (Path(own_brain.url) / "molecules/x/c/0").unlink()
    with pytest.raises(MissingShardError, match="molecules/x/c/0"):
        open_brain(own_brain.url).molecules.counts(0, Box(0, 16, 0, 16))


def test_a_shard_that_vanishes_before_the_end_stops_finish(truth: Any, tmp_path: Path) -> None:
    writer = truth.write(tmp_path / "b.zarr", finish=False)
    (tmp_path / "b.zarr" / writer.image("morphology").layout.chunk_key(0, 3, 1, 1)).unlink()
    with pytest.raises(IncompleteStoreError, match=r"written and is gone: .*morphology.*/c/0/3/1/1"):
        writer.finish()
    with pytest.raises(IncompleteStoreError):
        open_brain(writer.url)


def test_zeros_written_over_data_leave_no_old_pixels(truth: Any, tmp_path: Path) -> None:
    writer = truth.write(tmp_path / "b.zarr", finish=False)
    writer.write("morphology", 0, None, np.zeros((2, 208, 304), np.uint8))
    assert not writer.finish().read("morphology", 0).any()


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"store not found: .*none\.zarr"):
        open_brain(tmp_path / "none.zarr")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.txt").write_text("hello")
    with pytest.raises(StoreError, match="not a teramind store"):
        open_brain(tmp_path / "x")
    (tmp_path / "x" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="metadata is not readable"):
        open_brain(tmp_path / "x")
    (tmp_path / "x" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="'teramind' block"):
        open_brain(tmp_path / "x")


def test_another_schema_version_is_refused(own_brain: Brain) -> None:
    file = Path(own_brain.url) / "zarr.json"
    root = json.loads(file.read_text())
    root["attributes"]["teramind"]["schema_version"] = 99
    file.write_text(json.dumps(root))
    with pytest.raises(StoreError, match="expected 1, found 99"):
        open_brain(own_brain.url)


def test_an_interrupted_addition_stays_invisible_and_is_repeated(own_brain: Brain) -> None:
    import zarr

    image = ImageSpec("attention_X", ("a",), "float16", 16)
    plane = np.ones((1, 13, 19), np.float16)

    def dying() -> Any:
        yield 0, None, plane
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_image(own_brain.url, image, dying())
    with pytest.raises(IncompleteStoreError, match=r"attention_X .*missing 6 of 24"):
        append_image(own_brain.url, image, ((z, None, plane) for z in range(3)))
    # Another addition must not bring the unfinished one to light.
    append_image(
        own_brain.url, ImageSpec("other", ("a",), "float16", 16), ((z, None, plane) for z in range(4))
    )
    assert open_brain(own_brain.url).images == ("morphology", "expression", "other")
    assert "attention_X" not in zarr.open_group(own_brain.url, mode="r")["images"]  # type: ignore[operator]
    append_image(own_brain.url, image, ((z, None, plane) for z in range(4)))
    assert open_brain(own_brain.url).images == ("morphology", "expression", "other", "attention_X")


def test_ranges_hold_exactly_their_numbers() -> None:
    numbers = {0, 1, 2, 5, 7, 8}
    assert to_ranges(numbers) == ((0, 2), (5, 5), (7, 8))
    assert {n for n in range(-2, 12) if in_ranges(to_ranges(numbers), n)} == numbers
    assert to_ranges(()) == ()


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_a_lost_shard_of_a_complete_store_is_never_background(
    truth: Any, tmp_path: Path, damage: str
) -> None:
    brain = truth.write(tmp_path / "b.zarr")
    shard = next(p for p in sorted((tmp_path / "b.zarr/images/morphology").rglob("c/*/*/*/*")) if p.is_file())
    if damage == "removed":
        shard.unlink()
    else:
        shard.write_bytes(b"")
    section = int(shard.relative_to(tmp_path / "b.zarr/images/morphology").parts[-3])
    with pytest.raises(MissingShardError, match="shard is missing and not listed as empty"):
        brain.read("morphology", section)
