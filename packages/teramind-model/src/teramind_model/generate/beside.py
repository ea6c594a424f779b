"""What a generation took, beside what was planned for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from teramind_data.errors import InputError
from teramind_data.store import Brain, open_brain
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.job import choose_width, plan_job
from teramind_model.generate.meter import Taken
from teramind_model.generate.record import request_of
from teramind_model.generate.source import Source

__all__ = ["Beside", "taken_by"]

_WITHOUT_A_PLAN = ("seed", "control", "edits", "edited", "device")
"""Parts of a request that change nothing of what is planned."""


@dataclass(frozen=True)
class Beside:
    """What the store's run says of itself.

    Attributes:
        tile_steps, bins_read, shards_written: made by the processes that told of it; one that was killed did not.
        device, threads: where.
        taken: time and memory.
    """

    tile_steps: int
    bins_read: int
    shards_written: int
    device: str
    threads: int
    taken: Taken


def taken_by(store: str, config: GenerateConfig, source: Source, atlas: Brain) -> Beside:
    """What the generation of ``store`` took, the parts of an array together.

    Raises:
        InputError: where it was not generated from the request that is planned, or does not say what it took.
    """
    brain = open_brain(store)
    request, run = brain.provenance.get("request"), brain.provenance.get("run")
    if not isinstance(request, dict) or not isinstance(run, dict):
        raise InputError("no generated store, so there is no run beside the plan", where=store)
    if request.get("plan", {}).get("engine") != "wavefront":
        raise InputError("only the wavefront is planned", store, "wavefront", request.get("plan"))
    job = plan_job(config, source, atlas)
    mine = request_of(config, source, atlas, job, config.run.device)
    for key in sorted(mine.keys() | request.keys()):
        if key not in _WITHOUT_A_PLAN and mine.get(key) != request.get(key):
            raise InputError(
                f"the store was generated with another {key.replace('_', ' ')} than is planned",
                where=store,
                expected=mine.get(key, "none"),
                found=request.get(key, "none"),
                remedy="Give plan the options that generate had",
            )
    records = _records(run)
    if any("taken" not in record for record in records):
        raise InputError(
            "the store does not say what it took", where=store, remedy="Generate it with this version"
        )
    width = choose_width(config, source, atlas, job)
    if run["strip"] != width:
        raise InputError(
            "the store was made in strips of another width than is planned",
            where=store,
            expected=f"{width} shards",
            found=run["strip"],
            remedy=f"Give plan the --memory that generate had{_told(run)}",
        )
    taken = Taken()
    for record in records:
        taken.add(Taken(**{field.name: record["taken"][field.name] for field in fields(Taken)}))
    return Beside(
        tile_steps=sum(record["tile_steps"] for record in records),
        bins_read=sum(record["bins_read"] for record in records),
        shards_written=sum(record["shards_written"] for record in records),
        device=run["device"],
        threads=run["threads"],
        taken=taken,
    )


def _told(run: dict[str, Any]) -> str:
    return f": {run['memory']}" if "memory" in run else ""


def _records(run: dict[str, Any]) -> list[dict[str, Any]]:
    """What each process told: the parts, and who completed the store where that was none of them."""
    own = {key: value for key, value in run.items() if key != "parts"}
    parts = [{key: value for key, value in part.items() if key != "part"} for part in run.get("parts", ())]
    return parts if own in parts else [own, *parts]
