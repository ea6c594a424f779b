"""The sentence on top of the page: does the run beat its controls, and does it look like the real brain at all?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from teramind_eval.results import SINGLE, TOGETHER, MatchScores, Results, Scores, Statistic, StoreResult

__all__ = ["Verdict", "verdict"]

_SURE = 2.0
"""Standard errors of a difference that count as one."""

_FAR = 0.25
"""A mean further than this part of the real brain's is not the real brain's."""

_FAR_SEAMS = 1.5
"""Seams that change so many times as much as the real brain's places do show."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`good`: beats all controls and looks like the real brain; `mixed`: only the first; `bad`: neither, or unknown."""

    kind: Literal["good", "mixed", "bad"]
    text: str


def verdict(results: Results) -> Verdict:
    """Does the run beat every control in PSNR, SSIM and centroid F1? In words, with what failed.

    A difference counts beyond two standard errors, as if tiles and nuclei were independent and not the same in both
    brains: the first is too bold, the second too careful. What else is far from the real brain is named beside it.
    """
    run = results.store("generated")[0]
    controls = results.store("control")
    if not controls:
        return Verdict(
            "bad",
            "No control with images was given, so these numbers do not tell how much of the picture the genes explain. "
            "Generate one with `teramind-model generate --shuffle-genes` and add --control.",
        )
    won: list[str] = []
    lost: list[str] = []
    for name, value in _tests(run.brain.nuclei.against_truth is not None):
        good = all(_beats(value(run.brain), value(one.brain)) for one in controls)
        (won if good else lost).append(name)
    name = "The generated brain" if run.label == SINGLE else run.label[:1].upper() + run.label[1:]
    names = _listed([one.label for one in controls])
    if lost:
        beaten = f" It wins in {_listed(won)}." if won else ""
        return Verdict("bad", f"{name} does not clearly beat {names} in {_listed(lost)}.{beaten}")
    beats = f"{name} beats {names} in {_listed(won)}: its genes tell the model where things are."
    far = list(_far_from_real(results, run))
    if far:
        return Verdict("mixed", f"{beats} But it does not look like the real brain: {_listed(far)}.")
    return Verdict("good", beats)


def _tests(truth: bool) -> list[tuple[str, Callable[[Scores], Statistic | None]]]:
    def f1(scores: Scores) -> Statistic | None:
        match: MatchScores | None = scores.nuclei.against_truth if truth else scores.nuclei.against_real
        n = 0 if match is None else match.true_positive + match.false_negative
        if match is None or n == 0:
            return None
        return Statistic(match.f1, math.sqrt(match.f1 * (1 - match.f1)), n)  # the spread of a share

    return [
        ("PSNR", lambda s: s.image[TOGETHER].psnr_db),
        ("SSIM", lambda s: s.image[TOGETHER].ssim),
        ("centroid F1", f1),
    ]


def _beats(mine: Statistic | None, theirs: Statistic | None) -> bool:
    """Whether a mean is larger than another by more than chance; never where one is unknown, or of one value."""
    if mine is None or theirs is None or mine.mean is None or theirs.mean is None:
        return False
    if mine.sd is None or theirs.sd is None:
        return False
    error = math.sqrt(mine.sd**2 / mine.n + theirs.sd**2 / theirs.n)
    return mine.mean - theirs.mean > _SURE * error


def _far_from_real(results: Results, run: StoreResult) -> Iterator[str]:
    """What is far off, in words with both numbers."""
    real = results.store("real")[0]
    for title, value in (
        ("nuclei per patch", lambda s: s.nuclei.per_patch.mean),
        ("mean nuclear area in µm²", lambda s: s.nuclei.area_um2.mean),
    ):
        own, true = value(run.brain), value(real.brain)
        if own is not None and true and abs(own - true) > _FAR * true:
            yield f"{title} {own:.3g} for {true:.3g}"
    own, true = _tile_seams(results, run), _tile_seams(results, real)
    if own is not None and true is not None and own > _FAR_SEAMS * true:
        yield f"seams of tiles show, index {own:.3g} for {true:.3g}"


def _tile_seams(results: Results, store: StoreResult) -> float | None:
    found = results.seam(store.label, "tiles")
    return None if found is None else found.index


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
