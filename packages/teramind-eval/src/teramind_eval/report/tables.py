"""The summary: this run beside its controls, with what is better marked, and the sentences that go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from teramind_eval.results import (
    TOGETHER,
    Distances,
    DistributionScores,
    NoiseFloor,
    NucleiScores,
    Results,
    Scores,
    Statistic,
    StoreResult,
)

Mark = Literal["better", "worse", "equal", ""]


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in words, its spread, and how it compares: `mark` with what `against` names."""

    text: str
    spread: str = ""
    mark: Mark = ""
    against: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: its name, what it means, the rule for better, and a cell for each store."""

    title: str
    note: str
    rule: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class _Measure:
    title: str
    note: str
    # "higher" is better, "lower" is better, or "near" the real brain's value
    better: Literal["higher", "lower", "near"]
    value: Callable[[Scores], Statistic | None]
    digits: int
    #: Whether it is left out where no store has it.
    optional: bool = False


def _image(scores: Scores, measure: str, stain: str) -> Statistic | None:
    image = scores.image.get(stain)
    return None if image is None else getattr(image, measure)


def _f1(scores: Scores, against: str) -> Statistic | None:
    match = getattr(scores.nuclei, against)
    return None if match is None else Statistic(match.f1, None, match.true_positive + match.false_negative)


def shown_groupings(scores: Iterable[Scores]) -> tuple[str, ...]:
    """Stain groupings whose distances of features are shown: all together where that was measured, else each stain."""
    found = tuple(dict.fromkeys(name for one in scores for name in one.distribution))
    return (TOGETHER,) if TOGETHER in found else found


def _far(scores: Scores, measure: str, grouping: str) -> Statistic | None:
    found = scores.distribution.get(grouping)
    return None if found is None else _statistic(found, measure)


def _statistic(found: DistributionScores, measure: str) -> Statistic:
    value: Statistic | float | None = getattr(found, measure)
    return value if isinstance(value, Statistic) else Statistic(value, None, found.n)


def _distance(scores: Scores, which: str) -> Statistic | None:
    found = getattr(scores.nuclei, which)
    return None if found is None else Statistic(found.wasserstein, None, 0)


def _measures(
    stains: Sequence[str], groupings: Sequence[str], patch_px: int, has_truth: bool
) -> list[_Measure]:
    listed = [
        _Measure(
            "PSNR (dB)",
            "pixel by pixel, all stains, tissue tiles",
            "higher",
            lambda s: _image(s, "psnr_db", TOGETHER),
            2,
        ),
        _Measure(
            "SSIM",
            "local structure, all stains, tissue tiles",
            "higher",
            lambda s: _image(s, "ssim", TOGETHER),
            3,
        ),
    ]
    listed += [
        _Measure(
            f"SSIM, {stain}", "this stain alone", "higher", partial(_image, measure="ssim", stain=stain), 3
        )
        for stain in stains
    ]
    listed.append(
        _Measure(
            "MS-SSIM",
            "structure at five scales, all stains, tissue tiles",
            "higher",
            partial(_image, measure="ms_ssim", stain=TOGETHER),
            3,
            optional=True,
        )
    )
    listed += [
        _Measure(
            title if grouping == TOGETHER else f"{title}, {grouping}",
            "distance of the tiles' Inception features, "
            + ("all stains" if grouping == TOGETHER else "this stain alone"),
            "lower",
            partial(_far, measure=name, grouping=grouping),
            digits,
            optional=True,
        )
        for grouping in groupings
        for title, name, digits in (("sFID", "sfid", 2), ("FID", "fid", 2), ("KID", "kid", 4))
    ]
    if has_truth:
        listed.append(
            _Measure(
                "Centroid F1 against the truth",
                "nuclei within one nuclear radius of a true one",
                "higher",
                lambda s: _f1(s, "against_truth"),
                3,
            )
        )
    listed += [
        _Measure(
            "Centroid F1 against the real image",
            "nuclei within one nuclear radius of one found in the real DAPI",
            "higher",
            lambda s: _f1(s, "against_real"),
            3,
        ),
        _Measure(
            f"Nuclei per {patch_px} px patch",
            "mean over tissue patches",
            "near",
            lambda s: s.nuclei.per_patch,
            2,
        ),
        _Measure("Nuclear area (µm²)", "mean over nuclei", "near", lambda s: s.nuclei.area_um2, 1),
        _Measure(
            "Nuclear area, distance to real (µm²)",
            "Wasserstein distance of the distributions",
            "lower",
            lambda s: _distance(s, "area_um2_to_real"),
            2,
        ),
    ]
    return listed


_RULES = {"higher": "higher is better", "lower": "lower is better", "near": "nearer to real is better"}


def summary(results: Results, stains: Sequence[str], patch_px: int) -> tuple[Row, ...]:
    """Rows of the headline table. The arrow of the run tells it from the best control, those of others from the run.

    Where draws of other seeds are among the stores, a last cell says how far they lie from each other.
    """
    has_truth = any(one.brain.nuclei.against_truth is not None for one in results.stores)
    groupings = shown_groupings(one.brain for one in results.stores)
    floor = None if results.noise_floor is None else _as_scores(results.noise_floor)
    rows = []
    listed = [
        (measure, {one.label: measure.value(one.brain) for one in results.stores})
        for measure in _measures(stains, groupings, patch_px, has_truth)
    ]
    for measure, values in (*listed, *_seams(results)):
        if measure.optional and not any(
            value is not None and value.mean is not None for value in values.values()
        ):
            continue
        cells = tuple(_cell(one, values, results, measure) for one in results.stores)
        if floor is not None:
            cells += (_floor_cell(measure, floor),)
        rows.append(Row(measure.title, measure.note, _RULES[measure.better], cells))
    return tuple(rows)


def _seams(results: Results) -> Iterator[tuple[_Measure, dict[str, Statistic | None]]]:
    """Seam indices, which are kept beside the scores since they depend on how a store was put together."""
    notes: dict[Literal["tiles", "windows"], tuple[str, str]] = {
        "tiles": ("Seam index, tiles", "change across the borders of tiles over change elsewhere"),
        "windows": (
            "Seam index, windows",
            "change of tone between windows of sections over change inside them",
        ),
    }
    for across, (title, note) in notes.items():
        found = {one.label: results.seam(one.label, across) for one in results.stores}
        values = {
            label: None if seam is None else Statistic(seam.index, None, seam.n)
            for label, seam in found.items()
        }
        if any(value is not None and value.mean is not None for value in values.values()):
            measure = _Measure(title, note, "near", lambda _: None, 2)
            yield measure, values


def _cell(
    store: StoreResult, values: dict[str, Statistic | None], results: Results, measure: _Measure
) -> Cell:
    value = values[store.label]
    if value is None or value.mean is None:
        return Cell("–")
    spread = f"± {value.sd:.{measure.digits}f}, n {value.n:,}" if value.sd is not None else ""
    text = f"{value.mean:.{measure.digits}f}"
    if store.role != "generated":
        return Cell(text, spread)
    run = results.store("generated")[0]
    rivals = results.store("control") if store is run else (run,)
    against = run.label if store is not run else rivals[0].label if len(rivals) == 1 else "the best control"
    return Cell(text, spread, _mark(store, rivals, values, results, measure), against)


def _as_scores(floor: NoiseFloor) -> Scores:
    """The noise floor in the places of a store's scores: differences where those are values."""
    apart = {name: Statistic(one.mean_difference, None, 0) for name, one in floor.measures.items()}
    unknown = Statistic(None, None, 0)
    area = floor.measures.get("area_um2")
    nuclei = NucleiScores(
        count=0,
        per_patch=apart.get("per_patch", unknown),
        area_px=unknown,
        area_um2=apart.get("area_um2", unknown),
        area_um2_to_real=None if area is None else Distances(area.wasserstein, area.kolmogorov_smirnov),
        against_real=floor.nuclei,
    )
    return Scores(floor.image, nuclei, distribution=floor.distribution)


def floor_numbers(results: Results) -> list[dict[str, Any]]:
    """The noise floor, a row a measure and stain."""
    floor = results.noise_floor
    if floor is None:
        return []
    head = {"draws": ", ".join(floor.draws)}
    rows = [
        {**head, "measure": measure, "stain": stain, **asdict(getattr(image, measure))}
        for stain, image in floor.image.items()
        for measure in ("psnr_db", "ssim", "ms_ssim")
    ]
    rows += [
        {**head, "measure": measure, "stain": grouping, **asdict(_statistic(far, measure))}
        for grouping, far in floor.distribution.items()
        for measure in ("fid", "sfid", "kid")
    ]
    found = floor.nuclei
    if found is not None:
        row = {"measure": "centroid_f1", "stain": "DAPI", "mean": found.f1, "sd": None}
        rows.append({**head, **row, "n": found.true_positive + found.false_negative})
    for name, one in floor.measures.items():
        for what, value in asdict(one).items():
            row = {
                "measure": f"{name}_{what}",
                "stain": "DAPI",
                "mean": value,
                "sd": None,
                "n": len(floor.draws) - 1,
            }
            rows.append({**head, **row})
    return rows


def _floor_cell(measure: _Measure, floor: Scores) -> Cell:
    value = measure.value(floor)
    if value is None or value.mean is None:
        return Cell("–")
    spread = f"± {value.sd:.{measure.digits}f}" if value.sd is not None else ""
    # Values that should be near the real one's have no likeness; their difference between draws is shown.
    sign = "Δ " if measure.better == "near" else ""
    return Cell(f"{sign}{value.mean:.{measure.digits}f}", spread)


def _mark(
    store: StoreResult,
    rivals: Sequence[StoreResult],
    values: dict[str, Statistic | None],
    results: Results,
    measure: _Measure,
) -> Mark:
    """How a store compares with the best of others; nothing where nothing is known of them."""
    real = values[results.store("real")[0].label]
    cost = {label: _cost(value, real, measure) for label, value in values.items()}
    known = [one for one in (cost[rival.label] for rival in rivals) if one is not None]
    own = cost[store.label]
    if own is None or not known:
        return ""
    best = min(known)
    if abs(own - best) < 0.5 * 10**-measure.digits:
        return "equal"
    return "better" if own < best else "worse"


def _cost(value: Statistic | None, real: Statistic | None, measure: _Measure) -> float | None:
    if value is None or value.mean is None:
        return None
    if measure.better == "near":
        return None if real is None or real.mean is None else abs(value.mean - real.mean)
    return value.mean if measure.better == "lower" else -value.mean
