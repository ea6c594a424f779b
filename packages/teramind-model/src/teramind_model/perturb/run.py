"""Baseline and edited brain from the same noise, their difference, and what it comes to."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from teramind_data.errors import InputError
from teramind_data.store import Brain, open_brain
from teramind_model.edits import find_place
from teramind_model.experiments.tables import write_text
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.run import generate
from teramind_model.generate.source import Source, load_source, pick_device
from teramind_model.perturb.difference import Compared, compare
from teramind_model.perturb.nuclei import can_count, count_nuclei
from teramind_model.perturb.picture import perturb_picture

__all__ = ["PerturbConfig", "perturb"]

Say = Callable[[str], None]

_CAVEAT = (
    "What this network would draw from other counts. It has learnt which morphology goes with which genes, not what "
    "causes what, and edited counts may be unlike any that it has seen."
)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class PerturbConfig:
    """An experiment: ``edited`` says what to generate and how, its ``out`` is taken from ``folder``.

    Attributes:
        edited: with at least one edit.
        folder: of both stores, picture and summary.
        nuclei: count nuclei too, where teramind-eval is installed.
    """

    edited: GenerateConfig
    folder: Path
    nuclei: bool = True

    def __post_init__(self) -> None:
        if not self.edited.edits:
            raise InputError(
                "nothing to perturb", expected="an edit", remedy='Pass --edit, e.g. --edit "Th*0"'
            )


def perturb(config: PerturbConfig, source: Source | None = None, *, say: Say = _to_stderr) -> dict[str, Any]:
    """Make ``baseline.zarr``, ``edited.zarr`` (with ``images/difference``), ``summary.json`` and ``perturb.png``.

    Stopped anywhere, the same call goes on there. The summary is returned.

    Args:
        config: the experiment.
        source: the network, where it is loaded already.
        say: takes the lines for the person at the keyboard.

    Raises:
        InputError, MissingInputError, PanelError, OutputExistsError: as :func:`teramind_model.generate.run.generate`.
    """
    wanted = config.edited
    folder = config.folder
    source = load_source(wanted.checkpoint, pick_device(wanted.run.device)) if source is None else source
    edited = generate(replace(wanted, out=str(folder / "edited.zarr")), source, say=say)
    plain = replace(wanted, edits=(), edit_region=None, out=str(folder / "baseline.zarr"))
    baseline = generate(plain, source, say=say)
    request = edited.provenance["request"]
    attrs = {"of": "edited minus baseline", "edits": request["edits"], "edited": request["edited"]}
    place = find_place(wanted.edit_region, open_brain(wanted.atlas))
    found = compare(baseline, edited, place, request["sections"][0], attrs)
    title = "; ".join(request["edits"]) + (f" in {wanted.edit_region}" if wanted.edit_region else "")
    if found.busiest is not None:
        write_text(
            folder / "perturb.png", perturb_picture(baseline, open_brain(edited.url), found.busiest, title)
        )
    summary = _summary(config, found, edited, title)
    write_text(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    for line in lines(summary):
        say(line)
    return summary


def _summary(config: PerturbConfig, found: Compared, edited: Brain, title: str) -> dict[str, Any]:
    request = edited.provenance["request"]
    summary: dict[str, Any] = {
        "title": title,
        "what_it_is": _CAVEAT,
        "edits": request["edits"],
        "edited": request["edited"],
        "intensity": found.summary(),
        "nuclei": None,
    }
    if found.busiest is not None:
        b = found.busiest
        summary["most_changed"] = {"section": b.section, "box": [b.box.y0, b.box.y1, b.box.x0, b.box.x1]}
    if config.nuclei and can_count():
        folder = config.folder
        summary["nuclei"] = count_nuclei(
            folder, config.edited.atlas, str(folder / "baseline.zarr"), str(folder / "edited.zarr")
        )
    return summary


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary as lines to read."""
    out = []
    for where, stains in summary["intensity"].items():
        for stain, one in stains.items():
            if one["pixels"]:
                out.append(
                    f"{where}, {stain}: mean {one['baseline']:.2f} -> {one['edited']:.2f} of 255 "
                    f"({one['change']:+.2f}); "
                    f"a pixel changes by {one['absolute_change']:.2f} on average ({one['pixels']:,} px of tissue)"
                )
    nuclei = summary["nuclei"]
    if nuclei is None:
        return [*out, "nuclei: not counted"]
    before, after = nuclei["baseline"], nuclei["edited"]
    areas = [f"{one['area_um2']:.1f}" if one["area_um2"] is not None else "-" for one in (before, after)]
    return [*out, f"nuclei: {before['nuclei']} -> {after['nuclei']}, mean area {areas[0]} -> {areas[1]} um2"]
