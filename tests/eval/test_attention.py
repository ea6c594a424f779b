"""Attention of several stores against the expression of a drawn brain, beside loops over its blocks."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import InputError, MissingInputError
from teramind_data.store import open_brain
from teramind_eval.attention.maps import map_sets
from teramind_eval.attention.scores import UNIFORM
from teramind_eval.attention.study import Study, study_attention
from teramind_eval.config import report_config
from teramind_eval.pairs import Compared
from teramind_eval.part import Part
from teramind_eval.report.build import write_report
from tests.eval.conftest import small_pictures
from tests.eval.drawn import (
    PANEL,
    Drawn,
    add_attention,
    draw_section,
    imitation,
    write_generated,
    write_real,
)

EDGE = 2  # bins of a block
GENES = ("Slc17a7", "Th")


@dataclass(frozen=True)
class Maps:
    """Paths of a brain with regions, a generated one with maps, and one of maps alone."""

    real: Path
    run: Path
    blank: Path
    drawn: list[Drawn]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Maps:
    root = tmp_path_factory.mktemp("maps")
    drawn = [draw_section(seed) for seed in (11, 12)]
    real = write_real(root / "C.zarr", drawn, regions=True)
    run = write_generated(root / "G.zarr", [imitation(one.image, 4, 0) for one in drawn])
    empty = [np.zeros_like(one.image) for one in drawn]
    blank = write_generated(root / "U.zarr", empty, provenance={"made_by": "teramind-model attention"})
    for path, seed in ((run, 5), (blank, 6)):
        add_attention(path, drawn, name="PAIR", genes=GENES, seed=seed, noise=0.4)
    add_attention(run, drawn)
    return Maps(real, run, blank, drawn)


def opened(maps: Maps, sections: tuple[int, ...] = (0, 1)) -> list[Compared]:
    return [
        Compared(label, role, Part(open_brain(str(path)), sections))
        for label, role, path in (
            ("real", "real", maps.real),
            ("run", "generated", maps.run),
            ("blank", "control", maps.blank),
        )
    ]


def rows_by_loop(maps: Maps, channel: int, genes: tuple[str, ...] = GENES) -> list[dict[str, Any]]:
    """One a block that has a count: section, region, counts, levels of both stores."""
    out = []
    run, blank = (open_brain(str(path)) for path in (maps.run, maps.blank))
    regions = np.asarray(open_brain(str(maps.real)).regions)
    codes = PANEL.positions(genes).tolist()
    for z, one in enumerate(maps.drawn):
        levels = [
            2.0 ** np.asarray(b.read("attention_PAIR", z), np.float64)[channel] - 1 for b in (run, blank)
        ]
        for i in range(16 // EDGE):
            for j in range(16 // EDGE):
                px = 16 * EDGE
                y, x, gene = one.molecules
                here = (y // px == i) & (x // px == j)
                counts = [int((here & (gene == code)).sum()) for code in codes]
                cut = (slice(i * EDGE, i * EDGE + EDGE), slice(j * EDGE, j * EDGE + EDGE))
                label = regions[z][cut].ravel().tolist()
                if sum(counts):
                    out.append(
                        {
                            "section": z,
                            "region": min(set(label), key=lambda v: (-label.count(v), v)),
                            "counts": counts,
                            "levels": [float(level[cut].sum()) for level in levels],
                        }
                    )
    return out


@pytest.fixture(scope="module")
def study(maps: Maps) -> Study:
    return study_attention(opened(maps), EDGE, 0)


def test_trends_are_those_of_a_loop(maps: Maps, study: Study) -> None:
    from scipy.stats import linregress, spearmanr

    rows = rows_by_loop(maps, 2)
    places: list[tuple[dict[str, Any], Any]] = [({}, lambda row: True)]
    places += [({"section": z}, lambda row, z=z: row["section"] == z) for z in (0, 1)]
    places += [
        ({"region": name}, lambda row, label=label: row["region"] == label)
        for label, name in ((0, "unannotated"), (1, "left"), (2, "right"))
    ]
    seen = 0
    for place, inside in places:
        mine = [row for row in rows if inside(row)]
        for of, x in (
            ("together", [math.log2(sum(row["counts"]) + 1) for row in mine]),
            ("Th", [math.log2(row["counts"][1] + 1) for row in mine]),
        ):
            for store, y in (
                ("run", [math.log2(row["levels"][0] + 1) for row in mine]),
                ("blank", [math.log2(row["levels"][1] + 1) for row in mine]),
                (UNIFORM, [math.log2(2 * sum(row["counts"]) + 1) for row in mine]),
            ):
                found = score(study.scores.trends, store, expression=of, **place)
                assert found.n == found.spearman_n == len(mine)
                if len(mine) < 3:
                    assert found.slope is None
                    continue
                line = linregress(x, y)
                assert found.slope == pytest.approx(line.slope)
                assert found.intercept == pytest.approx(line.intercept)
                assert found.correlation == pytest.approx(line.rvalue)
                assert found.spearman == pytest.approx(spearmanr(x, y).statistic)
                assert found.mean_expression == pytest.approx(np.mean(x))
                seen += 1
    assert seen >= 30


def score(scores: Any, store: str, channel: str = "window", **wanted: Any) -> Any:
    """The one line of the pair's map."""
    wanted = {"section": None, "region": None, **wanted, "map": "attention_PAIR", "store": store}
    wanted["channel"] = "any" if store == UNIFORM else channel
    found = [one for one in scores if all(getattr(one, key) == value for key, value in wanted.items())]
    assert len(found) == 1, wanted
    return found[0]


def test_what_is_beyond_the_controls_is_that_of_a_loop(maps: Maps, study: Study) -> None:
    rows = rows_by_loop(maps, 0)
    total = np.array([sum(row["counts"]) for row in rows])
    run, blank = (np.log2(np.array([row["levels"][k] for row in rows]) / (2 * total)) for k in (0, 1))
    against_uniform = score(study.scores.beyond, "run", "previous-current", control=UNIFORM)
    assert against_uniform.mean == pytest.approx(run.mean())
    assert against_uniform.sd == against_uniform.left_sd == pytest.approx(run.std(ddof=1))
    assert against_uniform.correlation == pytest.approx(np.corrcoef(run, np.log2(total + 1))[0, 1])
    # Drawn with half the uniform attention, whatever the noise.
    assert against_uniform.mean == pytest.approx(-1, abs=0.3)
    beside = score(study.scores.beyond, "run", "previous-current", control="blank")
    assert beside.mean == pytest.approx((run - blank).mean())
    assert beside.sd == pytest.approx((run - blank).std(ddof=1))
    assert beside.shared == pytest.approx(np.corrcoef(run, blank)[0, 1])
    fitted = np.polyval(np.polyfit(blank, run, 1), blank)
    assert beside.left_sd == pytest.approx((run - fitted).std(ddof=1))


def test_agreement_is_the_rank_correlation_of_both_maps(maps: Maps, study: Study) -> None:
    from scipy.stats import spearmanr

    rows = [row for row in rows_by_loop(maps, 2) if row["region"] == 2]
    uniform = np.array([2 * sum(row["counts"]) for row in rows])
    both = np.array([row["levels"] for row in rows])
    found = [one for one in study.scores.agreement if one.region == "right" and one.channel == "window"]
    assert len(found) == 1
    assert (found[0].first, found[0].second, found[0].n) == ("run", "blank", len(rows))
    assert found[0].spearman == pytest.approx(spearmanr(both).statistic)
    assert found[0].spearman_beyond == pytest.approx(spearmanr(both / uniform[:, None]).statistic)
    # The maps agree by construction, the noise in them does not.
    assert found[0].spearman is not None and found[0].spearman_beyond is not None
    assert found[0].spearman > 0.6 > 3 * abs(found[0].spearman_beyond)


def test_labels_of_one_name_are_one_region(maps: Maps, study: Study) -> None:
    def named(name: str) -> Study:
        stores = opened(maps)
        stores[0].brain.brain.region_names.update({1: name, 2: name})
        return study_attention(stores, EDGE, 0)

    whole = [row for row in rows_by_loop(maps, 2) if row["region"]]
    both = named("CTX")
    line = score(both.scores.trends, "run", expression="together", region="CTX")
    left, right = (
        score(study.scores.trends, "run", expression="together", region=name) for name in ("left", "right")
    )
    assert min(left.n, right.n) > 0
    assert line.n == len(whole) == left.n + right.n
    assert score(both.scores.beyond, "run", control=UNIFORM, region="CTX").n == len(whole)
    assert set(both.relations[0].regions) <= {0, 1}
    # A region may be called as what has none is.
    assert score(
        named("unannotated").scores.trends, "run", expression="together", region="unannotated"
    ).n == len(rows_by_loop(maps, 2))


def test_bands_and_order_do_not_matter(maps: Maps, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_eval.attention.relations._BAND_BINS", 6)
    again = study_attention(opened(maps), EDGE, 0)
    for one, other in zip(study.scores.trends, again.scores.trends, strict=True):
        assert one.n == other.n
        assert one.spearman == other.spearman
        assert one.slope == pytest.approx(other.slope)
    for mine, theirs in zip(study.relations, again.relations, strict=True):
        assert np.array_equal(mine.levels, theirs.levels)
        assert mine.octaves.sum() == mine.brain.scatter.n * mine.octaves.shape[0]


def test_a_section_alone_is_sampled_as_in_the_brain(maps: Maps, study: Study) -> None:
    alone = study_attention(opened(maps, (1,)), EDGE, 0)
    for mine, theirs in zip(study.relations, alone.relations, strict=True):
        assert np.array_equal(mine.sections[1].sample.keys, theirs.sections[0].sample.keys)


def test_only_the_mapped_part_counts(maps: Maps, tmp_path: Path) -> None:
    part = write_generated(tmp_path / "part.zarr", [one.image for one in maps.drawn])
    add_attention(
        part,
        maps.drawn,
        name="PAIR",
        genes=GENES,
        seed=5,
        noise=0.4,
        region=[16, 256, 0, 128],
        sections=[1, 2],
    )
    real = opened(maps)[0]
    found = study_attention([real, Compared("part", "generated", Part(open_brain(str(part))))], EDGE, 0)
    (one,) = found.relations
    assert list(one.sections) == [1]
    rows = [row for row in rows_by_loop(maps, 2) if row["section"] == 1]
    y, x, gene = maps.drawn[1].molecules
    inside = (y >= 32) & (x < 128) & np.isin(gene, PANEL.positions(GENES))
    blocks = set(zip((y[inside] // 32).tolist(), (x[inside] // 32).tolist(), strict=True))
    assert one.brain.scatter.n == len(blocks) < len(rows)


def test_blocks_without_attention_are_left_out_and_told(maps: Maps, tmp_path: Path) -> None:
    hollow = write_generated(tmp_path / "hollow.zarr", [one.image for one in maps.drawn])
    add_attention(
        hollow, [maps.drawn[0], Drawn(maps.drawn[1].image, maps.drawn[1].truth, _none())], genes=GENES
    )
    real = opened(maps)[0]
    found = study_attention([real, Compared("hollow", "generated", Part(open_brain(str(hollow))))], EDGE, 0)
    assert list(found.relations[0].sections) == [0]
    assert any("blocks express its genes but have no attention" in one for one in found.warnings)


def _none() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)


def test_maps_of_other_genes_are_kept_apart_and_told(maps: Maps, tmp_path: Path) -> None:
    other = write_generated(tmp_path / "other.zarr", [one.image for one in maps.drawn])
    add_attention(other, maps.drawn, name="PAIR", genes=("Gad1", "Th"))
    stores = [*opened(maps), Compared("other", "control", Part(open_brain(str(other))))]
    sets = map_sets(stores[1:])
    labels = [[source.label for source in one.sources] for one in sets]
    assert sorted(labels) == [["other"], ["run"], ["run", "blank"]]
    found = study_attention(stores, EDGE, 0)
    assert any("attention_PAIR is not the same in all stores" in one for one in found.warnings)


@pytest.fixture(scope="module")
def report(maps: Maps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attention") / "report"
    config = report_config(
        real=str(maps.real),
        generated=str(maps.run),
        controls={"untrained": str(maps.blank)},
        out=str(out),
    )
    with small_pictures():
        write_report(config)
    return out


def test_maps_alone_are_a_control_of_attention_only(report: Path) -> None:
    found = json.loads((report / "metrics.json").read_text())
    assert [one["label"] for one in found["stores"]] == ["real", "generated"]
    assert {one["control"] for one in found["beyond"]} == {"uniform", "untrained", "generated"}
    assert {one["region"] for one in found["trends"]} == {None, "left", "right", "unannotated"}
    page = (report / "report.html").read_text()
    assert "SD that untrained does not tell" in page
    assert "attention maps alone" in page
    figures = {path.name for path in (report / "figures").iterdir()}
    assert {
        f"attention_PAIR_generated_untrained_{kind}.png"
        for kind in ("maps", "trend", "genes", "beyond", "regions", "agreement", "sections")
    } <= figures
    assert "attention_GLUT_generated_genes.png" not in figures
    assert {
        name.replace(".png", ".parquet")
        for name in figures
        if name.startswith("attention") and "dark" not in name and name.endswith(".png")
    } <= figures


def test_tables_hold_the_numbers_and_the_cells(report: Path) -> None:
    import pandas as pd

    found = json.loads((report / "metrics.json").read_text())
    trends = pd.read_parquet(report / "attention_trends.parquet")
    line = next(one for one in found["trends"] if one["map"] == "attention_PAIR" and one["region"] == "left")
    same = trends[
        (trends["map"] == line["map"])
        & (trends["store"] == line["store"])
        & (trends["channel"] == line["channel"])
        & (trends["region"] == "left")
        & (trends["expression"] == "together")
    ]
    assert same["slope"].tolist() == [line["slope"]]
    assert same["genes"].tolist() == ["Slc17a7, Th"]
    cells = pd.read_parquet(report / "attention_density.parquet")
    whole = next(one for one in found["trends"] if one["map"] == "attention_PAIR" and one["section"] is None)
    sums = (
        cells[cells["map"] == "attention_PAIR"]
        .groupby(["store", "channel", "expression", "of"])["blocks"]
        .sum()
    )
    assert set(sums) == {whole["n"]}
    drawn = pd.read_parquet(report / "figures" / "attention_PAIR_generated_untrained_beyond.parquet")
    assert drawn.groupby("panel")["blocks"].sum().tolist() == [whole["n"]] * 2
    assert len(pd.read_parquet(report / "attention_beyond.parquet")) > len(found["beyond"])
    assert len(pd.read_parquet(report / "attention_agreement.parquet")) > len(found["agreement"])


def test_maps_alone_are_no_generated_brain(maps: Maps, tmp_path: Path) -> None:
    config = report_config(real=str(maps.real), generated=str(maps.blank), out=str(tmp_path / "out"))
    with pytest.raises(InputError, match=r"attention maps only.*U\.zarr.*--control NAME=STORE"):
        write_report(config)
    assert not (tmp_path / "out").exists()


def test_maps_alone_of_another_atlas_are_warned_about_and_an_untrained_network_s_are_not(maps: Maps) -> None:
    from teramind_eval.report.build import _warnings

    real, run, blank = opened(maps)
    provenance = {"made_by": "teramind-model attention", "checkpoint": {"sha256": "1" * 64}}
    for fingerprint, expected in ((real.brain.brain.spec.fingerprint, 0), ("3" * 64, 1)):
        blank.brain.provenance = {**provenance, "atlas": {"url": "D.zarr", "fingerprint": fingerprint}}
        run.brain.provenance = {"checkpoint": {"sha256": "0" * 64}}
        found = _warnings((real, run), (blank,))
        assert len(found) == expected
        assert all("blank was made from another store (D.zarr)" in one for one in found)
    blank.brain.complete = False
    assert any("U.zarr) is incomplete" in one for one in _warnings((real, run), (blank,)))


def test_brains_of_other_canvases_agree_by_region(tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    from teramind_eval.attention.agreement import brain_agreement

    def written(name: str, brain: dict[str, tuple[float, float, int]]) -> Path:
        """A report's tables; by region mean level, octaves beyond uniform, blocks."""
        folder = tmp_path / name
        folder.mkdir()
        head = {"map": "attention_GLUT", "store": name, "channel": "window"}
        trend = {**head, "expression": "together", "slope": 2.0, "mean_expression": 1.5}
        rows = [
            {**trend, "region": region, "intercept": level - 3.0, "n": n}
            for region, (level, _, n) in brain.items()
        ]
        left = [
            {**head, "control": control, "region": region, "mean": octaves if control == "uniform" else 9.0}
            for region, (_, octaves, _) in brain.items()
            for control in ("uniform", "blank")
        ]
        for rows_of, table in ((rows, "attention_trends"), (left, "attention_beyond")):
            pd.DataFrame(rows_of).to_parquet(folder / f"{table}.parquet")
        return folder

    import pandas as pd

    a = {"p": (3.0, 0.1, 9), "q": (5.0, 0.3, 9), "r": (4.0, 0.2, 9), "s": (6.0, 0.0, 9), "few": (1.0, 9.0, 2)}
    b = {"p": (2.0, 0.5, 9), "q": (3.0, 0.9, 9), "r": (5.0, 0.1, 9), "s": (7.0, 0.2, 9), "few": (1.0, 9.0, 9)}
    extra = {"unannotated": (0.0, 0.0, 9), "only here": (1.0, 1.0, 9)}
    first, second = written("a", {**a, **extra}), written("b", {**b, "unannotated": (9.0, 9.0, 9)})
    (found,) = brain_agreement(first, second, ("a", "b"))
    shared = ["p", "q", "r", "s"]
    assert (found.map, found.channel, found.regions) == ("attention_GLUT", "window", 4)
    for i, value in ((0, found.spearman), (1, found.spearman_beyond)):
        expected = spearmanr([a[name][i] for name in shared], [b[name][i] for name in shared]).statistic
        assert value == pytest.approx(expected)
    with pytest.raises(InputError, match=r"no attention of that store.*found attention of b.*--stores A,B"):
        brain_agreement(first, second, ("a", "c"))
    with pytest.raises(MissingInputError, match="attention_trends"):
        brain_agreement(tmp_path, second, ("a", "b"))
    pd.read_parquet(second / "attention_beyond.parquet").drop(columns="mean").to_parquet(
        second / "attention_beyond.parquet"
    )
    with pytest.raises(InputError, match=r"lacks columns.*attention_beyond\.parquet.*found no mean"):
        brain_agreement(first, second, ("a", "b"))
    (first / "attention_trends.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        InputError, match=r"cannot be read.*a/attention_trends\.parquet.*Remove the report.s folder"
    ):
        brain_agreement(first, second, ("a", "b"))


def test_a_report_agrees_with_itself(report: Path) -> None:
    from teramind_eval.attention.agreement import brain_agreement

    # Two regions are too few for ranks; that is said, not invented.
    found = brain_agreement(report, report, ("generated", "generated"))
    assert {one.regions for one in found} == {2}
    assert {one.spearman_beyond for one in found} == {None}


def test_the_command_prints_and_writes_how_brains_agree(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    from teramind_data.console import run_cli
    from teramind_eval.attention.agreement import BrainAgreement, agreement_lines
    from teramind_eval.cli import app

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as stop:
            run_cli(app, ["agreement", str(report), str(report), *words])
        return int(stop.value.code or 0)

    out = tmp_path / "a.parquet"
    assert run("--out", str(out)) == 0
    lines = capsys.readouterr().out.splitlines()
    table = pd.read_parquet(out)
    assert [line.split()[:3] for line in lines[1:-1]] == table[["map", "channel", "regions"]].astype(
        str
    ).values.tolist()
    assert set(table["map"]) == {"attention_GLUT", "attention_PAIR"}
    assert lines[-1].startswith("–: fewer than three regions")
    assert run("--out", str(out)) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("--out", str(tmp_path / "a.csv")) == 2
    assert "expected NAME.parquet" in capsys.readouterr().err
    assert run("--stores", "generated") == 2
    assert "labels of stores are not A,B" in capsys.readouterr().err
    assert list(agreement_lines([BrainAgreement("m", "window", 4, 0.8, -0.25)])) == [
        "map       regions  attention  beyond uniform",
        "m window        4      0.800          -0.250",
    ]
