"""What a report measured, as plain data: the schema of `metrics.json` and of `metrics.parquet`.

Every number is a float or an int; what could not be measured is None. `docs/guides/report.md` explains each field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from teramind_eval.attention.scores import AgreementScores, BeyondScores, TrendScores
from teramind_eval.genes.scores import GeneScores
from teramind_eval.metrics.accumulate import IntegerDistribution, Moments
from teramind_eval.metrics.distribution import Distribution
from teramind_eval.morphometry.compare import Match

SCHEMA_VERSION = 1

#: Name under which scores of all stains together are kept.
TOGETHER = "together"

Role = Literal["real", "generated", "control"]

#: Label of the generated store where there is one and nobody named it.
SINGLE = "generated"


@dataclass(frozen=True, slots=True)
class Statistic:
    """Mean, sample standard deviation and number of values."""

    mean: float | None
    sd: float | None
    n: int

    @classmethod
    def of(cls, moments: Moments, scale: float = 1.0) -> Statistic:
        """From streamed moments, values multiplied by `scale`."""
        if moments.n == 0:
            return cls(None, None, 0)
        return cls(moments.mean * scale, _finite(moments.sd * scale), moments.n)


@dataclass(frozen=True, slots=True)
class ImageScores:
    """Likeness of a store's images to the real ones over tissue tiles, for one stain or all together.

    `ms_ssim` has n = 0 where all tiles are smaller than `metrics.image.MS_SMALLEST`.
    """

    psnr_db: Statistic
    ssim: Statistic
    ms_ssim: Statistic

    @classmethod
    def of(cls, measures: Mapping[str, Mapping[str, Moments]], stain: str) -> ImageScores:
        """From moments by measure and stain, as `likeness.ImageSums` keeps them."""
        return cls(*(Statistic.of(measures[name][stain]) for name in ("psnr", "ssim", "ms_ssim")))


@dataclass(frozen=True, slots=True)
class DistributionScores:
    """How far the features of a store's tissue tiles lie from the real ones'; `n` tiles a side.

    `kid` has mean and SD over blocks of tiles; see `metrics.distribution`.
    """

    fid: float | None
    sfid: float | None
    kid: Statistic
    n: int

    @classmethod
    def of(cls, found: Distribution) -> DistributionScores:
        """From distances."""
        return cls(found.fid, found.sfid, Statistic.of(found.kid), found.n)


@dataclass(frozen=True, slots=True)
class MatchScores:
    """Nuclei matched one to one with reference nuclei, at most one nuclear radius apart."""

    f1: float
    precision: float
    recall: float
    true_positive: int
    false_positive: int
    false_negative: int

    @classmethod
    def of(cls, match: Match) -> MatchScores:
        """From a match."""
        return cls(
            match.f1,
            match.precision,
            match.recall,
            match.true_positive,
            match.false_positive,
            match.false_negative,
        )


@dataclass(frozen=True, slots=True)
class Distances:
    """How far a distribution lies from the real brain's."""

    wasserstein: float | None
    kolmogorov_smirnov: float | None

    @classmethod
    def of(cls, real: IntegerDistribution, other: IntegerDistribution, scale: float = 1.0) -> Distances:
        """Wasserstein distance in the unit that `scale` gives; the KS statistic has none."""
        earth, gap = real.distances(other)
        return cls(_finite(earth * scale), _finite(gap))


@dataclass(frozen=True, slots=True)
class Interval:
    """Where 95 % of the bootstrap's replicates lie."""

    low: float | None
    high: float | None

    @classmethod
    def of(cls, low: float, high: float, scale: float = 1.0) -> Interval:
        """Ends multiplied by `scale`; what is not finite was not measured."""
        return cls(_finite(low * scale), _finite(high * scale))


@dataclass(frozen=True, slots=True)
class MeasureScores:
    """One measure of nuclei: its distribution, how far that is from the real brain's, and how sure (over patches)."""

    value: Statistic
    mean_interval: Interval
    sd_interval: Interval
    to_real: Distances | None = None
    wasserstein_interval: Interval | None = None
    kolmogorov_smirnov_interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class NucleiScores:
    """Nuclei found in a store's DAPI.

    `measures` by name (see `morphometry.measure.MEASURES`), `regions` the same by the real brain's annotation.
    """

    count: int
    per_patch: Statistic
    area_px: Statistic
    area_um2: Statistic
    per_patch_to_real: Distances | None = None
    area_um2_to_real: Distances | None = None
    against_truth: MatchScores | None = None
    against_real: MatchScores | None = None
    measures: dict[str, MeasureScores] = field(default_factory=dict)
    regions: dict[str, dict[str, MeasureScores]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """All measures of one section or one brain.

    `image` maps a stain, or "together", to scores; empty for the real. `regions` maps the name of a region of the real
    brain's annotation to the same of the tiles in it, for the whole brain only. `distribution` maps a stain, or
    "together", to distances of Inception features, where these were measured.
    """

    image: dict[str, ImageScores]
    nuclei: NucleiScores
    regions: dict[str, dict[str, ImageScores]] = field(default_factory=dict)
    distribution: dict[str, DistributionScores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SectionScores:
    """Measures of one section."""

    index: int
    name: str
    z_um: float
    scores: Scores


@dataclass(frozen=True, slots=True)
class StoreResult:
    """Measures of one store. Brain values pool the tiles, patches and nuclei of all sections."""

    label: str
    role: Role
    url: str
    brain: Scores
    sections: tuple[SectionScores, ...]


@dataclass(frozen=True, slots=True)
class SeamScores:
    """Change across seams over change elsewhere, 1 where they do not show; see `teramind_eval.metrics.seams`.

    `across` is `tiles`, of `step` px, in a section or (None) the brain; or `windows`, of `step` sections. `n` counts
    the pairs of pixels, or of tile means, that a seam parts.
    """

    store: str
    across: Literal["tiles", "windows"]
    step: int
    section: int | None
    stain: str
    index: float | None
    n: int


@dataclass(frozen=True, slots=True)
class DrawDistance:
    """How far a measure of nuclei lies apart in two draws: difference of means, and distances of distributions."""

    mean_difference: float
    wasserstein: float
    kolmogorov_smirnov: float


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Likeness of draws of one brain that differ in their seed alone, each beside the first; see `teramind_eval.floor`.

    `image` by stain over the tissue tiles that the others are scored on, `nuclei` matched between draws, `measures` by
    name, mean over draws. Of a single store that holds the spread of its own draws PSNR alone is known.
    `distribution` by stain grouping: Inception's features, mean over draws; empty where none were made.
    """

    draws: tuple[str, ...]
    image: dict[str, ImageScores]
    nuclei: MatchScores | None
    measures: dict[str, DrawDistance]
    distribution: dict[str, DistributionScores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything a report says in numbers."""

    settings: dict[str, Any]
    inputs: dict[str, Any]
    warnings: tuple[str, ...]
    stores: tuple[StoreResult, ...]
    trends: tuple[TrendScores, ...] = ()
    seams: tuple[SeamScores, ...] = ()
    beyond: tuple[BeyondScores, ...] = ()
    agreement: tuple[AgreementScores, ...] = ()
    genes: tuple[GeneScores, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    #: How each store was made, by label, where that is known; see `teramind_eval.report.provenance.making`.
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    noise_floor: NoiseFloor | None = None
    schema_version: int = SCHEMA_VERSION

    def store(self, role: Role) -> tuple[StoreResult, ...]:
        """The stores that play a role, in the order given."""
        return tuple(one for one in self.stores if one.role == role)

    def seam(self, label: str, across: Literal["tiles", "windows"]) -> SeamScores | None:
        """The whole brain's seam index of a store, all stains together."""
        for one in self.seams:
            if (one.store, one.across, one.section, one.stain) == (label, across, None, TOGETHER):
                return one
        return None

    def to_json(self) -> str:
        """`metrics.json`."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"


def long_table(results: Results) -> Iterator[dict[str, Any]]:
    """Rows of `metrics.parquet`: one a store, section (-1 for the brain), region, stain and measure; mean, SD and n.

    Region "" is everywhere; `low` and `high` are the ends of the bootstrap interval of `mean`, where there is one.
    """
    for store in results.stores:
        levels = [(-1, "brain", store.brain), *((s.index, s.name, s.scores) for s in store.sections)]
        for index, name, scores in levels:
            head = {"store": store.label, "role": store.role, "section": index, "name": name}
            for measure, stain, value in _values(scores):
                yield {**head, "measure": measure, "stain": stain, **_NOWHERE, **asdict(value)}
            for region, image in scores.regions.items():
                for measure, stain, value in _image_values(image):
                    row = {"measure": measure, "stain": stain, **_NOWHERE, "region": region}
                    yield {**head, **row, **asdict(value)}
            for region, measures in {"": scores.nuclei.measures, **scores.nuclei.regions}.items():
                for measure, value, sure in _measure_values(measures):
                    row = {"measure": measure, "stain": "DAPI", "region": region}
                    yield {**head, **row, **asdict(sure), **asdict(value)}
    yield from _seam_rows(results)


def _seam_rows(results: Results) -> Iterator[dict[str, Any]]:
    roles = {one.label: one.role for one in results.stores}
    names = {s.index: s.name for one in results.stores for s in one.sections}
    for seam in results.seams:
        section, name = (-1, "brain") if seam.section is None else (seam.section, names[seam.section])
        head = {"store": seam.store, "role": roles[seam.store], "section": section, "name": name}
        row = {"measure": f"seam_index_{seam.across}", "stain": seam.stain, **_NOWHERE}
        yield {**head, **row, "mean": seam.index, "sd": None, "n": seam.n}


def _image_values(image: Mapping[str, ImageScores]) -> Iterator[tuple[str, str, Statistic]]:
    for stain, scores in image.items():
        yield "psnr_db", stain, scores.psnr_db
        yield "ssim", stain, scores.ssim
        if scores.ms_ssim.n:
            yield "ms_ssim", stain, scores.ms_ssim


_NOWHERE = {"region": "", "low": None, "high": None}


def _measure_values(measures: dict[str, MeasureScores]) -> Iterator[tuple[str, Statistic, Interval]]:
    nothing = Interval(None, None)
    for name, one in measures.items():
        title = "nuclei_per_patch" if name == "per_patch" else f"nuclear_{name}"
        yield title, one.value, one.mean_interval
        yield f"{title}_sd", Statistic(one.value.sd, None, one.value.n), one.sd_interval
        if one.to_real is None:
            continue
        far, sure = one.to_real, (one.wasserstein_interval, one.kolmogorov_smirnov_interval)
        yield (
            f"{title}_wasserstein_to_real",
            Statistic(far.wasserstein, None, one.value.n),
            sure[0] or nothing,
        )
        yield (
            f"{title}_kolmogorov_smirnov_to_real",
            Statistic(far.kolmogorov_smirnov, None, one.value.n),
            sure[1] or nothing,
        )


def _values(scores: Scores) -> Iterator[tuple[str, str, Statistic]]:
    yield from _image_values(scores.image)
    for stain, far in scores.distribution.items():
        yield "fid", stain, Statistic(far.fid, None, far.n)
        yield "sfid", stain, Statistic(far.sfid, None, far.n)
        yield "kid", stain, far.kid
    nuclei = scores.nuclei
    yield "nuclear_area_px", "DAPI", nuclei.area_px
    if not nuclei.measures:  # else they come with their intervals
        yield "nuclei_per_patch", "DAPI", nuclei.per_patch
        yield "nuclear_area_um2", "DAPI", nuclei.area_um2
    for against, match in (("truth", nuclei.against_truth), ("real", nuclei.against_real)):
        if match is None:
            continue
        found, wanted = match.true_positive + match.false_positive, match.true_positive + match.false_negative
        yield f"centroid_f1_against_{against}", "DAPI", Statistic(match.f1, None, wanted)
        yield f"centroid_precision_against_{against}", "DAPI", Statistic(match.precision, None, found)
        yield f"centroid_recall_against_{against}", "DAPI", Statistic(match.recall, None, wanted)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
