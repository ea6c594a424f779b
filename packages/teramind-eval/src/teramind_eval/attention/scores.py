"""Numbers of attention against expression, as plain data: lines of `metrics.json`, `trends.parquet` and its fellows.

`section` and `region` are None for the whole brain. A number that could not be measured is None.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What uniform attention is called among stores, and its channel, as it is the same in all.
UNIFORM, ANY_CHANNEL = "uniform", "any"


@dataclass(frozen=True, slots=True)
class TrendScores:
    """Attention against expression: a straight line through log2 levels of blocks, and their rank correlation.

    Attributes:
        store: label of the store, or `uniform`.
        map: the image.
        channel: version of the map.
        genes: of the pathway.
        expression: the gene on the x axis, or `together`.
        section: index of the section.
        region: name of the region.
        n: blocks.
        slope, slope_error: of the line; half width of its 95 % interval.
        intercept: of the line.
        correlation: Pearson's.
        residual_sd: log2 units.
        mean_expression, sd_expression: of the blocks; with the above all that a confidence band needs.
        spearman, spearman_n: rank correlation, and of how many blocks.
    """

    store: str
    map: str
    channel: str
    genes: tuple[str, ...]
    expression: str
    section: int | None
    region: str | None
    n: int
    slope: float | None
    slope_error: float | None
    intercept: float | None
    correlation: float | None
    residual_sd: float | None
    mean_expression: float | None
    sd_expression: float | None
    spearman: float | None
    spearman_n: int


@dataclass(frozen=True, slots=True)
class BeyondScores:
    """What a map has beyond a control: log2(map / control's map) over blocks, in octaves.

    Attributes:
        store: label of the store.
        map: the image.
        channel: version of the map.
        control: `uniform`, or the label of another store.
        section: index of the section.
        region: name of the region.
        n: blocks.
        mean, sd: octaves; both 0 where attention adds nothing to the control.
        correlation: of that with expression of the genes together, log2.
        shared: correlation of the two maps after each was divided by uniform attention; None beside uniform.
        left_sd: SD of the map beyond uniform that a line from the control's does not tell, octaves.
    """

    store: str
    map: str
    channel: str
    control: str
    section: int | None
    region: str | None
    n: int
    mean: float | None
    sd: float | None
    correlation: float | None
    shared: float | None
    left_sd: float | None


@dataclass(frozen=True, slots=True)
class AgreementScores:
    """Do two stores' maps agree? Rank correlations over blocks: of the maps, and of what each has beyond uniform."""

    first: str
    second: str
    map: str
    channel: str
    section: int | None
    region: str | None
    n: int
    spearman: float | None
    spearman_beyond: float | None


@dataclass(frozen=True)
class AttentionScores:
    """All numbers of all maps."""

    trends: tuple[TrendScores, ...] = ()
    beyond: tuple[BeyondScores, ...] = ()
    agreement: tuple[AgreementScores, ...] = ()
