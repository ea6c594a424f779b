"""The paper's Figure 6: one number of the network or sampler changed at a time, at equal cost of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from teramind_data.errors import InputError
from teramind_model.experiments.budgets import Budget
from teramind_model.experiments.plan import Plan, Step
from teramind_model.experiments.protocols import (
    Data,
    Protocol,
    Settings,
    data_steps,
    generate_step,
    report_step,
    train_step,
)
from teramind_model.methods.registry import DEFAULT_METHOD

__all__ = ["AXES", "Point", "Training", "ablation_plan", "equal_training", "points"]

AXES = ("z", "patch", "steps")
DEFAULT_Z = 2

_GENE_SLICES = {1: 1, 2: 4, 4: 8, 8: 16}
"""S of each Z."""


@dataclass(frozen=True)
class Point:
    """One setting: image slices of a window, patch edge in px, DDIM steps."""

    z: int
    patch: int
    ddim_steps: int

    @property
    def network(self) -> str:
        """Name of the network; points that differ in DDIM steps alone share it."""
        return f"z{self.z}-p{self.patch}"

    @property
    def label(self) -> str:
        """Name of the point."""
        return f"{self.network}-n{self.ddim_steps}"

    def on(self, axis: str) -> int:
        """Its place on an axis."""
        return {"z": self.z, "patch": self.patch, "steps": self.ddim_steps}[axis]


def points(budget: Budget, axis: str) -> tuple[Point, ...]:
    """The points of an axis, in order, the default among them.

    Raises InputError on an unknown axis.
    """
    patch, ddim = budget.patch, budget.ddim_steps
    if axis == "z":
        return tuple(Point(z, patch, ddim) for z in budget.slices)
    if axis == "patch":
        return tuple(Point(DEFAULT_Z, p, ddim) for p in budget.patches)
    if axis == "steps":
        return tuple(Point(DEFAULT_Z, patch, n) for n in sorted({*budget.ablation_ddim, ddim}))
    raise InputError("unknown axis", expected=", ".join((*AXES, "all")), found=axis)


@dataclass(frozen=True)
class Training:
    """Optimiser steps and crops a step."""

    steps: int
    batch: int


def equal_training(budget: Budget, point: Point) -> Training:
    """How a point's network is trained so that it sees as many image pixels as the default's.

    A crop holds Z slices of 2P x 2P pixels. The batch shrinks as crops grow, so that steps stay as many while they
    can; where one crop is more than the default's batch, there are fewer steps. At equal pixels, not at equal crops,
    networks cost about the same time.
    """
    default = budget.batch * DEFAULT_Z * budget.patch**2
    crop = point.z * point.patch**2
    batch = max(1, round(default / crop))
    return Training(max(1, round(budget.ablation_steps * default / (batch * crop))), batch)


def ablation_plan(data: Data, protocol: Protocol, axes: tuple[str, ...], settings: Settings) -> Plan:
    """All steps of the axes; each network is trained once, whichever axes it is on."""
    chosen = dict.fromkeys(point for axis in axes for point in points(data.budget, axis))
    _check_sections(data, chosen)
    parts: list[list[Step]] = [list(data_steps(data))]
    for point in chosen:
        parts.append(list(_point_steps(data, protocol, point, settings)))
    return Plan.merged(data.root, parts)


def point_report(root: Path, protocol: Protocol, point: Point) -> Path:
    """The report of a point."""
    return _network_folder(root, protocol, point) / f"report-{point.ddim_steps}"


def point_run(root: Path, protocol: Protocol, point: Point) -> Path:
    """The run of a point's network."""
    return _network_folder(root, protocol, point) / "run"


def _network_folder(root: Path, protocol: Protocol, point: Point) -> Path:
    return root / protocol.name / point.network


def _check_sections(data: Data, chosen: dict[Point, None]) -> None:
    most = max(point.z for point in chosen)
    if not data.own and data.sections < most:
        raise InputError("phantoms have too few sections", expected=f"at least {most}", found=data.sections)


def _point_steps(data: Data, protocol: Protocol, point: Point, settings: Settings) -> Iterator[Step]:
    budget, training = data.budget, equal_training(data.budget, point)
    name = f"{protocol.name}/{point.network}"
    run = point_run(data.root, protocol, point)
    options = ["--seed", str(settings.seed), "--device", settings.device]
    options += ["--steps", str(training.steps), "--batch", str(training.batch)]
    options += ["--gene-slices", str(_GENE_SLICES[point.z]), "--patch", str(point.patch)]
    options += budget.network_words(DEFAULT_METHOD)
    yield train_step(data, protocol, f"{name}/train", run, options)
    out = run.with_name(f"generated-{point.ddim_steps}.zarr")
    sampling = ["--steps", str(point.ddim_steps), "--seed", str(settings.seed), "--device", settings.device]
    made = f"{name}/generated-{point.ddim_steps}"
    yield generate_step(data, protocol, made, run, out, sampling, [f"{name}/train"])
    report = point_report(data.root, protocol, point)
    yield report_step(data, protocol, f"{name}/report-{point.ddim_steps}", {"generated": out}, report, [made])
