"""The sentence on top of a report: good news only where it is more than chance, and looks like a brain."""

from __future__ import annotations

import pytest

from teramind_eval.report.verdict import verdict
from teramind_eval.results import (
    TOGETHER,
    ImageScores,
    MatchScores,
    NucleiScores,
    Results,
    Role,
    Scores,
    SeamScores,
    Statistic,
    StoreResult,
)

UNKNOWN = Statistic(None, None, 0)


def match(f1: float, n: int = 400) -> MatchScores:
    found = round(f1 * n)
    return MatchScores(f1, f1, f1, found, n - found, n - found)


def store(
    role: Role,
    label: str,
    psnr: float = 18.0,
    f1: float = 0.8,
    per_patch: float = 5.0,
    area: float = 70.0,
    n: int = 100,
) -> StoreResult:
    image = {TOGETHER: ImageScores(Statistic(psnr, 2.0, n), Statistic(psnr / 40, 0.05, n), UNKNOWN)}
    nuclei = NucleiScores(
        400,
        Statistic(per_patch, 2.0, 80),
        UNKNOWN,
        Statistic(area, 20.0, 400),
        against_truth=match(f1),
    )
    return StoreResult(label, role, f"{label}.zarr", Scores(image if role != "real" else {}, nuclei), ())


def seams(**indices: float) -> tuple[SeamScores, ...]:
    return tuple(
        SeamScores(name, "tiles", 32, None, TOGETHER, index, 1000) for name, index in indices.items()
    )


REAL, SHUFFLED = store("real", "real", f1=1.0), store("control", "shuffled", psnr=14.0, f1=0.3)


def told(*stores: StoreResult, **indices: float) -> tuple[str, str]:
    found = verdict(Results({}, {}, (), (REAL, *stores), seams=seams(**indices)))
    return found.kind, found.text


def test_clearly_better_and_like_the_real_brain_is_good() -> None:
    kind, text = told(store("generated", "ours"), SHUFFLED, real=1.1, ours=1.4)
    assert kind == "good"
    assert text.startswith("Ours beats shuffled in PSNR, SSIM and centroid F1")


def test_no_control_tells_nothing() -> None:
    kind, text = told(store("generated", "ours"))
    assert kind == "bad"
    assert "--shuffle-genes" in text


def test_a_difference_within_chance_does_not_win() -> None:
    kind, text = told(store("generated", "ours", psnr=14.5), SHUFFLED)  # 2 dB / sqrt(100) each: 0.28 dB
    assert (kind, text.partition(".")[0]) == ("bad", "Ours does not clearly beat shuffled in PSNR and SSIM")
    assert "It wins in centroid F1." in text
    assert (
        told(store("generated", "ours", psnr=14.6, n=900), store("control", "c", psnr=14.0, f1=0.3, n=900))[0]
        == "good"
    )


def test_every_control_is_to_be_beaten() -> None:
    kind, text = told(store("generated", "ours"), SHUFFLED, store("control", "neighbour", psnr=18.1, f1=0.2))
    assert kind == "bad"
    assert "beat shuffled and neighbour in PSNR and SSIM" in text


@pytest.mark.parametrize(
    ("generated", "indices", "words"),
    [
        ({"per_patch": 10.0}, {}, "nuclei per patch 10 for 5"),
        ({"area": 116.0}, {}, "mean nuclear area in µm² 116 for 70"),
        ({}, {"real": 1.22, "ours": 13.45}, "seams of tiles show, index 13.4 for 1.22"),
    ],
)
def test_better_than_a_control_is_not_yet_like_a_brain(
    generated: dict[str, float], indices: dict[str, float], words: str
) -> None:
    kind, text = told(store("generated", "ours", **generated), SHUFFLED, **indices)
    assert kind == "mixed"
    assert f"But it does not look like the real brain: {words}" in text


def test_nuclei_that_nobody_counted_win_nothing() -> None:
    blind = StoreResult("ours", "generated", "o.zarr", store("generated", "ours").brain, ())
    nothing = MatchScores(0.0, 0.0, 0.0, 0, 3, 0)
    nuclei = NucleiScores(0, UNKNOWN, UNKNOWN, UNKNOWN, against_truth=nothing)
    blind = StoreResult("ours", "generated", "o.zarr", Scores(blind.brain.image, nuclei), ())
    kind, text = told(blind, SHUFFLED)
    assert kind == "bad"
    assert "in centroid F1" in text
