"""Along what do runs differ? Ablations: runs whose making differs in one number, as curves (the paper's Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from teramind_data.errors import InputError
from teramind_eval.compare.reports import Run
from teramind_eval.compare.table import Group


@dataclass(frozen=True, slots=True)
class Axis:
    """A number of a run's making: its key there, its name for people."""

    key: str
    title: str


AXES = (
    Axis("z", "Z, image slices of a window"),
    Axis("patch", "P, edge of a patch (px)"),
    Axis("steps", "steps of the sampler"),
    Axis("channels", "C, channels of the network"),
    Axis("crops", "crops seen in training"),
)

#: What else runs of a curve have in common, in the order in which it is said.
_COMMON = ("method", "control", "sampler", "z", "patch", "channels", "steps", "crops")

_SAID = {"z": "Z =", "patch": "P =", "channels": "C =", "steps": "steps =", "crops": "crops ="}


@dataclass(frozen=True)
class Curve:
    """Runs over the same brain that differ in one number.

    Attributes:
        axis: which number.
        group: the brain they were laid over.
        name: what they have in common.
        places: of the runs on the axis, rising.
        runs: as many.
    """

    axis: Axis
    group: Group
    name: str
    places: tuple[int, ...]
    runs: tuple[Run, ...]


def find_axes(wanted: str) -> tuple[Axis, ...]:
    """The axis of that key; all for `auto`, none for `none`. InputError naming those there are."""
    if wanted in ("auto", "none"):
        return AXES if wanted == "auto" else ()
    found = tuple(axis for axis in AXES if axis.key == wanted)
    if not found:
        keys = ", ".join(axis.key for axis in AXES)
        raise InputError("no such axis", where="--axis", expected=f"auto, none, {keys}", found=wanted)
    return found


def curves(groups: Sequence[Group], axes: Sequence[Axis]) -> list[Curve]:
    """All curves of at least two places, by axis.

    Runs of a curve have the same method, genes, sampler and network but for the axis's own number, and the same steps.
    Networks that differ in Z, P or C may have seen other numbers of crops: to compare them at equal pixels they must.
    """
    return [curve for axis in axes for curve in _named([c for g in groups for c in _curves(g, axis)])]


def _curves(group: Group, axis: Axis) -> list[Curve]:
    """Curves over one brain, still without names."""
    alike: dict[tuple[Any, ...], list[Run]] = {}
    for row in group.rows:
        if axis.key in row.run.made:
            alike.setdefault(_common(row.run, axis), []).append(row.run)
    out = []
    for runs in alike.values():
        runs = sorted(runs, key=lambda run: run.made[axis.key])
        places = tuple(int(run.made[axis.key]) for run in runs)
        if len(set(places)) > 1:
            out.append(Curve(axis, group, "", places, tuple(runs)))
    return out


def _named(found: list[Curve]) -> list[Curve]:
    """Curves of one axis, each called by its method and by what tells it from the others."""
    if not found:
        return []
    told = [dict(zip(_COMMON, _common(curve.runs[0], curve.axis), strict=True)) for curve in found]
    varying = [key for key in _COMMON if len({one[key] for one in told}) > 1]
    brains = len({curve.group.name for curve in found}) > 1
    out = []
    for curve, one in zip(found, told, strict=True):
        said = [str(one["method"])] if one["method"] else []
        said += [curve.group.name] if brains or not said else []
        said += [
            f"{_SAID.get(key, '')} {one[key]}".strip() for key in varying if key != "method" and one[key]
        ]
        out.append(replace(curve, name=", ".join(said)))
    return out


def _common(run: Run, axis: Axis) -> tuple[Any, ...]:
    """Values of `_COMMON`, None for those that may differ along the axis."""
    free = {axis.key} | ({"crops"} if axis.key in ("z", "patch", "channels") else set())
    return tuple(None if key in free else run.made.get(key) for key in _COMMON)
