"""The atlas's regions: whether there are any, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

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


def in_words(name: str) -> str:
    """A region's name as plots show it."""
    return name.replace("_", " ")


def one_label_a_name(real: Part, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Labels of any shape where all of one name are the smallest of that name: left and right are one region."""
    first: dict[str, int] = {}
    for label in sorted({0, *real.brain.region_names}):
        first.setdefault(region_name(real, label), label)
    out = np.arange(labels.max(initial=0) + 1)
    for label, name in real.brain.region_names.items():
        if label < len(out):
            out[label] = first[name]
    return out[labels]
