"""What becomes of what is at the output's name already: nothing, a refusal, a resumption, or "up to date"."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from teramind_data.errors import OutputExistsError
from teramind_data.store import (
    Brain,
    BrainSpec,
    BrainWriter,
    create_brain,
    open_brain,
    resume_brain,
    store_state,
)

__all__ = ["Decision", "atlas_identity", "begin", "check_still_for", "decide", "software_versions"]

Decision = Literal["create", "resume", "up to date"]

_GO_ON = "Pass what it was begun with, and it goes on. "
_WORDS = {"draws": "number of --seeds", "edited": "place of edits", "kind": "control"}
"""Keys of a request that are called otherwise elsewhere."""
_VALUE = 40
"""Characters of a value that are told: fingerprints are longer."""

_PACKAGES = ("teramind-data", "teramind-model", "torch", "numpy", "zarr")


def atlas_identity(brain: Brain) -> dict[str, Any]:
    """Which atlas: its URL, and a fingerprint of all that it says about itself (inputs and their hashes included).

    Images added to an atlas later, attention maps for one, do not change its fingerprint.
    """
    panel = None if brain.panel is None else brain.panel.fingerprint
    return {
        "url": brain.url,
        "fingerprint": brain.spec.fingerprint,
        "panel_fingerprint": panel,
    }


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that the image depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # On a machine where the packages lie on the path, uninstalled.
            found[name] = "not installed"
    return found


def decide(url: str, request: Mapping[str, Any], *, overwrite: bool) -> Decision:
    """Whether to begin a store, go on with one, or leave it be.

    Args:
        url: the output.
        request: what decides the bytes of the result; stores begun for another one are not touched.
        overwrite: replace what is there where it is a store of ours.

    Raises:
        OutputExistsError: where something else is there.
    """
    state = store_state(url)
    if overwrite or state in ("absent", "empty", "foreign"):
        # create_brain refuses what is not ours, whatever was asked for.
        return "create"
    there = open_brain(url, incomplete=True)
    difference = _difference(there.provenance.get("request"), request)
    if difference is None:
        return "up to date" if state == "complete" else "resume"
    raise OutputExistsError(
        "output exists and was made from another request",
        where=url,
        found=f"a{'n' if state == 'incomplete' else ''} {state} store with another {difference}",
        remedy=f"{_GO_ON if state == 'incomplete' else ''}Choose another name, or pass --overwrite",
    )


def check_still_for(url: str, request: Mapping[str, Any]) -> None:
    """OutputExistsError where a store is no longer the one that was begun for a request.

    For who writes into it but does not hold it: workers outlive the run that asked for their units, and its store may
    be begun anew meanwhile, for another.
    """
    state = store_state(url)
    if state in ("absent", "empty", "foreign"):
        found: str | None = state
    else:
        difference = _difference(open_brain(url, incomplete=True).provenance.get("request"), request)
        found = None if difference is None else f"another {difference}"
    if found is not None:
        raise OutputExistsError(
            "this store was removed or begun anew while a unit of it was made",
            where=url,
            expected="the request that the unit was asked for",
            found=found,
            remedy="Nothing more is written; the run that asked for the unit is over",
        )


def _difference(there: object, request: Mapping[str, Any]) -> str | None:
    """The first key in which two requests differ, and its values, in words; None where they agree."""
    if not isinstance(there, Mapping):
        return "origin"
    # Through JSON and back, as the one in the store went.
    asked = json.loads(json.dumps(request))
    for key in sorted({*asked, *there}):
        old, new = there.get(key), asked.get(key)
        if old != new:
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                key, old, new = _inner_difference(old, new)
            return f"{_WORDS.get(key, key.replace('_', ' '))} ({_short(old)}, not {_short(new)})"
    return None


def _inner_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Any, Any]:
    key = next(key for key in sorted({*old, *new}) if old.get(key) != new.get(key))
    return key, old.get(key), new.get(key)


def _short(value: object) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _VALUE else f"{text[:_VALUE]}..."


@dataclass(frozen=True)
class _Labels:
    name: str
    dtype: str


def begin(
    decision: Decision, url: str, spec: BrainSpec, atlas: Brain, first: int, *, overwrite: bool
) -> BrainWriter:
    """The writer of a new or resumed store, with the atlas's labels copied into it.

    Args:
        decision: ``create`` or ``resume``.
        url: the output.
        spec: of the store; its sections are those of the atlas from ``first`` on.
        atlas: where tissue and regions come from, where it has them.
        first: the atlas's section that is section 0 of the store.
        overwrite: passed to ``create_brain``.
    """
    if decision == "resume":
        writer = resume_brain(url, spec)
    else:
        writer = create_brain(url, spec, overwrite=overwrite)
    declared = open_brain(url, incomplete=True).labels
    for labels in (_Labels("tissue", "uint8"), _Labels("regions", "uint16")):
        if labels.name not in atlas.labels:
            continue
        if labels.name not in declared:
            names = atlas.region_names if labels.name == "regions" else None
            writer.add_labels(labels.name, labels.dtype, names=names)
        for z, box in writer.pending(labels.name):
            values = atlas.read(labels.name, first + z, box)
            writer.write(labels.name, z, box, values.astype(labels.dtype, copy=False))
    return writer
