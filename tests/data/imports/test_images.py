from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from teramind_data.geometry import Box
from teramind_data.imports import rasters
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, Section, create_brain, open_brain

Run = Callable[..., tuple[int, str, str]]
CANVAS = (272, 400)
NAMES = ("anterior", "posterior")


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """A reference atlas of two named sections; read only."""
    sections = tuple(Section(i, name, i * 100.0) for i, name in enumerate(NAMES))
    spec = BrainSpec("atlas", CANVAS, 0.5, sections, Panel(("Aa", "Bb")), chunk=64, shard=128)
    writer = create_brain(tmp_path_factory.mktemp("like") / "like.zarr", spec)
    for name in ("morphology", "expression"):
        channels, edge = 2, 1 if name == "morphology" else 16
        for z in range(2):
            writer.write(name, z, None, np.ones((channels, *(n // edge for n in CANVAS)), np.uint8))
    writer.write_molecules([(0, np.array([3]), np.array([5]), np.array([1]))])
    return writer.finish()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """(stain, section, y, x), smooth, so that JPEG keeps it."""
    y, x = np.mgrid[: CANVAS[0], : CANVAS[1]]
    planes = [[(y * (1 + z) + x * (1 + c)) * 40 / 400 + 30 * c + 60 for z in range(2)] for c in range(2)]
    return np.array(planes).astype(np.uint8)


def write_tiff(path: Path, plane: np.ndarray, **options: object) -> None:
    tifffile.imwrite(path, plane, **{"tile": (64, 128), **options})


def folder_of(images: np.ndarray, folder: Path, suffix: str = ".tif") -> Path:
    folder.mkdir()
    for c, stain in enumerate(("DAPI", "PolyT")):
        for z, name in enumerate(NAMES):
            write_tiff(folder / f"{name}_{stain}{suffix}", images[c, z])
    return folder


def test_folder_of_tiffs(like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run) -> None:
    from teramind_eval.pairs import check_comparable, open_store

    out = tmp_path / "gan.zarr"
    source = folder_of(images, tmp_path / "src", ".ome.tif")
    words = ("import-images", source, out, "--like", like.url, "--method", "COCO-GAN")
    code, text, error = run_command(*words)
    assert code == 0, error
    assert "2 sections of 272 x 400 px by COCO-GAN, DAPI, PolyT" in text
    brain = open_brain(out)
    np.testing.assert_array_equal(brain.morphology[:], images)
    assert (brain.kind, brain.panel, brain.canvas) == ("generated", like.panel, like.canvas)
    assert brain.spec.shard_px == like.spec.shard_px
    assert brain.provenance["method"] == "COCO-GAN"
    first = brain.provenance["inputs"][0]
    assert (first["section"], first["stain"], len(first["sha256"])) == ("anterior", "DAPI", 64)
    check_comparable(like, open_store(str(out), "theirs", "generated"))
    assert "up to date" in run_command(*words)[1]
    write_tiff(source / "anterior_DAPI.ome.tif", images[1, 1])
    code, _, error = run_command(*words)
    assert code == 2
    assert "made from other inputs" in error
    assert run_command(*words, "--overwrite")[0] == 0
    np.testing.assert_array_equal(open_brain(out).morphology[0, 0], images[1, 1])


def test_folders_by_section_number(like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run) -> None:
    for z in range(2):
        (tmp_path / "src" / f"{z:03d}").mkdir(parents=True)
        for c, stain in enumerate(("DAPI", "PolyT")):
            data = imagecodecs.png_encode(images[c, z])
            (tmp_path / "src" / f"{z:03d}" / f"{stain}.png").write_bytes(data)
    out = tmp_path / "gan.zarr"
    code, _, error = run_command("import-images", tmp_path / "src", out, "--like", like.url, "--method", "x")
    assert code == 0, error
    np.testing.assert_array_equal(open_brain(out).morphology[:], images)


@pytest.mark.parametrize("form", ["png", "jpg", "tif", "planar"])
def test_rgb(form: str, like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for z, name in enumerate(NAMES):
        rgb = np.stack([np.zeros(CANVAS, np.uint8), images[1, z], images[0, z]], axis=-1)
        if form == "png":
            (source / f"{name}.png").write_bytes(imagecodecs.png_encode(rgb))
        elif form == "jpg":
            (source / f"{name}.jpg").write_bytes(imagecodecs.jpeg8_encode(rgb, level=98, subsampling="444"))
        elif form == "tif":
            tifffile.imwrite(
                source / f"{name}.tif", rgb, photometric="rgb", compression="zlib", rowsperstrip=50
            )
        else:
            tifffile.imwrite(
                source / f"{name}.tif",
                np.moveaxis(rgb, 2, 0),
                photometric="rgb",
                planarconfig="separate",
                tile=(64, 64),
            )
    out = tmp_path / "gan.zarr"
    code, _, error = run_command(
        "import-images", source, out, "--like", like.url, "--method", "x", "--rgb", "DAPI=b,PolyT=g"
    )
    assert code == 0, error
    difference = np.abs(open_brain(out).morphology[:].astype(int) - images)
    assert int(difference.max()) <= (6 if form == "jpg" else 0)


def test_table_and_fewer_stains(like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run) -> None:
    folder_of(images, tmp_path / "src")
    rows = [("section", "stain", "path"), *((name, "DAPI", f"src/{name}_DAPI.tif") for name in NAMES)]
    table = tmp_path / "images.csv"
    table.write_text("\n".join(",".join(row) for row in rows))
    out = tmp_path / "gan.zarr"
    words = ("import-images", table, out, "--like", like.url, "--method", "x", "--stains", "DAPI")
    code, _, error = run_command(*words)
    assert code == 0, error
    brain = open_brain(out)
    assert brain.stains == ("DAPI",)
    np.testing.assert_array_equal(brain.morphology[0], images[0])
    assert brain.provenance["inputs"][1]["path"] == "src/posterior_DAPI.tif"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "jpeg"},
        {"tile": None, "rowsperstrip": 37},
        {"bigtiff": True},
    ],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_tiffs_are_read_by_their_tiles(
    options: dict[str, object], images: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "a.tif"
    write_tiff(file, images[0, 0], **options)
    whole = tifffile.imread(file)
    box = Box(50, 131, 120, 390)
    with rasters.open_raster(file) as raster:
        np.testing.assert_array_equal(raster.read(box, 0), whole[box.slices])
        decoded = sum(1 for _ in raster._cache)  # type: ignore[attr-defined]
        assert decoded < len(raster._places)  # type: ignore[attr-defined]


def tiff16(file: Path, images: np.ndarray) -> None:
    write_tiff(file, images[0, 0].astype(np.uint16))


def small(file: Path, images: np.ndarray) -> None:
    write_tiff(file, images[0, 0, :256])


def colour(file: Path, images: np.ndarray) -> None:
    tifffile.imwrite(file, np.stack([images[0, 0]] * 3, axis=-1), photometric="rgb")


def two_pages(file: Path, images: np.ndarray) -> None:
    tifffile.imwrite(file, images[:, 0], photometric="minisblack")


def inverted(file: Path, images: np.ndarray) -> None:
    tifffile.imwrite(file, images[0, 0], photometric="miniswhite")


def cut(file: Path, images: np.ndarray) -> None:
    file.write_bytes(file.read_bytes()[:-30_000])


def broken_tile(file: Path, images: np.ndarray) -> None:
    write_tiff(file, images[0, 0], compression="zlib")
    with tifffile.TiffFile(file) as tiff:
        offset = tiff.pages[0].dataoffsets[3]
    data = bytearray(file.read_bytes())
    data[offset : offset + 20] = bytes(20)
    file.write_bytes(bytes(data))


def vast_png(file: Path, images: np.ndarray) -> None:
    """A PNG whose header claims 100 000 x 100 000 pixels."""
    data = bytearray(imagecodecs.png_encode(images[0, 0]))
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    file.unlink()
    file.with_suffix(".png").write_bytes(bytes(data))


def cut_png(file: Path, images: np.ndarray) -> None:
    file.unlink()
    file.with_suffix(".png").write_bytes(imagecodecs.png_encode(images[0, 0])[:400])


def png16(file: Path, images: np.ndarray) -> None:
    file.unlink()
    file.with_suffix(".png").write_bytes(imagecodecs.png_encode(images[0, 0].astype(np.uint16)))


def twice(file: Path, images: np.ndarray) -> None:
    file.with_suffix(".png").write_bytes(imagecodecs.png_encode(images[0, 0]))


def cut_jpeg(file: Path, images: np.ndarray) -> None:
    file.unlink()
    file.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10")


def link_out(file: Path, images: np.ndarray) -> None:
    outside = file.parent.parent / "outside.tif"
    file.rename(outside)
    file.symlink_to(outside)


@dataclass(frozen=True)
class Case:
    """A way to spoil the image of the first section's DAPI, and what the error must say."""

    name: str
    damage: Callable[[Path, np.ndarray], object]
    says: str


CASES = (
    Case("missing", lambda f, _: f.unlink(), "missing anterior DAPI"),
    Case("another size", small, "(expected 272 x 400 px, found 256 x 400 px)"),
    Case("16 bits", tiff16, "image is not of 8 bits"),
    Case("colour", colour, "image has several channels"),
    Case("two pages", two_pages, "file holds several images"),
    Case("inverted", inverted, "a kind that is not read"),
    Case("cut", cut, "truncated or damaged"),
    Case("text", lambda f, _: f.write_text("no image"), "truncated or damaged"),
    Case("empty", lambda f, _: f.write_bytes(b""), "truncated or damaged"),
    Case("broken tile", broken_tile, "truncated or damaged"),
    Case("vast PNG", vast_png, "too large to be decoded whole"),
    Case("cut PNG", cut_png, "truncated or damaged"),
    Case("PNG of 16 bits", png16, "image is not of 8 bits"),
    Case("cut JPEG", cut_jpeg, "truncated or damaged"),
    Case("twice", twice, "two images of one section and stain"),
    Case("link out", link_out, "lies outside its folder"),
    Case(
        "unknown section", lambda f, _: f.rename(f.with_name("middle_DAPI.tif")), "says no section and stain"
    ),
    Case(
        "unknown stain", lambda f, _: f.rename(f.with_name("anterior_GFP.tif")), "says no section and stain"
    ),
    Case("section beyond", lambda f, _: f.rename(f.with_name("2_DAPI.tif")), "says no section and stain"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_bad_images(case: Case, like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run) -> None:
    source = folder_of(images, tmp_path / "src")
    case.damage(source / "anterior_DAPI.tif", images)
    before = sorted(path.name for path in tmp_path.iterdir())
    code, _, error = run_command(
        "import-images", source, tmp_path / "out.zarr", "--like", like.url, "--method", "x"
    )
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2, error
    assert len(lines) == 1
    assert case.says in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


TABLES = (
    ("", "lacks columns"),
    ("section,path\nanterior,a.tif\n", "lacks columns"),
    ("section,stain,path\nmiddle,DAPI,a.tif\n", "line 2 (expected sections such as anterior"),
    ("section,stain,path\nanterior,GFP,a.tif\n", "line 2 (expected sections such as anterior"),
    ("section,stain,path\nanterior,DAPI,\n", "line 2 (expected sections such as anterior"),
    ("section,stain,path\nanterior\n", "line 2 (expected sections such as anterior"),
    ("section,stain,path\nanterior,DAPI,../../a.tif\n", "lies outside its folder"),
    ("section,stain,path\nanterior,DAPI,/etc/passwd\n", "lies outside its folder"),
    (
        "section,stain,path\nanterior,DAPI,src/a.tif\n0,DAPI,src/b.tif\n",
        "two images of one section and stain",
    ),
    ("section,stain,path\nanterior,DAPI,src/anterior_DAPI.tif\n", "expected 4 images"),
)


@pytest.mark.parametrize(("text", "says"), TABLES)
def test_bad_tables(
    text: str, says: str, like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run
) -> None:
    folder_of(images, tmp_path / "src")
    table = tmp_path / "images.csv"
    table.write_text(text)
    code, _, error = run_command(
        "import-images", table, tmp_path / "out.zarr", "--like", like.url, "--method", "x"
    )
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.zarr").exists()


def test_table_of_an_image_that_is_not_there(like: Brain, tmp_path: Path, run_command: Run) -> None:
    table = tmp_path / "images.csv"
    with table.open("w", newline="") as handle:
        rows = [(name, stain, f"{name}{stain}.tif") for name in NAMES for stain in ("DAPI", "PolyT")]
        csv.writer(handle).writerows([("section", "stain", "path"), *rows])
    code, _, error = run_command(
        "import-images", table, tmp_path / "out.zarr", "--like", like.url, "--method", "x"
    )
    assert code == 2
    assert "image not found" in error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", " "], "method has no name"),
        (["--method", "x", "--rgb", "DAPI"], "RGB mapping is not readable"),
        (["--method", "x", "--rgb", "DAPI=q"], "RGB mapping is not readable"),
        (["--method", "x", "--rgb", "GFP=g"], "stains are not the reference's"),
        (["--method", "x", "--stains", "DAPI,DAPI"], "stains are not the reference's"),
        (["--method", "x", "--stains", "DAPI", "--rgb", "DAPI=b"], "stains are given twice"),
        (["--method", "x", "--rgb", "DAPI=b"], "says no section"),
    ],
)
def test_bad_options(
    options: list[str], says: str, like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run
) -> None:
    source = folder_of(images, tmp_path / "src")
    code, _, error = run_command("import-images", source, tmp_path / "out.zarr", "--like", like.url, *options)
    assert code == 2
    assert says in error
    assert not (tmp_path / "out.zarr").exists()


def test_grey_images_where_colour_was_promised(
    like: Brain, images: np.ndarray, tmp_path: Path, run_command: Run
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for z, name in enumerate(NAMES):
        write_tiff(source / f"{name}.tif", images[0, z])
    words = ("import-images", source, tmp_path / "o.zarr", "--like", like.url, "--method", "x")
    code, _, error = run_command(*words, "--rgb", "DAPI=b,PolyT=g")
    assert code == 2
    assert "image is grey" in error
    assert not (tmp_path / "o.zarr").exists()
