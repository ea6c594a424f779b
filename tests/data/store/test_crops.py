"""Random crops through tensorstore and through zarr against what `Brain.read` and the molecules themselves say."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import GeometryError, MissingInputError, MissingShardError, StoreError
from teramind_data.geometry import Box
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, CropReader, Location, Section, create_brain, open_brain

CANVAS = (1024, 768)
GENES = np.array([6, 0, 3], dtype=np.int64)
SHARD = "images/morphology/ome.zarr/0/c/0/1/0/0"


def write_brain(url: str) -> Brain:
    """Two sections in shards of 512 px, one of them empty; no molecules in the second section's lower half."""
    rng = np.random.default_rng(4)
    sections = tuple(Section(z, f"s{z}", 10.0 * z) for z in range(2))
    spec = BrainSpec(
        kind="atlas", canvas=CANVAS, pixel_size_um=1.0, sections=sections, panel=Panel(tuple("abcdefg")),
        stains=("DAPI", "PolyT"), shard=512,
    )  # fmt: skip
    writer = create_brain(url, spec)
    molecules = []
    for z in range(2):
        image = rng.integers(0, 256, (2, *CANVAS), dtype=np.uint8)
        image[:, 512:, :512] *= z
        writer.write("morphology", z, None, image)
        writer.write("expression", z, None, np.zeros((7, CANVAS[0] // 16, CANVAS[1] // 16), np.uint8))
        y, x = rng.integers(0, CANVAS[0] // (z + 1), 20_000), rng.integers(0, CANVAS[1], 20_000)
        molecules.append((z, y, x, rng.integers(0, 7, 20_000)))
    writer.write_molecules(molecules)
    return writer.finish()


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return write_brain(str(tmp_path_factory.mktemp("crops") / "brain.zarr"))


def assert_equal_to_the_twin(crops: CropReader, brain: Brain) -> None:
    rng = np.random.default_rng(8)
    for y, x in [(0, 0), (CANVAS[0] - 256, CANVAS[1] - 256), *rng.integers(0, (768, 512), (12, 2)).tolist()]:
        box = Box(y, y + 256, x, x + 256)
        pixels = crops.pixels("morphology", (1, 0), box)
        np.testing.assert_array_equal(pixels[:, 0], brain.read("morphology", 1, box))
        np.testing.assert_array_equal(pixels[:, 1], brain.read("morphology", 0, box))
        # Sections that are not there, and a box that sticks out.
        moved = box.shift(-100, 60)
        counts = crops.counts(range(-1, 3), moved, GENES)
        assert counts.dtype == np.uint16
        slow = np.zeros((4, len(GENES), 16, 16), np.uint16)
        for slot, z in ((1, 0), (2, 1)):
            for my, mx, gene in zip(*brain.molecules.read(z, moved), strict=True):
                if gene in GENES:
                    row, column = (my - moved.y0) // 16, (mx - moved.x0) // 16
                    slow[slot, list(GENES).index(gene), row, column] += 1
        np.testing.assert_array_equal(counts, slow)
        np.testing.assert_array_equal(counts[1], brain.molecules.counts(0, moved, GENES))
    bins = Box(3, 40, 5, 48)
    np.testing.assert_array_equal(
        crops.pixels("expression", (1,), bins)[:, 0], brain.read("expression", 1, bins)
    )
    np.testing.assert_array_equal(crops.counts((0,), box).shape, (1, 7, 16, 16))


@pytest.mark.parametrize("fast", [True, False])
def test_equal_to_the_slow_twin(brain: Brain, fast: bool) -> None:
    if fast:
        pytest.importorskip("tensorstore")
    crops = CropReader(brain, tensorstore=fast)
    assert crops.fast is fast
    assert_equal_to_the_twin(crops, brain)


def test_in_memory_through_zarr() -> None:
    brain = write_brain(f"memory://{uuid.uuid4().hex}/brain.zarr")
    crops = CropReader(brain)
    assert not crops.fast
    assert_equal_to_the_twin(crops, brain)
    with pytest.raises(MissingInputError, match="tensorstore"):
        CropReader(brain, tensorstore=True)


@pytest.mark.parametrize("fast", [True, False])
def test_what_is_lost_is_no_background(tmp_path: Path, fast: bool) -> None:
    if fast:
        pytest.importorskip("tensorstore")
    url = str(tmp_path / "brain.zarr")
    write_brain(url)
    empty = CropReader(open_brain(url), tensorstore=fast).pixels("morphology", (0,), Box(600, 700, 100, 200))
    assert not empty.any()
    Location(url).delete(SHARD)
    crops = CropReader(open_brain(url), tensorstore=fast)
    with pytest.raises(MissingShardError, match=SHARD):
        crops.pixels("morphology", (0, 1), Box(400, 656, 400, 656))
    crops.pixels("morphology", (1,), Box(512, 640, 0, 128))
    Location(url).delete("molecules/x/c/0")
    with pytest.raises(MissingShardError, match="molecules/x/c/0"):
        CropReader(open_brain(url), tensorstore=fast).counts((0,), Box(0, 256, 0, 256))


def test_damage_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorstore")
    url = str(tmp_path / "brain.zarr")
    brain = write_brain(url)
    for key in (SHARD, "molecules/gene/c/0"):
        file = tmp_path / "brain.zarr" / key
        data = bytearray(file.read_bytes())
        data[1000] ^= 255
        file.write_bytes(data)
    crops = CropReader(brain, tensorstore=True)
    with pytest.raises(StoreError, match=r"damaged.*morphology.*(?i:crc|checksum|digest)"):
        crops.pixels("morphology", (1,), Box(0, 512, 0, 512))
    with pytest.raises(StoreError, match=r"damaged.*molecules/gene"):
        crops.counts((0, 1), Box.from_shape(CANVAS))


def test_boxes_and_sections_are_checked(brain: Brain) -> None:
    crops = CropReader(brain)
    with pytest.raises(GeometryError, match="sticks out"):
        crops.pixels("morphology", (0,), Box(0, 256, 600, 856))
    with pytest.raises(GeometryError, match="no such section"):
        crops.pixels("morphology", (0, 2), Box(0, 256, 0, 256))
    with pytest.raises(GeometryError, match="whole bins"):
        crops.counts((0,), Box(0, 250, 0, 256))
