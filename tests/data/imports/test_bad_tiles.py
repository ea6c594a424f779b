"""Every way tiles can be wrong: one line that names it, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.data.imports.conftest import CELLS, SECTIONS, World, core_of, npz_bytes, stem_of, write_zip

Run = Callable[..., tuple[int, str, str]]


def gene(world: World) -> Path:
    return world.genes / f"{stem_of(core_of(CELLS[1]))}.npz"


def image(world: World) -> Path:
    return world.tiles / f"{stem_of(core_of(CELLS[1]))}.zip"


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
    import io

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


def coordinate(world: World, axis: int, value: int) -> None:
    coords = array(gene(world), "coords").copy()
    coords[axis, 5] = value
    changed(gene(world), coords=npz_bytes(coords))


def pickled(world: World) -> None:
    import io

    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    changed(gene(world), data=out.getvalue())


def huge_header(world: World) -> None:
    """Declares 8 TB and holds 16 bytes."""
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
    changed(gene(world), data=body)


def bomb_member(world: World) -> None:
    """A member that inflates to 300 MB from 300 kB."""
    with (
        zipfile.ZipFile(gene(world), "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data.npy", "w") as out,
    ):
        for _ in range(300):
            out.write(bytes(1 << 20))


def bomb_chunk(world: World) -> None:
    """A chunk whose frame holds far more than the chunk's size."""
    import imagecodecs

    file = world.tiles / f"{stem_of(core_of(CELLS[0]))}.zip"
    changed(file, **{"0.0.0": imagecodecs.zstd_encode(bytes(64 << 20))})


def extra_member(name: str) -> Callable[[World], None]:
    def damage(world: World) -> None:
        with zipfile.ZipFile(image(world), "a") as archive:
            archive.writestr(name, b"x")

    return damage


def link_member(world: World) -> None:
    with zipfile.ZipFile(image(world), "a") as archive:
        info = zipfile.ZipInfo("7.7.7")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")


def link_out(world: World) -> None:
    outside = world.panel.parent / "outside.npz"
    gene(world).rename(outside)
    gene(world).symlink_to(outside)


def wrong_sections(world: World) -> None:
    shape = array(gene(world), "shape").copy()
    shape[2] = shape[2] // SECTIONS * (SECTIONS + 1)
    changed(gene(world), shape=npz_bytes(shape))


def renamed(old: Callable[[World], Path], new: str) -> Callable[[World], None]:
    return lambda world: old(world).rename(old(world).with_name(new)) and None


def short_chunk(world: World) -> None:
    import imagecodecs

    held = members(image(world))
    name = next(name for name in held if name[0].isdigit())
    changed(image(world), **{name: imagecodecs.blosc_encode(bytes(100), typesize=1)})


@dataclass(frozen=True)
class Case:
    """A way to spoil the tiles, and what the error must say."""

    name: str
    damage: Callable[[World], object]
    says: str


CASES = (
    Case("no gene folder", lambda w: w.genes.rename(w.genes.with_name("x")), "folder of tiles not found"),
    Case("no tiles", lambda w: [f.unlink() for f in w.genes.iterdir()], "folder holds no tiles"),
    Case("no panel", lambda w: w.panel.unlink(), "panel not found"),
    Case(
        "panel of another length",
        lambda w: w.panel.write_text("gene\nAa\nBb\nCc\nDd\n"),
        "does not fit the panel",
    ),
    Case(
        "panel names twice", lambda w: w.panel.write_text("gene\nAa\nBb\naA\nCc\nDd\n"), "names a gene twice"
    ),
    Case("panel of blanks", lambda w: w.panel.write_text("gene\nBlank-1\n"), "panel is empty"),
    Case("gene file cut", lambda w: cut(gene(w)), "truncated or damaged"),
    Case("gene file of text", lambda w: gene(w).write_text("no zip"), "truncated or damaged"),
    Case("gene file empty", lambda w: gene(w).write_bytes(b""), "truncated or damaged"),
    Case("gene bit flipped", lambda w: flip(gene(w), "coords.npy"), "truncated or damaged"),
    Case("gene member missing", lambda w: changed(gene(w), coords=None), "no sparse array in coordinates"),
    Case("gene pickled", pickled, "type that is not read"),
    Case("gene floats", lambda w: changed(gene(w), data=npz_bytes(np.ones(9))), "type that is not read"),
    Case("gene header lies", huge_header, "expected 8000000000000 bytes"),
    Case("gene no header", lambda w: changed(gene(w), data=b"\x93NUMPY\x09\x00abc"), "an npy header"),
    Case("gene bomb", bomb_member, "archive member is too large"),
    Case("gene row outside", lambda w: coordinate(w, 0, 512), "coordinates up to"),
    Case("gene row negative", lambda w: coordinate(w, 1, -1), "coordinates up to"),
    Case("gene channel outside", lambda w: coordinate(w, 2, 10**6), "coordinates up to"),
    Case(
        "gene shape of two",
        lambda w: changed(gene(w), shape=npz_bytes(np.array([512, 512]))),
        "another shape",
    ),
    Case(
        "gene other edge",
        lambda w: changed(gene(w), shape=npz_bytes(np.array([256, 512, 15]))),
        "another shape",
    ),
    Case(
        "gene no channels",
        lambda w: changed(gene(w), shape=npz_bytes(np.array([512, 512, 0]))),
        "does not fit",
    ),
    Case(
        "gene coords of two",
        lambda w: changed(gene(w), coords=npz_bytes(np.zeros((2, 9), int))),
        "coords (2, 9)",
    ),
    Case("gene lengths differ", lambda w: changed(gene(w), data=npz_bytes(np.ones(3, int))), "data (3,)"),
    Case("gene fill", lambda w: changed(gene(w), fill_value=npz_bytes(np.array(7))), "fill value 7"),
    Case("gene sections differ", wrong_sections, "another number of sections"),
    Case("gene name short", renamed(gene, "256_512.npz"), "name is not a tile's"),
    Case("gene name of words", renamed(gene, "tile_one.npz"), "name is not a tile's"),
    Case("gene core empty", renamed(gene, "512_256_256_512_128_640_128_640.npz"), "makes no sense"),
    Case("gene core small", renamed(gene, "256_500_512_768_128_640_384_896.npz"), "side by side"),
    Case("gene off the grid", renamed(gene, "300_556_512_768_172_684_384_896.npz"), "side by side"),
    Case("gene margin wide", renamed(gene, "256_512_512_768_0_1024_0_1024.npz"), "makes no sense"),
    Case("gene link out", link_out, "lies outside its folder"),
    Case("image missing", lambda w: image(w).unlink(), "image tiles are missing"),
    Case("gene missing", lambda w: gene(w).unlink(), "gene tiles are missing"),
    Case("no image folder", lambda w: w.tiles.rename(w.tiles.with_name("y")), "folder of tiles not found"),
    Case("image cut", lambda w: cut(image(w)), "truncated or damaged"),
    Case("image no metadata", lambda w: changed(image(w), zarray=None), "expected a member .zarray"),
    Case("image metadata no JSON", lambda w: changed(image(w), zarray=b"{"), "a Zarr v2 array"),
    Case("image metadata short", lambda w: changed(image(w), zarray=b"{}"), "a Zarr v2 array"),
    Case("image of float", lambda w: meta(image(w), dtype="<f2"), "another shape or type"),
    Case("image of objects", lambda w: meta(image(w), dtype="|O"), "another shape or type"),
    Case("image of another edge", lambda w: meta(image(w), shape=[6, 256, 256]), "another shape or type"),
    Case("image chunks of 0", lambda w: meta(image(w), chunks=[0, 256, 256]), "positive integers"),
    Case("image chunks vast", lambda w: meta(image(w), chunks=[10**6, 10**6, 10**6]), "chunks of"),
    Case("image channels odd", lambda w: meta(image(w), shape=[8, 512, 512]), "another number of channels"),
    Case("image filters", lambda w: meta(image(w), filters=[{"id": "delta"}]), "a way that is not read"),
    Case("image codec", lambda w: meta(image(w), compressor={"id": "pickle"}), "a way that is not read"),
    Case("image order", lambda w: meta(image(w), order="F"), "a way that is not read"),
    Case("image bit flipped", lambda w: flip(image(w), "0.0.0"), "truncated or damaged"),
    Case("image chunk short", short_chunk, "bytes"),
    Case("image chunk bomb", bomb_chunk, "truncated or damaged"),
    Case("zip slip", extra_member("../../evil"), "leads out of the archive"),
    Case("zip absolute", extra_member("/etc/evil"), "leads out of the archive"),
    Case("zip drive", extra_member("C:\\evil"), "leads out of the archive"),
    Case("zip link", link_member, "leads out of the archive"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_bad_tiles(case: Case, own_world: World, tmp_path: Path, run_command: Run) -> None:
    case.damage(own_world)
    before = sorted(path.name for path in tmp_path.iterdir())
    out = tmp_path / "out.zarr"
    code, _, error = run_command(
        "import-tiles", own_world.genes, own_world.tiles, out, "--panel", own_world.panel
    )
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2, error
    assert len(lines) == 1
    assert case.says in lines[0]
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["g", "out.zarr"], "panel is missing"),
        (["g", "i", "j", "out.zarr", "--panel", "p"], "wrong number of folders"),
        (["--generated", "g", "i", "out.zarr"], "wrong number of folders"),
        (["g", "out.zarr", "--panel", "p", "--like", "x"], "--like is for generated tiles"),
        (["g", "out.zarr", "--panel", "p", "--canvas", "12"], "canvas is not a size"),
        (["g", "out.zarr", "--panel", "p", "--canvas", "512,500"], "does not fit the bins"),
        (["g", "out.zarr", "--panel", "p", "--pixel-size", "0"], "--pixel-size (expected um > 0"),
        (["g", "out.zarr", "--panel", "p", "--spacing-um", "nan"], "--spacing-um (expected um > 0"),
        (["--generated", "g", "out.zarr", "--like", "x", "--canvas", "512,512"], "canvas is given twice"),
    ],
)
def test_bad_options(words: list[str], says: str, run_command: Run) -> None:
    code, _, error = run_command("import-tiles", *words)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_a_core_outside_the_canvas(own_world: World, tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "out.zarr"
    words = ("import-tiles", own_world.genes, out, "--panel", own_world.panel, "--canvas", "512,512")
    code, _, error = run_command(*words)
    assert code == 2
    assert "tile lies outside the canvas" in error
    assert not out.exists()


def test_what_is_no_store_is_never_replaced(own_world: World, tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    words = ("import-tiles", own_world.genes, out, "--panel", own_world.panel, "--overwrite")
    code, _, error = run_command(*words)
    assert code == 2
    assert "no store of ours" in error
    assert (out / "thesis.txt").read_text() == "all of it"
