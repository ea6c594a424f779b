"""Along what do runs differ? Ablations: runs whose making differs in one number, as curves (the paper's Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    Axis("steps", "DDIM steps"),
    Axis("channels", "C, channels of the network"),
    Axis("crops", "crops seen in training"),
)

_NETWORK = ("z", "patch", "channels")


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

    Runs of a curve have the same method, control and network but for the axis's own number, and the same steps
    of the sampler. Networks that differ in Z, P or C may have seen other numbers of crops: to compare them at equal
    pixels they must.
    """
    return [curve for axis in axes for group in groups for curve in _curves(group, axis)]


def _curves(group: Group, axis: Axis) -> list[Curve]:
    alike: dict[tuple[Any, ...], list[Run]] = {}
    for row in group.rows:
        if axis.key in row.run.made:
            alike.setdefault(_common(row.run, axis), []).append(row.run)
    out = []
    for common, runs in alike.items():
        runs = sorted(runs, key=lambda run: run.made[axis.key])
        places = tuple(int(run.made[axis.key]) for run in runs)
        if len(set(places)) > 1:
            name = ", ".join(str(part) for part in common[:2] if part and part != "none") or group.name
            out.append(Curve(axis, group, name, places, tuple(runs)))
    return out


def _common(run: Run, axis: Axis) -> tuple[Any, ...]:
    keys = [key for key in (*_NETWORK, "steps") if key != axis.key]
    if axis.key == "steps":
        keys.append("crops")
    return run.made.get("method"), run.made.get("control"), *(run.made.get(key) for key in keys)
