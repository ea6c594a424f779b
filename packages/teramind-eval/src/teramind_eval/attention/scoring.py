"""From gathered groups of blocks to numbers: lines, rank correlations, what is beyond a control, agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from teramind_eval.attention.blocks import ALL_GENES
from teramind_eval.attention.relations import Group, Relations
from teramind_eval.attention.scores import (
    ANY_CHANNEL,
    UNIFORM,
    AgreementScores,
    AttentionScores,
    BeyondScores,
    TrendScores,
)
from teramind_eval.attention.trends import Line
from teramind_eval.part import Part
from teramind_eval.regions import region_name


def attention_scores(real: Part, relations: Sequence[Relations]) -> AttentionScores:
    """Numbers of every set of maps; for each the brain's, then sections', then regions'."""
    trends: list[TrendScores] = []
    beyond: list[BeyondScores] = []
    agreement: list[AgreementScores] = []
    for one in relations:
        for place in _places(real, one):
            trends += _trends(one, place)
            beyond += _beyond(one, place)
            agreement += _agreement(one, place)
    return AttentionScores(tuple(trends), tuple(beyond), tuple(agreement))


@dataclass(frozen=True)
class _Place:
    section: int | None
    region: str | None
    group: Group


def _places(real: Part, relations: Relations) -> Iterator[_Place]:
    found: list[tuple[int | None, str | None, Group]] = [(None, None, relations.brain)]
    found += [(section, None, group) for section, group in sorted(relations.sections.items())]
    found += [(None, region_name(real, label), group) for label, group in sorted(relations.regions.items())]
    for section, region, group in found:
        if group.scatter.n:
            yield _Place(section, region, group)


def _trends(relations: Relations, place: _Place) -> Iterator[TrendScores]:
    v = relations.variables
    maps = [(s, c, v.attention(s, c)) for s in v.sources for c in v.channels]
    for store, channel, y in [*maps, (UNIFORM, ANY_CHANNEL, v.uniform)]:
        for of in v.expressions:
            x = v.expression(of)
            moments = place.group.scatter.pair(x, y)
            line = Line.through(moments)
            yield TrendScores(
                store=store,
                map=relations.maps.which.element,
                channel=channel,
                genes=v.genes,
                expression=of,
                section=place.section,
                region=place.region,
                n=moments.n,
                slope=None if line is None else line.slope,
                slope_error=None if line is None else line.slope_error(),
                intercept=None if line is None else line.intercept,
                correlation=_known(place.group.scatter.correlation(x, y)),
                residual_sd=None if line is None else line.residual_sd,
                mean_expression=_known(moments.mean_x),
                sd_expression=_known(place.group.scatter.moments(x).sd),
                spearman=_known(float(place.group.ranks[x, y])),
                spearman_n=place.group.sample.n,
            )


def _beyond(relations: Relations, place: _Place) -> Iterator[BeyondScores]:
    v, scatter = relations.variables, place.group.scatter
    together = v.expression(ALL_GENES)
    for store in v.sources:
        for channel in v.channels:
            mine = v.beyond(store, channel)
            moments = scatter.moments(mine)
            yield BeyondScores(
                store=store,
                map=relations.maps.which.element,
                channel=channel,
                control=UNIFORM,
                section=place.section,
                region=place.region,
                n=moments.n,
                mean=moments.mean,
                sd=_known(moments.sd),
                correlation=_known(scatter.correlation(together, mine)),
                shared=None,
                left_sd=_known(moments.sd),
            )
            for other in v.sources:
                if other != store:
                    yield _beside(relations, place, (store, other), channel)


def _beside(relations: Relations, place: _Place, stores: tuple[str, str], channel: str) -> BeyondScores:
    v, scatter = relations.variables, place.group.scatter
    mine, theirs = (v.beyond(store, channel) for store in stores)
    moments = scatter.difference(mine, theirs)
    return BeyondScores(
        store=stores[0],
        map=relations.maps.which.element,
        channel=channel,
        control=stores[1],
        section=place.section,
        region=place.region,
        n=moments.n,
        mean=moments.mean,
        sd=_known(moments.sd),
        correlation=_known(scatter.difference_correlation(mine, theirs, v.expression(ALL_GENES))),
        shared=_known(scatter.correlation(mine, theirs)),
        left_sd=_known(scatter.left_sd(mine, theirs)),
    )


def _agreement(relations: Relations, place: _Place) -> Iterator[AgreementScores]:
    v = relations.variables
    for first, second in combinations(v.sources, 2):
        for channel in v.channels:
            yield AgreementScores(
                first=first,
                second=second,
                map=relations.maps.which.element,
                channel=channel,
                section=place.section,
                region=place.region,
                n=place.group.sample.n,
                spearman=_known(
                    float(place.group.ranks[v.attention(first, channel), v.attention(second, channel)])
                ),
                spearman_beyond=_known(
                    float(place.group.ranks[v.beyond(first, channel), v.beyond(second, channel)])
                ),
            )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
