"""What found the nuclei, and how far it is to be believed: a sentence, with its error where a truth is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from teramind_eval.results import Results


def segmenter_name(described: Mapping[str, Any]) -> str:
    """In words, from `Segmenter.describe`."""
    if described["segmenter"] == "cellpose":
        return f"Cellpose {described['cellpose']} ({described['model']})"
    return f"the {described['segmenter']}"


def segmenter_note(results: Results) -> str:
    """How nuclei were found, and against a truth how well: on the real images, so that no model has a part in it."""
    name = segmenter_name(results.settings["nuclei"])
    (real,) = results.store("real")
    found = real.brain.nuclei.against_truth
    said = (
        f"Nuclei are found by {name}. What it misses or splits in the real image it misses or splits in "
        "the others too"
    )
    if found is None:
        return f"{said}; without a truth nobody can say here how often."
    true = found.true_positive + found.false_negative
    missed = found.false_negative / true if true else 0.0
    wrong = found.false_positive / real.brain.nuclei.count if real.brain.nuclei.count else 0.0
    return (
        f"{said}. Its own error, on the real images against the truth: it misses {missed:.1%} of {true:,} true nuclei, "
        f"{wrong:.1%} of the {real.brain.nuclei.count:,} that it finds are none, centroid F1 {found.f1:.3f}."
    )
