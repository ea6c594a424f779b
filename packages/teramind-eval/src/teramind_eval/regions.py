"""The atlas's regions: whether there are any, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teramind_eval.part import Part

#: Name of label 0 of `labels/regions`.
UNANNOTATED = "unannotated"


def has_regions(real: Part) -> bool:
    """Whether the atlas has regions."""
    return "regions" in real.brain.labels


def region_name(real: Part, label: int) -> str:
    """What a region is called."""
    return real.brain.region_names.get(label, UNANNOTATED if label == 0 else f"region {label}")
