"""Damages to a section's transcripts: CSV plain and compressed, parquet, and what the rows hold."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl

from tests.data.damage.input_tools import (
    TRANSCRIPTS,
    cells,
    flipped,
    lines,
    manifest,
    packed,
    parquet,
    several,
    text,
)
from tests.data.damage.store_tools import delete, replace
from tests.data.damage.table import InputDamage

CSV = "detected_transcripts.csv"
GZ, ZST, PARQUET = f"{CSV}.gz", f"{CSV}.zst", "detected_transcripts.parquet"
SOME = slice(10, 13)
HEADER = "global_x,global_y,gene\n"


def broken_footer(data: bytes) -> bytes:
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:start] + b"\xff" * 30 + data[start + 30 :]


def bomb(root: Path) -> None:
    """115 MB of line feeds in 115 kB."""
    (root / TRANSCRIPTS).unlink()
    (root / TRANSCRIPTS).with_name(GZ).write_bytes(gzip.compress(HEADER.encode() + b"\n" * (115 << 20), 6))


def zstd_bomb(root: Path) -> None:
    """72 MB of line feeds in a few kB."""
    import pyarrow as pa

    (root / TRANSCRIPTS).unlink()
    content = pa.compress(HEADER.encode() + b"\n" * (72 << 20), codec="zstd", asbytes=True)
    (root / TRANSCRIPTS).with_name(ZST).write_bytes(content)


def one_long_line(root: Path) -> None:
    (root / TRANSCRIPTS).unlink()
    (root / TRANSCRIPTS).with_name(GZ).write_bytes(gzip.compress(HEADER.encode() + b"1" * (20 << 20), 1))


CSVS = [
    InputDamage("CSV is empty", text(TRANSCRIPTS, ""), CSV, "not readable"),
    InputDamage("CSV of a header", text(TRANSCRIPTS, HEADER), CSV, "no usable transcripts.*found 0 rows"),
    InputDamage("CSV without header", lines(lambda rows: rows[1:]), CSV, "lacks columns global_x"),
    InputDamage(
        "CSV without places",
        lines(lambda rows: [rows[0].replace("global_x", "gx"), *rows[1:]]),
        CSV,
        "lacks column global_x: .*expected global_x, global_y, gene",
    ),
    InputDamage(
        "CSV without genes",
        lines(lambda rows: [rows[0].replace("gene", "name"), *rows[1:]]),
        CSV,
        "lacks column gene",
    ),
    InputDamage(
        "CSV with a column twice",
        lines(lambda rows: [rows[0].replace("global_y", "global_x"), *rows[1:]]),
        CSV,
        "lacks column global_y|duplicate",
    ),
    InputDamage(
        "CSV of semicolons", lines(lambda rows: [r.replace(",", ";") for r in rows]), CSV, "lacks columns"
    ),
    InputDamage(
        "CSV with words for places", cells("global_x", lambda v: "left", SOME), CSV, "not readable.*left"
    ),
    InputDamage(
        "CSV with decimal commas", cells("global_x", lambda v: '"1,5"', SOME), CSV, "not readable.*1,5"
    ),
    InputDamage(
        "CSV cut in a row",
        lambda root: (root / TRANSCRIPTS).write_bytes((root / TRANSCRIPTS).read_bytes()[:-60]),
        "section_000",
        "1 of .* rows without a (gene|finite place) were left out",
        warns=True,
    ),
    InputDamage(
        "CSV that is no UTF-8",
        replace(TRANSCRIPTS, HEADER.encode() + b"1,2,\xff\xfe\n"),
        CSV,
        "not readable.*(?i:utf)",
    ),
    InputDamage(
        "CSV in UTF-16",
        lambda root: (root / TRANSCRIPTS).write_text((root / TRANSCRIPTS).read_text(), encoding="utf-16"),
        CSV,
        "not readable|lacks columns",
    ),
    InputDamage(
        "CSV that is a picture",
        replace(TRANSCRIPTS, b"\x89PNG\r\n\x1a\n" + bytes(500)),
        CSV,
        "lacks|not readable",
    ),
    InputDamage(
        "CSV with an open quote",
        lines(lambda rows: [rows[0], '"' + rows[1], *rows[2:]]),
        CSV,
        "not readable|rows",
    ),
]
ROWS = [
    InputDamage(
        "places that are no number",
        cells("global_x", lambda v: "nan", SOME),
        "section_000",
        "3 of .* rows without a finite place were left out",
        warns=True,
    ),
    InputDamage(
        "places without end",
        cells("global_y", lambda v: "-inf", SOME),
        "section_000",
        "3 of .* rows without a finite place",
        warns=True,
    ),
    InputDamage(
        "places that are empty",
        cells("global_y", lambda v: "", SOME),
        "section_000",
        "3 of .* rows without a finite",
        warns=True,
        soak=True,
    ),
    InputDamage(
        "no place is a number",
        cells("global_x", lambda v: "nan"),
        CSV,
        "no usable transcripts.* without a place",
    ),
    InputDamage(
        "genes that are empty",
        cells("gene", lambda v: "", SOME),
        "section_000",
        "3 of .* rows without a gene",
        warns=True,
        soak=True,
    ),
    InputDamage(
        "genes are all blanks", cells("gene", lambda v: "Blank-1"), CSV, "no usable transcripts.* controls"
    ),
    InputDamage(
        "genes of another brain",
        cells("gene", lambda v: "HUMAN" + v),
        "section_000",
        "not in.*cell_by_gene",
        warns=True,
    ),
    InputDamage(
        "places in mm",
        several(
            cells("global_x", lambda v: str(float(v) / 1000)),
            cells("global_y", lambda v: str(float(v) / 1000)),
        ),
        CSV,
        "transcripts cover next to nothing of the section's image",
    ),
    InputDamage(
        "places in pixels",
        several(
            cells("global_x", lambda v: str(float(v) * 9.26)),
            cells("global_y", lambda v: str(float(v) * 9.26)),
        ),
        "section_000",
        "transcripts.*image",
    ),
    InputDamage(
        "places of another section",
        cells("global_x", lambda v: str(float(v) + 9e4)),
        "section_000",
        "transcripts.*image",
    ),
    InputDamage(
        "places beyond every number",
        cells("global_x", lambda v: "1e30", SOME),
        "section_000",
        "3 .*(too far|thrown|lost)",
        warns=True,
    ),
    InputDamage(
        "planes that are not there",
        manifest(lambda m: m.update(transcripts={"z_planes": [77.0]})),
        CSV,
        "no usable transcripts.*planes",
    ),
    InputDamage(
        "planes below zero",
        several(
            cells("global_z", lambda v: f"-{v}"),
            manifest(lambda m: m.update(transcripts={"z_planes": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})),
        ),
        CSV,
        "no usable|planes",
    ),
    InputDamage(
        "planes without a column",
        several(
            lines(lambda rows: [rows[0].replace("global_z", "plane"), *rows[1:]]),
            manifest(lambda m: m.update(transcripts={"z_planes": [3.0]})),
        ),
        CSV,
        "lacks column",
    ),
    InputDamage(
        "columns that are not there",
        manifest(lambda m: m.update(transcripts={"columns": {"x": "px", "y": "py", "gene": "g"}})),
        CSV,
        "lacks columns px, py, g",
    ),
]
PACKED = [
    InputDamage("gzip cut", packed(lambda d: d[: len(d) // 2]), GZ, "truncated or damaged"),
    InputDamage("gzip cut in its trailer", packed(lambda d: d[:-3]), GZ, "truncated or damaged"),
    InputDamage(
        "gzip with a flipped bit", packed(lambda d: flipped(d, 0.5)), GZ, "truncated or damaged|not readable"
    ),
    InputDamage(
        "gzip of another checksum", packed(lambda d: flipped(d, -6)), GZ, "truncated or damaged.*CRC"
    ),
    InputDamage(
        "gzip of another length", packed(lambda d: flipped(d, -2)), GZ, "truncated or damaged.*(?i:length)"
    ),
    InputDamage("gzip with junk behind", packed(lambda d: d + b"junk"), GZ, "truncated or damaged"),
    InputDamage("gzip that is none", packed(gzip.decompress), GZ, "truncated or damaged.*(?i:gzip)"),
    InputDamage("gzip that is empty", packed(lambda d: b""), GZ, "not readable|truncated"),
    # Deflate needs 115 MB to go beyond what a small file may expand to.
    InputDamage("gzip bomb", bomb, GZ, "compressed, found more", soak=True),
    InputDamage("zstd bomb", zstd_bomb, ZST, "compressed, found more"),
    InputDamage("gzip of one line", one_long_line, GZ, "truncated or damaged.*lines|not readable"),
    InputDamage("zstd cut", packed(lambda d: d[: len(d) // 2], ".csv.zst"), ZST, "truncated or damaged"),
    InputDamage(
        "zstd with a flipped bit", packed(lambda d: flipped(d, 0.0), ".csv.zst"), ZST, "truncated or damaged"
    ),
    InputDamage(
        "zstd of another size", packed(lambda d: flipped(d, 5 / len(d)), ".csv.zst"), ZST, "truncated or"
    ),
    InputDamage("zstd that is gzip", packed(gzip.compress, ".csv.zst"), ZST, "truncated or damaged"),
    InputDamage(
        "zstd that is empty", packed(lambda d: b"", ".csv.zst"), ZST, "truncated or damaged|not readable"
    ),
]
PARQUETS = [
    InputDamage("parquet cut", parquet(lambda f: f, lambda d: d[: len(d) // 2]), PARQUET, "not readable"),
    InputDamage(
        "parquet that is CSV",
        several(delete(TRANSCRIPTS), text(TRANSCRIPTS[:-3] + "parquet", HEADER)),
        PARQUET,
        "not readable",
    ),
    InputDamage("parquet that is empty", parquet(lambda f: f, lambda d: b""), PARQUET, "not readable"),
    InputDamage(
        "parquet with a damaged footer", parquet(lambda f: f, broken_footer), PARQUET, "not readable"
    ),
    InputDamage(
        "parquet with a flipped length",
        parquet(lambda f: f, lambda d: flipped(d, -5)),
        PARQUET,
        "not readable",
    ),
    InputDamage(
        "parquet with damaged pages",
        parquet(
            lambda f: f.select("global_x", "global_y", "gene"), lambda d: d[:2000] + b"\xff" * 4000 + d[6000:]
        ),
        PARQUET,
        "not readable|far beyond the section's image",
    ),
    InputDamage("parquet without genes", parquet(lambda f: f.drop("gene")), PARQUET, "lacks column gene"),
    InputDamage(
        "parquet with words for places",
        parquet(lambda f: f.with_columns(global_x=pl.lit("x"))),
        PARQUET,
        "not readable",
    ),
    InputDamage(
        "parquet of lists",
        parquet(lambda f: f.with_columns(global_x=pl.concat_list("global_x"))),
        PARQUET,
        "not readable",
    ),
    InputDamage("parquet without rows", parquet(lambda f: f.clear()), PARQUET, "no usable transcripts"),
    InputDamage(
        "parquet with dates for places",
        parquet(lambda f: f.with_columns(global_x=pl.lit("2024-01-01").str.to_date())),
        PARQUET,
        "not readable|outside the section's image",
    ),
]
DAMAGES = [*CSVS, *ROWS, *PACKED, *PARQUETS]
