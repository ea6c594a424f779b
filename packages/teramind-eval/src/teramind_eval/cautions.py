"""What a reader must know before believing a report's numbers, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from teramind_data.geometry import Box
from teramind_eval.metrics.distribution import FEW
from teramind_eval.pairs import Compared, genes_shown, region_of, some

if TYPE_CHECKING:
    from teramind_eval.part import Part
    from teramind_eval.results import StoreResult

#: With an F1 below, most nuclei of the real images are not where the truth has them.
_FITS = 0.5


def warn_about(real: Part, others: Sequence[Compared]) -> list[str]:
    """What a reader must know before believing the numbers: incomplete stores, other panels, other seeds."""
    found = []
    for one in (Compared("the real brain", "real", real), *others):
        if not one.brain.complete:
            found.append(f"{one.label} ({one.brain.url}) is incomplete: its writing never finished.")
    whole = real.brain.n_sections
    if len(real.sections) < whole:
        names = some([section.name for section in real.sections], 8)
        found.append(f"Only {len(real.sections)} of {whole} sections were generated and compared: {names}.")
    generated = [one for one in others if one.role == "generated"]
    for one in generated:
        more = one.brain.brain.n_sections - len(one.brain.sections)
        if more:
            found.append(f"{one.label} has {more} more, which are left out: another run lacks them.")
    for one in others:
        found += _role_warning(one)
        found += _twin_warning(one, generated)
        found += _atlas_warning(real, one)
        found += _region_warning(real, one)
        found += _panel_warning(real, one)
    for control in (one for one in others if one.role == "control"):
        # A control belongs to one of the runs; it is none at all where it was made like neither.
        differing = [_control_warning(run, control) for run in generated]
        if all(differing):
            found += differing[0]
    return found


def warn_of_few(scores: Sequence[StoreResult]) -> list[str]:
    """That FID and sFID rest on too few tiles, where they do."""
    counts = [far.n for one in scores for far in one.brain.distribution.values()]
    if not counts or min(counts) >= FEW:
        return []
    return [
        f"FID and sFID rest on {min(counts):,} tiles a store. Under {FEW:,}, the number of features, covariances lack "
        "directions and the distances come out too large, the more so in single sections: compare stores by KID, which "
        "has no such bias, and take FID and sFID only beside those of a control of as many tiles."
    ]


def warn_of_truth(scores: Sequence[StoreResult]) -> list[str]:
    """That the truth does not fit the real brain, where most nuclei of its own images are not where it says."""
    real = next(one for one in scores if one.role == "real")
    match = real.brain.nuclei.against_truth
    if match is None or match.f1 >= _FITS:
        return []
    if not match.true_positive + match.false_negative:
        if not match.false_positive:
            return []
        return [
            f"The truth does not fit the real brain: it has no nuclei where {match.false_positive:,} were found in its "
            "own images. Scores against the truth say nothing of the stores."
        ]
    return [
        f"The truth does not fit the real brain: nuclei found in its own images reach an F1 of {match.f1:.2f} only. "
        "It is another brain's, or the segmenter does not find these nuclei: scores against the truth say nothing of "
        "the stores."
    ]


def _role_warning(one: Compared) -> list[str]:
    """Stores given for what they are not: measured ones, controls and edited ones as runs."""
    if one.brain.kind != "generated":
        return [
            f"{one.label} ({one.brain.url}) is a measured brain and was not generated: its numbers say nothing of a "
            "model."
        ]
    control, edits = genes_shown(one.brain.provenance)
    if one.role == "generated" and control:
        return [
            f"{one.label} is a control ({control} genes) and no run: it does not show what the model makes of genes."
        ]
    if one.role == "generated" and edits:
        return [
            f"{one.label} was generated from edited genes ({', '.join(edits)}): it is not meant to be like the real "
            "brain."
        ]
    return []


def _twin_warning(one: Compared, runs: Sequence[Compared]) -> list[str]:
    """One store given twice: as a run and its own control, or as two runs, said of the second."""
    before = takewhile(lambda run: run is not one, runs)
    twin = next((run for run in before if run.brain.url == one.brain.url), None)
    if twin is None or one.role == "real":
        return []
    what = (
        "it is no control of it" if one.role == "control" else "the two are one run, and equal in everything"
    )
    return [f"{one.label} is the store of {twin.label} itself: {what}."]


def _atlas_warning(real: Part, other: Compared) -> list[str]:
    atlas = other.brain.provenance.get("atlas")
    if not isinstance(atlas, dict) or real.panel is None:
        return []
    if atlas.get("panel_fingerprint") not in (None, real.panel.fingerprint):
        return [
            f"{other.label} was made from another brain ({atlas.get('url')}) than the real one here: "
            "its panel differs."
        ]
    if atlas.get("fingerprint") in (None, real.brain.spec.fingerprint):
        return []
    return [
        f"{other.label} was made from another store ({atlas.get('url')}) than the real one here. Where that is "
        "another brain, or other sections, the numbers do not tell how good the model is."
    ]


def _panel_warning(real: Part, other: Compared) -> list[str]:
    if real.panel is None or other.brain.panel is None:
        return []
    lacking = [gene for gene in other.brain.panel if gene not in real.panel]
    if not lacking:
        return []
    some = ", ".join(lacking[:3])
    return [
        f"{other.label} was made from {len(lacking)} of {len(other.brain.panel)} genes that the real brain lacks "
        f"({some}, ...): give the atlas that it was made from as --real, or read its numbers with care."
    ]


def _region_warning(real: Part, other: Compared) -> list[str]:
    region = region_of(other.brain)
    if region is None or region == Box(0, real.canvas[0], 0, real.canvas[1]):
        return []
    return [
        f"{other.label} was generated in a part of the canvas only (y0, y1, x0, x1 = "
        f"{region.y0}, {region.y1}, {region.x0}, {region.x1} px): of all stores only tiles and patches that lie "
        "wholly inside are scored, and nuclei inside."
    ]


def _control_warning(run: Compared, control: Compared) -> list[str]:
    mine, theirs = _identity(run.brain.provenance), _identity(control.brain.provenance)
    return [
        f"{control.label} was made with another {what} than {run.label}: it is no control of it."
        for what, value in mine.items()
        if value is not None and theirs[what] is not None and value != theirs[what]
    ]


def _identity(provenance: dict[str, Any]) -> dict[str, object]:
    """What a generated store and its control must share, as `teramind-model generate` records it; None if unknown."""
    checkpoint, atlas = provenance.get("checkpoint"), provenance.get("atlas")
    return {
        "checkpoint": checkpoint.get("sha256") if isinstance(checkpoint, dict) else checkpoint,
        "atlas": atlas.get("fingerprint") if isinstance(atlas, dict) else None,
        "number of steps": provenance.get("steps"),
    }
