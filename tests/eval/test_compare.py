"""Reports side by side: what is read, what is marked, what is drawn, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from teramind_data.errors import InputError, MissingInputError, OutputExistsError
from teramind_eval.compare.axes import curves, find_axes
from teramind_eval.compare.build import Request, write_comparison
from teramind_eval.compare.measures import all_measures, chosen_measures
from teramind_eval.compare.reports import find_reports, read_report
from teramind_eval.compare.table import groups
from teramind_eval.report.build import _write_table
from teramind_eval.report.provenance import making
from teramind_eval.results import (
    Distances,
    ImageScores,
    NucleiScores,
    Results,
    Scores,
    SectionScores,
    Statistic,
    StoreResult,
)
from tests.eval.drawn import PROVENANCE


def _scores(psnr: float | None, nuclei: float, distance: float | None = None) -> Scores:
    image = (
        {}
        if psnr is None
        else {
            "together": ImageScores(
                Statistic(psnr, 2.0, 40), Statistic(psnr / 40, 0.1, 40), Statistic(None, None, 0)
            )
        }
    )
    one = Statistic(nuclei, 1.5, 40)
    to_real = None if distance is None else Distances(distance, distance / 10)
    return Scores(
        image, NucleiScores(400, one, Statistic(80.0, 9.0, 400), Statistic(15.0, 2.0, 400), None, to_real)
    )


def _store(label: str, role: Any, scores: Scores) -> StoreResult:
    return StoreResult(label, role, f"/gone/{label}.zarr", scores, (SectionScores(0, "s0", 0.0, scores),))


def made_up(
    folder: Path, psnr: float, nuclei: float, *, real: str = "a", tile: int = 32, **made: Any
) -> Path:
    """A report folder with these numbers over real brain `real`, whose nuclei are 10 a patch; a control at PSNR 9."""
    folder.mkdir(parents=True)
    stores = (
        _store(f"real_{real}", "real", _scores(None, 10.0)),
        _store("generated", "generated", _scores(psnr, nuclei, abs(nuclei - 10))),
        _store("shuffled", "control", _scores(9.0, 14.0, 4.0)),
    )
    results = Results(
        settings={"tile_px": tile, "patch_px": 64},
        inputs={f"real_{real}": {"role": "real", "provenance_sha256": real * 64}},
        warnings=(),
        stores=stores,
        made={
            "generated": {"method": "tera-mind", **made},
            "shuffled": {"method": "tera-mind", "control": "shuffled"},
        },
    )
    (folder / "metrics.json").write_text(results.to_json())
    _write_table(folder / "metrics.parquet", results)
    (folder / "report.html").write_text("<html>")
    return folder


def compared(*words: str, measures: tuple[str, ...] = (), **options: Any) -> Any:
    """Groups as the command makes them."""
    reports = [read_report(label, folder) for label, folder in find_reports(words)]
    found = all_measures(key for one in reports for run in (one.real, *one.runs) for key in run.values)
    shown = chosen_measures(found, list(measures))
    return groups(reports, shown, **{"controls": False, "baseline": None, **options}), shown


def _marks(groups: Any, shown: Any, title: str) -> dict[str, tuple[str, bool]]:
    index = [one.title for one in shown].index(title)
    return {
        row.run.label: (row.cells[index].mark, row.cells[index].best) for one in groups for row in one.rows
    }


def test_runs_are_marked_by_the_rule_of_each_measure(tmp_path: Path) -> None:
    for name, psnr, nuclei in (
        ("base", 20.0, 12.0),
        ("better", 22.0, 9.5),
        ("worse", 18.0, 6.0),
        ("same", 20.001, 12.0),
    ):
        made_up(tmp_path / name, psnr, nuclei)
    laid, shown = compared(*(str(tmp_path / name) for name in ("base", "better", "worse", "same")))
    higher = {
        "base": ("", False),
        "better": ("better", True),
        "worse": ("worse", False),
        "same": ("equal", False),
    }
    assert _marks(laid, shown, "PSNR (dB)") == higher
    # Nearer to the real 10 nuclei a patch, from either side.
    assert _marks(laid, shown, "Nuclei a patch") == higher
    assert _marks(laid, shown, "Nuclear area, distance (µm²)") == higher
    # All alike: each is the best.
    assert set(_marks(laid, shown, "Nuclear area (µm²)").values()) == {("", True), ("equal", True)}
    other, _ = compared(
        *(str(tmp_path / name) for name in ("base", "better", "worse", "same")), baseline="worse"
    )
    assert {label: mark for label, (mark, _) in _marks(other, shown, "PSNR (dB)").items()} == {
        "base": "better", "better": "better", "worse": "", "same": "better"
    }  # fmt: skip


def test_marks_and_best_are_within_a_real_brain(tmp_path: Path) -> None:
    made_up(tmp_path / "one", 20.0, 12.0)
    made_up(tmp_path / "two", 30.0, 12.0, real="b")
    laid, shown = compared(str(tmp_path / "one"), str(tmp_path / "two"))
    assert [group.name for group in laid] == ["real_a", "real_b"]
    assert set(_marks(laid, shown, "PSNR (dB)").values()) == {("", False)}


def test_an_experiment_s_folder_stands_for_its_reports(tmp_path: Path) -> None:
    root = tmp_path / "evidence"
    for name in (
        "main/tera-mind/report",
        "main/patch-dm/report",
        "ablate/z2-p32/report-15",
        "ablate/z2-p32/report-5",
    ):
        made_up(root / name, 20.0, 10.0)
    (root / "main/tera-mind/C.zarr").mkdir()
    (root / "main/tera-mind/C.zarr/zarr.json").write_text("{}")
    made_up(root / "main/tera-mind/C.zarr/no/report", 1.0, 1.0)
    labels = [label for label, _ in find_reports([str(root)])]
    assert labels == ["ablate/z2-p32/report-5", "ablate/z2-p32/report-15", "main/patch-dm", "main/tera-mind"]
    single = [
        label for label, _ in find_reports([f"mine={root}/main/patch-dm", f"{root}/main/tera-mind/report"])
    ]
    assert single == ["mine", "tera-mind"]


def test_runs_that_differ_in_one_number_are_a_curve(tmp_path: Path) -> None:
    for z, patch, steps in ((1, 32, 15), (2, 32, 15), (4, 32, 15), (2, 64, 15), (2, 32, 5), (2, 32, 50)):
        made_up(
            tmp_path / f"z{z}-p{patch}-n{steps}", 20.0, 10.0, z=z, patch=patch, steps=steps, crops=1000 // z
        )
    laid, _ = compared(str(tmp_path))
    found = {curve.axis.key: curve for curve in curves(laid, find_axes("auto"))}
    assert {key: curve.places for key, curve in found.items()} == {
        "z": (1, 2, 4),
        "patch": (32, 64),
        "steps": (5, 15, 50),
    }
    assert [run.label for run in found["steps"].runs] == ["z2-p32-n5", "z2-p32-n15", "z2-p32-n50"]
    assert [curve.axis.key for curve in curves(laid, find_axes("patch"))] == ["patch"]
    assert curves(laid, find_axes("none")) == []


def test_curves_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    for sampler in ("ddim", "dpm++"):
        for steps in (5, 15):
            made_up(tmp_path / f"{sampler}{steps}", 20.0, 10.0, sampler=sampler, steps=steps, z=2, crops=9)
    laid, _ = compared(str(tmp_path))
    found = curves(laid, find_axes("auto"))
    assert [(curve.axis.key, curve.places, curve.name) for curve in found] == [
        ("steps", (5, 15), "tera-mind, ddim"),
        ("steps", (5, 15), "tera-mind, dpm++"),
    ]
    # Networks of other Z may have seen other crops; the same network after other crops is a curve of its own.
    made_up(tmp_path / "z4", 20.0, 10.0, sampler="ddim", steps=5, z=4, crops=7)
    made_up(tmp_path / "longer", 20.0, 10.0, sampler="ddim", steps=5, z=2, crops=99)
    laid, _ = compared(str(tmp_path))
    axes = {curve.axis.key: curve.places for curve in curves(laid, find_axes("auto"))}
    assert axes["crops"] == (9, 99)
    assert axes["z"] == (2, 2, 4)


def test_a_report_of_several_generated_stores_is_a_run_for_each(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", 20.0, 10.0, steps=15)
    _damage(folder, lambda data: data["stores"].append({**data["stores"][1], "label": "other"}))
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    rows += [
        {**row, "store": "other", "mean": row["mean"] + 1} for row in rows if row["store"] == "generated"
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "metrics.parquet")
    laid, _ = compared(str(folder))
    assert [(row.run.label, row.cells[0].text) for row in laid[0].rows] == [
        ("run: generated", "20.00"),
        ("run: other", "21.00"),
    ]


def test_scores_of_single_regions_are_not_those_of_the_brain(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", 20.0, 10.0)
    rows = [{**row, "region": ""} for row in pq.read_table(folder / "metrics.parquet").to_pylist()]
    rows += [{**row, "region": "cortex", "mean": 1.0} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), folder / "metrics.parquet")
    assert compared(str(folder))[0][0].rows[0].cells[0].text == "20.00"
    # Reports of before there were regions.
    pq.write_table(
        pq.read_table(folder / "metrics.parquet")
        .filter(pc.equal(pq.read_table(folder / "metrics.parquet")["region"], ""))
        .drop_columns(["region"]),
        folder / "metrics.parquet",
    )
    assert compared(str(folder))[0][0].rows[0].cells[0].text == "20.00"


def test_runs_that_differ_in_two_numbers_are_no_curve(tmp_path: Path) -> None:
    made_up(tmp_path / "x", 20.0, 10.0, z=1, patch=32, steps=15)
    made_up(tmp_path / "y", 20.0, 10.0, z=2, patch=64, steps=15)
    made_up(tmp_path / "trained", 20.0, 10.0, z=2, patch=64, steps=5, crops=10)
    laid, _ = compared(str(tmp_path))
    assert curves(laid, find_axes("auto")) == []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("compare")
    for steps in (5, 15, 50):
        made_up(tmp_path / f"n{steps}", 15.0 + steps / 10, 12.0, z=2, patch=32, steps=steps)
    made_up(tmp_path / "other", 17.0, 8.0, real="b")
    words = tuple(str(tmp_path / name) for name in ("n5", "n15", "n50", "other"))
    path, made = write_comparison(Request(words, tmp_path / "out"))
    assert made
    assert write_comparison(Request(words, tmp_path / "out")) == (path, False)
    with pytest.raises(OutputExistsError, match="comparison of other inputs or settings"):
        write_comparison(Request(words, tmp_path / "out", controls=True))
    return path


def test_page_and_files_say_the_same(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"https?://|<(script|link|iframe)\b", text)
    assert 'href="../n5/report.html"' in text
    assert "16.50" in text
    assert text.count("better than the baseline</span>") == 4  # PSNR and SSIM of n15 and n50
    assert "compare them within each brain only" in text
    figures = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert figures == ["axis_steps.png", "axis_steps_dark.png", "bars.png", "bars_dark.png"]
    table = pq.read_table(page.parent / "compare.parquet").to_pylist()
    row = next(r for r in table if (r["run"], r["measure"], r["stain"]) == ("n15", "psnr_db", "together"))
    assert (row["mean"], row["sd"], row["n"], row["steps"]) == (16.5, 2.0, 40, 15)
    assert (row["better"], row["than_baseline"]) == ("higher", "better")
    with (page.parent / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [
        "real", "n5", "n5: shuffled", "n15", "n15: shuffled", "n50", "n50: shuffled", "real", "other", "other: shuffled"
    ]  # fmt: skip
    assert float(rows[3]["psnr_db:together"]) == 16.5
    assert rows[3]["z"] == "2"


def test_reports_of_other_parts_of_the_canvas_and_their_own_warnings_are_told(tmp_path: Path) -> None:
    whole, part, also = (made_up(tmp_path / name, 20.0, 10.0) for name in ("whole", "part", "also"))
    _damage(part, lambda data: data["settings"].update(inside=[0, 64, 32, 96]))
    _damage(whole, lambda data: data["settings"].update(inside=None))
    for folder in (part, also):
        _damage(folder, lambda data: data.update(warnings=["G.zarr is incomplete."]))
    told = write_comparison(Request(tuple(map(str, (whole, part, also))), tmp_path / "out"))[0].read_text()
    where = "whole: all of it; part: y0, y1, x0, x1 = 0, 64, 32, 96 px; also: all of it."
    assert f"different parts of the canvas, so their numbers differ for that alone: {where}" in told
    assert "part, also: G.zarr is incomplete." in told
    # A report of before the part was saved is of the whole canvas.
    quiet = write_comparison(
        Request((str(whole), str(made_up(tmp_path / "old", 20.0, 10.0))), tmp_path / "b")
    )
    assert "parts of the canvas" not in quiet[0].read_text()


def test_a_real_report_is_read_as_it_was_written(reported: Path, tmp_path: Path) -> None:
    shutil.copytree(reported / "report", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["made"]["generated"] == making(PROVENANCE)
    found = read_report("run", tmp_path / "run")
    assert [run.label for run in found.runs] == ["run", "run: shuffled"]
    own = metrics["stores"][1]["brain"]
    assert found.runs[0].values["ssim", "together"].mean == own["image"]["together"]["ssim"]["mean"]
    distance = found.runs[0].values["nuclear_area_um2_wasserstein", "DAPI"]
    assert distance.mean == own["nuclei"]["area_um2_to_real"]["wasserstein"]
    assert found.runs[0].made == metrics["made"]["generated"]
    # This version knows all that it measures, and shows few of these unasked.
    _, shown = compared(str(tmp_path / "run"))
    assert all(one.better for one in all_measures(found.runs[0].values))
    assert len(shown) <= 13
    # A report that does not say how its stores were made is asked for the stores themselves.
    del metrics["made"]
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    assert read_report("run", tmp_path / "run").runs[0].made == found.runs[0].made
    words = (str(tmp_path / "run"),)
    request = Request(words, tmp_path / "out", controls=True, measures=("ssim:together",))
    path, _ = write_comparison(request)
    assert "run: shuffled" in path.read_text()
    assert write_comparison(replace(request, controls=False, overwrite=True)) == (path, True)
    assert "run: shuffled" not in path.read_text()


def _damage(folder: Path, change: Any) -> None:
    data = json.loads((folder / "metrics.json").read_text())
    change(data)
    (folder / "metrics.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data.update(schema_version=7), r"another schema version.*expected 1, found 7"),
        (lambda data: data.pop("settings"), r"report is damaged.*settings: Field required"),
        (lambda data: data["stores"].pop(1), r"not of one real store and those generated"),
        (lambda data: data["stores"][1].update(role="rival"), r"stores.1.role"),
    ],
)
def test_a_report_of_another_kind_is_named(tmp_path: Path, change: Any, what: str) -> None:
    folder = made_up(tmp_path / "run", 20.0, 10.0)
    _damage(folder, change)
    with pytest.raises(InputError, match=what) as error:
        write_comparison(Request((str(folder),), tmp_path / "out"))
    assert "run/metrics.json" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", 20.0, 10.0)
    table = pq.read_table(folder / "metrics.parquet")
    pq.write_table(table.drop_columns(["sd"]), folder / "metrics.parquet")
    with pytest.raises(InputError, match=r"lacks columns.*metrics\.parquet.*found no sd"):
        write_comparison(Request((str(folder),), tmp_path / "out"))
    (folder / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cannot be read.*metrics\.parquet.*Remove the report.s folder"):
        write_comparison(Request((str(folder),), tmp_path / "out"))
    (folder / "metrics.json").write_text('{"schema')
    with pytest.raises(InputError, match=r"cannot be read.*metrics\.json.*Remove the report.s folder"):
        write_comparison(Request((str(folder),), tmp_path / "out"))


def test_what_is_asked_for_and_not_there_is_named(tmp_path: Path) -> None:
    folder = str(made_up(tmp_path / "run", 20.0, 10.0))
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    with pytest.raises(MissingInputError, match=r"no such report.*nowhere"):
        write_comparison(Request((str(tmp_path / "nowhere"),), out))
    with pytest.raises(MissingInputError, match=r"holds no report.*empty"):
        write_comparison(Request((str(tmp_path / "empty"),), out))
    with pytest.raises(InputError, match=r"one label.*LABEL=REPORT"):
        write_comparison(Request((folder, folder), out))
    with pytest.raises(InputError, match=r"--measure.*expected psnr_db, ssim.*found beauty"):
        write_comparison(Request((folder,), out, measures=("beauty",)))
    with pytest.raises(InputError, match=r"--baseline.*expected run.*found best"):
        write_comparison(Request((folder,), out, baseline="best"))
    with pytest.raises(InputError, match=r"--axis.*expected auto, none, z, patch, steps.*found taste"):
        write_comparison(Request((folder,), out, axis="taste"))
    assert not out.exists()


def test_different_sizes_and_sections_are_warned_about(tmp_path: Path) -> None:
    one = made_up(tmp_path / "one", 20.0, 10.0)
    two = made_up(tmp_path / "two", 20.0, 10.0, tile=64)
    _damage(two, lambda data: data["stores"][1]["sections"][0].update(name="s9"))
    path, _ = write_comparison(Request((str(one), str(two)), tmp_path / "out"))
    warnings = json.loads((path.parent / "compare.json").read_text())["warnings"]
    assert any("tiles 32 px" in text and "tiles 64 px" in text for text in warnings)
    assert any("one: s0; two: s9" in text for text in warnings)
    assert not any("Nuclei were not found alike" in text for text in warnings)


def test_other_segmenters_and_weights_are_warned_about(tmp_path: Path) -> None:
    folders = [made_up(tmp_path / name, 20.0, 10.0) for name in ("one", "two")]
    for folder, kind in zip(folders, ("watershed", "cellpose"), strict=True):
        _damage(folder, lambda data, kind=kind: data["settings"].update(nuclei={"segmenter": kind, "a": 1}))
        _damage(folder, lambda data, kind=kind: data["inputs"].update(inception={"sha256": kind}))
    path, _ = write_comparison(Request(tuple(map(str, folders)), tmp_path / "out"))
    warnings = json.loads((path.parent / "compare.json").read_text())["warnings"]
    assert any("one: watershed, a 1; two: cellpose, a 1" in text for text in warnings)
    assert any("different Inception weights" in text for text in warnings)


def test_nearness_is_to_the_real_brain_as_the_same_report_measured_it(tmp_path: Path) -> None:
    one = made_up(tmp_path / "one", 20.0, 12.0)
    # As a seam index, taken where the run's own patches meet: 40 of the real brain there, 41 of the run.
    two = made_up(tmp_path / "two", 20.0, 41.0)
    table = pq.read_table(two / "metrics.parquet")
    mean = pc.if_else(
        pc.and_(pc.equal(table["role"], "real"), pc.equal(table["measure"], "nuclei_per_patch")),
        40.0,
        table["mean"],
    )
    place = table.column_names.index("mean")
    pq.write_table(table.set_column(place, "mean", mean), two / "metrics.parquet")
    laid, shown = compared(str(one), str(two))
    assert _marks(laid, shown, "Nuclei a patch") == {"one": ("", False), "two": ("better", True)}
    # The real brain's row says neither's value: no dashed line, no row in the files, and a warning.
    index = [one.title for one in shown].index("Nuclei a patch")
    assert laid[0].real.cells[index].text == "differs"
    assert ("nuclei_per_patch", "DAPI") not in laid[0].real.run.values
    assert laid[0].real.cells[index + 1].text == "15.0"
    path, _ = write_comparison(Request((str(one), str(two)), tmp_path / "out"))
    warnings = json.loads((path.parent / "compare.json").read_text())["warnings"]
    assert [
        text for text in warnings if "do not agree on the real brain real_a itself in Nuclei a patch:" in text
    ]
    assert ">differs<" in path.read_text()


def _with_truth(folder: Path, tables: dict[str, dict[str, Any]], f1: float = 0.5) -> Path:
    """The report with a truth of these tables, by section, and its run's F1 against it."""
    _damage(folder, lambda data: data["inputs"].update(truth={"url": "/truth", "tables": tables}))
    table = pq.read_table(folder / "metrics.parquet")
    rows = table.to_pylist()
    first = next(row for row in rows if row["role"] == "generated" and row["section"] == -1)
    rows.append({**first, "measure": "centroid_f1_against_truth", "stain": "DAPI", "mean": f1, "sd": None})
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "metrics.parquet")
    return folder


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        # One truth, of which the reports compare other sections.
        ({"s0": {"bytes": 5}, "s1": {"bytes": 6}}, {"s1": {"bytes": 6}}, True),
        ({"s0": {"bytes": 5, "sha256": "a"}}, {"s0": {"bytes": 5, "sha256": "b"}}, False),
        # A report of before tables were hashed.
        ({"s0": {"bytes": 5, "sha256": "a"}}, {"s0": {"bytes": 5}}, True),
        ({"s0": {"bytes": 5}}, {"s0": {"bytes": 7}}, False),
    ],
)
def test_other_truths_are_told_by_the_tables_of_the_same_sections(
    tmp_path: Path, mine: Any, theirs: Any, same: bool
) -> None:
    one = _with_truth(made_up(tmp_path / "one", 20.0, 10.0), mine)
    two = _with_truth(made_up(tmp_path / "two", 22.0, 10.0), theirs, f1=0.75)
    path, _ = write_comparison(Request((str(one), str(two)), tmp_path / "out"))
    warnings = json.loads((path.parent / "compare.json").read_text())["warnings"]
    assert any("different truths" in text for text in warnings) is not same
    laid, shown = compared(str(one), str(two))
    mark = ("better", True) if same else ("", False)
    assert _marks(laid, shown, "Centroid F1, truth")["two"] == mark
    assert _marks(laid, shown, "PSNR (dB)")["two"] == ("better", True)


_IMAGE, _PATCH, _AREA = "PSNR (dB)", "Nuclei a patch", "Nuclear area, distance (µm²)"


@pytest.mark.parametrize(
    ("change", "unmarked"),
    [
        (lambda data: data["settings"].update(tile_px=64), {_IMAGE}),
        (lambda data: data["settings"].update(patch_px=128), {_PATCH}),
        (lambda data: data["settings"].update(nuclei={"segmenter": "cellpose"}), {_PATCH, _AREA}),
        (lambda data: data["settings"].update(inside=[0, 64, 32, 96]), {_IMAGE, _PATCH, _AREA}),
        (lambda data: data["stores"][1]["sections"][0].update(name="s9"), {_IMAGE, _PATCH, _AREA}),
        (lambda data: data["inputs"].update(inception={"sha256": "b"}), set()),
    ],
)
def test_a_run_measured_otherwise_than_the_baseline_is_not_marked(
    tmp_path: Path, change: Any, unmarked: set[str]
) -> None:
    words = []
    for name, psnr, nuclei in (("base", 20.0, 12.0), ("like", 19.0, 13.0), ("other", 22.0, 10.0)):
        folder = made_up(tmp_path / name, psnr, nuclei)
        _damage(folder, lambda data: data["settings"].update(nuclei={"segmenter": "watershed"}))
        _damage(folder, lambda data: data["inputs"].update(inception={"sha256": "a"}))
        words.append(str(folder))
    _damage(tmp_path / "other", change)
    laid, shown = compared(*words)
    for title in (_IMAGE, _PATCH, _AREA):
        marks = _marks(laid, shown, title)
        assert marks["like"] == ("worse", False)
        # Best of those that can be told from each other is then the baseline.
        assert marks["other"] == (("", False) if title in unmarked else ("better", True))
        assert marks["base"] == ("", title in unmarked)


def test_distances_of_features_of_other_weights_are_not_marked(tmp_path: Path) -> None:
    for name, fid in (("one", 30.0), ("two", 20.0)):
        folder = made_up(tmp_path / name, 20.0, 10.0)
        table = pq.read_table(folder / "metrics.parquet")
        rows = table.to_pylist()
        first = next(row for row in rows if row["role"] == "generated" and row["section"] == -1)
        rows.append({**first, "measure": "fid", "stain": "together", "mean": fid, "sd": None})
        pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "metrics.parquet")
    words = (str(tmp_path / "one"), str(tmp_path / "two"))
    for name in ("one", "two"):
        _damage(tmp_path / name, lambda data: data["inputs"].update(inception={"sha256": "a"}))
    laid, shown = compared(*words)
    assert _marks(laid, shown, "FID") == {"one": ("", False), "two": ("better", True)}
    _damage(tmp_path / "two", lambda data: data["inputs"].update(inception={"sha256": "b"}))
    laid, shown = compared(*words)
    assert _marks(laid, shown, "FID") == {"one": ("", False), "two": ("", False)}
