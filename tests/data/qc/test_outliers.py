"""What is flagged: a hand-worked robust z-score, its conditions, fixed limits, and the words."""

from __future__ import annotations

import pytest

from teramind_data.qc.measures import Measure, measures_of
from teramind_data.qc.outliers import flags, is_outlier

FOCUS = Measure("focus", "focus", "per um", "low", least=0.1)


def lines(measure: Measure, values: list[float | None]) -> list[list[str]]:
    return flags([{measure.key: value} for value in values], [measure])


def test_modified_z_score_by_hand() -> None:
    # Median 10, deviations 1, 1, 0, 2, 2 and x: their median 1.5; 3.5 * 1.5 / 0.6745 = 7.78 away is the edge.
    values: list[float | None] = [9, 11, 10, 8, 12]
    spread = [*values, 10 + 7.5]
    # With the sixth the median is 10.5 and the deviations' median 1.5.
    assert not is_outlier(Measure("x", "x", "", "both"), 17.5, spread)
    far = [*values, 10.5 + 7.9]
    assert is_outlier(Measure("x", "x", "", "both"), 18.4, far)
    assert is_outlier(Measure("x", "x", "", "high"), 18.4, far)
    assert not is_outlier(Measure("x", "x", "", "low"), 18.4, far)
    assert not is_outlier(Measure("x", "x"), 18.4, far)


def test_equal_sections_leave_room() -> None:
    assert lines(FOCUS, [1, 1, 1, 1, 0.95]) == [[], [], [], [], []]
    assert lines(FOCUS, [1, 1, 1, 1, 0.4])[4] == ["focus 0.4 of the median (0.4 per um)"]
    assert lines(Measure("r", "residue", "um", "high", floor=15), [0, 0, 0, 0, 14])[4] == []
    assert lines(Measure("r", "residue", "um", "high", floor=15), [0, 0, 0, 0, 16])[4] == [
        "residue 16 um, 0 um is usual"
    ]


@pytest.mark.parametrize("values", [[1, 1, 0.1], [1, None, 1, 0.1]])
def test_too_few_are_not_compared(values: list[float | None]) -> None:
    assert not any(lines(FOCUS, values))


def test_limits_hold_for_one_section() -> None:
    covers = Measure("c", "DAPI covers", "share", "low", limit=0.95)
    assert lines(covers, [0.8]) == [["DAPI covers 80 % (at least 95 % expected)"]]
    assert lines(covers, [0.96]) == [[]]
    high = Measure("s", "saturated", "share", "high", limit=0.02)
    assert lines(high, [0.021]) == [["saturated 2.1 % (at most 2 % expected)"]]


def test_missing_numbers_are_no_outliers() -> None:
    assert lines(FOCUS, [1, 1, 1, 1, None, None])[4:] == [[], []]


def test_measures_of_each_stain_are_named_once() -> None:
    keys = [measure.key for measure in measures_of(("DAPI", "PolyT"))]
    assert len(keys) == len(set(keys))
    assert {"DAPI_focus", "PolyT_focus", "residue_um"} <= set(keys)
    assert not any("{" in key for key in keys)
