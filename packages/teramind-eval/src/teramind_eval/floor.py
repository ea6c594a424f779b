"""The noise floor: how far draws of one brain lie from each other that differ in their seed alone.

A model that drew from the true distribution would leave its draws as far from the real brain as from each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from teramind_eval.likeness import ImageSums
from teramind_eval.metrics.accumulate import IntegerDistribution
from teramind_eval.metrics.distribution import Distribution
from teramind_eval.morphometry.compare import Match
from teramind_eval.morphometry.measure import MEASURES, Morphometry, step_of
from teramind_eval.pairs import Compared
from teramind_eval.part import SPREAD
from teramind_eval.results import (
    DistributionScores,
    DrawDistance,
    ImageScores,
    MatchScores,
    NoiseFloor,
    Statistic,
)

#: What two draws of one brain may differ in: the seed, how many were asked for; where, how and in what pieces they ran.
_FREE = (
    *("seed", "draws", "device", "precision", "slices", "compiled"),
    *("plan", "sections", "region", "roi_exact", "tissue_only"),
)


@dataclass(frozen=True)
class Between:
    """Sums of a draw beside the first one: tiles of images, and nuclei matched one to one."""

    image: ImageSums = field(default_factory=ImageSums)
    nuclei: Match = field(default_factory=Match)

    def merge(self, other: Between) -> Between:
        """Sums of both."""
        return Between(self.image.merge(other.image), self.nuclei.merge(other.nuclei))


def draws_of(stores: Sequence[Compared]) -> tuple[str, ...]:
    """Labels of the first generated store and of the others that differ from it in their seed alone.

    The first alone where there is no other and it holds the spread of draws of its own; none where it does not, or
    where stores do not say how they were made.
    """
    runs = [one for one in stores if one.role == "generated"]
    seeds: list[object] = []
    found = []
    for one in runs:
        seed, same = one.brain.provenance.get("seed"), _request(one) == _request(runs[0])
        if same and seed is not None and seed not in seeds:
            found.append(one.label)
            seeds.append(seed)
    if len(found) > 1 and found[0] == runs[0].label and _request(runs[0]):
        return tuple(found)
    return (runs[0].label,) if runs and SPREAD in runs[0].brain.images else ()


def _request(store: Compared) -> dict[str, Any]:
    """All that decides what is drawn but the seed; empty where the checkpoint is not known."""
    provenance = store.brain.provenance
    request = provenance.get("request")
    if isinstance(request, Mapping):
        return {key: value for key, value in request.items() if key not in _FREE}
    if not provenance.get("checkpoint"):
        return {}
    return {key: provenance.get(key) for key in ("checkpoint", "atlas", "steps", "sampler", "control")}


def noise_floor(
    draws: Sequence[str],
    between: Between,
    nuclei: Mapping[str, Morphometry],
    pixel_size_um: float,
    apart: Mapping[str, Mapping[str, Distribution]] | None = None,
) -> NoiseFloor:
    """The floor as plain numbers; several draws are each laid beside the first, and pooled.

    Args:
        draws: labels, the first first; of one alone, PSNR is known from the spread of its own draws, and nothing else.
        between: sums over the brain.
        nuclei: of each draw, by label.
        pixel_size_um: edge of a pixel.
        apart: features of each draw but the first beside the first's, by label and stain grouping.
    """
    measures = {}
    for name in MEASURES:
        step = step_of(name, pixel_size_um)
        first, *others = (IntegerDistribution.of(nuclei[label].sample(name)[0]) for label in draws)
        if not others or not first.n or not all(one.n for one in others):
            continue
        far = [first.distances(one) for one in others]
        means = [abs(one.moments.mean - first.moments.mean) for one in others]
        measures[name] = DrawDistance(
            step * sum(means) / len(far),
            step * sum(one[0] for one in far) / len(far),
            sum(one[1] for one in far) / len(far),
        )
    stains = between.image.stains
    image = {stain: ImageScores.of(between.image.measures, stain) for stain in stains}
    matched = MatchScores.of(between.nuclei) if len(draws) > 1 else None
    return NoiseFloor(tuple(draws), image, matched, measures, _mean_distances(list((apart or {}).values())))


def _mean_distances(apart: Sequence[Mapping[str, Distribution]]) -> dict[str, DistributionScores]:
    """By stain grouping; none of a distance that is not known of every draw."""
    out = {}
    for grouping in apart[0] if apart else ():
        found = [one[grouping] for one in apart]
        kid = found[0].kid
        for one in found[1:]:
            kid = kid.merge(one.kid)
        fid, sfid = ([getattr(one, name) for one in found] for name in ("fid", "sfid"))
        out[grouping] = DistributionScores(_mean(fid), _mean(sfid), Statistic.of(kid), found[0].n)
    return out


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
