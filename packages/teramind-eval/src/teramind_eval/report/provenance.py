"""How a store came to be, in words: what its provenance says about training, sampling and inputs.

The provenance of a store is whatever its maker wrote. What `teramind-model` writes is told in sentences; everything is
also listed as it stands, so that another maker's store loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from teramind_eval.pairs import genes_shown

_LONGEST_LIST = 6
_LONGEST_TEXT = 160


def making(provenance: dict[str, Any]) -> dict[str, Any]:
    """What a generated store's provenance says of its making in single values; what it does not say is left out.

    Keys: `method`, `control`, `sampler` (text); `z` (image slices of a window), `patch` (px), `channels`, `steps` (of
    the sampler), `seed`, `crops` (all that the network saw in training, earlier checkpoints' included).
    """
    checkpoint = _inner(provenance, "checkpoint")
    network = _inner(checkpoint, "network")
    slices = network.get("gene_slices")
    lineage = _inner(checkpoint, "training").get("lineage")
    known = [one for one in lineage or () if isinstance(one, dict) and _whole(one.get("steps"))]
    crops = sum(one["steps"] * one["batch"] for one in known if _whole(one.get("batch")))
    found = {
        "method": checkpoint.get("method"),
        "control": _inner(provenance, "control").get("kind"),
        "sampler": _inner(provenance, "sampler").get("name"),
        "z": max(1, slices // 2) if isinstance(slices, int) else None,
        "patch": network.get("patch"),
        "channels": network.get("channels"),
        "steps": provenance.get("steps"),
        "seed": provenance.get("seed"),
        "crops": crops or None,
    }
    kinds = {key: str if key in ("method", "control", "sampler") else int for key in found}
    return {key: value for key, value in found.items() if isinstance(value, kinds[key])}


def _inner(entries: dict[str, Any], key: str) -> dict[str, Any]:
    value = entries.get(key)
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def stages(provenance: dict[str, Any]) -> tuple[str, ...]:
    """One sentence for each stage of training that led to the checkpoint, first to last."""
    checkpoint = provenance.get("checkpoint")
    training = checkpoint.get("training") if isinstance(checkpoint, dict) else None
    if not isinstance(training, dict):
        return ()
    lineage = training.get("lineage") or [training]
    return tuple(_stage(one) for one in lineage if isinstance(one, dict))


def _stage(stage: dict[str, Any]) -> str:
    if "imported_from" in stage:
        return f"Weights converted from the published checkpoint {stage['imported_from']}."
    said = "Trained"
    if stage.get("steps") is not None:
        said += (
            f" {stage['steps']:,} steps" if isinstance(stage["steps"], int) else f" {stage['steps']} steps"
        )
    if stage.get("batch") is not None:
        said += f" of {stage['batch']} crops"
    names = [
        str(one.get("name") or one.get("url")) if isinstance(one, dict) else str(one)
        for one in _as_list(stage.get("data"))
    ]
    if names:
        said += f" on {', '.join(names)}"
    if isinstance(stage.get("seconds"), (int, float)):
        said += f", {duration(float(stage['seconds']))}"
    if stage.get("device"):
        said += f" on {stage['device']}"
    return said + "."


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def sampling(provenance: dict[str, Any]) -> str:
    """One sentence on how the pictures were drawn; empty where nothing is recorded."""
    steps, seed = provenance.get("steps"), provenance.get("seed")
    if steps is None and seed is None:
        return ""
    sampler = provenance.get("sampler")
    name = sampler.get("name", "") if isinstance(sampler, dict) else sampler or ""
    run = provenance.get("run")
    time = run.get("wall_time_s") if isinstance(run, dict) else None
    said = f"Generated with {steps} {str(name).upper()} steps".replace("  ", " ") + f", seed {seed}"
    if isinstance(time, (int, float)):
        said += f", in {duration(float(time))}"
    taken = genes_taken(provenance)
    return f"{said}, from {taken}." if taken else f"{said}."


def genes_taken(provenance: dict[str, Any]) -> str:
    """``shuffled genes``, ``edited genes (Th*0)``; empty where a store was generated from the brain's own."""
    control, edits = genes_shown(provenance)
    taken = [f"{control} genes"] if control else []
    if edits:
        taken.append(f"edited genes ({', '.join(edits)})")
    return ", ".join(taken)


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every entry of a nested provenance as (dotted name, text); long lists and texts are cut, saying so."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flattened(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(one, dict) for one in value):
        for index, inner in enumerate(value):
            yield from flattened(inner, f"{prefix}[{index}]")
    else:
        yield prefix, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_text(one) for one in value[:_LONGEST_LIST])
        return f"{shown}, … ({len(value)} in all)" if len(value) > _LONGEST_LIST else shown or "none"
    text = f"{value:,.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text)} characters)"
