"""A section as OME-TIFF, read back by tifffile: pixels, pyramid, sizes, names; and what it refuses."""

from __future__ import annotations

import tracemalloc
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from teramind_data.brain import Brain
from teramind_data.errors import InputError, MissingShardError, OutputExistsError
from teramind_data.export import TiffOptions, find_section, tile_count, write_ome_tiff
from teramind_data.geometry import ceil_div
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, ImageSpec, Section, append_image, create_brain, open_brain
from tests.data.export.conftest import PIXEL_UM, write_small

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def pixels_of(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    element = root.find(f"{OME}Image/{OME}Pixels")
    assert element is not None
    return element


@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd", "none"])
def test_every_level_is_lossless(small: Brain, tmp_path: Path, compression: str) -> None:
    out = write_ome_tiff(small, 1, tmp_path / "a.ome.tif", TiffOptions(compression=compression, tile=128))
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_ome and not tiff.is_bigtiff
        levels = tiff.series[0].levels
        assert len(levels) == len(small.levels("morphology")) == 2
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(level.asarray(), small.read("morphology", 1, level=number))


def test_pyramid_is_subifds_of_each_tiled_plane(small: Brain, tmp_path: Path) -> None:
    out = write_ome_tiff(small, 0, tmp_path / "a.ome.tif", TiffOptions(tile=128))
    with tifffile.TiffFile(out) as tiff:
        assert len(tiff.pages) == 2
        for page in tiff.pages:
            assert (page.tilewidth, page.tilelength, page.is_tiled) == (128, 128, True)
            assert len(page.subifds or ()) == 1
            sub = page.pages[0]
            assert sub.subfiletype == 1 and sub.is_tiled
        per_cm = tiff.pages[0].tags["XResolution"].value
        assert per_cm[0] / per_cm[1] == pytest.approx(1e4 / PIXEL_UM)


def test_physical_size_and_channels(small: Brain, tmp_path: Path) -> None:
    pixels = pixels_of(write_ome_tiff(small, 2, tmp_path / "a.ome.tif"))
    assert float(pixels.attrib["PhysicalSizeX"]) == float(pixels.attrib["PhysicalSizeY"]) == PIXEL_UM
    assert pixels.attrib["PhysicalSizeXUnit"] == "µm"
    channels = pixels.findall(f"{OME}Channel")
    assert [c.attrib["Name"] for c in channels] == ["DAPI", "PolyT"]
    colours = [int(c.attrib["Color"]) & 0xFFFFFFFF for c in channels]
    assert colours == [0x40AAFFFF, 0xFFB030FF]
    assert {float(p.attrib["PositionZ"]) for p in pixels.findall(f"{OME}Plane")} == {200.0}


def test_expression_of_chosen_genes_has_bins_for_pixels(small: Brain, tmp_path: Path) -> None:
    options = TiffOptions("expression", ("gene4", "gene0"))
    out = write_ome_tiff(small, 0, tmp_path / "genes.ome.tif", options)
    expected = small.read("expression", 0)[[4, 0]]
    np.testing.assert_array_equal(tifffile.imread(out), expected)
    assert float(pixels_of(out).attrib["PhysicalSizeX"]) == 16 * PIXEL_UM


def test_labels_and_half_floats(tmp_path: Path) -> None:
    brain = write_small(tmp_path / "s.zarr")
    maps = np.random.default_rng(0).random((2, 3, 25, 19)).astype(np.float16)
    append_image(
        brain.url,
        ImageSpec("attention_X", ("a", "b"), "float16", 16),
        ((z, None, maps[:, z]) for z in range(3)),
    )
    brain = open_brain(brain.url)  # type: ignore[assignment]
    out = write_ome_tiff(brain, 1, tmp_path / "att.ome.tif", TiffOptions("attention_X"))
    np.testing.assert_array_equal(tifffile.imread(out), maps[:, 1].astype(np.float32))
    out = write_ome_tiff(brain, 1, tmp_path / "t.ome.tif", TiffOptions("tissue"))
    np.testing.assert_array_equal(np.squeeze(tifffile.imread(out)), brain.read("tissue", 1))


def test_same_section_same_bytes(small: Brain, tmp_path: Path) -> None:
    one, two = (write_ome_tiff(small, 0, tmp_path / f"{n}.ome.tif") for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_every_tile_is_told_of(small: Brain, tmp_path: Path) -> None:
    options = TiffOptions(tile=128)
    told: list[float] = []
    write_ome_tiff(small, 0, tmp_path / "a.ome.tif", options, advance=told.append)
    expected = sum(
        2 * ceil_div(a.shape[2], 128) * ceil_div(a.shape[3], 128) for a in small.levels("morphology")
    )
    assert sum(told) == expected == tile_count(small, 0, options)


def test_a_file_that_is_there_stays(small: Brain, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.tif"
    out.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_ome_tiff(small, 0, out)
    assert out.read_bytes() == b"mine"
    write_ome_tiff(small, 0, out, overwrite=True)
    assert tifffile.imread(out).shape == (2, 400, 304)


def test_a_lost_shard_leaves_no_file(tmp_path: Path) -> None:
    brain = write_small(tmp_path / "s.zarr")
    shard = Path(brain.url) / "images/morphology/ome.zarr/0/c/0/1/1/1"
    shard.unlink()
    with pytest.raises(MissingShardError, match="c/0/1/1/1"):
        write_ome_tiff(brain, 1, tmp_path / "a.ome.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "rar"}, "unknown compression"),
        ({"quality": 0, "compression": "jpeg"}, "quality is out of range"),
        ({"tile": 100}, "multiple of 16"),
        ({"channels": ("Cy5",)}, "no such channel"),
        ({"image": "expression", "channels": ("gene0", "geneX")}, "no such channel"),
        ({"image": "regions", "compression": "jpeg"}, "8-bit"),
    ],
)
def test_bad_options_are_refused(small: Brain, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_ome_tiff(small, 0, tmp_path / "a.ome.tif", TiffOptions(**options))
    assert not list(tmp_path.iterdir())


def test_sections_by_name_or_index(small: Brain) -> None:
    assert [find_section(small, wanted) for wanted in ("s2", "1", 0)] == [2, 1, 0]
    with pytest.raises(InputError, match=r"0\.\.2 or a name \(s0, s1, s2\)"):
        find_section(small, "3")


def test_memory_does_not_grow_with_the_canvas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane of 16 M pixels is written holding far less than a plane."""
    monkeypatch.setattr("teramind_data.export._HELD", 1 << 20)
    spec = BrainSpec("generated", (4096, 4096), 0.5, (Section(0, "s", 0.0),), Panel(("a",)), shard=1024)
    writer = create_brain(tmp_path / "big.zarr", spec)
    rng = np.random.default_rng(0)
    for z, box in writer.pending("morphology"):
        block = np.zeros((2, *box.shape), np.uint8)
        block[:, ::8, ::8] = rng.integers(0, 255, (2, box.height // 8, box.width // 8))
        writer.write("morphology", z, box, block)
    brain = writer.finish()
    tracemalloc.start()
    write_ome_tiff(brain, 0, tmp_path / "big.ome.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20, f"peak {peak / 2**20:.1f} MiB for a plane of 16 MiB"
    assert tifffile.imread(tmp_path / "big.ome.tif", key=1)[8, 8] == brain.morphology[1, 0, 8, 8]


def test_of_many_channels_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    panel = Panel(tuple(f"gene{number}" for number in range(1009)))
    create_brain(tmp_path / "s.zarr", BrainSpec("atlas", (64, 64), PIXEL_UM, (Section(0, "s0", 0.0),), panel))
    brain = open_brain(tmp_path / "s.zarr", incomplete=True)
    with pytest.raises(InputError, match=r"gene6, gene7 and 1,001 more, found Th, Gad1\)"):
        write_ome_tiff(brain, 0, tmp_path / "a.ome.tif", TiffOptions("expression", ("Th", "Gad1")))


@pytest.mark.parametrize("name", ["A.OME.TIF", "a.ome.tiff"])
def test_names_of_ome_tiffs(small: Brain, tmp_path: Path, name: str) -> None:
    assert write_ome_tiff(small, 0, tmp_path / name, TiffOptions("tissue")).name == name
