"""``teramind-data qc``: the terminal's table, the CSV and the sheet, on stores with and without kept numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teramind_data.qc.curves import draw_panel, panels_of
from teramind_data.store import Brain, open_brain
from tests.data.qc.conftest import Arrays

Run = Callable[..., tuple[int, str, str]]


def test_kept_numbers_are_shown(run_command: Run, small_brain: Brain, tmp_path: Path) -> None:
    sheet, table = tmp_path / "s.png", tmp_path / "t.csv"
    code, said, aside = run_command("qc", small_brain.url, "--out", sheet, "--csv", table)
    assert code == 0
    assert "measured now" not in aside
    assert said.count("section_00") == 5
    assert "nothing stands out" in said
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [float(row["DAPI_focus"]) for row in rows] == [s.qc["DAPI_focus"] for s in small_brain.sections]
    assert rows[0]["shift_previous_um"] == ""
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 20


def test_stores_without_numbers_are_measured(run_command: Run, arrays: Arrays, tmp_path: Path) -> None:
    spoilt = arrays.pick([0, 1, 2, 3, 4], [0, 100, 200, 500, 600])
    spoilt.morphology[:, 3] = 0
    spoilt.spec = replace(
        spoilt.spec,
        provenance={"excluded": [{"folder": "x", "name": "torn", "z_um": 300.0, "reason": "torn in half"}]},
    )
    store = tmp_path / "b.zarr"
    spoilt.write(store)
    sheet = tmp_path / "s.png"
    code, said, aside = run_command("qc", store, "--out", sheet)
    assert code == 0
    assert "does not keep these numbers; measured now" in aside
    assert "gap: 300 um, 100 um is usual" in said
    assert "left out: torn at 300 um: torn in half" in said
    assert "section 3 (s03): DAPI covers 0 % (at least 95 % expected)" in said
    assert "section 3 (s03): DAPI intensity" not in said  # there is none
    assert sheet.stat().st_size > 10_000


@pytest.mark.parametrize("kind", ["one", "generated", "expression", "many"])
def test_sheets_of_all_kinds(run_command: Run, arrays: Arrays, tmp_path: Path, kind: str) -> None:
    some = {"one": arrays.pick([0]), "many": arrays.pick([0, 1] * 6)}.get(kind, arrays.copy())
    if kind == "generated":
        some.spec = replace(some.spec, kind="generated")
    if kind == "expression":
        some.spec = replace(some.spec, kind="expression", stains=())
    some.write(tmp_path / "b.zarr", tissue=kind != "generated")
    code, _, aside = run_command("qc", tmp_path / "b.zarr", "--out", tmp_path / "s.png")
    assert code == 0, aside
    with Image.open(tmp_path / "s.png") as image:
        assert image.width == 1755


@pytest.mark.parametrize(
    ("z", "labels", "unit"),
    [
        ([0.0, 112.5, 300.0], ["0", "112.5", "300"], "µm"),
        ([100.0, 1350.0, 2600.0], ["0.1", "1.35", "2.6"], "mm"),
        ([0.0, 100.0, 200.0, 300.0, 400.0, 500.0], ["0", "100", "200", "300", "400", "500"], "µm"),
    ],
)
def test_ticks_of_z_have_the_digits_they_need(
    arrays: Arrays, tmp_path: Path, z: list[float], labels: list[str], unit: str
) -> None:
    from matplotlib.figure import Figure

    arrays.pick([0] * len(z), z).write(tmp_path / "b.zarr")
    brain = open_brain(tmp_path / "b.zarr")
    numbers = [{"genes_seen": 30} for _ in z]
    figure = Figure()
    axes = figure.add_subplot()
    draw_panel(axes, brain, numbers, panels_of(brain, numbers)[0], last=True)
    figure.canvas.draw()
    low, high = axes.get_xlim()
    shown = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for at, label in shown if low <= at <= high] == labels
    assert axes.get_xlabel() == f"z, {unit}"


def test_what_is_there_is_not_overwritten(run_command: Run, small_brain: Brain, tmp_path: Path) -> None:
    file = tmp_path / "s.png"
    file.write_bytes(b"mine")
    code, _, aside = run_command("qc", small_brain.url, "--out", file)
    assert code == 2
    assert aside.count("\n") == 1
    assert "--overwrite" in aside
    assert file.read_bytes() == b"mine"
    code, _, aside = run_command("qc", small_brain.url, "--csv", tmp_path / "no" / "t.csv")
    assert code == 2
    assert "folder of the output does not exist" in aside


def test_numbers_are_columns_of_the_section_table(small_brain: Brain) -> None:
    import anndata

    table = anndata.read_zarr(Path(small_brain.url) / "tables" / "sections")
    for column in ("density_per_mm2", "tissue_mm2", "DAPI_focus", "residue_um", "genes_seen"):
        np.testing.assert_array_equal(table.obs[column], [s.qc[column] for s in small_brain.sections])
    assert np.isnan(table.obs["shift_previous_um"].iloc[0])
    assert list(table.obs["flags"]) == [""] * 5
    assert "NaN" not in json.dumps([s.qc for s in small_brain.sections])
