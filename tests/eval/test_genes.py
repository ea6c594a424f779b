"""Statistics of genes beside numpy over all bins at once; their tables and heatmaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, open_brain
from teramind_eval.genes.scores import GeneScores, brain_scores, gene_scores, write_genes
from teramind_eval.genes.statistics import GeneMoments, GeneStatistics, gene_statistics
from teramind_eval.part import Part
from teramind_eval.report.gene_charts import gene_charts, write_full_heatmaps
from teramind_eval.report.heatmaps import Heat, full_heatmap
from tests.eval.drawn import CANVAS, PANEL, draw_section, write_generated, write_real


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Part:
    path = write_real(
        tmp_path_factory.mktemp("genes") / "C.zarr", [draw_section(s) for s in (11, 12)], regions=True
    )
    return Part(open_brain(str(path)))


@pytest.fixture(scope="module")
def found(real: Part) -> GeneStatistics:
    statistics = gene_statistics(real)
    assert statistics is not None
    return statistics


def check(lines: list[GeneScores], counts: np.ndarray) -> None:
    """Lines of all genes against their counts `(genes, bins)`."""
    levels = np.log2(counts.astype(np.float64) + 1)
    assert [one.gene for one in lines] == list(PANEL)
    for one, mine, level in zip(lines, counts, levels, strict=True):
        assert (one.n, one.transcripts, one.bins) == (mine.size, mine.sum(), (mine > 0).sum())
        assert one.mean == pytest.approx(level.mean(), rel=1e-12)
        assert one.sd == pytest.approx(level.std(ddof=1), rel=1e-12)


def test_statistics_are_those_of_all_bins_at_once(real: Part, found: GeneStatistics) -> None:
    counts, tissue = np.asarray(real.brain.expression), np.asarray(real.brain.tissue) > 0
    regions = np.asarray(real.brain.regions)
    lines = list(gene_scores(found))
    assert counts[:, tissue].max() > 3
    check([one for one in lines if one.section is None and one.region is None], counts[:, tissue])
    for z in range(2):
        check([one for one in lines if one.section == z], counts[:, z][:, tissue[z]])
    for label, name in ((1, "left"), (2, "right")):
        check([one for one in lines if one.region == name], counts[:, tissue & (regions == label)])
    # The last row of bins is unannotated, and no tissue.
    assert found.region_names == ("left", "right")
    assert list(brain_scores(found)) == lines[: len(PANEL)]


def test_blocks_do_not_matter(real: Part, found: GeneStatistics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_eval.genes.statistics._BLOCK_BINS", 5)
    again = gene_statistics(real)
    assert again is not None
    for one, other in zip(gene_scores(found), gene_scores(again), strict=True):
        assert (one.n, one.transcripts, one.bins) == (other.n, other.transcripts, other.bins)
        assert one.mean == pytest.approx(other.mean, rel=1e-12)
        assert one.sd == pytest.approx(other.sd, rel=1e-12)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({1: "cortex", 2: "cortex", 7: "fibre"}, {"cortex": (1, 2)}),
        ({2: "right"}, {"region 1": (1,), "right": (2,)}),
    ],
)
def test_a_region_is_what_has_its_name(
    real: Part, monkeypatch: pytest.MonkeyPatch, names: dict[int, str], expected: dict[str, tuple[int, ...]]
) -> None:
    monkeypatch.setattr("teramind_eval.genes.statistics._BLOCK_BINS", 5)
    monkeypatch.setattr(Brain, "region_names", names)
    statistics = gene_statistics(real)
    assert statistics is not None
    assert statistics.region_names == tuple(expected)
    counts, tissue = np.asarray(real.brain.expression), np.asarray(real.brain.tissue) > 0
    lines = list(gene_scores(statistics))
    for name, labels in expected.items():
        inside = tissue & np.isin(np.asarray(real.brain.regions), labels)
        check([one for one in lines if one.region == name], counts[:, inside])


def test_of_a_part_of_the_canvas_only_its_bins_count(real: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_eval.genes.statistics._BLOCK_BINS", 5)
    inside = Box(3 * BIN_PX, CANVAS[0] - BIN_PX, 5 * BIN_PX + 1, 9 * BIN_PX)
    part = gene_statistics(real.within(inside))
    assert part is not None
    here = np.s_[..., 3 : CANVAS[0] // BIN_PX - 1, 5:9]
    counts, tissue = (
        np.asarray(array)[here] for array in (real.brain.expression[:], real.brain.tissue[:] > 0)
    )
    check(list(brain_scores(part)), counts[:, tissue])


def test_without_masks_tiles_with_molecules_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teramind_eval.genes.statistics._TILE_BINS", 3)
    drawn = draw_section(11)
    y, x, gene = (values[(drawn.molecules[0] < 100)] for values in drawn.molecules)
    path = write_real(tmp_path / "C.zarr", [type(drawn)(drawn.image, drawn.truth, (y, x, gene))] * 2)
    statistics = gene_statistics(Part(open_brain(str(path)), (0,)))
    assert statistics is not None
    assert statistics.region_names == ()
    counts = np.asarray(open_brain(str(path)).expression)[:, 0]
    inside = np.zeros(counts.shape[1:], dtype=bool)
    for top in range(0, CANVAS[0] // BIN_PX, 3):
        for left in range(0, CANVAS[1] // BIN_PX, 3):
            cut = slice(top, top + 3), slice(left, left + 3)
            inside[cut] = counts[(slice(None), *cut)].any()
    assert 0 < inside.sum() < inside.size
    check(list(brain_scores(statistics)), counts[:, inside])


def test_without_masks_a_part_has_the_tissue_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw_section(11)
    # A molecule in a corner of some tiles of 5 bins, and outside the part of most.
    y, x = (np.array(values) * BIN_PX for values in ([4, 6, 14, 9], [4, 12, 2, 9]))
    molecules = y, x, np.array([0, 1, 2, 1])
    path = write_real(tmp_path / "C.zarr", [type(drawn)(drawn.image, drawn.truth, molecules)] * 2)
    monkeypatch.setattr("teramind_eval.genes.statistics._TILE_BINS", 5)
    counts = np.asarray(open_brain(str(path)).expression)[:, 0]
    tissue = np.zeros(counts.shape[1:], dtype=bool)
    for top in range(0, CANVAS[0] // BIN_PX, 5):
        for left in range(0, CANVAS[1] // BIN_PX, 5):
            cut = slice(top, top + 5), slice(left, left + 5)
            tissue[cut] = counts[(slice(None), *cut)].any()
    here = np.s_[2:13, 3:12]
    assert 0 < tissue[here].sum() < tissue[here].size
    part = Part(open_brain(str(path)), (0,)).within(Box(*(edge * BIN_PX for edge in (2, 13, 3, 12))))
    for block in (256, 4):
        monkeypatch.setattr("teramind_eval.genes.statistics._BLOCK_BINS", block)
        statistics = gene_statistics(part)
        assert statistics is not None
        check(list(brain_scores(statistics)), counts[:, *here][:, tissue[here]])


def test_empty_groups_and_one_bin() -> None:
    moments = GeneMoments.of(np.array([[[3, 0]]]), np.array([[1, -1]]), 3)
    assert moments.n.tolist() == [0, 1, 0]
    assert moments.mean[1] == pytest.approx([2])
    assert np.isnan(moments.sd).all()
    merged = moments.merge(GeneMoments.of(np.array([[[1, 7]]]), np.array([[1, 0]]), 3))
    assert merged.mean[:, 0] == pytest.approx([3, 1.5, 0])
    assert merged.sd[1, 0] == pytest.approx(np.std([2, 1], ddof=1))


def test_a_store_without_expression_has_none(tmp_path: Path) -> None:
    path = write_generated(tmp_path / "G.zarr", [draw_section(11).image] * 2)
    assert gene_statistics(Part(open_brain(str(path)))) is None


def test_table_and_pictures(real: Part, found: GeneStatistics, tmp_path: Path) -> None:
    import pandas as pd

    write_genes(tmp_path, found)
    table = pd.read_parquet(tmp_path / "genes.parquet")
    assert len(table) == len(PANEL) * (1 + 2 + 2)
    brain = table[table["section"].isna() & table["region"].isna()].set_index("gene")
    assert brain["mean"].tolist() == found.brain.mean[0].tolist()
    write_full_heatmaps(tmp_path, real, found)
    names = sorted(path.name for path in (tmp_path / "gene_heatmaps").iterdir())
    assert names == ["regions_mean.png", "regions_sd.png", "sections_mean.png", "sections_sd.png"]
    charts = gene_charts(real, found)
    assert [one.name for one in charts] == ["genes_by_section", "genes_by_region", "genes_mean_sd"]
    assert all(one.plot.light.startswith(b"\x89PNG") for one in charts)
    cells = {(row["gene"], row["section"]): row for row in charts[0].numbers}
    assert len(cells) == len(PANEL) * 2
    assert cells["Th", "s1"]["mean"] == found.sections.mean[1, PANEL.genes.index("Th")]


def test_top_genes_are_the_most_expressed(found: GeneStatistics) -> None:
    order = found.top(2)
    means = found.brain.mean[0]
    assert len(order) == 2
    assert means[order[0]] == means.max()
    assert means[order[0]] >= means[order[1]]


@pytest.mark.parametrize(("genes", "parts"), [(5, 1), (130, 2)])
def test_full_heatmaps_have_a_row_a_gene(monkeypatch: pytest.MonkeyPatch, genes: int, parts: int) -> None:
    import matplotlib.axes

    drawn: list[tuple[Any, ...]] = []
    show = matplotlib.axes.Axes.imshow

    def noted(self: Any, values: np.ndarray, **options: Any) -> Any:
        drawn.append(values.shape)
        return show(self, values, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "imshow", noted)
    heat = Heat("mean", np.random.default_rng(0).uniform(size=(genes, 3)), "u", "viridis")
    full_heatmap([f"g{i}" for i in range(genes)], ["a", "b", "c"], heat, "section")
    assert len(drawn) == 2 * parts  # light and dark
    assert sum(rows for rows, _ in drawn) == 2 * genes
