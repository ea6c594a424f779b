"""Transcript tables of every format and column naming, and every way a file can be wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from teramind_data.errors import InputError
from teramind_data.ingest import compressed, transcripts
from teramind_data.ingest.transcripts import (
    PRESETS,
    Columns,
    GeneNames,
    TranscriptCount,
    TranscriptSource,
    stream_transcripts,
)

GENES = ["Th", "Gad1", "Blank-3", "Slc17a7"]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def table(rows: int = 3000, gene: str = "gene") -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "": np.arange(rows),
            "global_x": rng.uniform(-50, 900, rows).round(4),
            "global_y": rng.uniform(-50, 900, rows).round(4),
            "global_z": rng.integers(0, 7, rows).astype(float),
            gene: rng.choice(GENES, rows),
        }
    )


def text(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def halves(data: bytes, pack: Callable[[bytes], bytes]) -> bytes:
    """Two members one after the other, cut in the middle of a line."""
    return pack(data[: len(data) // 2 + 3]) + pack(data[len(data) // 2 + 3 :])


def write(folder: Path, suffix: str, frame: pl.DataFrame) -> Path:
    file = folder / f"detected_transcripts{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(file, row_group_size=700)
        return file
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".csv": lambda data: data,
        ".csv.gz": lambda data: halves(data, gzip.compress),
        ".csv.zst": lambda data: halves(data, zstd),
    }
    file.write_bytes(packers[suffix](text(frame)))
    return file


def read(source: TranscriptSource | Path) -> tuple[np.ndarray, list[str], TranscriptCount]:
    names, count = GeneNames(), TranscriptCount()
    batches = list(stream_transcripts(source, names, count))
    code = np.concatenate([batch[1] for batch in batches])
    return np.concatenate([batch[0] for batch in batches]), [names.names[i] for i in code], count


@pytest.mark.parametrize("block", [4096, compressed.BLOCK_BYTES])
@pytest.mark.parametrize("suffix", transcripts.TRANSCRIPT_SUFFIXES)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, suffix: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed.line_blocks, "__defaults__", (block,))
    frame = table()
    xy, genes, count = read(write(tmp_path, suffix, frame))
    kept = frame.filter(pl.col("gene") != "Blank-3")
    np.testing.assert_array_equal(xy, kept.select("global_x", "global_y").to_numpy())
    assert genes == kept["gene"].to_list()
    assert count == TranscriptCount(rows=3000, controls=3000 - len(kept))
    assert count.warnings() == ()


@pytest.mark.parametrize("suffix", transcripts.TRANSCRIPT_SUFFIXES)
def test_planes_are_selected_or_pooled(tmp_path: Path, suffix: str) -> None:
    frame = table()
    file = write(tmp_path, suffix, frame)
    xy, genes, count = read(TranscriptSource(file, z_planes=(2, 5.0)))
    kept = frame.filter(pl.col("global_z").is_in([2.0, 5.0]) & (pl.col("gene") != "Blank-3"))
    np.testing.assert_array_equal(xy, kept.select("global_x", "global_y").to_numpy())
    assert genes == kept["gene"].to_list()
    assert count.rows == 3000
    assert count.other_planes == len(frame.filter(~pl.col("global_z").is_in([2.0, 5.0])))
    assert len(read(file)[1]) > len(genes)


@pytest.mark.parametrize("suffix", transcripts.TRANSCRIPT_SUFFIXES)
def test_presets_and_mappings(tmp_path: Path, suffix: str) -> None:
    truth = read(write(tmp_path, suffix, table()))
    spots = write(tmp_path, suffix, table(gene="target_molecule_name"))
    for columns in (None, PRESETS["allen"]):
        found = read(TranscriptSource(spots, columns))
        np.testing.assert_array_equal(found[0], truth[0])
        assert found[1:] == truth[1:]
    own = table().rename({"global_x": "px", "global_y": "py", "gene": "target", "global_z": "plane"})
    file = write(tmp_path, suffix, own)
    source = TranscriptSource(file, Columns("px", "py", "target", "plane"), (1,))
    assert len(read(source)[1]) == len(own.filter((pl.col("plane") == 1) & (pl.col("target") != "Blank-3")))
    with pytest.raises(InputError, match=r"lacks columns global_x, global_y, gene.*transcripts\.columns"):
        read(file)
    with pytest.raises(InputError, match="lacks column z:"):
        read(
            TranscriptSource(
                write(tmp_path, suffix, table()), Columns("global_x", "global_y", "gene", "z"), (1,)
            )
        )
    with pytest.raises(InputError, match="z column, named in the manifest"):
        read(TranscriptSource(file, Columns("px", "py", "target"), (1,)))


def test_rows_left_out_are_counted_and_told(tmp_path: Path) -> None:
    for suffix in (".csv", ".csv.gz"):
        file = tmp_path / f"t{suffix}"
        body = "global_x,global_y,gene\n1,2,Th\nnan,2,Th\n,3,Th\n1,-inf,Th\n1e999,2,Th\n1,2,\n1,2,Blank-1\n5,6,Th"
        data = body.encode()
        file.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
        xy, genes, count = read(file)
        assert xy.tolist() == [[1, 2], [5, 6]]
        assert genes == ["Th", "Th"]
        assert count == TranscriptCount(rows=8, controls=1, not_finite=4, no_gene=1)
        assert count.warnings() == (
            "4 of 8 rows without a finite place were left out",
            "1 of 8 rows without a gene were left out",
        )


def test_quoted_line_feeds_do_not_cut_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed.line_blocks, "__defaults__", (64,))
    rows = [f'{i},{i},"a ""q""\nb{i % 3}"' for i in range(200)]
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(("global_x,global_y,gene\n" + "\n".join(rows) + "\n").encode()))
    xy, genes, _ = read(file)
    assert xy[:, 0].tolist() == list(range(200))
    assert set(genes) == {f'a "q"\nb{k}' for k in range(3)}


GOOD = b"global_x,global_y,gene\n" + b"1,2,Th\n" * 5000


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


BAD: dict[str, tuple[str, bytes, str]] = {
    "no numbers": (".csv", b"global_x,global_y,gene\n1,two,Th\n", r"not readable.*numbers in global_x.*two"),
    "no numbers, packed": (
        ".csv.gz",
        gzip.compress(b"global_x,global_y,gene\n1,two,Th\n"),
        "not readable.*two",
    ),
    "empty": (".csv", b"", "not readable.*empty"),
    "empty, packed": (".csv.gz", gzip.compress(b""), "not readable.*empty|lacks columns"),
    "no bytes": (".csv.zst", b"", "truncated or damaged|not readable"),
    "not UTF-8": (".csv", b"global_x,global_y,gene\n1,2,\xff\xfe\n", "not readable.*(?i:utf-?8)"),
    "too many fields": (".csv", b"global_x,global_y,gene\n1,2,Th,4,5\n", "not readable.*fields"),
    "gzip cut off": (".csv.gz", gzip.compress(GOOD)[:-9], "truncated or damaged"),
    "gzip cut in its trailer": (".csv.gz", gzip.compress(GOOD)[:-3], "truncated or damaged"),
    "gzip with a wrong size": (".csv.gz", flip(gzip.compress(GOOD), -2), "truncated or damaged.*length"),
    "gzip with a wrong checksum": (".csv.gz", flip(gzip.compress(GOOD), -6), "truncated or damaged.*CRC"),
    "no gzip": (".csv.gz", GOOD, "truncated or damaged.*(?i:gzip)"),
    "junk after a member": (".csv.gz", gzip.compress(GOOD) + b"junk", "truncated or damaged"),
    "zstd cut off": (".csv.zst", zstd(GOOD)[:-5], "truncated or damaged"),
    "zstd damaged": (".csv.zst", flip(zstd(GOOD), 6), "truncated or damaged"),
    "zstd with a wrong size": (".csv.zst", flip(imagecodecs.zstd_encode(GOOD), 5), "truncated or damaged"),
    "no zstd": (".csv.zst", GOOD, "truncated or damaged"),
    "no end of line": (
        ".csv.gz",
        gzip.compress(b"0" * (20 << 20)),
        "truncated or damaged.*lines|not readable",
    ),
    "no parquet": (".parquet", GOOD, "not readable"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_and_where(tmp_path: Path, name: str) -> None:
    suffix, data, message = BAD[name]
    file = tmp_path / f"detected_transcripts{suffix}"
    file.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_SLACK", 1 << 20)
    monkeypatch.setattr(compressed.line_blocks, "__defaults__", (1 << 18,))
    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(b"global_x,global_y,gene\n" + b"\n" * (8 << 20)))
    with pytest.raises(InputError, match="truncated or damaged.*at most .* compressed, found more"):
        read(file)


def test_damaged_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, ".parquet", table())
    monkeypatch.setattr(transcripts, "_LARGEST_ROW_GROUP", 1000)
    with pytest.raises(InputError, match="row group too large"):
        read(file)
    monkeypatch.undo()
    monkeypatch.setattr(transcripts, "_declared_rows", lambda _: 3001)
    with pytest.raises(InputError, match=r"another number of rows.*expected 3,001, found 3,000"):
        read(file)
    monkeypatch.undo()
    table().with_columns(pl.lit("x").alias("global_y")).write_parquet(file)
    with pytest.raises(InputError, match="not readable.*global_y"):
        read(file)
    data = write(tmp_path, ".parquet", table()).read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not readable"):
        read(file)


def test_categories_and_missing_values_in_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"global_x": [1.0, None, 3.0], "global_y": [1, 2, 3], "gene": ["Th", "Th", None]},
        schema={"global_x": pl.Float32, "global_y": pl.Int16, "gene": pl.Categorical},
    )
    frame.write_parquet(tmp_path / "t.parquet")
    xy, genes, count = read(tmp_path / "t.parquet")
    assert (xy.tolist(), genes) == ([[1.0, 1.0]], ["Th"])
    assert (count.rows, count.not_finite, count.no_gene, count.controls) == (3, 1, 1, 0)
