from __future__ import annotations

import json
import pickle
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import teramind_data
from teramind_data.errors import GeometryError, InputError, StoreError
from teramind_data.geometry import Box, windows
from teramind_data.panel import Panel
from teramind_data.store import (
    Brain,
    BrainSpec,
    ImageSpec,
    Location,
    Section,
    append_image,
    create_brain,
    open_brain,
    resume_brain,
)


def test_everything_comes_back(truth: Any, brain: Brain) -> None:
    assert isinstance(brain.morphology, zarr.Array)
    np.testing.assert_array_equal(brain.morphology[:], truth.morphology)
    np.testing.assert_array_equal(brain.expression[:], truth.expression)
    assert brain.tissue is not None
    assert brain.regions is not None
    np.testing.assert_array_equal(brain.tissue[:], truth.tissue)
    np.testing.assert_array_equal(brain.regions[:], truth.regions)
    assert brain.region_names == {1: "left", 300: "right"}
    assert brain.spec == truth.spec
    assert brain.panel is not None
    assert brain.panel.fingerprint == truth.spec.panel.fingerprint
    assert (brain.kind, brain.canvas, brain.pixel_size_um, brain.z_spacing_um) == (
        "atlas",
        (208, 304),
        0.5,
        100.0,
    )
    assert brain.sections[3] == Section(3, "s3", 450.0, {"file": "3.tif"})
    assert brain.provenance == {"made": "here"}
    assert brain.images == ("morphology", "expression")
    assert brain.labels == ("tissue", "regions")
    assert brain.complete
    assert teramind_data.open_brain(brain.url).spec == truth.spec


def test_nothing_of_the_writing_is_left(brain: Brain) -> None:
    root = Path(brain.url)
    assert sorted(p.name for p in root.iterdir()) == ["images", "labels", "molecules", "zarr.json"]
    assert not [p for p in root.rglob("*") if p.name.endswith((".tmp", ".partial"))]


def test_arrays_are_sharded_with_checksums(brain: Brain) -> None:
    array = brain.morphology
    assert array.shards == (2, 1, 128, 128)
    assert array.chunks == (2, 1, 64, 64)
    meta = json.loads((Path(brain.url) / "images/morphology/ome.zarr/0/zarr.json").read_text())
    (sharding,) = meta["codecs"]
    assert [c["name"] for c in sharding["configuration"]["codecs"]] == ["bytes", "zstd", "crc32c"]
    assert [c["name"] for c in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
    assert brain.levels("morphology")[1].shards == (2, 1, 64, 64)
    # A shard covers the same canvas in every image.
    assert brain.expression.shards == (5, 1, 8, 8)


def test_a_flipped_bit_is_noticed(own_brain: Brain) -> None:
    shard = Path(own_brain.url) / "images/morphology/ome.zarr/0/c/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="[Cc]hecksum"):
        own_brain.read("morphology", 0, Box(0, 64, 0, 64))


def test_default_shards_hold_small_canvases_and_stop_at_4096() -> None:
    def shard(canvas: tuple[int, int]) -> int:
        return BrainSpec("generated", canvas, 1.0, (Section(0, "a", 0.0),)).shard_px

    assert [shard(c) for c in ((64, 64), (512, 512), (512, 784), (73216, 105984))] == [256, 512, 1024, 4096]


def test_the_real_canvas_lays_out_as_designed() -> None:
    sections = tuple(Section(i, str(i), 200.0 * i) for i in range(50))
    spec = BrainSpec("atlas", (73216, 105984), 0.108, sections, Panel(tuple(f"g{i}" for i in range(500))))
    from teramind_data.store.layout import ImageLayout

    levels = ImageLayout(spec.morphology(), spec).levels
    assert [lv.shard for lv in levels if lv.online] == [4096, 2048, 1024, 512, 256]
    assert all(lv.chunk == 256 for lv in levels)
    assert max(levels[-1].shape) <= 256
    # One writer's region holds whole shards at every level it writes.
    assert len({lv.grid for lv in levels if lv.online}) == 1
    genes = ImageLayout(spec.expression(), spec).levels
    assert [(lv.shard, lv.chunk) for lv in genes if lv.online] == [(s, 16) for s in (256, 128, 64, 32, 16)]
    assert [lv.dtype for lv in genes][:3] == ["uint8", "uint16", "uint16"]


def test_memory_and_local_stores_are_read_alike(truth: Any, brain: Brain) -> None:
    url = f"memory://{uuid.uuid4().hex}/brain.zarr"
    other = truth.write(url)
    np.testing.assert_array_equal(other.morphology[:], truth.morphology)
    np.testing.assert_array_equal(other.read("morphology", 1), truth.morphology[:, 1])
    box = Box(-7, 121, 100, 228)
    np.testing.assert_array_equal(other.molecules.counts(2, box), brain.molecules.counts(2, box))
    assert [a[:].sum() for a in other.levels("expression")] == [
        a[:].sum() for a in brain.levels("expression")
    ]


def test_writing_without_the_zarrs_pipeline_gives_the_same_pixels(
    truth: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teramind_data.store.layout.find_spec", lambda name: None)
    plain = truth.write(tmp_path / "plain.zarr")
    np.testing.assert_array_equal(plain.morphology[:], truth.morphology)
    np.testing.assert_array_equal(plain.expression[:], truth.expression)


def test_the_zarrs_setting_does_not_leak(brain: Brain) -> None:
    assert "zarrs" not in zarr.config.get("codec_pipeline.path")
    assert zarr.config.get("threading.max_workers") is None


def test_writing_twice_gives_the_same_bytes(truth: Any, brain: Brain, tmp_path: Path) -> None:
    again = Path(truth.write(tmp_path / "again.zarr").url)
    first = Path(brain.url)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (first / file).read_bytes() == (again / file).read_bytes(), file


def test_processes_write_shards_of_one_store(truth: Any, tmp_path: Path) -> None:
    url = tmp_path / "brain.zarr"
    writer = create_brain(url, truth.spec)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        units = [(z, b) for z, b in writer.shards("morphology") if z < 2]
        jobs = [
            pool.submit(writer.write, "morphology", z, b, truth.morphology[(slice(None), z, *b.slices)])
            for z, b in units
        ]
        for job in jobs:
            job.result()
    later = resume_brain(url, truth.spec)
    assert {z for z, _ in later.pending("morphology")} == {2, 3}
    truth.write_images(later)
    later.write_molecules(truth.molecules)
    np.testing.assert_array_equal(later.finish().morphology[:], truth.morphology)


def test_a_whole_section_at_once_is_the_same(truth: Any, tmp_path: Path, brain: Brain) -> None:
    writer = create_brain(tmp_path / "b.zarr", BrainSpec("generated", *_bare(truth.spec)))
    for z in range(4):
        writer.write("morphology", z, None, truth.morphology[:, z])
    other = writer.finish()
    for a, b in zip(other.levels("morphology"), brain.levels("morphology"), strict=True):
        np.testing.assert_array_equal(a[:], b[:])


def _bare(spec: BrainSpec) -> tuple[Any, ...]:
    return (
        spec.canvas,
        spec.pixel_size_um,
        spec.sections,
        spec.panel,
        spec.stains,
        {},
        "uint8",
        spec.chunk,
        spec.shard,
    )


def test_a_generated_store_has_no_expression_and_says_so(truth: Any, tmp_path: Path) -> None:
    writer = create_brain(tmp_path / "b.zarr", BrainSpec("generated", *_bare(truth.spec)))
    for z in range(4):
        writer.write("morphology", z, None, truth.morphology[:, z])
    made = writer.finish()
    assert made.panel == truth.spec.panel
    assert made.tissue is None
    with pytest.raises(StoreError, match="no such image.*expected expression, found morphology"):
        _ = made.expression
    with pytest.raises(StoreError, match="no molecules"):
        _ = made.molecules


def test_brains_and_writers_survive_pickling(truth: Any, brain: Brain, tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(brain))
    np.testing.assert_array_equal(copy.read("morphology", 0), truth.morphology[:, 0])
    writer = pickle.loads(pickle.dumps(create_brain(tmp_path / "w.zarr", truth.spec)))
    truth.write_images(writer)
    assert not writer.pending("morphology")


def test_window_counts_are_zero_outside_brain_and_canvas(truth: Any, brain: Brain) -> None:
    padded = np.pad(truth.expression, [(0, 0), (2, 2), (4, 4), (4, 4)])
    for window in windows(4, 4, 2):
        box = Box(-64, 208 + 16, 32, 304 + 64)
        genes = np.array([3, 0])
        got = brain.window_counts(window, box, genes)
        z0 = window.gene[0] + 2
        expected = padded[:, z0 : z0 + 4, 0 : 4 + 13 + 1, 2 + 4 : 4 + 19 + 4].transpose(1, 0, 2, 3)
        np.testing.assert_array_equal(got, expected[:, genes])
        np.testing.assert_array_equal(brain.window_counts(window, box), expected)
    assert not brain.window_counts(windows(4, 4, 2)[0], Box(-64, -32, 0, 16)).any()
    with pytest.raises(GeometryError, match="multiples of 16"):
        brain.window_counts(windows(4, 4, 2)[0], Box(8, 24, 0, 16))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("morphology", 9, None, 0), r"no such section.*expected 0\.\.3, found 9"),
        (("morphology", 0, Box(0, 400, 0, 10), 0), "sticks out"),
        (("morphology", 0, Box(-1, 4, 0, 10), 0), "sticks out"),
        (("morphology", 0, None, 9), "no such level"),
    ],
)
def test_reads_outside_are_refused(brain: Brain, call: tuple[Any, ...], says: str) -> None:
    name, z, box, level = call
    with pytest.raises(GeometryError, match=says):
        brain.read(name, z, box, level=level)


def test_writes_that_do_not_fit_are_refused(truth: Any, tmp_path: Path) -> None:
    writer = create_brain(tmp_path / "b.zarr", truth.spec)
    block = truth.morphology[:, 0]
    with pytest.raises(InputError, match=r"no union of whole shards: morphology.*multiples of 128"):
        writer.write("morphology", 0, Box(0, 64, 0, 128), block[:, :64, :128])
    with pytest.raises(InputError, match="another shape"):
        writer.write("morphology", 0, None, block[:, :64])
    with pytest.raises(InputError, match="expected uint8, found float64"):
        writer.write("morphology", 0, None, block.astype(float))
    with pytest.raises(InputError, match="no such section"):
        writer.write("morphology", 4, None, block)
    with pytest.raises(StoreError, match="no such image"):
        writer.write("nothing", 0, None, block)
    assert len(writer.pending("morphology")) == len(writer.shards("morphology"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"canvas": (100, 256)}, "multiples of 16"),
        ({"pixel_size_um": 0.0}, "pixel size"),
        ({"sections": ()}, "not numbered in order"),
        ({"sections": (Section(1, "a", 0.0),)}, "not numbered in order"),
        ({"panel": None}, "needs a panel"),
        ({"shard": 192}, "64 times a power of two"),
        ({"chunk": 48}, "power of two"),
        ({"stains": ("DAPI", "DAPI")}, "distinct"),
        ({"expression_dtype": "int8"}, "uint8 or uint16"),
        ({"kind": "other"}, "atlas or expression or generated"),
    ],
)
def test_bad_specifications_are_refused(truth: Any, change: dict[str, Any], says: str) -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match=says):
        replace(truth.spec, **change)


def test_an_image_is_added_to_a_complete_store(own_brain: Brain) -> None:
    rng = np.random.default_rng(1)
    maps = rng.random((3, 4, 13, 19)).astype(np.float16)
    image = ImageSpec(
        "attention_GLUT", ("prev_cur", "cur_next", "window"), "float16", 16, attrs={"genes": ["a", "b"]}
    )
    append_image(own_brain.url, image, ((z, None, maps[:, z]) for z in range(4)))
    again = open_brain(own_brain.url)
    assert again.images == ("morphology", "expression", "attention_GLUT")
    np.testing.assert_array_equal(again.image("attention_GLUT")[:], maps)
    assert again.image_attrs("attention_GLUT") == {
        "genes": ["a", "b"],
        "channels": ["prev_cur", "cur_next", "window"],
    }
    np.testing.assert_array_equal(again.read("attention_GLUT", 2), maps[:, 2])


@pytest.mark.parametrize("name", ["s3:/bucket/a.zarr", "gs:/bucket/a.zarr", "file:/tmp/a.zarr"])
def test_a_url_of_one_slash_is_no_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"URL is misspelt.*two slashes.*Write \./"):
        Location(name)
    assert Location(f"./{name}").path == tmp_path / name
    assert Location("C:/a.zarr").is_local
