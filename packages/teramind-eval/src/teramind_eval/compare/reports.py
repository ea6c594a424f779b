"""Reports read back: where they lie, whether they are what they should be, and one run for each store to show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from teramind_data.errors import InputError, MissingInputError, TeramindError
from teramind_eval.report.output import METRICS, PAGE
from teramind_eval.report.provenance import making
from teramind_eval.report.saved import BRAIN, SavedInput, SavedTable, read_metrics, read_rows
from teramind_eval.results import Role, Statistic

Key = tuple[str, str]
"""A measure and the stain it is of."""


@dataclass(frozen=True)
class Run:
    """One store of one report.

    Attributes:
        label: how it is called in the comparison.
        store: how it is called in its report.
        role: part that it plays there.
        values: of the whole brain, by measure and stain.
        made: see `teramind_eval.report.provenance.making`.
    """

    label: str
    store: str
    role: Role
    values: dict[Key, Statistic]
    made: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a comparison needs of a report.

    Attributes:
        label: how it is called in the comparison.
        folder: where it lies.
        real: the measured brain.
        brain: what tells that brain from others: the hash of its provenance.
        url: its store.
        runs: generated stores and controls, in the report's order.
        sections: names of the sections compared.
        sizes: edges in px of tiles and patches.
        nuclei: what found nuclei, and how, in words; empty where the report does not say.
        inception: SHA-256 of the weights behind FID, sFID and KID; empty without.
        truth: table of true nuclei of each section that has one; empty without.
        inside: part of the canvas compared, y0, y1, x0, x1 px; None for all of it.
        warnings: its own.
    """

    label: str
    folder: Path
    real: Run
    brain: str
    url: str
    runs: tuple[Run, ...]
    sections: tuple[str, ...]
    sizes: tuple[int, int]
    nuclei: str = ""
    inception: str = ""
    truth: dict[str, SavedTable] = field(default_factory=dict)
    inside: tuple[int, int, int, int] | None = None
    warnings: tuple[str, ...] = ()


def find_reports(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Labels and folders of the reports that arguments name: `REPORT`, `LABEL=REPORT`, or a folder that holds reports.

    A folder of an experiment or ablation stands for all reports below it, labelled by their path in it.

    Raises
    ------
    MissingInputError
        where a folder is not there, or holds no report.
    InputError
        where two would have one label.
    """
    found: list[tuple[str, Path]] = []
    for word in words:
        label, folder = _split(word)
        if not folder.is_dir():
            raise MissingInputError(
                "no such report",
                where=folder,
                remedy="Give the folder that `teramind-eval report --out` wrote",
            )
        if (folder / METRICS).is_file():
            found.append((label or _name(folder), folder))
            continue
        below = sorted(_below(folder), key=_natural)
        if not below:
            raise MissingInputError("folder holds no report", where=folder, expected=f"{METRICS} and {PAGE}")
        found += [(_label(label, path.relative_to(folder)) or _name(folder), path) for path in below]
    labels = [label for label, _ in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(
            "two reports have one label",
            found=twice,
            remedy="Give each its own, as LABEL=REPORT",
        )
    return found


def _split(word: str) -> tuple[str, Path]:
    label, equals, rest = word.partition("=")
    # A folder's own name may have an equals sign.
    return ("", Path(word)) if not equals or Path(word).exists() else (label, Path(rest))


def _name(folder: Path) -> str:
    """The folder's name, or that of the folder around one that is just called report."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "report" and whole.parent.name else whole.name


def _below(root: Path) -> Iterator[Path]:
    """Reports below a folder; stores are not looked into."""
    for path in root.iterdir():
        hidden = path.is_symlink() or path.name.startswith(".") or (path / "zarr.json").exists()
        if not path.is_dir() or hidden:
            continue
        if (path / METRICS).is_file() and (path / PAGE).is_file():
            yield path
        else:
            yield from _below(path)


def _natural(path: Path) -> list[tuple[str, int]]:
    """Order in which report-5 comes before report-15."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", str(path))]


def _label(before: str, path: Path) -> str:
    """A report's path in the folder given, without a last `report`, which says nothing."""
    parts = path.parts[:-1] if path.name == "report" else path.parts
    return "/".join(part for part in (before, *parts) if part)


def read_report(label: str, folder: Path) -> Report:
    """One report; InputError where its files are not those of a report, in one line."""
    metrics = read_metrics(folder)
    values = _values(read_rows(folder))
    by_role: dict[str, list[Run]] = {"real": [], "generated": [], "control": []}
    for store in metrics.stores:
        own = {**_distances(store.brain), **values.get(store.label, {})}
        made = metrics.made.get(store.label) or ({} if store.role == "real" else _made(store.url))
        by_role[store.role].append(Run(label, store.label, store.role, own, made))
    if len(by_role["real"]) != 1 or not by_role["generated"]:
        raise InputError(
            "report is not of one real store and those generated from it",
            where=folder / METRICS,
            found=", ".join(f"{store.label} ({store.role})" for store in metrics.stores) or "no stores",
        )
    real = by_role["real"][0]
    several = len(by_role["generated"]) > 1
    runs = [
        replace(run, label=f"{label}: {run.store}") if several or run.role == "control" else run
        for run in (*by_role["generated"], *by_role["control"])
    ]
    url = next(store.url for store in metrics.stores if store.role == "real")
    first = next(store for store in metrics.stores if store.role == "generated")
    truth = metrics.inputs.get("truth", SavedInput()).tables
    found_by = metrics.settings.nuclei.items()
    return Report(
        label=label,
        folder=folder,
        real=real,
        brain=metrics.provenance_of(real.store) or url,
        url=url,
        runs=tuple(runs),
        sections=tuple(section.name for section in first.sections),
        sizes=(metrics.settings.tile_px, metrics.settings.patch_px),
        nuclei=", ".join(str(value) if key == "segmenter" else f"{key} {value}" for key, value in found_by),
        inception=metrics.inputs.get("inception", SavedInput()).sha256,
        truth=truth,
        inside=metrics.settings.inside,
        warnings=tuple(metrics.warnings),
    )


def _values(rows: Iterable[dict[str, Any]]) -> dict[str, dict[Key, Statistic]]:
    """Values of whole brains, by store."""
    out: dict[str, dict[Key, Statistic]] = {}
    for row in rows:
        if row["section"] == BRAIN:
            own = out.setdefault(row["store"], {})
            own[row["measure"], row["stain"]] = Statistic(row["mean"], row["sd"], row["n"])
    return out


def _distances(brain: dict[str, Any]) -> dict[Key, Statistic]:
    """Distances of distributions to the real brain's, which the table does not have."""
    nuclei = brain.get("nuclei")
    out: dict[Key, Statistic] = {}
    for name, key in (("nuclei_per_patch", "per_patch_to_real"), ("nuclear_area_um2", "area_um2_to_real")):
        found = nuclei.get(key) if isinstance(nuclei, dict) else None
        for distance, value in found.items() if isinstance(found, dict) else ():
            if isinstance(value, (int, float)):
                out[f"{name}_{distance}", "DAPI"] = Statistic(float(value), None, 0)
    return out


def _made(url: str) -> dict[str, Any]:
    """From the store itself, for a report that does not say; nothing where the store is gone."""
    from teramind_data.store import open_brain

    try:
        return making(open_brain(url, incomplete=True).provenance)
    except (TeramindError, OSError):
        return {}
