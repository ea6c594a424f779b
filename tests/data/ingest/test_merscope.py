"""Transcript streams: what is kept, what is dropped and counted, and the panel that comes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest import merscope, transcripts
from teramind_data.ingest.merscope import (
    GeneNames,
    TranscriptCount,
    collect_panel,
    read_folder,
    stream_transcripts,
)
from teramind_data.panel import Panel

TEXT = """,barcode_id,global_x,global_y,global_z,gene
0,1,1.5,2.5,0,Slc17a7
1,2,3.0,4.0,1,Blank-1
2,3,nan,4.0,1,Th
3,3,,4.0,1,Th
4,3,5.0,6.0,1,Th
5,3,7.0,8.0,1,slc17A7
6,4,inf,8.0,1,Gad1
7,5,9.0,8.0,1,
"""


def read(file: Path) -> tuple[np.ndarray, np.ndarray, GeneNames, TranscriptCount]:
    names, count = GeneNames(), TranscriptCount()
    batches = list(stream_transcripts(file, names, count))
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches]), names, count


def test_what_is_kept_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "detected_transcripts.csv"
    file.write_text(TEXT)
    xy, code, names, count = read(file)
    assert xy.tolist() == [[1.5, 2.5], [5.0, 6.0], [7.0, 8.0]]
    assert [names.names[i] for i in code] == ["Slc17a7", "Th", "slc17A7"]
    assert (count.rows, count.controls, count.not_finite, count.no_gene) == (8, 1, 3, 1)
    panel = Panel(("Th", "SLC17A7"))
    assert names.to_panel(panel)[code].tolist() == [1, 0, 1]
    assert names.to_panel(Panel(("Gad1",)))[code].tolist() == [-1, -1, -1]


def test_small_batches_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    genes = rng.choice(["A1", "B1", "C1", "Blank-7"], 5000)
    x, y = rng.uniform(0, 100, (2, 5000)).round(4)
    file = tmp_path / "t.csv"
    rows = (f"{i},{a},{b},{g}\n" for i, (a, b, g) in enumerate(zip(x, y, genes, strict=True)))
    file.write_text(",global_x,global_y,gene\n" + "".join(rows))
    whole = read(file)
    monkeypatch.setattr(transcripts, "_BATCH_ROWS", 333)
    parts = read(file)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])
    keep = genes != "Blank-7"
    np.testing.assert_array_equal(whole[0], np.column_stack([x, y])[keep])
    assert whole[2].names == parts[2].names
    assert whole[3] == parts[3]


def test_panel_of_tables_then_others(tmp_path: Path) -> None:
    panel = collect_panel([("Zfp1", "Aqp4"), ("Aqp4", "zfp1")], ["Th", "AQP4", "Cldn5"])
    assert panel.genes == ("Zfp1", "Aqp4", "Cldn5", "Th")
    with pytest.raises(InputError, match="brain has no genes"):
        collect_panel([()], [])


def test_middle_plane_or_the_one_asked_for(raw_copy: Path) -> None:
    images = raw_copy / "section_000" / "images"
    (images / "mosaic_DAPI_z3.tif").rename(images / "mosaic_DAPI_z0.tif")
    for z in (1, 2):
        (images / f"mosaic_DAPI_z{z}.tif").write_bytes(b"")
    folder = read_folder(raw_copy / "section_000")
    assert folder.image("DAPI", None).name == "mosaic_DAPI_z1.tif"
    assert folder.image("DAPI", 2).name == "mosaic_DAPI_z2.tif"
    with pytest.raises(MissingInputError, match=r"plane z9.*z0, z1, z2"):
        folder.image("DAPI", 9)
    assert merscope.pixel_size_um(folder) == pytest.approx(0.432)
