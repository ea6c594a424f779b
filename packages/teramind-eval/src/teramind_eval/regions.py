"""The atlas's regions: whether there are any, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box

if TYPE_CHECKING:
    from teramind_eval.part import Part

#: Name of label 0 of `labels/regions`.
UNANNOTATED = "unannotated"


def has_regions(real: Part) -> bool:
    """Whether the atlas has regions."""
    return "regions" in real.brain.labels


def region_name(real: Part, label: int) -> str:
    """What a region is called; by number where the atlas has no name for it."""
    return real.brain.region_names.get(label, UNANNOTATED if label == 0 else f"region {label}")


def in_words(name: str) -> str:
    """A region's name as plots show it."""
    return name.replace("_", " ")


def one_label_a_name(real: Part, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Labels of any shape where all of one name are the smallest of that name: left and right are one region."""
    names = {0: UNANNOTATED, **real.brain.region_names}
    first = {name: label for label, name in sorted(names.items(), reverse=True)}
    out = np.arange(labels.max(initial=0) + 1)
    for label, name in names.items():
        if label < len(out):
            out[label] = first[name]
    return out[labels]


def read_regions(real: Part, section: int, bins: Box) -> npt.NDArray[np.int64]:
    """Labels of a box of bins of a section, `(y, x)`, one a name; of an atlas that has regions."""
    return one_label_a_name(real, np.asarray(real.read("regions", section, bins), dtype=np.int64))


def region_of_most(labels: npt.NDArray[np.int64]) -> int:
    """The label that most bins have, the smallest of equals; 0 only where there is no other."""
    counts = np.bincount(labels.ravel(), minlength=2)
    return 1 + int(np.argmax(counts[1:])) if counts[1:].any() else 0
