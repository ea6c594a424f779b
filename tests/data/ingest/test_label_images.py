"""Regions from label images: canvas and atlas plane, any pixel size, TIFF and OME-Zarr, against a slow twin."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from teramind_data.errors import InputError
from teramind_data.ingest import regions
from teramind_data.ingest.annotate import Annotation, read_annotation
from teramind_data.ingest.manifest import discover
from teramind_data.ingest.measure import Measured, measure
from teramind_data.ingest.plan import IngestConfig, make_plan
from teramind_data.workers import Serial

PIXEL = 0.432
BINS = (16, 32)


@pytest.fixture(scope="module")
def raw(raw_brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(raw_brain, tmp_path_factory.mktemp("labels") / "raw"))


@pytest.fixture(scope="module")
def measured(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    plan = make_plan(IngestConfig(raw=raw, out="none.zarr"))
    return measure(plan, tmp_path_factory.mktemp("scratch"), "test", Serial())


Read = Callable[..., Annotation]


@pytest.fixture
def read(raw: Path, measured: Measured, tmp_path: Path) -> Read:
    def run(
        entry: dict[str, Any],
        sections: dict[int, dict[str, Any]] | None = None,
        shift: tuple[int, int] = (0, 0),
        **more: Any,
    ) -> Annotation:
        plain = {**discover(raw).to_plain(), "regions": entry, **more}
        for index, own in (sections or {}).items():
            plain["sections"][index].update(own)
        file = tmp_path / "manifest.yaml"
        file.write_text(yaml.safe_dump(plain))
        plan = make_plan(IngestConfig(raw=raw, out="none.zarr", manifest=file))
        frame = dataclasses.replace(measured.frame, shift=shift)
        found = read_annotation(dataclasses.replace(measured, plan=plan, frame=frame), tmp_path, Serial())
        assert found is not None
        return found

    return run


def labels(annotation: Annotation) -> np.ndarray:
    planes = [annotation.legend.encode(own.rows.read(0, BINS[0])) for own in annotation.sections]
    return np.stack(planes)


def drawn(shape: tuple[int, ...], top: int = 9) -> np.ndarray:
    return np.random.default_rng(3).integers(0, top, shape)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64"])
@pytest.mark.parametrize("tiled", [False, True])
def test_whole_pixels_give_bins_the_label_at_their_centre(
    raw: Path, read: Read, dtype: str, tiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = drawn((2, 256, 512)).astype(dtype)
    tile = {"tile": (64, 64), "compression": "zlib"} if tiled else {"rowsperstrip": 8}
    tifffile.imwrite(raw / "annotation" / "drawn.tif", stack, photometric="minisblack", **tile)
    monkeypatch.setattr(regions, "_BLOCK_BYTES", 1 << 14)
    found = read({"labels": "annotation/drawn.tif"})
    np.testing.assert_array_equal(labels(found), stack[:, 8::16, 8::16])


def test_only_the_tiles_under_centres_are_read(
    raw: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    from teramind_data.ingest.images.tiff import TiffPlane

    tifffile.imwrite(
        raw / "annotation" / "drawn.tif", drawn((2, 256, 512)).astype(np.uint16), photometric="minisblack",
        tile=(64, 64), compression="zlib",
    )  # fmt: skip
    most, decoded = 0, 0
    original = TiffPlane.read

    def counted(self: TiffPlane, box: Any) -> Any:
        nonlocal most, decoded
        most, decoded = max(most, box.area), decoded + 1
        return original(self, box)

    monkeypatch.setattr(TiffPlane, "read", counted)
    monkeypatch.setattr(regions, "_BLOCK_BYTES", 1 << 17)
    read({"labels": "annotation/drawn.tif"})
    assert most <= 256 * 256 and decoded >= 4


@pytest.mark.parametrize("plane", ["canvas", "atlas"])
def test_images_of_their_own_pixel_size(raw: Path, read: Read, plane: str) -> None:
    stack = drawn((2, 31, 50), 200).astype(np.uint16)
    tifffile.imwrite(raw / "annotation" / "drawn.tif", stack, photometric="minisblack")
    size, origin, shift, corner = 5.3, (-11.0, 7.5), (-256, 512), (40.0, -190.0)
    entry = {
        "labels": "annotation/drawn.tif",
        "plane": plane,
        "pixel_size_um": size,
        "origin_um": list(origin),
    }
    found = labels(read(entry, shift=shift, origin_um=list(corner)))
    wanted = np.zeros((2, *BINS), int)
    for i in range(BINS[0]):
        for j in range(BINS[1]):
            if plane == "canvas":  # um from the canvas's corner
                y, x = (16 * i + 8) * PIXEL, (16 * j + 8) * PIXEL
            else:  # um of the plane, where whole pixels are centres
                y = corner[0] + (shift[0] + 16 * i + 7.5) * PIXEL
                x = corner[1] + (shift[1] + 16 * j + 7.5) * PIXEL
            row, column = int(np.floor((y - origin[0]) / size)), int(np.floor((x - origin[1]) / size))
            if 0 <= row < 31 and 0 <= column < 50:
                wanted[:, i, j] = stack[:, row, column]
    np.testing.assert_array_equal(found, wanted)
    assert (wanted > 0).any() and (wanted == 0).any()


def test_ome_zarr_labels(raw: Path, read: Read) -> None:
    import zarr

    stack = drawn((2, *BINS)).astype(np.int32)
    folder = raw / "annotation" / "drawn.zarr"
    shutil.rmtree(folder, ignore_errors=True)
    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    data = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": data}]}
    group.create_array("0", data=stack, chunks=(1, 8, 8))
    found = read({"labels": "annotation/drawn.zarr", "names": "annotation/regions.csv"})
    np.testing.assert_array_equal(labels(found), stack)
    assert found.legend.names[5] == "thalamus"


def test_sections_with_files_of_their_own(raw: Path, read: Read) -> None:
    plane = drawn((256, 512)).astype(np.uint8)
    tifffile.imwrite(raw / "section_001" / "regions.tif", plane, photometric="minisblack")
    found = read({"names": "annotation/regions.csv"}, {1: {"regions": "regions.tif"}})
    np.testing.assert_array_equal(labels(found)[1], plane[8::16, 8::16])
    assert not labels(found)[0].any()
    # The one without has no transcript in a region, which is said.
    assert any(line.startswith("section_000: 0%") for line in found.notes(("section_000", "section_001")))


def test_large_ids_become_labels(raw: Path, read: Read) -> None:
    stack = drawn((2, *BINS)).astype(np.uint32) * 500_000_000 // 8
    tifffile.imwrite(raw / "annotation" / "drawn.tif", stack, photometric="minisblack")
    found = read({"labels": "annotation/drawn.tif"})
    rows = {row["label"]: row["id"] for row in found.attributes()["structures"]}
    np.testing.assert_array_equal(np.vectorize({0: 0, **rows}.get)(labels(found)), stack)
    assert max(rows) == 8


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (drawn((2, 256, 500)), "does not fit the canvas.*(16, 32) bins.*found (256, 500)"),
        (
            drawn((3, *BINS)),
            "another number of pages than there are sections.*expected 2 pages.*found 3 pages.*reason to exclude",
        ),
        (drawn((2, *BINS)) - 1, "labels out of range.*-1 .. 7"),
        (drawn((2, *BINS)).astype(np.int64) << 40, "labels out of range"),
        (drawn((2, *BINS)).astype(np.float32), "annotation is of a kind.*whole numbers.*float32"),
    ],
    ids=["size", "pages", "negative", "too large", "float"],
)
def test_refused(raw: Path, read: Read, stack: np.ndarray, words: str) -> None:
    import re

    tifffile.imwrite(raw / "annotation" / "bad.tif", stack, photometric="minisblack")
    with pytest.raises(InputError, match=re.sub(r"([()])", r"\\\1", words)) as caught:
        read({"labels": "annotation/bad.tif"})
    assert "bad.tif" in str(caught.value) and "\n" not in str(caught.value)


def test_the_manifest_says_it_once(raw: Path, read: Read) -> None:
    with pytest.raises(InputError, match="regions come from one of them"):
        read({"labels": "annotation/regions.tif"}, atlas={"volume": "annotation/atlas.nrrd"})
    with pytest.raises(InputError, match="give labels here, or regions of each section"):
        read({"names": "annotation/regions.csv"})
    with pytest.raises(InputError, match="does not tell its pixel size.*regions.pixel_size_um"):
        read({"labels": "annotation/regions.tif", "plane": "atlas"})
