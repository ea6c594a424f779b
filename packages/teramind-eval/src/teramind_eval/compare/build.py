"""Make a comparison: find reports, read, lay side by side, draw, write. `write_comparison` is what commands call."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

from teramind_data.errors import InputError
from teramind_eval.compare.alike import same_truth
from teramind_eval.compare.axes import AXES, Curve, curves, find_axes
from teramind_eval.compare.measures import Measure, all_measures, chosen_measures
from teramind_eval.compare.page import Page, column, render
from teramind_eval.compare.plots import axis_curves, bars
from teramind_eval.compare.reports import Report, find_reports, read_report
from teramind_eval.compare.table import DIFFERS, MADE, Group, groups, long_rows, wide_rows
from teramind_eval.report.lock import claimed
from teramind_eval.report.output import FIGURES, METRICS, PAGE, TABLE, Kind, state_of, written_whole
from teramind_eval.report.page import Chart

COMPARISON = Kind("comparison", "compare.html", "compare.json")
LONG, WIDE = "compare.parquet", "compare.csv"

_HEADS = {
    "method": "Method",
    "control": "Genes",
    "sampler": "Sampler",
    "z": "Z",
    "patch": "P (px)",
    "channels": "C",
    "steps": "Steps",
    "seed": "Seed",
    "crops": "Crops seen",
}


@dataclass(frozen=True)
class Request:
    """A comparison to be made.

    Attributes:
        reports: arguments as `find_reports` takes them.
        out: folder to write.
        baseline: label of the run that arrows tell from; None for the first over each brain.
        measures: columns, `NAME` or `NAME:STAIN`; empty for the usual ones.
        axis: `auto`, `none`, or one of `axes.AXES`.
        controls: whether the reports' controls are rows too.
        overwrite: replace an earlier comparison.
    """

    reports: tuple[str, ...]
    out: Path
    baseline: str | None = None
    measures: tuple[str, ...] = ()
    axis: str = "auto"
    controls: bool = False
    overwrite: bool = False


def write_comparison(request: Request) -> tuple[Path, bool]:
    """Write the comparison; returns its page and whether it was made anew.

    Raises
    ------
    InputError, MissingInputError, OutputExistsError, StoreError
        each naming the report, label or folder; nothing is then left under the output's name.
    """
    axes = find_axes(request.axis)
    found = find_reports(request.reports)
    reports = [read_report(label, folder) for label, folder in found]
    measures = all_measures(key for one in reports for run in (one.real, *one.runs) for key in run.values)
    shown = chosen_measures(measures, list(request.measures))
    if not shown:
        raise InputError("reports have no measures", where=found[0][1])
    inputs = {label: _fingerprint(folder) for label, folder in found}
    settings = {
        "baseline": request.baseline,
        "measures": list(request.measures),
        "axis": request.axis,
        "controls": request.controls,
    }
    page = request.out / COMPARISON.page
    state = partial(state_of, request.out, inputs, settings, overwrite=request.overwrite, kind=COMPARISON)
    if state() == "current":
        return page, False
    laid = groups(reports, shown, controls=request.controls, baseline=request.baseline)
    with claimed(request.out, state) as wanted:
        if not wanted:
            return page, False
        with written_whole(request.out) as draft:
            charts = _charts(laid, shown, curves(laid, axes))
            (draft / FIGURES).mkdir()
            for chart in charts:
                (draft / FIGURES / f"{chart.name}.png").write_bytes(chart.plot.light)
                (draft / FIGURES / f"{chart.name}_dark.png").write_bytes(chart.plot.dark)
            everything = groups(reports, measures, controls=True, baseline=request.baseline)
            _write_long(draft / LONG, everything, measures)
            _write_wide(draft / WIDE, everything, measures)
            warnings = _warnings(reports, laid, shown)
            told = {"inputs": inputs, "settings": settings, "warnings": warnings}
            (draft / COMPARISON.numbers).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
            text = render(_page(request, warnings, laid, shown, charts))
            (draft / COMPARISON.page).write_text(text, encoding="utf-8")
    return page, True


def _fingerprint(folder: Path) -> dict[str, str]:
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (METRICS, TABLE)}
    return {"report": str(folder), **hashes}


def _charts(laid: Sequence[Group], shown: Sequence[Measure], found: Sequence[Curve]) -> list[Chart]:
    """A plot for each axis that runs lie on, then bars of the brains with runs that lie on none."""
    charts = []
    for axis in AXES:
        own = [curve for curve in found if curve.axis is axis]
        if own:
            charts.append(
                Chart(
                    f"axis_{axis.key}",
                    axis_curves(own, shown),
                    f"Against {axis.title}",
                    "Runs that differ in this number alone. Upright lines: one standard deviation either way. "
                    "Dashed: the real brain. Networks of other Z, P or C may have seen other numbers of crops.",
                    f"Line plots of {', '.join(one.title for one in shown)} against {axis.title}",
                )
            )
    placed = {run.label for curve in found for run in curve.runs}
    left = [group for group in laid if any(row.run.label not in placed for row in group.rows)]
    if left:
        charts.append(
            Chart(
                "bars",
                bars(left, shown),
                "Run beside run",
                "Thin lines: one standard deviation either way. Hatched: controls. Dashed: the real brain.",
                f"Bars of {', '.join(one.title for one in shown)} for each run",
            )
        )
    return charts


def _page(
    request: Request,
    warnings: Sequence[str],
    laid: Sequence[Group],
    shown: Sequence[Measure],
    charts: Sequence[Chart],
) -> Page:
    rows = [row for group in laid for row in group.rows]
    brains = "one measured brain" if len(laid) == 1 else f"{len(laid)} measured brains"
    runs = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    known = [key for key in MADE if any(key in row.run.made for row in rows)]
    links = {row.run.label: _link(row.report, request.out) for row in rows if row.report is not None}
    return Page(
        subtitle=f"{runs} over {brains}, as their reports measured them.",
        warnings=warnings,
        columns=[column(one) for one in shown],
        groups=laid,
        notes=_NOTES,
        charts=charts,
        making=(
            ["Run", *(_HEADS[key] for key in known)],
            [[row.run.label, *(_said(row.run.made.get(key)) for key in known)] for row in rows],
        ),
        links=links,
        command=_command(request),
    )


_NOTES = (
    "Mean ± standard deviation between tiles, patches or nuclei of a brain, as in its report; it is no error of the "
    "mean. ▲ and ▼: better or worse than the baseline over the same brain. Underlined: the best. Neither is said of a "
    "run whose report took the measure otherwise than the baseline's (other tiles, patches, sections or part of the "
    "canvas, nuclei found otherwise, another truth, other Inception weights): it differs for that alone. "
    "Differences far below the standard deviation may be chance: generate with other seeds to know."
)


def _said(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _link(report: Report, out: Path) -> str:
    """The report's page as seen from the comparison's, so that a folder of both can be moved."""
    return quote(os.path.relpath(report.folder.resolve() / PAGE, out.resolve()))


def _warnings(reports: Sequence[Report], laid: Sequence[Group], shown: Sequence[Measure]) -> list[str]:
    found = []
    if len({report.sizes for report in reports}) > 1:
        told = "; ".join(
            f"{one.label}: tiles {one.sizes[0]} px, patches {one.sizes[1]} px" for one in reports
        )
        found.append(
            f"The reports measured with different sizes, so their numbers differ for that alone: {told}."
        )
    if len({report.nuclei for report in reports if report.nuclei}) > 1:
        told = "; ".join(f"{one.label}: {one.nuclei or 'not said'}" for one in reports)
        found.append(f"Nuclei were not found alike, so their numbers differ for that alone: {told}.")
    if len({report.inception for report in reports if report.inception}) > 1:
        found.append("FID, sFID and KID come from different Inception weights: compare none of them.")
    for brain in dict.fromkeys(report.brain for report in reports):
        own = [report for report in reports if report.brain == brain]
        if len({report.sections for report in own}) > 1:
            told = "; ".join(f"{one.label}: {', '.join(one.sections)}" for one in own)
            found.append(f"Runs over one brain were measured on different sections: {told}.")
        if not all(same_truth(one, other) for one, other in combinations(own, 2)):
            told = ", ".join(one.label for one in own if one.truth)
            found.append(
                "Runs over one brain were compared with different truths, so their scores against it differ for that "
                f"alone: {told}."
            )
        if len({report.inside for report in own}) > 1:
            told = "; ".join(f"{one.label}: {_part(one.inside)}" for one in own)
            found.append(
                "Runs over one brain were measured in different parts of the canvas, so their numbers differ for that "
                f"alone: {told}."
            )
    if len({report.brain for report in reports}) > 1:
        found.append("Runs lie over different measured brains: compare them within each brain only.")
    found += _of_real(laid, shown)
    warned: dict[str, list[str]] = {}
    for report in reports:
        for warning in report.warnings:
            warned.setdefault(warning, []).append(report.label)
    return found + [f"{', '.join(labels)}: {warning}" for warning, labels in warned.items()]


def _of_real(laid: Sequence[Group], shown: Sequence[Measure]) -> Iterator[str]:
    """Where reports do not agree on the measured brain itself."""
    for group in laid:
        cells = zip(shown, group.real.cells, strict=True)
        titles = [measure.title for measure, cell in cells if cell.text == DIFFERS]
        if titles:
            yield (
                f"Reports do not agree on the real brain {group.name} itself in {', '.join(titles)}: they took it "
                "otherwise, or at the seams of their own run. Its row says so, and plots have no dashed line for it."
            )


def _part(inside: tuple[int, int, int, int] | None) -> str:
    return "all of it" if inside is None else "y0, y1, x0, x1 = " + ", ".join(map(str, inside)) + " px"


def _command(request: Request) -> str:
    words = ["teramind-eval", "compare", *request.reports]
    if request.baseline is not None:
        words += ["--baseline", request.baseline]
    for measure in request.measures:
        words += ["--measure", measure]
    words += ["--axis", request.axis] if request.axis != "auto" else []
    words += ["--controls"] if request.controls else []
    return shlex.join([*words, "--out", str(request.out)])


def _write_long(path: Path, laid: Sequence[Group], measures: Sequence[Measure]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = (
        "run",
        "real_brain",
        "role",
        "report",
        "store",
        "method",
        "control",
        "sampler",
        "measure",
        "stain",
    )
    numbers = ("z", "patch", "channels", "steps", "seed", "crops", "n")
    rows = list(long_rows(laid, measures))
    kinds = {name: pa.string() for name in (*text, "better", "than_baseline")}
    kinds |= {name: pa.int64() for name in numbers} | {"mean": pa.float64(), "sd": pa.float64()}
    schema = pa.schema([(name, kinds[name]) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _write_wide(path: Path, laid: Sequence[Group], measures: Sequence[Measure]) -> None:
    rows = list(wide_rows(laid, measures))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
