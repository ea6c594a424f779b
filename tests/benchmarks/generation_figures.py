"""From runs of generation to figures: work, share of the device's peak, ratios, steady state, the whole brain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teramind_model.network.cost import Work
from tests.benchmarks.generation_contestants import Contestant, Result, Task

__all__ = ["BRAIN_TILE_STEPS", "TISSUE", "Machine", "figures", "table", "with_ratios"]

BRAIN_TILE_STEPS = (73_216 // 64) * (105_984 // 64) * 25 * 15
"""1144 x 1656 tiles, 25 windows, 15 steps."""

TISSUE = 0.45
"""Share of the main brain's tiles that hold tissue."""

_STEPS = 15
"""Steps that gene features are shared by in the steady state, as in the paper."""


@dataclass(frozen=True)
class Machine:
    """FLOP a second of a large matrix product, by the wall and by the CPU; which of the two the figures go by."""

    peak_wall: float
    peak_cpu: float
    by: str

    @property
    def peak(self) -> float:
        """The peak on the clock that the figures go by."""
        return self.peak_cpu if self.by == "cpu" else self.peak_wall


def figures(
    contestant: Contestant, runs: Sequence[Result], task: Task, work: Work, machine: Machine
) -> dict[str, Any]:
    """Of the run that took least by the clock that counts; seconds a tile and step."""
    best = min(runs, key=lambda run: float(getattr(run.total, machine.by)))
    each = task.tile_steps
    storage = getattr(best.storage, machine.by)
    took = getattr(best.total, machine.by)
    places = best.calls.places
    flop = (
        places["gene_features"] * work.gene_branch
        + places["encode"] * work.encoder
        + places["decode"] * work.decoder
    )
    network = sum(getattr(span, machine.by) for span in best.calls.spans.values())
    rest = max(0.0, took - storage - network)
    if contestant.name == "published":
        # It has neither rims nor idle places: what it does a tile is the same on any canvas.
        steady, steady_flop = (took - storage) / each, flop / each
    else:
        a_place = {name: getattr(best.calls.spans[name], machine.by) / n for name, n in places.items()}
        steady = a_place["encode"] + a_place["decode"] + a_place["gene_features"] / _STEPS + rest / each
        steady_flop = work.tile_step + work.gene_branch / _STEPS
    return {
        "name": contestant.name,
        "runs": [{"wall": run.total.wall, "cpu": run.total.cpu} for run in runs],
        "seconds": took / each,
        "seconds_without_storage": (took - storage) / each,
        "storage_share": storage / took,
        "flop": flop / each,
        "share_of_peak": flop / (took - storage) / machine.peak,
        "peak_bytes": best.peak,
        "places": dict(places),
        "steady_seconds": steady,
        "steady_flop": steady_flop,
        "brain_hours": BRAIN_TILE_STEPS * steady / 3600,
        "tissue_hours": TISSUE * BRAIN_TILE_STEPS * steady / 3600,
    }


def with_ratios(found: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios to the published loop; ``*_fewer_flop`` is the part of the ratio that is less work, the rest is rate."""
    return {
        **found,
        "ratio_with_storage": base["seconds"] / found["seconds"],
        "ratio": base["seconds_without_storage"] / found["seconds_without_storage"],
        "ratio_fewer_flop": base["flop"] / found["flop"],
        "steady_ratio": base["steady_seconds"] / found["steady_seconds"],
        "steady_fewer_flop": base["steady_flop"] / found["steady_flop"],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two Markdown tables: as run, and in the steady state."""
    lines = [
        "| as run | s / tile-step | without storage | GFLOP / tile-step | of peak | peak memory "
        "| ratio, with storage | without | of it fewer FLOP |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        lines.append(
            f"| {r['name']} | {r['seconds']:.4g} | {r['seconds_without_storage']:.4g} | {r['flop'] / 1e9:.4g} "
            f"| {r['share_of_peak']:.0%} | {r['peak_bytes'] / 2**30:.2f} GiB | {r['ratio_with_storage']:.2f} "
            f"| {r['ratio']:.2f} | {r['ratio_fewer_flop']:.2f} |"
        )
    lines += [
        "",
        "| steady state | s / tile-step | GFLOP / tile-step | ratio | of it fewer FLOP | whole brain | its tissue |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        lines.append(
            f"| {r['name']} | {r['steady_seconds']:.4g} | {r['steady_flop'] / 1e9:.4g} | {r['steady_ratio']:.2f} "
            f"| {r['steady_fewer_flop']:.2f} | {r['brain_hours']:,.4g} h | {r['tissue_hours']:,.4g} h |"
        )
    return "\n".join(lines)
