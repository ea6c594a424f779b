"""Damages to the authors' published tiles."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.data.damage.table import Damage, InputDamage
from tests.data.imports.conftest import CELLS, SECTIONS, core_of, npz_bytes, stem_of, write_zip

GENE = f"{stem_of(core_of(CELLS[1]))}.npz"
IMAGE = f"{stem_of(core_of(CELLS[1]))}.zip"


def gene(root: Path) -> Path:
    return (root / "gene") / f"{stem_of(core_of(CELLS[1]))}.npz"


def image(root: Path) -> Path:
    return (root / "img") / f"{stem_of(core_of(CELLS[1]))}.zip"


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(file: Path, **new: bytes | None) -> None:
    """Replace members; ``zarray`` stands for ``.zarray``, names of arrays for ``.npy``."""
    held = members(file)
    for key, data in new.items():
        name = ".zarray" if key == "zarray" else f"{key}.npy" if file.suffix == ".npz" else key
        held.pop(name, None)
        if data is not None:
            held[name] = data
    write_zip(file, held)


def meta(file: Path, **new: object) -> None:
    changed(file, zarray=json.dumps({**json.loads(members(file)[".zarray"]), **new}).encode())


def array(file: Path, name: str) -> np.ndarray:
    return np.load(io.BytesIO(members(file)[f"{name}.npy"]))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def flip(file: Path, name: str) -> None:
    """One bit inside a member's compressed bytes."""
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(name)
    data = bytearray(file.read_bytes())
    length, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    data[info.header_offset + 30 + length + extra + info.compress_size // 2] ^= 0x10
    file.write_bytes(bytes(data))


def coordinate(root: Path, axis: int, value: int) -> None:
    coords = array(gene(root), "coords").copy()
    coords[axis, 5] = value
    changed(gene(root), coords=npz_bytes(coords))


def pickled(root: Path) -> None:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    changed(gene(root), data=out.getvalue())


def huge_header(root: Path) -> None:
    """Declares 8 TB and holds 16 bytes."""
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
    changed(gene(root), data=body)


def bomb_member(root: Path) -> None:
    """A member that inflates to 300 MB from 300 kB."""
    with (
        zipfile.ZipFile(gene(root), "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data.npy", "w") as out,
    ):
        for _ in range(300):
            out.write(bytes(1 << 20))


def bomb_chunk(root: Path) -> None:
    """A chunk whose frame holds far more than the chunk's size."""
    import imagecodecs

    file = (root / "img") / f"{stem_of(core_of(CELLS[0]))}.zip"
    changed(file, **{"0.0.0": imagecodecs.zstd_encode(bytes(64 << 20))})


def extra_member(name: str) -> Damage:
    def damage(root: Path) -> None:
        with zipfile.ZipFile(image(root), "a") as archive:
            archive.writestr(name, b"x")

    return damage


def link_member(root: Path) -> None:
    with zipfile.ZipFile(image(root), "a") as archive:
        info = zipfile.ZipInfo("7.7.7")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")


def link_out(root: Path) -> None:
    outside = root.parent / "outside.npz"
    gene(root).rename(outside)
    gene(root).symlink_to(outside)


def wrong_sections(root: Path) -> None:
    shape = array(gene(root), "shape").copy()
    shape[2] = shape[2] // SECTIONS * (SECTIONS + 1)
    changed(gene(root), shape=npz_bytes(shape))


def renamed(old: Callable[[Path], Path], new: str) -> Damage:
    return lambda root: old(root).rename(old(root).with_name(new)) and None


def short_chunk(root: Path) -> None:
    import imagecodecs

    held = members(image(root))
    name = next(name for name in held if name[0].isdigit())
    changed(image(root), **{name: imagecodecs.blosc_encode(bytes(100), typesize=1)})


DAMAGES = [
    InputDamage(
        "tiles: no gene folder",
        lambda w: (w / "gene").rename((w / "gene").with_name("x")),
        "/gene",
        "folder\\ of\\ tiles\\ not\\ found",
    ),
    InputDamage(
        "tiles: no tiles",
        lambda w: [f.unlink() for f in (w / "gene").iterdir()],
        "/gene",
        "folder\\ holds\\ no\\ tiles",
    ),
    InputDamage("tiles: no panel", lambda w: (w / "panel.csv").unlink(), "panel.csv", "panel\\ not\\ found"),
    InputDamage(
        "tiles: panel of another length",
        lambda w: (w / "panel.csv").write_text("gene\nAa\nBb\nCc\nDd\n"),
        "/gene",
        "does\\ not\\ fit\\ the\\ panel",
    ),
    InputDamage(
        "tiles: panel names twice",
        lambda w: (w / "panel.csv").write_text("gene\nAa\nBb\naA\nCc\nDd\n"),
        "panel.csv",
        "names\\ a\\ gene\\ twice",
    ),
    InputDamage(
        "tiles: panel of blanks",
        lambda w: (w / "panel.csv").write_text("gene\nBlank-1\n"),
        "panel.csv",
        "panel\\ is\\ empty",
    ),
    InputDamage("tiles: gene file cut", lambda w: cut(gene(w)), GENE, "truncated\\ or\\ damaged"),
    InputDamage(
        "tiles: gene file of text", lambda w: gene(w).write_text("no zip"), GENE, "truncated\\ or\\ damaged"
    ),
    InputDamage(
        "tiles: gene file empty", lambda w: gene(w).write_bytes(b""), GENE, "truncated\\ or\\ damaged"
    ),
    InputDamage(
        "tiles: gene bit flipped", lambda w: flip(gene(w), "coords.npy"), GENE, "truncated\\ or\\ damaged"
    ),
    InputDamage(
        "tiles: gene member missing",
        lambda w: changed(gene(w), coords=None),
        GENE,
        "no\\ sparse\\ array\\ in\\ coordinates",
    ),
    InputDamage("tiles: gene pickled", pickled, GENE, "type\\ that\\ is\\ not\\ read"),
    InputDamage(
        "tiles: gene floats",
        lambda w: changed(gene(w), data=npz_bytes(np.ones(9))),
        GENE,
        "type\\ that\\ is\\ not\\ read",
    ),
    InputDamage("tiles: gene header lies", huge_header, GENE, "expected\\ 8000000000000\\ bytes"),
    InputDamage(
        "tiles: gene no header",
        lambda w: changed(gene(w), data=b"\x93NUMPY\x09\x00abc"),
        GENE,
        "an\\ npy\\ header",
    ),
    InputDamage("tiles: gene bomb", bomb_member, GENE, "archive\\ member\\ is\\ too\\ large"),
    InputDamage("tiles: gene row outside", lambda w: coordinate(w, 0, 512), GENE, "coordinates\\ up\\ to"),
    InputDamage("tiles: gene row negative", lambda w: coordinate(w, 1, -1), GENE, "coordinates\\ up\\ to"),
    InputDamage(
        "tiles: gene channel outside", lambda w: coordinate(w, 2, 10**6), GENE, "coordinates\\ up\\ to"
    ),
    InputDamage(
        "tiles: gene shape of two",
        lambda w: changed(gene(w), shape=npz_bytes(np.array([512, 512]))),
        GENE,
        "another\\ shape",
    ),
    InputDamage(
        "tiles: gene other edge",
        lambda w: changed(gene(w), shape=npz_bytes(np.array([256, 512, 15]))),
        GENE,
        "another\\ shape",
    ),
    InputDamage(
        "tiles: gene no channels",
        lambda w: changed(gene(w), shape=npz_bytes(np.array([512, 512, 0]))),
        GENE,
        "does\\ not\\ fit",
    ),
    InputDamage(
        "tiles: gene coords of two",
        lambda w: changed(gene(w), coords=npz_bytes(np.zeros((2, 9), int))),
        GENE,
        "coords\\ \\(2,\\ 9\\)",
    ),
    InputDamage(
        "tiles: gene lengths differ",
        lambda w: changed(gene(w), data=npz_bytes(np.ones(3, int))),
        GENE,
        "data\\ \\(3,\\)",
    ),
    InputDamage(
        "tiles: gene fill",
        lambda w: changed(gene(w), fill_value=npz_bytes(np.array(7))),
        GENE,
        "fill\\ value\\ 7",
    ),
    InputDamage("tiles: gene sections differ", wrong_sections, GENE, "another\\ number\\ of\\ sections"),
    InputDamage(
        "tiles: gene name short", renamed(gene, "256_512.npz"), "256_512.npz", "name\\ is\\ not\\ a\\ tile's"
    ),
    InputDamage(
        "tiles: gene name of words",
        renamed(gene, "tile_one.npz"),
        "tile_one.npz",
        "name\\ is\\ not\\ a\\ tile's",
    ),
    InputDamage(
        "tiles: gene core empty",
        renamed(gene, "512_256_256_512_128_640_128_640.npz"),
        "512_256",
        "makes\\ no\\ sense",
    ),
    InputDamage(
        "tiles: gene core small",
        renamed(gene, "256_500_512_768_128_640_384_896.npz"),
        "256_500",
        "side\\ by\\ side",
    ),
    InputDamage(
        "tiles: gene off the grid",
        renamed(gene, "300_556_512_768_172_684_384_896.npz"),
        "300_556",
        "side\\ by\\ side",
    ),
    InputDamage(
        "tiles: gene margin wide",
        renamed(gene, "256_512_512_768_0_1024_0_1024.npz"),
        "256_512_512_768_0",
        "makes\\ no\\ sense",
    ),
    InputDamage("tiles: gene link out", link_out, GENE, "lies\\ outside\\ its\\ folder"),
    InputDamage("tiles: image missing", lambda w: image(w).unlink(), "/img", "image\\ tiles\\ are\\ missing"),
    InputDamage("tiles: gene missing", lambda w: gene(w).unlink(), "/gene", "gene\\ tiles\\ are\\ missing"),
    InputDamage(
        "tiles: no image folder",
        lambda w: (w / "img").rename((w / "img").with_name("y")),
        "/img",
        "folder\\ of\\ tiles\\ not\\ found",
    ),
    InputDamage("tiles: image cut", lambda w: cut(image(w)), IMAGE, "truncated\\ or\\ damaged"),
    InputDamage(
        "tiles: image no metadata",
        lambda w: changed(image(w), zarray=None),
        IMAGE,
        "expected\\ a\\ member\\ \\.zarray",
    ),
    InputDamage(
        "tiles: image metadata no JSON",
        lambda w: changed(image(w), zarray=b"{"),
        IMAGE,
        "a\\ Zarr\\ v2\\ array",
    ),
    InputDamage(
        "tiles: image metadata short",
        lambda w: changed(image(w), zarray=b"{}"),
        IMAGE,
        "a\\ Zarr\\ v2\\ array",
    ),
    InputDamage(
        "tiles: image of float", lambda w: meta(image(w), dtype="<f2"), IMAGE, "another\\ shape\\ or\\ type"
    ),
    InputDamage(
        "tiles: image of objects", lambda w: meta(image(w), dtype="|O"), IMAGE, "another\\ shape\\ or\\ type"
    ),
    InputDamage(
        "tiles: image of another edge",
        lambda w: meta(image(w), shape=[6, 256, 256]),
        IMAGE,
        "another\\ shape\\ or\\ type",
    ),
    InputDamage(
        "tiles: image chunks of 0",
        lambda w: meta(image(w), chunks=[0, 256, 256]),
        IMAGE,
        "positive\\ integers",
    ),
    InputDamage(
        "tiles: image chunks vast",
        lambda w: meta(image(w), chunks=[10**6, 10**6, 10**6]),
        IMAGE,
        "chunks\\ of",
    ),
    InputDamage(
        "tiles: image channels odd",
        lambda w: meta(image(w), shape=[8, 512, 512]),
        IMAGE,
        "another\\ number\\ of\\ channels",
    ),
    InputDamage(
        "tiles: image filters",
        lambda w: meta(image(w), filters=[{"id": "delta"}]),
        IMAGE,
        "a\\ way\\ that\\ is\\ not\\ read",
    ),
    InputDamage(
        "tiles: image codec",
        lambda w: meta(image(w), compressor={"id": "pickle"}),
        IMAGE,
        "a\\ way\\ that\\ is\\ not\\ read",
    ),
    InputDamage(
        "tiles: image order", lambda w: meta(image(w), order="F"), IMAGE, "a\\ way\\ that\\ is\\ not\\ read"
    ),
    InputDamage(
        "tiles: image bit flipped", lambda w: flip(image(w), "0.0.0"), IMAGE, "truncated\\ or\\ damaged"
    ),
    InputDamage("tiles: image chunk short", short_chunk, IMAGE, "bytes"),
    InputDamage("tiles: image chunk bomb", bomb_chunk, "img/", "truncated\\ or\\ damaged"),
    InputDamage("tiles: zip slip", extra_member("../../evil"), IMAGE, "leads\\ out\\ of\\ the\\ archive"),
    InputDamage("tiles: zip absolute", extra_member("/etc/evil"), IMAGE, "leads\\ out\\ of\\ the\\ archive"),
    InputDamage("tiles: zip drive", extra_member("C:\\evil"), IMAGE, "leads\\ out\\ of\\ the\\ archive"),
    InputDamage("tiles: zip link", link_member, IMAGE, "leads\\ out\\ of\\ the\\ archive"),
]
