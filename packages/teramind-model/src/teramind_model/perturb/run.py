"""Baseline and edited brain from the same noise, their difference, and what it comes to."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from teramind_data.console import counted
from teramind_data.errors import InputError
from teramind_data.store import Brain, open_brain
from teramind_model.edits import find_place
from teramind_model.experiments.tables import write_text
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.run import generate
from teramind_model.generate.source import Source, load_source, pick_device
from teramind_model.perturb.changed import count_changed
from teramind_model.perturb.difference import Compared, compare
from teramind_model.perturb.nuclei import can_count, count_nuclei
from teramind_model.perturb.picture import perturb_picture

__all__ = ["PerturbConfig", "perturb"]

Say = Callable[[str], None]

_CAVEAT = (
    "What this network would draw from other counts. It has learnt which morphology goes with which genes, not what "
    "causes what, and edited counts may be unlike any that it has seen."
)


_COUNTED = "all that was generated"


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

    Stopped anywhere, the same call goes on there. The summary is returned. Where no pixel differs there is no picture,
    no nuclei are counted, and ``most_changed`` is None.

    Args:
        config: the experiment.
        source: the network, where it is loaded already.
        say: takes the lines for the person at the keyboard.

    Raises:
        InputError, MissingInputError, PanelError, OutputExistsError: as :func:`teramind_model.generate.run.generate`;
            InputError also where nothing that is generated sees the edited place.
    """
    wanted = config.edited
    folder = config.folder
    if source is None:
        # Other processes load their own.
        home = pick_device(wanted.run.device) if wanted.hands.alone else "cpu"
        source = load_source(wanted.checkpoint, home)
    bins = count_changed(wanted, source)
    say(_foreseen(bins))
    edited = generate(replace(wanted, out=str(folder / "edited.zarr")), source, say=say)
    plain = replace(wanted, edits=(), edit_region=None, out=str(folder / "baseline.zarr"))
    baseline = generate(plain, source, say=say)
    request = edited.provenance["request"]
    attrs = {"of": "edited minus baseline", "edits": request["edits"], "edited": request["edited"]}
    place = find_place(wanted.edit_region, open_brain(wanted.atlas))
    found = compare(baseline, edited, place, request["sections"][0], attrs)
    title = "; ".join(request["edits"]) + (f" in {wanted.edit_region}" if wanted.edit_region else "")
    picture = folder / "perturb.png"
    if found.busiest is None:
        picture.unlink(missing_ok=True)  # of another edit
    else:
        write_text(picture, perturb_picture(baseline, open_brain(edited.url), found.busiest, title))
    summary = _summary(config, found, edited, title, bins)
    write_text(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    for line in lines(summary):
        say(line)
    return summary


def _foreseen(bins: int) -> str:
    if bins:
        return f"the edits change the counts of {counted(bins, 'bin')} that the network sees"
    return "the edits change no count that the network sees: both brains will be the same"


def _summary(config: PerturbConfig, found: Compared, edited: Brain, title: str, bins: int) -> dict[str, Any]:
    request = edited.provenance["request"]
    summary: dict[str, Any] = {
        "title": title,
        "what_it_is": _CAVEAT,
        "edits": request["edits"],
        "edited": request["edited"],
        "bins_changed": bins,
        "intensity": found.summary(),
        "nuclei": None,
        "most_changed": None,
    }
    if found.busiest is None:
        return summary
    name, box = edited.sections[found.busiest.section].name, found.busiest.box
    summary["most_changed"] = {"section": name, "box": [box.y0, box.y1, box.x0, box.x1]}
    if config.nuclei and can_count():
        folder = config.folder
        stores = (str(folder / "baseline.zarr"), str(folder / "edited.zarr"))
        # The report knows nothing of the edited place.
        summary["nuclei"] = {"of": _COUNTED, **count_nuclei(folder, config.edited.atlas, *stores)}
    return summary


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary as lines to read."""
    if summary["most_changed"] is None:
        return [_nothing_changed(summary["bins_changed"])]
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
    counts = f"{before['nuclei']} -> {after['nuclei']}, mean area {areas[0]} -> {areas[1]} um2"
    return [*out, f"nuclei, of {nuclei['of']}: {counts}"]


def _nothing_changed(bins: int) -> str:
    why = (
        f"though they changed the counts of {counted(bins, 'bin')}"
        if bins
        else "as they changed the counts of no bin"
    )
    return f"the edits changed no pixel, {why} that the network sees"
