"""Manifests: what is found in a folder, what is odd about it and said, and where files are when not at their places."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
import yaml

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest.manifest import discover, load_manifest, notes, parse_manifest
from teramind_data.ingest.merscope import GeneNames, TranscriptCount, read_folder, stream_transcripts
from teramind_data.ingest.slide import Slide
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, Section

IMAGE = np.random.default_rng(0).integers(0, 4000, (2, 3, 96, 128), np.uint16)


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name / "images").mkdir(parents=True)
    return root


def of(sections: list[dict[str, Any]], **keys: Any) -> Any:
    return parse_manifest({"version": 1, "sections": sections, **keys}, Path("m.yaml"))


def test_a_section_that_is_not_there_leaves_its_gap(tmp_path: Path) -> None:
    found = discover(folders(tmp_path, "s_9", "s_10", "s_11", "s_12", "s_15", "annotation"), 50)
    assert [(entry.folder, entry.z_um) for entry in found.sections] == [
        ("s_9", 0), ("s_10", 50), ("s_11", 100), ("s_12", 150), ("s_15", 300),
    ]  # fmt: skip
    assert notes(found) == (
        "missing: s_13 to s_14 (2 sections)",
        "uneven spacing: 150 um from s_12 to s_15, 50 um is usual",
    )


def test_names_without_numbers_go_by_name(tmp_path: Path) -> None:
    found = discover(folders(tmp_path, "front", "back", "middle"))
    assert [(entry.folder, entry.z_um) for entry in found.sections] == [
        ("back", 0),
        ("front", 100),
        ("middle", 200),
    ]
    assert notes(found) == ()


@pytest.mark.parametrize("z", [(0.0, 112.5, 300.0), (0.0, 187.5, 300.0), (0.0, 50.0, 100.0, 400.0, 900.0)])
def test_what_is_usual_is_one_number_in_notes_and_store(z: tuple[float, ...]) -> None:
    manifest = of([{"folder": f"s_{number}", "z_um": at} for number, at in enumerate(z)])
    sections = tuple(Section(number, f"s_{number}", at) for number, at in enumerate(z))
    spec = BrainSpec("atlas", (256, 256), 0.5, sections, Panel(("Th",)))
    assert spec.z_spacing_um in {after - before for before, after in pairwise(z)}
    said = notes(manifest)
    assert said and all(line.endswith(f", {spec.z_spacing_um:g} um is usual") for line in said)


def test_notes_of_an_edited_manifest() -> None:
    sections = [
        {"folder": "s_000", "z_um": 0.0},
        {"folder": "s_001", "z_um": 100.0, "exclude": "torn"},
        {"folder": "s_003", "z_um": 100.0},
        {"folder": "s_004", "z_um": 200.0},
        {"folder": "s_005", "z_um": 290.0},
    ]
    assert notes(of(sections)) == (
        "s_001 is left out: torn",
        "missing: s_002",
        "uneven spacing: 90 um from s_004 to s_005, 100 um is usual",
        "duplicate z: s_003 is at 100 um as s_001 is",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sections": [{"folder": "a", "z_um": 1.0}, {"folder": "b", "z_um": 1.0}]},
            "duplicate z: b is at 1 um",
        ),
        (
            {"sections": [{"folder": "a", "z_um": 2.0}, {"folder": "b", "z_um": 1.0}]},
            "z of b is 1 um, not above 2",
        ),
        ({"sections": [{"folder": "a", "exclude": " "}, {"folder": "b"}]}, "exclude needs a reason"),
        ({"sections": [{"folder": "a", "exclude": None}, {"folder": "b"}]}, "exclude needs a reason"),
        ({"sections": [{"folder": "a", "exclude": True}, {"folder": "b"}]}, r"sections\.0\.exclude"),
        ({"z_plane": "middle"}, "z_plane"),
        ({"z_plane": -1}, "z_plane"),
        ({"transcripts": {"columns": "vizgen"}}, "transcripts"),
        ({"transcripts": {"columns": {"x": "a", "y": "b"}}}, "transcripts.columns"),
        ({"transcripts": {"z_planes": []}}, "z_planes"),
        ({"images": {"DAPI": {"channel": 1}}}, "file"),
        ({"image_pixel_size_um": 0}, "image_pixel_size_um"),
    ],
)
def test_bad_manifests(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_manifest({"version": 1, "sections": [{"folder": "a"}], **change}, Path("m.yaml"))
    assert "\n" not in str(caught.value)


def other_layout(root: Path) -> Path:
    """A section with a spot table and one OME-TIFF of two channels and three planes."""
    folder = root / "s_0"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {"px": [1.0, 2.0, 3.0], "py": [4.0, 5.0, 6.0], "plane": [0, 1, 2], "target": ["Th", "Gad1", "Th"]}
    ).write_csv(folder / "spots_final.csv")
    tifffile.imwrite(
        folder / "stack.ome.tif",
        IMAGE,
        tile=(64, 64),
        photometric="minisblack",
        metadata={
            "axes": "CZYX", "Channel": {"Name": ["DAPI", "PolyT"]}, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25,
        },
    )  # fmt: skip
    return folder


def test_files_where_the_manifest_says(tmp_path: Path) -> None:
    folder = other_layout(tmp_path)
    file = tmp_path / "m.yaml"
    content: dict[str, Any] = {
        "version": 1,
        "transcripts": {
            "file": "spots_final.csv", "z_planes": [0, 2],
            "columns": {"x": "px", "y": "py", "gene": "target", "z": "plane"},
        },
        "images": {"DAPI": {"file": "stack.ome.tif"}, "PolyT": {"file": "stack.ome.tif", "channel": 0, "z_plane": 2}},
        "z_plane": "max",
        "sections": [{"folder": "s_0", "images": {"PolyT": {"file": "stack.ome.tif", "channel": "PolyT"}}}],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    manifest = load_manifest(file)
    found = read_folder(folder, manifest.layout(manifest.sections[0]))
    assert set(found.mosaics) == {"DAPI", "PolyT"}
    np.testing.assert_allclose(found.micron_to_mosaic.matrix, [[4, 0, 0], [0, 4, 0]])
    for channel, stain in enumerate(("DAPI", "PolyT")):
        with Slide(found.image_source(stain)) as slide:
            from teramind_data.geometry import Box

            np.testing.assert_array_equal(slide.read(Box(0, 96, 0, 128)), IMAGE[channel].max(axis=0))
    names, count = GeneNames(), TranscriptCount()
    (batch,) = stream_transcripts(found.transcript_source, names, count)
    assert batch[0].tolist() == [[1, 4], [3, 6]]
    assert (names.names, count.other_planes) == (["Th"], 1)
    content["sections"][0]["images"]["PolyT"]["file"] = "../../x.tif"
    manifest = parse_manifest(content, file)
    with pytest.raises(InputError, match="leads out of its folder"):
        read_folder(folder, manifest.layout(manifest.sections[0]))
    content["sections"][0]["images"]["PolyT"]["file"] = "none.tif"
    manifest = parse_manifest(content, file)
    with pytest.raises(MissingInputError, match=r"no PolyT image.*none\.tif"):
        read_folder(folder, manifest.layout(manifest.sections[0]))


def test_pixel_size_of_images_without_metadata(tmp_path: Path) -> None:
    folder = other_layout(tmp_path)
    (folder / "spots_final.csv").rename(folder / "spots.csv")
    tifffile.imwrite(folder / "d.tif", IMAGE[0, 0], photometric="minisblack", metadata=None)
    keys: dict[str, Any] = {"images": {"DAPI": {"file": "d.tif"}}}
    manifest = of([{"folder": "s_0"}], **keys)
    with pytest.raises(InputError, match=r"does not tell its pixel size.*d\.tif.*image_pixel_size_um"):
        read_folder(folder, manifest.layout(manifest.sections[0]))
    manifest = of([{"folder": "s_0"}], **keys, image_pixel_size_um=0.5)
    found = read_folder(folder, manifest.layout(manifest.sections[0]))
    np.testing.assert_allclose(found.micron_to_mosaic.matrix, [[2, 0, 0], [0, 2, 0]])


def test_the_command_shows_files_and_oddities(
    tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    raw = folders(tmp_path / "raw", "s_0", "s_1", "s_3")
    (raw / "s_1" / "detected_transcripts.csv.zst").write_bytes(bytes(2_500_000))
    (raw / "s_0" / "images" / "mosaic_DAPI_z0.tif").write_bytes(bytes(1_000_000))
    code, out, _ = run_command("manifest", raw, "-o", tmp_path / "m.yaml")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].split() == ["s_0", "0", "none", "1,", "1.0", "MB", "identity"]
    assert lines[2].split() == ["s_1", "100", "2.5", "MB", "none", "identity"]
    assert lines[3].split()[:2] == ["s_3", "300"]
    assert lines[4:6] == [
        "note: missing: s_2",
        "note: uneven spacing: 200 um from s_1 to s_3, 100 um is usual",
    ]
