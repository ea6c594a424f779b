"""Images of every format: the same pixels, and only the tiles under a box are decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import Box
from teramind_data.ingest.images import ImageSource, is_image, open_stack
from teramind_data.ingest.images.omezarr import ZarrPlane
from teramind_data.ingest.images.source import size_and_hash
from teramind_data.ingest.images.tiff import TiffPlane
from teramind_data.ingest.slide import Slide

#: (c, z, y, x)
STACK = np.random.default_rng(0).integers(0, 65536, (2, 3, 200, 330), np.uint16)
SMOOTH = (np.add.outer(np.arange(200), np.arange(330)) // 3).astype(np.uint8)
BOXES = (Box(0, 200, 0, 330), Box(63, 130, 127, 260), Box(-40, 20, 300, 360))


def expected(plane: np.ndarray, box: Box) -> np.ndarray:
    padded = np.pad(plane, 100)
    return padded[box.y0 + 100 : box.y1 + 100, box.x0 + 100 : box.x1 + 100]


def check(source: ImageSource | Path, plane: np.ndarray) -> None:
    with Slide(source) as slide:
        assert slide.shape == plane.shape
        assert slide.dtype == plane.dtype
        for box in BOXES:
            np.testing.assert_array_equal(slide.read(box), expected(plane, box))


def write_ome(path: Path, data: np.ndarray, axes: str, levels: int = 0, **options: Any) -> Path:
    metadata: dict[str, Any] = {
        "axes": axes, "PhysicalSizeX": 0.108, "PhysicalSizeY": 0.108,
        "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    if "C" in axes:
        metadata["Channel"] = {"Name": ["DAPI", "PolyT & more"]}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        writer.write(data, metadata=metadata, subifds=levels, photometric="minisblack", **options)
        for level in range(1, levels + 1):
            writer.write(
                data[..., :: 2**level, :: 2**level], subfiletype=1, photometric="minisblack", **options
            )
    return path


def write_zarr(path: Path, data: np.ndarray, axes: str, version: str, sharded: bool = False) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    chunks = (1,) * (data.ndim - 2) + (64, 96)
    options: dict[str, Any] = {"shards": (1,) * (data.ndim - 2) + (128, 192)} if sharded else {}
    for level in (0, 1):
        part = data[..., :: 2**level, :: 2**level]
        array = group.create_array(str(level), shape=part.shape, dtype=part.dtype, chunks=chunks, **options)
        array[...] = part
    kind = {"t": "time", "c": "channel"}
    listed = [
        {"name": axis, "type": kind.get(axis, "space"), **({} if axis in kind else {"unit": "micrometer"})}
        for axis in axes
    ]
    scales = [[1.0] * (len(axes) - 2) + [0.108 * 2**level] * 2 for level in (0, 1)]
    image: dict[str, Any] = {
        "axes": listed,
        "datasets": [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for level, scale in enumerate(scales)
        ],
    }
    block: dict[str, Any] = {"multiscales": [image]}
    if "c" in axes:
        block["omero"] = {"channels": [{"label": "DAPI"}, {"label": "PolyT"}]}
    if version == "0.4":
        image["version"] = "0.4"
        group.attrs.update(block)
    else:
        group.attrs["ome"] = {"version": version, **block}
    return path


@pytest.mark.parametrize(
    "compression",
    [None, "zlib", "lzw", "packbits", "lzma", "zstd", "jpeg2000", "jpegxl", "png", "webp", "lerc"],
)
@pytest.mark.parametrize("layout", [{"tile": (64, 96)}, {"rowsperstrip": 33}], ids=["tiled", "striped"])
def test_every_compression(tmp_path: Path, compression: str | None, layout: dict[str, Any]) -> None:
    image = SMOOTH
    if compression == "webp":  # has no grey
        image = np.dstack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH])
    options: dict[str, Any] = (
        {"compressionargs": {"lossless": True}} if compression in ("webp", "jpegxl") else {}
    )
    if compression == "jpeg2000":
        options = {"compressionargs": {"reversible": True}}
    file = tmp_path / "a.tif"
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    tifffile.imwrite(
        file, image, photometric=photometric, compression=compression, metadata=None, **layout, **options
    )
    if image.ndim == 2:
        check(file, image)
    else:
        for channel, name in enumerate(("red", "green", "blue")):
            check(ImageSource((file,), channel), image[..., channel])
            check(ImageSource((file,), name), image[..., channel])


@pytest.mark.parametrize("kind", ["jpeg", "jpeg tables"])
def test_lossy_jpeg(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, SMOOTH, tile=(64, 96), photometric="minisblack", compression="jpeg", metadata=None)
    with Slide(file) as slide:
        assert np.abs(slide.read(BOXES[0]).astype(int) - SMOOTH).max() <= 6


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
def test_channels_and_planes_of_ome_tiff(tmp_path: Path, axes: str, levels: int) -> None:
    data = STACK if axes == "CZYX" else STACK.swapaxes(0, 1)
    file = write_ome(tmp_path / "a.ome.tif", data, axes, levels, tile=(64, 64), compression="zlib")
    for channel, name in enumerate(("DAPI", "PolyT & more")):
        check(ImageSource((file,), name, 2), STACK[channel, 2])
        check(ImageSource((file,), channel, "max"), STACK[channel].max(axis=0))
        check(ImageSource((file,), stain=name.lower()), STACK[channel, 1])
    stack = open_stack(file)
    assert (stack.planes, stack.channels, stack.unnamed) == (3, ("DAPI", "PolyT & more"), 0)
    assert stack.pixel_size_um == pytest.approx((0.108, 0.108))
    stack.close()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_are_channels(tmp_path: Path, planar: str) -> None:
    data = STACK[:, 0] if planar == "separate" else np.moveaxis(STACK[:, 0], 0, -1)
    file = tmp_path / "a.tif"
    tifffile.imwrite(
        file,
        data,
        tile=(64, 64),
        photometric="minisblack",
        planarconfig=planar,
        metadata=None,
        compression="zlib",
    )
    check(ImageSource((file,), 1), STACK[1, 0])
    with pytest.raises(InputError, match=r"channel is not known.*expected DAPI, found red, green"):
        Slide(ImageSource((file,), stain="DAPI"))


@pytest.mark.parametrize(("version", "sharded"), [("0.4", False), ("0.5", False), ("0.5", True)])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "czyx", "tczyx"])
def test_ome_zarr(tmp_path: Path, axes: str, version: str, sharded: bool) -> None:
    data = {"yx": STACK[0, 0], "cyx": STACK[:, 0], "zyx": STACK[0], "czyx": STACK, "tczyx": STACK[None]}[axes]
    folder = write_zarr(tmp_path / "a.ome.zarr", data, axes, version, sharded)
    assert is_image(folder)
    channel = "PolyT" if "c" in axes else None
    planes = STACK[int("c" in axes)] if "z" in axes else STACK[int("c" in axes), :1]
    check(ImageSource((folder,), channel), planes[len(planes) // 2])
    check(ImageSource((folder,), channel, "max"), planes.max(axis=0))
    with Slide(ImageSource((folder,), channel)) as slide:
        assert slide.pixel_size_um == pytest.approx((0.108, 0.108))


def test_one_file_a_plane_is_max_projected(tmp_path: Path) -> None:
    files = []
    for z in range(3):
        files.append(tmp_path / f"mosaic_DAPI_z{z}.tif")
        tifffile.imwrite(files[-1], STACK[0, z], tile=(64, 64), photometric="minisblack", metadata=None)
    check(ImageSource(tuple(files)), STACK[0].max(axis=0))
    tifffile.imwrite(files[1], STACK[0, 1, :100], photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match="z planes of an image differ"):
        Slide(ImageSource(tuple(files)))


@pytest.mark.parametrize("kind", ["tiff", "0.4", "0.5"])
@pytest.mark.parametrize("z", [1, "max"])
def test_only_tiles_under_the_box_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, z: Any
) -> None:
    decoded: list[tuple[int, int]] = []
    for plane in (TiffPlane, ZarrPlane):
        original = plane.decode
        monkeypatch.setattr(
            plane,
            "decode",
            lambda self, row, column, original=original: (
                decoded.append((row, column)),
                original(self, row, column),
            )[1],
        )
    if kind == "tiff":
        file = write_ome(tmp_path / "a.ome.tif", STACK, "CZYX", 2, tile=(64, 96))
    else:
        file = write_zarr(tmp_path / "a.zarr", STACK, "czyx", kind)
    with Slide(ImageSource((file,), "DAPI", z)) as slide:
        assert not decoded
        slide.read(Box(70, 100, 100, 200))
        planes = 3 if z == "max" else 1
        assert sorted(decoded) == sorted([(1, 1), (1, 2)] * planes)
        slide.read(Box(64, 128, 96, 288))
        assert len(decoded) == 2 * planes  # held
        assert not slide.read(Box(1000, 1010, 0, 10)).any()
        assert len(decoded) == 2 * planes


def test_zarr_reads_the_chunks_asked_for_from_disk(tmp_path: Path) -> None:
    folder = write_zarr(tmp_path / "a.zarr", STACK, "czyx", "0.5")
    for file in (folder / "0" / "c" / "0" / "1").rglob("*"):
        if file.is_file() and (file.parent.name, file.name) != ("1", "2"):
            file.write_bytes(b"damaged")
    with Slide(ImageSource((folder,), 0, 1)) as slide:
        np.testing.assert_array_equal(slide.read(Box(64, 128, 192, 288)), STACK[0, 1, 64:128, 192:288])
        with pytest.raises(InputError, match=r"truncated or damaged.*a\.zarr.*chunk 0, 2"):
            slide.read(Box(60, 128, 192, 288))


def test_pages_without_a_name(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, STACK[0], tile=(64, 64), photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match=r"does not say what its pages are.*3 pages.*channel or z_plane"):
        Slide(file)
    check(ImageSource((file,), z=2), STACK[0, 2])
    check(ImageSource((file,), channel=1), STACK[0, 1])
    check(ImageSource((file,), z="max"), STACK[0].max(axis=0))
    with pytest.raises(InputError, match="channel is not known.*pages 0 .. 2"):
        Slide(ImageSource((file,), channel=3))
    with pytest.raises(MissingInputError, match=r"no plane z7.*0 \.\. 2"):
        Slide(ImageSource((file,), z=7))


def test_imagej_hyperstack(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, STACK.swapaxes(0, 1), imagej=True, metadata={"axes": "ZCYX"})
    check(ImageSource((file,), 1, 2), STACK[1, 2])


def test_kinds_not_supported(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    for image in (STACK[0, 0].astype(np.float32), STACK[0, 0].astype(np.int16)):
        tifffile.imwrite(file, image, metadata=None)
        with pytest.raises(InputError, match="kind that is not supported.*uint8 or uint16"):
            Slide(file)
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(STACK[0], metadata={"axes": "TYX"}, photometric="minisblack")
    with pytest.raises(InputError, match="not supported.*axes TYX"):
        Slide(file)
    with pytest.raises(InputError, match=r"not supported.*t, c, z, y, x in this order.*y, x, c"):
        Slide(write_zarr(tmp_path / "x.zarr", np.moveaxis(STACK[:, 0], 0, -1)[..., :2], "yxc", "0.5"))
    with pytest.raises(InputError, match="not supported.*one time point.*3"):
        Slide(write_zarr(tmp_path / "t.zarr", STACK[0], "tyx", "0.5"))
    folder = write_zarr(tmp_path / "v.zarr", STACK[0], "zyx", "0.5")
    document = json.loads((folder / "zarr.json").read_text())
    document["attributes"]["ome"]["version"] = "0.9"
    (folder / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"expected OME-Zarr 0\.4 or 0\.5, found 0\.9"):
        Slide(folder)
    zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(InputError, match="without multiscales"):
        Slide(tmp_path / "g.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="OME-Zarr group"):
        Slide(tmp_path / "empty")


def test_first_image_of_a_collection(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "c.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write_zarr(tmp_path / "c.zarr" / "0", STACK[0], "zyx", "0.4")
    check(ImageSource((tmp_path / "c.zarr",), z=0), STACK[0, 0])


def test_xml_with_a_document_type_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.ome.tif"
    xml = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><OME>&a;</OME>'
    tifffile.imwrite(file, SMOOTH, description=xml, metadata=None, photometric="minisblack")
    with pytest.raises(InputError, match=r"declares a document type.*a\.ome\.tif.*without DTD"):
        Slide(file)


def test_a_tile_that_decodes_to_more_than_declared(tmp_path: Path) -> None:
    """A deflate bomb in one tile: stopped at the declared size, or refused; never held whole."""
    import zlib

    file = tmp_path / "a.tif"
    tifffile.imwrite(file, SMOOTH, tile=(64, 96), photometric="minisblack", compression="zlib", metadata=None)
    bomb = zlib.compress(bytes(64 << 20), 9)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        offsets, counts = page.tags["TileOffsets"], page.tags["TileByteCounts"]
        listed = (list(offsets.value), list(counts.value))
    end = file.stat().st_size
    with file.open("ab") as handle:
        handle.write(bomb)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tags = tiff.pages[0].tags
        tags["TileOffsets"].overwrite([end, *listed[0][1:]])
        tags["TileByteCounts"].overwrite([len(bomb), *listed[1][1:]])
    with Slide(file) as slide, pytest.raises(InputError, match=r"truncated or damaged.*tile 0"):
        slide.read(Box(0, 10, 0, 10))


def test_bad_tile_numbers_and_cut_offs(tmp_path: Path) -> None:
    file = write_ome(tmp_path / "a.ome.tif", STACK, "CZYX", tile=(64, 64), compression="zlib")
    data = file.read_bytes()
    for part in (0.999, 0.7, 0.3, 0.001):
        file.write_bytes(data[: int(len(data) * part)])
        with (
            pytest.raises(InputError, match=r"a\.ome\.tif") as caught,
            Slide(ImageSource((file,), 1, 2)) as slide,
        ):
            slide.read(BOXES[0])
        assert "\n" not in str(caught.value)


def test_size_and_hash(tmp_path: Path) -> None:
    folder = write_zarr(tmp_path / "a.zarr", STACK[0], "zyx", "0.5")
    size, digest = size_and_hash(folder)
    assert size == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size_and_hash(folder) == (size, digest)
    (folder / "0" / "zarr.json").rename(folder / "0" / "zarr2.json")
    assert size_and_hash(folder)[1] != digest
