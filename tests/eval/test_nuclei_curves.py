"""Nuclei by section and by region: drawn where there are several, with all their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from teramind_eval.report import nuclei_curves as module
from teramind_eval.report.nuclei_curves import nuclei_curves
from teramind_eval.report.plots import REGIONS_DRAWN
from teramind_eval.results import (
    Interval,
    MeasureScores,
    NucleiScores,
    Role,
    Scores,
    SectionScores,
    Statistic,
    StoreResult,
)

NONE = Statistic(None, None, 0)
NOWHERE = Interval(None, None)


def measures(mean: float, n: int) -> dict[str, MeasureScores]:
    return {
        "per_patch": MeasureScores(Statistic(mean, 1.0, 4), NOWHERE, NOWHERE),
        "area_um2": MeasureScores(Statistic(10 * mean, None, n), NOWHERE, NOWHERE),
    }


def scores(found: Mapping[str, MeasureScores], regions: Mapping[str, Any]) -> Scores:
    return Scores({}, NucleiScores(0, NONE, NONE, NONE, measures=dict(found), regions=dict(regions)))


def store(label: str, role: Role, sections: int, regions: int) -> StoreResult:
    by_region = {f"Region_{r}": measures(5, r) for r in range(regions)}
    places = tuple(
        SectionScores(i, f"s{i}", 100.0 * i, scores(measures(2 + i, 9) if i != 1 else {}, {}))
        for i in range(sections)
    )
    return StoreResult(label, role, "C.zarr", scores(measures(3, 9), by_region), places)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the plots are asked to draw, by name of the plot."""
    found: dict[str, Any] = {}
    for name in ("section_trends", "region_dots"):
        plain = getattr(module, name)

        def kept(*asked: Any, name: str = name, plain: Any = plain) -> Any:
            found[name] = asked
            return plain(*asked)

        monkeypatch.setattr(module, name, kept)
    return found


def test_nuclei_are_drawn_by_section_and_by_region(drawn: dict[str, Any]) -> None:
    ours = store("ours", "generated", 3, 4)
    brain = ours.brain.nuclei
    lacking = {name: one for name, one in brain.regions.items() if name != "Region_3"}
    ours = replace(ours, brain=replace(ours.brain, nuclei=replace(brain, regions=lacking)))
    along, regions = nuclei_curves([store("real", "real", 3, 4), ours], 64)
    place, panels, _ = drawn["section_trends"]
    assert place.tolist() == [0, 100, 200]
    means, spreads = panels[0][1]["ours"]
    assert str(means.tolist()) == "[2.0, nan, 4.0]" and str(spreads.tolist()) == "[1.0, nan, 1.0]"
    # Most real nuclei first; a region without any, in whatever store (number 0), has no row.
    names, (counts, areas), _, _ = drawn["region_dots"]
    assert names == ["Region 3 (3)", "Region 2 (2)", "Region 1 (1)"]
    assert (
        str(areas.values["ours"].tolist()) == "[nan, 50.0, 50.0]" and counts.title == "nuclei per 64 px patch"
    )
    assert {
        "store": "real",
        "section": "s2",
        "z_um": 200.0,
        "measure": "area_um2",
        "mean": 40,
        "sd": None,
        "n": 9,
    } in (along.numbers)
    assert {"store": "ours", "region": "Region_2", "measure": "area_um2", "mean": 50, "sd": None, "n": 2} in (
        regions.numbers
    )
    assert "regions with most" not in regions.note


def test_nuclei_where_the_real_brain_has_none_are_drawn(drawn: dict[str, Any]) -> None:
    ours = store("ours", "generated", 1, 2)
    regions = {"Region_0": measures(5, 7)}
    ours = replace(ours, brain=replace(ours.brain, nuclei=replace(ours.brain.nuclei, regions=regions)))
    nuclei_curves([store("real", "real", 1, 2), ours], 64)
    assert drawn["region_dots"][0] == ["Region 1 (1)", "Region 0 (0)"]


def test_what_cannot_be_compared_is_not_drawn() -> None:
    assert nuclei_curves([store("real", "real", 1, 0), store("ours", "generated", 1, 0)], 64) == []
    many = [store("real", "real", 1, REGIONS_DRAWN + 5), store("ours", "generated", 1, REGIONS_DRAWN + 5)]
    (chart,) = nuclei_curves(many, 64)
    assert f"The {REGIONS_DRAWN} regions with most nuclei." in chart.note
    assert len(chart.numbers) == 2 * (REGIONS_DRAWN + 5) * 2
