"""Damages to the folders of a raw brain: what is there, under which names, and the vendor's matrix."""

from __future__ import annotations

import os
from pathlib import Path

from tests.data.damage.input_tools import (
    DAPI,
    FIRST,
    MATRIX,
    POLYT,
    SECOND,
    TRANSCRIPTS,
    folder_instead,
    link_out,
    move,
    nothing,
    pipe_instead,
    several,
    text,
)
from tests.data.damage.store_tools import cut, delete, link, replace
from tests.data.damage.table import Damage, InputDamage


def strange_name(name: bytes) -> Damage:
    """The first section under a name that is no UTF-8, or breaks lines."""
    return lambda root: os.rename(os.fsencode(root / FIRST), os.path.join(os.fsencode(root / "raw"), name))


def emptied(key: str) -> Damage:
    def do(root: Path) -> None:
        for file in (root / key).iterdir():
            file.unlink()

    return do


FOLDERS = [
    InputDamage("no raw folder", move("raw", "cooked"), "/raw", "folder of raw sections not found"),
    InputDamage("raw is a file", several(delete("raw"), text("raw", "x")), "/raw", "raw sections not found"),
    InputDamage(
        "raw folder is empty",
        several(delete("raw"), lambda root: (root / "raw").mkdir()),
        "/raw",
        r"no sections.*\(expected one folder a section",
    ),
    InputDamage(
        "folder of brains",
        several(move("raw", "raws/A"), move("raws", "raw")),
        "/raw",
        "no sections.*found A",
    ),
    InputDamage("transcripts are gone", delete(TRANSCRIPTS), "section_000", "has no transcripts"),
    InputDamage("transcripts are a folder", folder_instead(TRANSCRIPTS), "section_000", "has no transcripts"),
    InputDamage("transcripts are a pipe", pipe_instead(TRANSCRIPTS), "section_000", "has no transcripts"),
    InputDamage("images are gone", delete(f"{SECOND}/images"), "section_001/images", "has no images"),
    InputDamage(
        "images under other names",
        move(DAPI, f"{FIRST}/images/dapi.png"),
        "section_000",
        "DAPI",
        warns=True,
        soak=True,
    ),
    InputDamage("no image of any", emptied(f"{FIRST}/images"), "section_000/images", "has no images"),
    InputDamage(
        "stain is gone in a section", delete(POLYT), "section_000", "PolyT.*(left out|no such)", warns=True
    ),
    InputDamage(
        "no stain in all sections",
        several(delete(POLYT), delete(f"{SECOND}/images/mosaic_DAPI_z3.tif")),
        "section_000: DAPI; section_001: PolyT",
        "no stain in common",
    ),
    InputDamage("image is a pipe", pipe_instead(DAPI), "mosaic_DAPI_z3.tif", "image not found"),
    InputDamage("image is a folder", folder_instead(DAPI), "mosaic_DAPI_z3.tif", "an OME-Zarr group"),
    InputDamage(
        "image links nowhere", link(DAPI, lambda root: root / "none.tif"), "mosaic_DAPI_z3", "image not found"
    ),
    InputDamage(
        "transcripts link to themselves",
        link(TRANSCRIPTS, lambda root: root / TRANSCRIPTS),
        "section_000",
        "has no transcripts",
    ),
    InputDamage(
        "section links out of the brain",
        link_out(FIRST),
        "section_000",
        "section folder leads out of its folder",
    ),
    InputDamage(
        "transcripts link out of the brain",
        link_out(TRANSCRIPTS),
        "section_000",
        "detected_transcripts.csv.*link.*out of",
        warns=True,
    ),
    InputDamage(
        "image links out of the brain",
        link_out(DAPI),
        "section_000",
        "mosaic_DAPI.*link.*out of",
        warns=True,
        soak=True,
    ),
    InputDamage("name that is no UTF-8", strange_name(b"section_\xff"), "section_", "UTF-8"),
    InputDamage(
        "name that breaks the line", strange_name(b"section\n000"), "section", "line|control|printable"
    ),
    InputDamage(
        "gene table that is no UTF-8",
        replace(f"{FIRST}/cell_by_gene.csv", b"cell,\xff\xfe\n1,2\n"),
        "cell_by_gene.csv",
        "gene table is not readable",
    ),
]
MATRICES = [
    InputDamage("matrix is gone", delete(MATRIX), "micron_to_mosaic", "has no micron-to-mosaic matrix"),
    InputDamage("matrix is empty", text(MATRIX, ""), "micron_to_mosaic", "3 rows of 3 numbers, found 0 x 0"),
    InputDamage("matrix of two rows", cut(MATRIX, 0.6), "micron_to_mosaic", "3 rows of 3 numbers"),
    InputDamage("matrix of words", text(MATRIX, "a b c\n" * 3), "micron_to_mosaic", "3 rows of 3 numbers"),
    InputDamage(
        "matrix that is no text", replace(MATRIX, b"\x93NUMPY\xff\xfe"), "micron_to_mosaic", "not readable"
    ),
    InputDamage(
        "matrix that is not finite",
        text(MATRIX, "nan 0 1\n0 2 1\n0 0 1\n"),
        "micron_to_mosaic",
        "not readable",
    ),
    InputDamage(
        "matrix without inverse",
        text(MATRIX, "2 2 1\n2 2 1\n0 0 1\n"),
        "micron_to_mosaic",
        "cannot be inverted",
    ),
    InputDamage(
        "matrix that is projective",
        text(MATRIX, "2.314814814814815 0 262\n0 2.314814814814815 95\n0.1 0 1\n"),
        "micron_to_mosaic",
        "last row",
    ),
    InputDamage(
        "matrix of another scale",
        text(MATRIX, "9.26 0 262\n0 9.26 95\n0 0 1\n"),
        "micron_to_mosaic",
        "sections differ in pixel size",
    ),
    InputDamage(
        "matrices the other way round",
        several(
            text(MATRIX, "0.432 0 -113\n0 0.432 -41\n0 0 1\n"),
            text(MATRIX.replace("000", "001"), "0.432 0 -113\n0 0.432 -41\n0 0 1\n"),
        ),
        "section_000",
        "scale is wrong|beyond the image|outside",
    ),
    InputDamage(
        "matrix of another section",
        text(MATRIX, "2.314814814814815 0 90000\n0 2.314814814814815 9e5\n0 0 1\n"),
        "section_000",
        "transcripts.*(outside|beyond).*image",
    ),
]
OUTPUTS = [
    InputDamage("output is a file", text("out.zarr", "thesis"), "out.zarr", "no store of ours"),
    InputDamage(
        "output is a folder of something",
        several(lambda root: (root / "out.zarr").mkdir(), text("out.zarr/thesis.txt", "x")),
        "out.zarr",
        "no store of ours",
    ),
    InputDamage("memory too small", nothing, "--memory", "memory", ("--memory", "1MiB")),
    InputDamage("memory without a number", nothing, "much", "memory is no size", ("--memory", "much")),
    InputDamage("no workers", nothing, "workers", "at least 1, found 0", ("--workers", "0")),
    InputDamage(
        "spacing is no length", nothing, "--section-spacing", "um > 0", ("--section-spacing", "-100")
    ),
    InputDamage(
        "a section is missing between two",
        several(move(SECOND, "raw/section_003")),
        "section_001 to section_002",
        "missing",
        warns=True,
    ),
]
DAMAGES = [*FOLDERS, *MATRICES, *OUTPUTS]
