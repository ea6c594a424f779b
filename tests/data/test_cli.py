"""The command line on bad input: one line that names file and remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.panel import Panel
from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import BrainSpec, Section, create_brain

FIRST = "section_000"


@pytest.fixture(scope="module")
def raw_brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest raw brain: 2 sections of 256 px."""
    config = PhantomConfig(
        brains=("A",), panels=(1,), sections=2, canvas=(256, 256), genes=36, shared=33, blanks=2
    )
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    write_phantom(config, out)
    return out / "raw" / "A"


def transcripts(raw: Path) -> Path:
    return raw / FIRST / "detected_transcripts.csv"


def dapi(raw: Path) -> Path:
    return raw / FIRST / "images" / "mosaic_DAPI_z3.tif"


def registration(raw: Path) -> Path:
    return next((raw / FIRST).glob("ABBA-Transform-*.json"))


def rename_column(raw: Path) -> Path:
    file = transcripts(raw)
    file.write_text(file.read_text().replace("global_y", "globaly", 1))
    return file


def cut(file: Path, part: float) -> Path:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    return file


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def removed(file: Path) -> Path:
    file.unlink()
    return file


def text_coordinate(raw: Path) -> Path:
    file = transcripts(raw)
    lines = file.read_text().splitlines()
    cells = lines[40].split(",")
    cells[2] = "here"
    lines[40] = ",".join(cells)
    return written(file, "\n".join(lines) + "\n")


def only_blanks(raw: Path) -> Path:
    file = transcripts(raw)
    lines = file.read_text().splitlines()
    return written(file, "\n".join([lines[0], *(line for line in lines[1:] if "Blank" in line)]) + "\n")


def no_coordinates(raw: Path) -> Path:
    file = transcripts(raw)
    lines = file.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    return written(
        file, "\n".join([lines[0], *(",".join([*r[:2], "nan", "nan", *r[4:]]) for r in rows)]) + "\n"
    )


def truncated_gzip(raw: Path) -> Path:
    import gzip

    file = transcripts(raw)
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    return cut(packed, 0.6)


def colour_image(raw: Path) -> Path:
    import tifffile

    tifffile.imwrite(dapi(raw), np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    return dapi(raw)


def damaged_tile(raw: Path) -> Path:
    import tifffile

    image = tifffile.imread(dapi(raw))
    tifffile.imwrite(
        dapi(raw),
        image,
        bigtiff=True,
        tile=(256, 256),
        compression="zlib",
        photometric="minisblack",
        metadata=None,
    )
    with tifffile.TiffFile(dapi(raw)) as tiff:
        page = tiff.pages[0]
        middle = len(page.dataoffsets) // 2
        offset, count = page.dataoffsets[middle], page.databytecounts[middle]
    data = bytearray(dapi(raw).read_bytes())
    data[offset : offset + count] = b"\x55" * count
    dapi(raw).write_bytes(data)
    return dapi(raw)


def folder_out_of_root(raw: Path) -> Path:
    shutil.copytree(raw / FIRST, raw.parent / "elsewhere")
    written(raw / "manifest.yaml", "version: 1\nsections:\n- {folder: ../elsewhere}\n")
    return Path("../elsewhere")


def wrong_units(raw: Path) -> Path:
    file = registration(raw)
    written(
        raw / "manifest.yaml",
        f"version: 1\nsections:\n- folder: {FIRST}\n  registration: {{file: {file.name}, "
        "direction: canvas_px_to_image_px}\n",
    )
    return file


@dataclass(frozen=True)
class Case:
    """Damage to a raw brain (returns the file that the message must name) and what the message says."""

    name: str
    damage: Callable[[Path], Path]
    says: tuple[str, ...]


CASES = [
    Case("no transcripts", lambda raw: removed(transcripts(raw)).parent, ("no transcripts", "exclude the section")),
    Case("column missing", rename_column, ("lacks column global_y", "Name its columns in the manifest")),
    Case("empty transcripts", lambda raw: written(transcripts(raw), ""), ("not readable", "Copy the file again")),
    Case("text for a coordinate", text_coordinate, ("not readable", "Copy the file again")),
    Case("only blanks", only_blanks, ("no usable transcripts", "controls")),
    Case("no finite coordinate", no_coordinates, ("no usable transcripts", "without a place")),
    Case("gzip cut off", truncated_gzip, ("truncated or damaged", "Copy the file again")),
    Case("TIFF cut off", lambda raw: cut(dapi(raw), 0.7), ("truncated or damaged", "Copy the file again")),
    Case("TIFF cut to its header", lambda raw: cut(dapi(raw), 0.00001), ("truncated or damaged", "Copy the file")),
    Case("TIFF empty", lambda raw: written(dapi(raw), ""), ("truncated or damaged", "Copy the file again")),
    Case("TIFF is text", lambda raw: written(dapi(raw), "no image"), ("truncated or damaged", "Copy the file")),
    Case("TIFF of colours", colour_image, ("channel is not known", "Name the stain's channel")),
    Case("tile damaged", damaged_tile, ("truncated or damaged", "Copy the file again")),
    Case("registration no JSON", lambda raw: written(registration(raw), "{oops"), ("not readable JSON", "Export")),
    Case("registration cut off", lambda raw: cut(registration(raw), 0.5), ("not readable JSON", "Export")),
    Case("registration of other things", lambda raw: written(registration(raw), '{"type": "X"}'), ("unknown", "X")),
    Case("registration of wrong units", wrong_units, ("scale is wrong", "direction and units")),
    Case("two registrations", lambda raw: written(raw / FIRST / "ABBA-Transform-2.json", "{}").parent,
         ("several registrations", "manifest")),
    Case("no images", lambda raw: (shutil.rmtree(raw / FIRST / "images"), raw / FIRST / "images")[1],
         ("no images", "exclude the section")),
    Case("stain missing", lambda raw: written(raw / "manifest.yaml", "version: 1\nstains: [DAPI, Nope]\nsections:\n"
         f"- {{folder: {FIRST}}}\n").parent / FIRST / "images", ("no Nope image", "Restore")),
    Case("no matrix", lambda raw: removed(raw / FIRST / "images" / "micron_to_mosaic_pixel_transform.csv"),
         ("no micron-to-mosaic matrix", "Restore")),
    Case("matrix of words", lambda raw: written(raw / FIRST / "images" / "micron_to_mosaic_pixel_transform.csv", "a b"),
         ("not readable", "3 rows of 3 numbers")),
    Case("manifest of another kind", lambda raw: written(raw / "manifest.yaml", "version: 1\nsektions: []\n"),
         ("manifest is not valid", "teramind-data manifest")),
    Case("manifest no YAML", lambda raw: written(raw / "manifest.yaml", "a: [b\n"), ("not readable YAML", "Correct")),
    Case("manifest excludes all", lambda raw: written(raw / "manifest.yaml", "version: 1\nsections:\n- {folder: "
         f"{FIRST}, exclude: torn}}\n"), ("none is left", "Correct")),
    Case("manifest's z falls", lambda raw: written(raw / "manifest.yaml", "version: 1\nsections:\n- {folder: "
         f"{FIRST}, z_um: 5}}\n- {{folder: section_001, z_um: 5}}\n"), ("duplicate z", "Correct")),
    Case("canvas not of tiles", lambda raw: written(raw / "manifest.yaml", "version: 1\ncanvas: [256, 300]\nsections:"
         f"\n- {{folder: {FIRST}}}\n"), ("multiples of 256", "Correct")),
    Case("section folder outside", folder_out_of_root, ("leads out of its folder", "Move")),
    Case("annotation of another size", lambda raw: cut(raw / "annotation" / "regions.tif", 0.3),
         ("annotation", "regions.tif")),
    Case("annotation names", lambda raw: written(raw / "annotation" / "regions.csv", "number,label\n1,x\n"),
         ("region names are not readable", "columns")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input(
    case: Case, raw_brain: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    raw = Path(shutil.copytree(raw_brain, tmp_path / "in" / "raw"))
    named = case.damage(raw)
    (tmp_path / "out").mkdir()
    code, _, err = run_command("ingest", raw, tmp_path / "out" / "A.zarr")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0], "more follows the error"
    assert "Traceback" not in err
    assert str(named) in lines[0]
    for words in case.says:
        assert words in lines[0]
    assert os.listdir(tmp_path / "out") == [], "something is left"


def test_output_that_is_no_store_of_ours(
    raw_brain: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "mine"
    written(out / "thesis.txt", "years of work")
    for more in ((), ("--overwrite",)):
        code, _, err = run_command("ingest", raw_brain, out, *more)
        assert code == 2
        assert "is no store of ours" in err
        assert str(out) in err
        assert "Choose another name" in err
    assert (out / "thesis.txt").read_text() == "years of work"
    file = written(tmp_path / "file.zarr", "words")
    code, _, err = run_command("ingest", raw_brain, file, "--overwrite")
    assert code == 2
    assert file.read_text() == "words"


def test_panel_that_lacks_genes(
    raw_brain: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    panel = written(tmp_path / "p.csv", "gene\nSlc17a7\nNotAGene\nNeither\n")
    code, _, err = run_command("ingest", raw_brain, tmp_path / "A.zarr", "--panel", panel)
    assert code == 2
    assert "NotAGene, Neither" in err
    assert str(panel) in err
    assert "panel intersect" in err
    assert not (tmp_path / "A.zarr").exists()


def test_debug_shows_the_traceback(tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run_command("ingest", tmp_path / "nowhere", tmp_path / "A.zarr")
    assert code == 2
    assert err.startswith("error: folder of raw sections not found")
    code, _, err = run_command("--debug", "ingest", tmp_path / "nowhere", tmp_path / "A.zarr")
    assert code == 2
    assert "Traceback" in err


def test_panels_of_the_paper(
    reference_dir: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    panels = reference_dir / "panels"
    out = tmp_path / "shared.csv"
    code, _, err = run_command(
        "panel", "intersect", panels / "main_500.csv", panels / "supp_500.csv", "--out", out
    )
    assert code == 0
    assert "229 genes" in err
    genes = out.read_text().split()[1:]
    assert len(genes) == 229
    assert genes == (panels / "main_500.csv").read_text().split()[1:230]
    code, text, _ = run_command("panel", "show", out)
    assert text.split() == genes
    code, text, _ = run_command("panel", "check", panels / "supp_500.csv", "--panel", panels / "human_81.csv")
    assert code == 0
    assert "81 of 81 in" in text
    code, _, err = run_command("panel", "check", out, "--panel", panels / "main_500.csv")
    assert code == 2
    assert str(out) in err
    assert "and 263 more" in err
    code, _, err = run_command("panel", "intersect", panels / "main_500.csv", "--out", out)
    assert code == 2
    assert "output exists" in err


def test_store_as_a_panel_and_info(
    raw_brain: Path, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    store = tmp_path / "A.zarr"
    code, _, err = run_command("ingest", raw_brain, store)
    assert code == 0, err
    mine = written(tmp_path / "mine.csv", "gene\nTH\nslc17a7\nOther\n")
    code, text, err = run_command("panel", "intersect", store, mine)
    assert code == 0
    assert sorted(text.split()) == ["Slc17a7", "Th"]
    assert f"{store}: 36 genes, 34 not common" in err
    code, text, _ = run_command("info", store)
    assert code == 0
    assert "complete" in text
    assert "36 genes" in text
    assert text.count("section_00") == 2
    code, _, err = run_command("info", tmp_path / "none.zarr")
    assert code == 2
    code, _, err = run_command("panel", "show", tmp_path)
    assert code == 2
    assert "no store to take a panel from" in err


GENERATED: dict[str, Any] = {
    "made_by": "teramind-model generate",
    "checkpoint": {"path": "/far/away/tiny.safetensors", "sha256": "ab" * 32},
    "software": {"python": "3.11.9", "teramind-model": "1.2.3"},
    "request": {
        "checkpoint": "ab" * 32,
        "seed": 7,
        "steps": 15,
        "sampler": "ddim",
        "control": {"kind": "none"},
    },
}


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({}, []),
        ({"draws": 4}, ["sampled     ddim, 15 steps, seed 7, 4 draws"]),
        (
            {"control": {"kind": "shuffled", "tile": 64, "strata": 4}},
            ["CONTROL     shuffled genes (tile 64, strata 4)"],
        ),
        ({"control": {"kind": "neighbour"}}, ["CONTROL     neighbour genes"]),
        ({"edits": ["Th*0"], "edited": {"everywhere": True}}, ["EDITED      Th*0 everywhere"]),
        (
            {"edits": ["Th*0", "A+2"], "edited": {"label": 3, "name": ""}},
            ["EDITED      Th*0, A+2 in label 3"],
        ),
        (
            {"edits": ["Th*0"], "edited": {"mask_sha256": "cd" * 32, "bins": 9}},
            ["EDITED      Th*0 in mask_sha256 cdcdcdcdcdcdcdcd, bins 9"],
        ),
        (
            {
                "edits": ["Th*0"],
                "edited": {"label": 3, "name": "Caudoputamen"},
                "control": {"kind": "shuffled"},
            },
            ["CONTROL     shuffled genes", "EDITED      Th*0 in Caudoputamen"],
        ),
    ],
)
def test_info_says_what_a_store_was_generated_from(
    tmp_path: Path,
    run_command: Callable[..., tuple[int, str, str]],
    request_: dict[str, Any],
    told: list[str],
) -> None:
    made = {**GENERATED, "request": {**GENERATED["request"], **request_}}
    sections = (Section(0, "s0", 0.0),)
    spec = BrainSpec("generated", (64, 64), 0.5, sections, Panel(("Th", "A")), provenance=made)
    writer = create_brain(str(tmp_path / "G.zarr"), spec)
    writer.write("morphology", 0, None, np.ones((2, 64, 64), np.uint8))
    writer.finish()
    code, text, err = run_command("info", tmp_path / "G.zarr")
    assert code == 0, err
    lines = text.splitlines()
    assert "made by     teramind-model generate (1.2.3)" in lines
    assert "checkpoint  tiny.safetensors, SHA-256 abababababababab" in lines
    assert any(line.startswith("sampled     ddim, 15 steps, seed 7") for line in lines)
    assert set(told) <= set(lines)
    for mark, key in (("CONTROL", "control"), ("EDITED", "edits")):
        assert any(line.startswith(mark) for line in lines) == (key in request_)


def test_commands_do_not_import_what_help_does_not_need() -> None:
    heavy = [
        "numpy",
        "zarr",
        "polars",
        "pandas",
        "pydantic",
        "spatialdata",
        "scipy",
        "tifffile",
        "torch",
        "yaml",
    ]
    code = f"import sys, teramind_data.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
