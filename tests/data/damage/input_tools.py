"""Tools that damage inputs: the places in a raw brain, and what is done to them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.damage.table import Damage

FIRST = "raw/section_000"
SECOND = "raw/section_001"
TRANSCRIPTS = f"{FIRST}/detected_transcripts.csv"
MATRIX = f"{FIRST}/images/micron_to_mosaic_pixel_transform.csv"
DAPI = f"{FIRST}/images/mosaic_DAPI_z3.tif"
POLYT = f"{FIRST}/images/mosaic_PolyT_z3.tif"
AFFINE = f"{FIRST}/ABBA-Transform-A-section_000.json"
SPLINE = f"{SECOND}/ABBA-Transform-A-section_001.json"
LABELS = "raw/annotation/regions.tif"
NAMES = "raw/annotation/regions.csv"


def nothing(root: Path) -> None:
    """No damage but what the options do."""


def text(key: str, content: str) -> Damage:
    """Other text in a file."""
    return lambda root: (root / key).write_text(content)


def move(old: str, new: str) -> Damage:
    """Another name or place."""

    def do(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return do


def several(*damages: Damage) -> Damage:
    """One after the other."""

    def do(root: Path) -> None:
        for damage in damages:
            damage(root)

    return do


def folder_instead(key: str) -> Damage:
    """A folder of a file's name."""

    def do(root: Path) -> None:
        (root / key).unlink()
        (root / key).mkdir()

    return do


def pipe_instead(key: str) -> Damage:
    """A named pipe of a file's name: reading it would wait for ever."""
    import os

    def do(root: Path) -> None:
        (root / key).unlink()
        os.mkfifo(root / key)

    return do


def lines(change: Callable[[list[str]], Any], key: str = TRANSCRIPTS) -> Damage:
    """Change the lines of a text file."""

    def do(root: Path) -> None:
        rows = (root / key).read_text().split("\n")
        changed = change(rows)
        (root / key).write_text("\n".join(rows if changed is None else changed))

    return do


def cells(
    column: str, value: Callable[[str], str], rows: slice = slice(None), key: str = TRANSCRIPTS
) -> Damage:
    """Change the cells of a column of the transcripts, in all rows or some."""

    def change(all_rows: list[str]) -> None:
        at = all_rows[0].split(",").index(column)
        for number in range(1, len(all_rows))[rows]:
            row = all_rows[number].split(",")
            if len(row) > at:
                row[at] = value(row[at])
                all_rows[number] = ",".join(row)

    return lines(change, key)


def packed(change: Callable[[bytes], bytes], suffix: str = ".csv.gz") -> Damage:
    """The transcripts compressed, and the bytes then changed."""

    def do(root: Path) -> None:
        import imagecodecs

        file = root / TRANSCRIPTS
        data = file.read_bytes()
        small = gzip.compress(data, 1) if suffix == ".csv.gz" else imagecodecs.zstd_encode(data)
        file.unlink()
        file.with_suffix("").with_suffix(suffix).write_bytes(change(small))

    return do


def flipped(data: bytes, at: float) -> bytes:
    """One bit at a part of the length (from the end where negative, in bytes)."""
    out = bytearray(data)
    out[int(len(data) * at) if at >= 0 else int(at)] ^= 4
    return bytes(out)


def parquet(change: Callable[[Any], Any], then: Callable[[bytes], bytes] = bytes, **options: Any) -> Damage:
    """The transcripts as parquet, of a changed frame, and its bytes then changed."""

    def do(root: Path) -> None:
        import polars as pl

        file = root / TRANSCRIPTS
        frame = change(pl.read_csv(file))
        file.unlink()
        target = file.with_suffix(".parquet")
        frame.write_parquet(target, **options)
        target.write_bytes(then(target.read_bytes()))

    return do


def manifest(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """A manifest made from the folder, changed, at its place in the raw folder."""

    def do(root: Path) -> None:
        import yaml

        from teramind_data.ingest.manifest import discover

        plain = discover(root / "raw").to_plain()
        plain.setdefault("sections", [])
        changed = change(plain)
        (root / "raw" / "manifest.yaml").write_text(yaml.safe_dump(plain if changed is None else changed))

    return do


def tiff(change: Callable[[np.ndarray], np.ndarray] = lambda a: a, key: str = DAPI, **options: Any) -> Damage:
    """The image written again, of changed pixels or otherwise laid out."""

    def do(root: Path) -> None:
        import tifffile

        pixels = change(tifffile.imread(root / key))
        tifffile.imwrite(root / key, pixels, **{"photometric": "minisblack", "metadata": None, **options})

    return do


def tag(name: str, value: Any, key: str = DAPI, **options: Any) -> Damage:
    """A TIFF tag of the first page overwritten."""

    def do(root: Path) -> None:
        import tifffile

        tiff(key=key, **options)(root)
        with tifffile.TiffFile(root / key, mode="r+") as file:
            old = file.pages[0].tags[name].value
            file.pages[0].tags[name].overwrite(value(old) if callable(value) else value)

    return do


def link_out(key: str) -> Damage:
    """The file moved beside the inputs, and a link to it in its place."""

    def do(root: Path) -> None:
        outside = root.parent / f"outside-{Path(key).name}"
        (root / key).rename(outside)
        (root / key).symlink_to(outside)

    return do
