"""Damages to a section's images: TIFF, OME-TIFF and OME-Zarr."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.damage.input_tools import DAPI, POLYT, flipped, link_out, manifest, several, tag, text, tiff
from tests.data.damage.store_tools import cut, delete, replace
from tests.data.damage.table import Damage, InputDamage

FILE = "mosaic_DAPI_z3.tif"
TILED = {"tile": (128, 128), "compression": "zlib"}
ZARR = "raw/section_000/dapi.zarr"


def xml(description: str) -> Damage:
    return tiff(description=description.encode())


def tile_bytes(change: Callable[[bytes], bytes]) -> Damage:
    """The first tile's bytes changed and put at the end of the file."""

    def do(root: Path) -> None:
        import tifffile

        tiff(**TILED)(root)
        data = (root / DAPI).read_bytes()
        with tifffile.TiffFile(root / DAPI, mode="r+") as file:
            tags = file.pages[0].tags
            offsets, counts = list(tags["TileOffsets"].value), list(tags["TileByteCounts"].value)
            new = change(data[offsets[0] : offsets[0] + counts[0]])
            tags["TileOffsets"].overwrite([len(data), *offsets[1:]])
            tags["TileByteCounts"].overwrite([len(new), *counts[1:]])
        with (root / DAPI).open("ab") as handle:
            handle.write(new)

    return do


def as_zarr(change: Callable[[Path], Any] = lambda folder: None, **options: Any) -> Damage:
    """The first section's DAPI as OME-Zarr 0.5 that a manifest names, and then changed."""

    def do(root: Path) -> None:
        import tifffile
        import zarr

        pixels = tifffile.imread(root / DAPI)
        group = zarr.open_group(root / ZARR, mode="w", zarr_format=3)
        settings = {"chunks": (256, 256), "dtype": pixels.dtype, **options}
        group.create_array("0", shape=pixels.shape, **settings)[:] = pixels.astype(settings["dtype"])
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.432, 0.432]}]}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
        manifest(lambda m: m["sections"][0].update(images={"DAPI": {"file": "dapi.zarr"}}))(root)
        change(root / ZARR)

    return do


def ome(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """The OME block of that image changed."""

    def do(folder: Path) -> None:
        file = folder / "zarr.json"
        data = json.loads(file.read_text())
        change(data["attributes"]["ome"])
        file.write_text(json.dumps(data))

    return as_zarr(do)


def array(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """The array's metadata changed."""

    def do(folder: Path) -> None:
        file = folder / "0" / "zarr.json"
        data = json.loads(file.read_text())
        change(data)
        file.write_text(json.dumps(data))

    return as_zarr(do)


def chunk(change: Callable[[bytes], bytes]) -> Damage:
    """The bytes of a chunk changed."""

    def do(folder: Path) -> None:
        file = folder / "0" / "c" / "0" / "1"
        file.write_bytes(change(file.read_bytes()))

    return as_zarr(do)


def chunk_out(folder: Path) -> None:
    outside = folder.parents[2].parent / "outside-chunk"
    (folder / "0" / "c" / "0" / "0").rename(outside)
    (folder / "0" / "c" / "0" / "0").symlink_to(outside)


def zeros(pixels: np.ndarray) -> np.ndarray:
    return np.zeros_like(pixels)


TIFFS = [
    InputDamage("TIFF cut", cut(DAPI, 0.5), FILE, "truncated or damaged"),
    InputDamage("TIFF cut in its header", cut(DAPI, 0.000008), FILE, "truncated or damaged"),
    InputDamage("TIFF that is empty", text(DAPI, ""), FILE, "truncated or damaged"),
    InputDamage("TIFF that is text", text(DAPI, "no image\n" * 99), FILE, "truncated or damaged"),
    InputDamage(
        "TIFF that is a PNG", replace(DAPI, b"\x89PNG\r\n\x1a\n" + bytes(200)), FILE, "truncated or damaged"
    ),
    InputDamage(
        "TIFF of floats", tiff(lambda a: a.astype(np.float32)), FILE, "uint8 or uint16, found float32"
    ),
    InputDamage(
        "TIFF of signed numbers", tiff(lambda a: a.astype(np.int32)), FILE, "uint8 or uint16, found int32"
    ),
    InputDamage("TIFF of one bit", tiff(lambda a: a > 100), FILE, "uint8 or uint16, found"),
    InputDamage(
        "TIFF of complex numbers",
        tiff(lambda a: a.astype(np.complex64)),
        FILE,
        "uint8 or uint16, found complex64",
    ),
    InputDamage(
        "TIFF of colours",
        tiff(lambda a: np.stack([a.astype(np.uint8)] * 3, -1), photometric="rgb"),
        FILE,
        "channel is not known.*found red, green, blue",
    ),
    InputDamage("TIFF of pages", tiff(lambda a: np.stack([a] * 3)), FILE, "does not say what its pages are"),
    InputDamage(
        "TIFF of time points",
        tiff(lambda a: np.stack([a] * 3), metadata={"axes": "TYX"}, ome=True),
        FILE,
        "not supported.*axes TYX",
    ),
    InputDamage("TIFF of another size", tiff(lambda a: a[:-8]), "section_000", "mosaics differ in size"),
    InputDamage(
        "TIFF that is declared wider", tag("ImageWidth", 1 << 20), FILE, "truncated|differ in size|tiles"
    ),
    InputDamage(
        "TIFF that is declared taller", tag("ImageLength", 1 << 20), FILE, "truncated|differ in size|tiles"
    ),
    InputDamage("TIFF without width", tag("ImageWidth", 0), FILE, "truncated"),
    InputDamage(
        "TIFF of unknown compression", tag("Compression", 61234), FILE, "truncated or damaged|not supported"
    ),
    InputDamage("TIFF of 77 bits", tag("BitsPerSample", 77), FILE, "uint8 or uint16|truncated"),
    InputDamage(
        "TIFF with pixels beyond its end", tag("StripOffsets", 1 << 30), FILE, "truncated or damaged"
    ),
    InputDamage(
        "TIFF with fewer tiles than declared",
        tag("TileByteCounts", lambda old: old[:3], **TILED),
        FILE,
        "truncated",
    ),
    InputDamage(
        "TIFF of vast tiles", tag("TileWidth", 1 << 19, **TILED), FILE, "tiles are too large|truncated"
    ),
    InputDamage("tile with a flipped bit", tile_bytes(lambda d: flipped(d, 0.5)), FILE, "truncated.*tile 0"),
    InputDamage("tile cut", tile_bytes(lambda d: d[: len(d) // 2]), FILE, "truncated.*tile 0"),
    InputDamage(
        "tile that is a bomb",
        tile_bytes(lambda d: zlib.compress(bytes(8 << 20), 9)),
        FILE,
        "truncated.*tile 0",
    ),
    InputDamage(
        "tile of another codec", tile_bytes(lambda d: b"\x28\xb5\x2f\xfd" + d), FILE, "truncated.*tile 0"
    ),
    InputDamage(
        "XML with a document type",
        xml('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><OME>&a;</OME>'),
        FILE,
        "declares a document type.*without DTD",
    ),
    InputDamage(
        "XML that breaks off", xml('<?xml version="1.0"?><OME><Image>'), FILE, "OME-XML that breaks off"
    ),
    InputDamage("no light in a section", tiff(zeros), "section_000", "its DAPI image is flat", warns=True),
    InputDamage(
        "no light in a section's other stain",
        tiff(zeros, POLYT),
        "section_000",
        "PolyT image is flat",
        warns=True,
    ),
    InputDamage(
        "one grey in a stain",
        several(tiff(lambda a: zeros(a) + 7), tiff(lambda a: zeros(a) + 7, DAPI.replace("000", "001"))),
        "DAPI",
        "DAPI images are flat",
    ),
    InputDamage(
        "channel that is not there",
        manifest(
            lambda m: m["sections"][0].update(images={"DAPI": {"file": "images/" + FILE, "channel": 4}})
        ),
        FILE,
        "channel is not known",
    ),
    InputDamage(
        "plane that is not there",
        manifest(
            lambda m: m["sections"][0].update(images={"DAPI": {"file": "images/" + FILE, "z_plane": 9}})
        ),
        FILE,
        r"no plane z9.*0 \.\. 0",
    ),
    InputDamage(
        "mosaic of a plane that is not there", manifest(lambda m: m.update(z_plane=1)), "DAPI", "plane z1.*z3"
    ),
    InputDamage(
        "image named outside its folder",
        manifest(
            lambda m: m["sections"][0].update(images={"DAPI": {"file": "../section_001/images/" + FILE}})
        ),
        FILE,
        "leads out of its folder",
    ),
    InputDamage(
        "image named links out of its folder",
        several(
            link_out(DAPI),
            manifest(lambda m: m["sections"][0].update(images={"DAPI": {"file": "images/" + FILE}})),
        ),
        FILE,
        "leads out of its folder",
    ),
    InputDamage(
        "image named is not there",
        several(
            manifest(lambda m: m["sections"][0].update(images={"PolyT": {"file": "images/none.tif"}})),
            delete(POLYT),
        ),
        "none.tif",
        "has no PolyT image",
    ),
]
ZARRS = [
    InputDamage(
        "Zarr without metadata", as_zarr(lambda f: (f / "zarr.json").unlink()), "dapi.zarr", "OME-Zarr group"
    ),
    InputDamage(
        "Zarr metadata cut",
        as_zarr(lambda f: (f / "zarr.json").write_bytes((f / "zarr.json").read_bytes()[:80])),
        "dapi.zarr",
        "OME-Zarr group",
    ),
    InputDamage("Zarr without image", ome(lambda o: o.clear()), "dapi.zarr", "OME-Zarr"),
    InputDamage(
        "Zarr of another version",
        ome(lambda o: o.update(version="0.9")),
        "dapi.zarr",
        "0.4 or 0.5, found 0.9",
    ),
    InputDamage(
        "Zarr with axes swapped",
        ome(lambda o: o["multiscales"][0]["axes"].reverse()),
        "dapi.zarr",
        "axes t, c, z, y, x in this order.*found x, y",
    ),
    InputDamage(
        "Zarr without levels", ome(lambda o: o["multiscales"][0].update(datasets=[])), "dapi.zarr", "metadata"
    ),
    InputDamage(
        "Zarr of a level that is not there",
        ome(lambda o: o["multiscales"][0]["datasets"][0].update(path="7")),
        "dapi.zarr",
        "metadata",
    ),
    InputDamage(
        "Zarr that leads out",
        several(
            ome(lambda o: o["multiscales"][0]["datasets"][0].update(path="../../section_001/dapi.zarr/0")),
        ),
        "dapi.zarr",
        "metadata",
    ),
    InputDamage("Zarr of floats", as_zarr(dtype="float32"), "dapi.zarr", "uint8 or uint16, found float32"),
    InputDamage(
        "Zarr of vast chunks",
        array(lambda a: a["chunk_grid"]["configuration"].update(chunk_shape=[1 << 17, 1 << 17])),
        "dapi.zarr",
        "tiles are too large",
    ),
    InputDamage(
        "Zarr of an unknown codec",
        array(lambda a: a["codecs"].append({"name": "pickle"})),
        "dapi.zarr",
        "metadata|codec",
    ),
    InputDamage(
        "Zarr of another shape", array(lambda a: a.update(shape=[512, 500])), "section_000", "differ in size"
    ),
    InputDamage("Zarr without shape", array(lambda a: a.pop("shape")), "dapi.zarr", "metadata"),
    InputDamage("chunk cut", chunk(lambda d: d[:-100]), "dapi.zarr", "chunk 0, 1"),
    InputDamage("chunk that is empty", chunk(lambda d: b""), "dapi.zarr", "chunk 0, 1"),
    InputDamage("chunk with a flipped bit", chunk(lambda d: flipped(d, 0.001)), "dapi.zarr", "chunk 0, 1"),
    InputDamage("chunk of something else", chunk(lambda d: b"hello" * 50), "dapi.zarr", "chunk 0, 1"),
    InputDamage("chunk links out", as_zarr(chunk_out), "dapi.zarr/0/c/0/0", "is a link out of", warns=True),
]
DAMAGES = [*TIFFS, *ZARRS]
