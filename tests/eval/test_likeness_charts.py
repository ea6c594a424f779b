"""Charts by region and of feature distances: only where measured, and with all numbers beside them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from teramind_eval.report.likeness_charts import likeness_charts
from teramind_eval.report.tables import summary
from teramind_eval.results import (
    TOGETHER,
    DistributionScores,
    ImageScores,
    NucleiScores,
    Results,
    Role,
    Scores,
    SectionScores,
    Statistic,
    StoreResult,
)

NONE = Statistic(None, None, 0)


def image(psnr: float, n: int) -> ImageScores:
    return ImageScores(Statistic(psnr, 2.0, n), Statistic(psnr / 40, 0.1, n), NONE)


def store(label: str, role: Role, psnr: float, regions: int, far: float | None) -> StoreResult:
    nuclei = NucleiScores(0, NONE, NONE, NONE)
    found = (
        {} if far is None else {TOGETHER: DistributionScores(10 * far, far, Statistic(far / 9, 0.1, 3), 40)}
    )
    scores = {} if role == "real" else {TOGETHER: image(psnr, 50)}
    sections = tuple(
        SectionScores(i, f"s{i}", 100.0 * i, Scores(scores, nuclei, distribution=found)) for i in range(3)
    )
    by_region = {f"region {r}": {TOGETHER: image(psnr - r / 4, 5 + r)} for r in range(regions)}
    return StoreResult(label, role, "C.zarr", Scores(scores, nuclei, by_region, found), sections)


def test_regions_and_distances_are_drawn_where_measured() -> None:
    stores = [store("real", "real", 0, 0, None), store("ours", "generated", 30, 40, 4.0)]
    stores.append(store("shuffled", "control", 20, 40, 9.0))
    regions, far = likeness_charts(stores)
    assert len(regions.numbers) == 2 * 40 * 3
    assert "30 regions" in regions.note
    assert {row["sfid"] for row in far.numbers} == {4.0, 9.0}
    for chart in (regions, far):
        pictures = [
            np.asarray(Image.open(io.BytesIO(png)).convert("L"))
            for png in (chart.plot.light, chart.plot.dark)
        ]
        assert pictures[0].mean() > 200 > 80 > pictures[1].mean()
    assert likeness_charts([store("real", "real", 0, 0, None), store("ours", "generated", 30, 0, None)]) == []


@pytest.mark.parametrize("stains", [("DAPI",), ("DAPI", "PolyT", "PolyA", "Other")])
def test_stains_of_which_there_is_no_picture_together_are_shown_singly(stains: tuple[str, ...]) -> None:
    def singly(scores: Scores, start: float) -> Scores:
        found = {s: DistributionScores(10 * (start + i), start + i, NONE, 40) for i, s in enumerate(stains)}
        return replace(scores, distribution=found)

    stores = []
    for one, start in (
        (store("ours", "generated", 30, 0, None), 1.0),
        (store("c", "control", 9, 0, None), 5.0),
    ):
        sections = tuple(replace(s, scores=singly(s.scores, start)) for s in one.sections)
        stores.append(replace(one, brain=singly(one.brain, start), sections=sections))
    everything = (store("real", "real", 0, 0, None), *stores)
    rows = {row.title: row for row in summary(Results({}, {}, (), everything), stains, 64)}
    for index, stain in enumerate(stains):
        assert [cell.text for cell in rows[f"sFID, {stain}"].cells] == [
            "–",
            f"{1 + index:.2f}",
            f"{5 + index:.2f}",
        ]
        assert rows[f"FID, {stain}"].cells[1].mark == "better"
    assert not {"FID", "sFID", "KID"} & set(rows)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teramind_eval.report.likeness_charts.draw", lambda size, paint: drawn.append(paint))
        (chart,) = likeness_charts(everything)
    assert "each stain alone" in chart.note
    figure = Figure()
    drawn[0](figure, "light")
    lines = [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines]
    assert lines == [
        [k * (start + i)] * 3 for i in range(len(stains)) for k in (1, 10) for start in (1.0, 5.0)
    ]


def test_the_summary_leaves_out_what_no_store_has() -> None:
    stores = (
        store("real", "real", 0, 0, None),
        store("ours", "generated", 30, 0, 4.0),
        store("c", "control", 9, 0, 9.0),
    )
    rows = {row.title: row for row in summary(Results({}, {}, (), stores), ("DAPI",), 64)}
    assert "MS-SSIM" not in rows
    assert [cell.text for cell in rows["sFID"].cells] == ["–", "4.00", "9.00"]
    assert rows["FID"].cells[1].mark == "better"
    bare = tuple(store(one.label, one.role, 30, 0, None) for one in stores)
    assert "FID" not in {row.title for row in summary(Results({}, {}, (), bare), ("DAPI",), 64)}
