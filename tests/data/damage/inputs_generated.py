"""Damages to generated tiles, and to other people's images and their tables."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from tests.data.damage.input_tools import link_out, move, several, text
from tests.data.damage.inputs_tiles import changed, meta
from tests.data.damage.store_tools import cut, delete, new, replace
from tests.data.damage.table import Damage, InputDamage
from tests.data.imports.conftest import CELLS, SECTIONS, core_of, stem_of, write_zip, zarr_members

TILE = f"{stem_of(core_of(CELLS[1]), 0)}.zip"
IMAGE = "src/anterior_DAPI.tif"
NAME = "anterior_DAPI"


def tile_of(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """A tile written again with other values."""

    def do(root: Path) -> None:
        values = np.random.default_rng(5).uniform(-1, 1, (2 * SECTIONS, 256, 256)).astype(np.float16)
        write_zip(root / "tiles" / TILE, zarr_members(change(values)))

    return do


def at(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def do(values: np.ndarray) -> np.ndarray:
        values[1, 7, 7] = value
        return values

    return do


def image(change: Callable[[np.ndarray], np.ndarray], **options: object) -> Damage:
    """The image written again."""
    return lambda root: tifffile.imwrite(root / IMAGE, change(tifffile.imread(root / IMAGE)), **options)


def png(width: int, height: int, bits: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    """A PNG's header."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4sIIBB", 13, b"IHDR", width, height, bits, colour)
        + bytes(7)
        + body
    )


def as_png(data: bytes, suffix: str = ".png") -> Damage:
    return several(delete(IMAGE), new(f"src/{NAME}{suffix}", data))


def table(content: str) -> Damage:
    return text("images.csv", content)


GENERATED = [
    InputDamage("generated: no folder", move("tiles", "x"), "/tiles", "folder of tiles not found"),
    InputDamage(
        "generated: no tiles",
        lambda r: [f.unlink() for f in (r / "tiles").iterdir()],
        "/tiles",
        "holds no tiles",
    ),
    InputDamage(
        "generated: names with margins",
        move(f"tiles/{TILE}", "tiles/1_2_3_4_5_6_7_8.zip"),
        "1_2_3_4_5_6_7_8",
        "not a tile's",
    ),
    InputDamage("generated: tile cut", cut(f"tiles/{TILE}", 0.5), TILE, "truncated or damaged"),
    InputDamage("generated: values beyond 1", tile_of(at(3.5)), TILE, r"in \[-1, 1\]"),
    InputDamage("generated: values that are no number", tile_of(at(float("nan"))), TILE, r"in \[-1, 1\]"),
    InputDamage("generated: values of 0 to 255", tile_of(lambda v: np.abs(v) * 255), TILE, r"in \[-1, 1\]"),
    InputDamage(
        "generated: another type", tile_of(lambda v: v.astype(np.float32)), TILE, "another shape or type"
    ),
    InputDamage("generated: another size", tile_of(lambda v: v[:, :128]), TILE, "another shape or type"),
    InputDamage("generated: fewer channels", tile_of(lambda v: v[:2]), TILE, "another number of channels"),
    InputDamage(
        "generated: no metadata", lambda r: changed(r / "tiles" / TILE, zarray=None), TILE, "a member .zarray"
    ),
    InputDamage(
        "generated: chunk of nothing",
        lambda r: changed(r / "tiles" / TILE, **{"0.0.0": b""}),
        TILE,
        "truncated|bytes",
    ),
    InputDamage(
        "generated: fill value in words",
        lambda r: (
            meta(r / "tiles" / TILE, fill_value={"x": 1}),
            changed(r / "tiles" / TILE, **{"0.0.0": None}),
        ),
        TILE,
        "fill|Zarr v2",
    ),
    InputDamage("generated: tile links out", link_out(f"tiles/{TILE}"), TILE, "lies outside its folder"),
    InputDamage(
        "generated: stains that do not divide",
        lambda r: None,
        ".zip",
        "4 stains x sections",
        ("--stains", "a,b,c,d"),
    ),
    InputDamage(
        "generated: no reference", lambda r: None, "none.zarr", "not found", ("--like", "{}/none.zarr")
    ),
    InputDamage(
        "generated: a canvas too small",
        lambda r: None,
        "tiles",
        "outside the canvas",
        ("--canvas", "512,512"),
    ),
]
IMAGES = [
    InputDamage("image missing", delete(IMAGE), "/src", "missing anterior DAPI"),
    InputDamage(
        "image of another size", image(lambda a: a[:128]), NAME, "expected 256 x 256 px, found 128 x 256 px"
    ),
    InputDamage("image of 16 bits", image(lambda a: a.astype(np.uint16)), NAME, "not of 8 bits"),
    InputDamage(
        "image of colours",
        image(lambda a: np.stack([a] * 3, -1), photometric="rgb"),
        NAME,
        "several channels",
    ),
    InputDamage("image of pages", image(lambda a: np.stack([a] * 2)), NAME, "several images"),
    InputDamage(
        "image upside down in brightness",
        image(lambda a: a, photometric="miniswhite"),
        NAME,
        "kind that is not read",
    ),
    InputDamage("image cut", cut(IMAGE, 0.5), NAME, "truncated or damaged"),
    InputDamage("image of text", text(IMAGE, "no image"), NAME, "truncated or damaged"),
    InputDamage("image of nothing", text(IMAGE, ""), NAME, "truncated or damaged"),
    InputDamage(
        "image with a broken tile",
        several(
            image(lambda a: a, tile=(64, 64), compression="zlib"),
            lambda r: (r / IMAGE).write_bytes((r / IMAGE).read_bytes()[:-300] + bytes(300)),
        ),
        NAME,
        "truncated or damaged",
    ),
    InputDamage("PNG too large", as_png(png(1 << 20, 1 << 20)), NAME, "too large to be decoded whole"),
    InputDamage("PNG of 16 bits", as_png(png(256, 256, 16)), NAME, "not of 8 bits"),
    InputDamage("PNG of a palette", as_png(png(256, 256, 8, 3)), NAME, "not of 8 bits"),
    InputDamage("PNG without size", as_png(png(0, 0)), NAME, "truncated or damaged"),
    InputDamage("PNG without pixels", as_png(png(256, 256)), NAME, "truncated or damaged"),
    InputDamage(
        "JPEG that is none", as_png(b"\xff\xd8\xff" + bytes(40), ".jpg"), NAME, "truncated or damaged"
    ),
    InputDamage("JPEG of text", as_png(b"hello", ".jpg"), NAME, "truncated or damaged"),
    InputDamage(
        "image twice",
        lambda r: (r / "src/0_DAPI.tif").write_bytes((r / IMAGE).read_bytes()),
        "DAPI",
        "two images of one section",
    ),
    InputDamage("image links out", link_out(IMAGE), NAME, "lies outside its folder"),
    InputDamage(
        "image of an unknown section", move(IMAGE, "src/middle_DAPI.tif"), "middle_DAPI", "says no section"
    ),
    InputDamage(
        "image of an unknown stain", move(IMAGE, "src/anterior_GFP.tif"), "anterior_GFP", "says no section"
    ),
    InputDamage("image of a section beyond", move(IMAGE, "src/2_DAPI.tif"), "2_DAPI", "says no section"),
    InputDamage("reference is gone", delete("like.zarr"), "like.zarr", "not found"),
    InputDamage(
        "reference is unfinished",
        lambda r: (r / "like.zarr/zarr.json").write_text(
            (r / "like.zarr/zarr.json").read_text().replace('"complete": true', '"complete": false')
        ),
        "like.zarr",
        "incomplete",
    ),
]
HEADER = "section,stain,path\n"
TABLES = [
    InputDamage("table is empty", table(""), "images.csv", "lacks columns"),
    InputDamage(
        "table without stains", table("section,path\nanterior,a.tif\n"), "images.csv", "lacks columns"
    ),
    InputDamage(
        "table of an unknown section", table(HEADER + "middle,DAPI,a.tif\n"), "line 2", "such as anterior"
    ),
    InputDamage(
        "table of an unknown stain", table(HEADER + "anterior,GFP,a.tif\n"), "line 2", "such as anterior"
    ),
    InputDamage("table without a path", table(HEADER + "anterior,DAPI,\n"), "line 2", "and a path"),
    InputDamage("table with a row too short", table(HEADER + "anterior\n"), "line 2", "such as anterior"),
    InputDamage(
        "table that leads out", table(HEADER + "anterior,DAPI,../../a.tif\n"), "a.tif", "outside its folder"
    ),
    InputDamage(
        "table of absolute paths",
        table(HEADER + "anterior,DAPI,/etc/passwd\n"),
        "passwd",
        "outside its folder",
    ),
    InputDamage(
        "table with an image twice",
        table(HEADER + "anterior,DAPI,a.tif\n0,DAPI,b.tif\n"),
        "b.tif",
        "two images",
    ),
    InputDamage(
        "table of too few", table(HEADER + f"anterior,DAPI,{IMAGE}\n"), "images.csv", "expected 4 images"
    ),
    InputDamage(
        "table is no UTF-8",
        replace("images.csv", b"section,stain,path\n\xff,DAPI,a\n"),
        "images.csv",
        "not readable",
    ),
    InputDamage("table of images that are gone", delete(IMAGE), NAME, "image not found"),
    InputDamage(
        "table with zero bytes",
        replace("images.csv", b"section,stain,path\nanterior,DAPI,a\0b\n"),
        "\\x00b",
        "no path.*null byte",
    ),
]
