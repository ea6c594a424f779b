"""The one table of an experiment or ablation, written anew from what is there after every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from teramind_data.console import counted
from teramind_data.store import open_brain
from teramind_model.experiments.ablation import AXES, DEFAULT_Z, Point, point_report, point_run, points
from teramind_model.experiments.figures import axis_plot, score_plot
from teramind_model.experiments.journal import Journal
from teramind_model.experiments.pictures import busy_place, side_by_side
from teramind_model.experiments.plan import Plan
from teramind_model.experiments.protocols import (
    PATCHES_ALONE,
    TRUE,
    Data,
    Protocol,
    Variant,
    variant_folder,
    variants_of,
)
from teramind_model.experiments.scores import MEASURES, Row, TrainingFacts, report_rows, training_facts
from teramind_model.experiments.tables import csv_text, markdown, number, write_text

__all__ = ["ablation_rows", "experiment_rows", "write_ablation", "write_experiment"]

_CONDITIONS = {"generated": TRUE, "patches-alone": PATCHES_ALONE}
_NO_GENES = "no genes"
_SHOWN_PX = 192
"""Edge of the places shown side by side."""

_SHOWN = tuple(m for m in MEASURES if m.key not in ("psnr_sd", "ssim_sd", "area_sd", "nuclei"))


def experiment_rows(root: Path, protocols: Sequence[Protocol], variants: Sequence[Variant]) -> list[Row]:
    """Rows of all reports that are there; each protocol's real brain once."""
    rows: list[Row] = []
    for protocol in protocols:
        real: Row | None = None
        made: list[Row] = []
        for variant in variants_of(protocol, variants):
            folder = variant_folder(root, protocol, variant)
            if not (folder / "report").exists():
                continue
            names = _CONDITIONS if variant.sees_genes else {"generated": _NO_GENES}
            training = training_facts(folder / "run")
            for row in report_rows(folder / "report", protocol.name, variant.label, names, training):
                if row.condition == "real":
                    real = row
                else:
                    made.append(row)
        rows += ([real] if real else []) + made
    return rows


def write_experiment(
    data: Data, protocols: Sequence[Protocol], variants: Sequence[Variant], plan: Plan
) -> int:
    """Write ``table.csv``, ``table.md``, ``table.png`` and ``pictures.png`` below the root; the number of rows.

    Rows of what has not been measured yet are left out, and named below the table.
    """
    rows = experiment_rows(data.root, protocols, variants)
    missing = [
        f"{protocol.name}/{variant.folder}"
        for protocol in protocols
        for variant in variants_of(protocol, variants)
        if not (variant_folder(data.root, protocol, variant) / "report").exists()
    ]
    title = f"# Experiments: {', '.join(protocol.name for protocol in protocols)}"
    notes = [f"- {protocol.name}: {protocol.note}." for protocol in protocols]
    text = [title, "", *_account(data), *notes, "", _row_table(rows), _training_table(rows), _times(plan)]
    write_text(data.root / "table.md", "\n".join(text + _missing(missing)))
    write_text(data.root / "table.csv", csv_text([row.plain() for row in rows]))
    if rows:
        write_text(data.root / "table.png", score_plot(rows))
        write_text(data.root / "pictures.png", _pictures(data, protocols, variants))
    return len(rows)


def _pictures(data: Data, protocols: Sequence[Protocol], variants: Sequence[Variant]) -> bytes:
    """The same place of each protocol's brain: real, and as each method that has been measured drew it."""
    shown = []
    for protocol in protocols:
        folders = {v.label: variant_folder(data.root, protocol, v) for v in variants_of(protocol, variants)}
        made = {label: folder for label, folder in folders.items() if (folder / "report").exists()}
        if not made:
            continue
        real = open_brain(data.store(protocol.test))
        brains = {label: open_brain(str(folder / "generated.zarr")) for label, folder in made.items()}
        place = busy_place(real, _SHOWN_PX, data.budget.patch)
        shown.append((f"{protocol.name}:", place, {"real": real, **brains}))
    return side_by_side(shown)


def ablation_rows(root: Path, protocol: Protocol, axis: str, of: Iterable[Point]) -> list[tuple[Point, Row]]:
    """The points of an axis that have been measured."""
    found = []
    for point in of:
        report = point_report(root, protocol, point)
        if not report.exists():
            continue
        training = training_facts(point_run(root, protocol, point))
        names = {"generated": f"{axis} = {point.on(axis)}"}
        rows = report_rows(report, protocol.name, point.label, names, training)
        found += [(point, row) for row in rows if row.condition != "real"]
    return found


def write_ablation(data: Data, protocol: Protocol, axes: Sequence[str], plan: Plan) -> int:
    """Write ``ablation.csv``, ``ablation.md`` and ``ablation.png`` below the root; the number of rows."""
    found = {axis: ablation_rows(data.root, protocol, axis, points(data.budget, axis)) for axis in axes}
    rows = [row for axis in axes for _, row in found[axis]]
    missing = [
        f"{axis} = {point.on(axis)}"
        for axis in axes
        for point in points(data.budget, axis)
        if point not in {one for one, _ in found[axis]}
    ]
    title = f"# Ablations on {protocol.name}: {', '.join(axes)}"
    note = (
        f"Each axis around Z = {DEFAULT_Z}, P = {data.budget.patch}, {data.budget.ddim_steps} DDIM steps. Every "
        "network was trained on as many image pixels as the default's (slices x 4 P^2 a crop), in batches as near to "
        "its number of optimiser steps as whole crops allow; seconds are told below, and are not equal."
    )
    text = [title, "", *_account(data), note, "", _row_table(rows), _training_table(rows), _times(plan)]
    write_text(data.root / "ablation.md", "\n".join(text + _missing(missing)))
    write_text(data.root / "ablation.csv", csv_text([_placed(a, p, r) for a in axes for p, r in found[a]]))
    if rows:
        curves = {
            axis: [(point.on(axis), row.scores) for point, row in found[axis]] for axis in axes if found[axis]
        }
        default = Point(DEFAULT_Z, data.budget.patch, data.budget.ddim_steps)
        write_text(data.root / "ablation.png", axis_plot(curves, {axis: default.on(axis) for axis in AXES}))
    return len(rows)


def _placed(axis: str, point: Point, row: Row) -> dict[str, Any]:
    place = {"axis": axis, "z": point.z, "patch": point.patch, "ddim_steps": point.ddim_steps}
    return {**place, **row.plain()}


def _account(data: Data) -> list[str]:
    budget = data.budget
    source = (
        "Brains: " + ", ".join(f"{name} {url}" for name, url in data.atlases.items())
        if data.own
        else f"Phantom brains of {counted(data.sections, 'section')} ({' '.join(budget.phantom)}): numbers say "
        "how the methods compare, nothing about tissue"
    )
    return [f"Budget {budget.name}: {budget.note}. {source}.", ""]


def _row_table(rows: Sequence[Row]) -> str:
    head = ("experiment", "method", "condition", *(measure.title for measure in _SHOWN))
    return markdown(
        head,
        [
            (
                row.protocol,
                row.method,
                row.condition,
                *(number(row.scores.get(measure.key), measure.digits) for measure in _SHOWN),
            )
            for row in rows
        ],
    )


def _training_table(rows: Sequence[Row]) -> str:
    """What each network saw; a network once, whatever was generated with it."""
    seen: dict[tuple[str, str], TrainingFacts] = {}
    for row in rows:
        if row.training is not None:
            seen.setdefault((row.protocol, row.method), row.training)
    head = ("experiment", "method", "steps", "crops", "crops before, of its first checkpoint", "seconds")
    cells = [
        (
            protocol,
            method,
            *(number(value, 0) for value in (facts.steps, facts.samples, facts.inherited, facts.seconds)),
        )
        for (protocol, method), facts in seen.items()
    ]
    return "Training:\n\n" + markdown(head, cells)


def _times(plan: Plan) -> str:
    """Seconds of every step that ran."""
    journal = Journal(plan.root)
    records = {step.name: journal.read(step) for step in plan}
    cells = [
        (name, number(record.seconds, 0), str(record.attempts), "yes" if record.done else "no")
        for name, record in records.items()
        if record is not None
    ]
    return "Wall time of the steps:\n\n" + markdown(("step", "seconds", "attempts", "done"), cells)


def _missing(names: Sequence[str]) -> list[str]:
    return ["", f"Not measured yet: {', '.join(names)}.", ""] if names else [""]
