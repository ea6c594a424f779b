"""Whole attention jobs: several pathways at once, the matrix of all genes, parts of a brain, stops and starts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from teramind_data.errors import InputError, OutputExistsError, PanelError
from teramind_data.geometry import Box
from teramind_data.panel import Panel
from teramind_data.store import Brain, begin_addition, open_brain
from teramind_model.attention import AttentionConfig, AttentionResult, kernel, maps, target, write_attention
from teramind_model.attention import run as run_module
from teramind_model.attention.estimate import paper_patches, seconds_a_patch
from teramind_model.attention.kernel import Kernel
from teramind_model.attention.sums import MatrixSums, majority
from teramind_model.attention.units import CountsReader, PatchGrid, plan_units
from teramind_model.attention_matrix import gene_gene_attention, gene_gene_scores, gene_queries
from teramind_model.generate import Source
from teramind_model.network.config import NetworkConfig
from teramind_model.pathways import PATHWAYS, Pathway, pair
from tests.data.faults import Killed, failing_disk, tree
from tests.model.test_attention import maps_by_hand, matrix_by_hand
from tests.model.tiny import ATLAS_GENES, GENES, tiny_atlas, tiny_source

CANVAS = (80, 112)
UNITS = 8
"""Four shards of 64 px in two windows."""

TWO = (PATHWAYS["GLUT"], Pathway("MIX", ("Th", "Cldn5", "Slc17a6")))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=CANVAS)


@pytest.fixture(scope="module")
def source() -> Source:
    return tiny_source()


def config(atlas: Brain, folder: Path, **changes: Any) -> AttentionConfig:
    """Two pathways and the matrix, into a folder."""
    whole = AttentionConfig(atlas.url, "tiny", str(folder / "m.zarr"), TWO, str(folder / "m.parquet"))
    return replace(whole, **changes)


def quiet(wanted: AttentionConfig, source: Source) -> AttentionResult:
    return write_attention(wanted, source, say=lambda line: None)


@pytest.fixture(scope="module")
def whole(atlas: Brain, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    quiet(config(atlas, folder), source)
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """Bytes of all that a run leaves."""
    return {name: data for name, data in tree(folder).items() if not name.endswith((".png", ".tmp"))}


def image(folder: Path, name: str) -> np.ndarray:
    return np.asarray(open_brain(folder / "m.zarr").image(name)[:])


def test_pathways_in_one_pass_equal_the_formula_each(atlas: Brain, source: Source, whole: Path) -> None:
    for pathway in TWO:
        genes = [GENES.index(gene) for gene in pathway.genes]
        found = image(whole, pathway.image)
        for z in range(3):
            expected = np.log2(len(GENES) * maps_by_hand(source, atlas, z, genes) + 1)
            np.testing.assert_allclose(found[:, z], expected, rtol=2e-3, atol=1e-3)


def test_batches_equal_patch_by_patch_pair_by_pair(source: Source) -> None:
    """The fast path (rows of the union of genes, shared versions, batches) before rounding to float16."""
    counts = np.random.default_rng(3).poisson(1.0, (5, 4, len(GENES), 2, 2))
    pathways = [[0, 1], [2, 4, 0], [3]]
    fast = Kernel(source.model, [np.array(genes) for genes in pathways])  # type: ignore[arg-type]
    full = fast.run(torch.from_numpy(counts), (1, 2), full=True)
    rows = fast.run(torch.from_numpy(counts), (1, 2))
    assert full.attention is not None and full.scores is not None
    for patch in range(5):
        np.testing.assert_allclose(
            full.attention[patch], matrix_by_hand(source.model, counts[patch]), atol=1e-6
        )
        for number, slot in enumerate((1, 2)):
            for version, kept in enumerate(((slot - 1, slot), (slot, slot + 1), range(4))):
                fed = np.zeros_like(counts[patch])
                fed[list(kept)] = counts[patch, list(kept)]
                matrix = matrix_by_hand(source.model, fed)
                for which, genes in enumerate(pathways):
                    expected = sum(matrix[a, b] * counts[patch, slot, b] for a in genes for b in genes)
                    for result in (full, rows):
                        found = result.maps[number, which, version, patch]
                        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_scores_are_symmetric_and_their_softmax_is_the_attention(source: Source) -> None:
    counts = torch.from_numpy(np.random.default_rng(1).poisson(1.0, (3, 4, len(GENES), 2, 2)))
    scores = gene_gene_scores(gene_queries(source.model, counts))  # type: ignore[arg-type]
    torch.testing.assert_close(scores, scores.transpose(1, 2))
    attention = gene_gene_attention(source.model, counts)  # type: ignore[arg-type]
    torch.testing.assert_close(scores.softmax(-1), attention)


def test_half_precision_stays_near(atlas: Brain, source: Source, whole: Path, tmp_path: Path) -> None:
    quiet(config(atlas, tmp_path, precision="bfloat16", batch=3), source)
    for pathway in TWO:
        found, exact = image(tmp_path, pathway.image), image(whole, pathway.image)
        assert (found != exact).any()
        np.testing.assert_allclose(found, exact, rtol=0.02, atol=0.02)


def test_skipping_patches_without_molecules_changes_nothing(
    atlas: Brain, source: Source, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    real = Kernel.run

    def counting(self: Kernel, counts: torch.Tensor, *rest: Any, **options: Any) -> Any:
        computed[-1] += len(counts)
        return real(self, counts, *rest, **options)

    monkeypatch.setattr(Kernel, "run", counting)
    monkeypatch.setattr(run_module, "seconds_a_patch", lambda *rest, **options: 1.0)
    rare = Pathway("RARE", ("Th",))
    found = []
    for tissue_only in (True, False):
        computed.append(0)
        out = str(tmp_path / f"{tissue_only}.zarr")
        wanted = config(atlas, tmp_path, out=out, pathways=(*TWO, rare), matrix=None, tissue_only=tissue_only)
        brain = quiet(wanted, source).brain
        assert brain is not None
        found.append([np.asarray(brain.image(name)[:]) for name in brain.images[1:]])
    assert computed[0] < computed[1]
    for skipped, all_of_it in zip(*found, strict=True):
        np.testing.assert_allclose(skipped, all_of_it, rtol=1e-3)
        assert not all_of_it[:, :, :2, :2].any()
        assert all_of_it.any()


def means_by_hand(source: Source, atlas: Brain) -> pd.DataFrame:
    """The table, patch by patch and pair by pair, in float64."""
    c = source.model.config
    assert isinstance(c, NetworkConfig)
    assert atlas.regions is not None
    rows = [ATLAS_GENES.index(gene) for gene in GENES]
    counts = np.asarray(atlas.expression[:])[rows].astype(int)
    regions = np.asarray(atlas.regions[:]).astype(int)
    height, width = counts.shape[2:]
    counts = np.pad(counts, ((0, 0), (4, 4), (1, 3), (1, 3)))
    regions = np.pad(regions, ((0, 0), (1, 3), (1, 3)), constant_values=-1)
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for z in range(3):
        first = z // 2 * 2 - 1
        for y in range(0, height + 1, 2):
            for x in range(0, width + 1, 2):
                patch = counts[:, first + 4 : first + 8, y : y + 2, x : x + 2].swapaxes(0, 1)
                here = counts[:, z + 4, y : y + 2, x : x + 2].sum(axis=(1, 2))
                votes = [v for v in regions[z, y : y + 2, x : x + 2].ravel() if v >= 0]
                if not here.any():
                    continue
                region = {1: "left", 2: "right"}[min(set(votes), key=lambda v: (-votes.count(v), v))]
                matrix = matrix_by_hand(source.model, patch)
                for key in (("all", "all"), (region, "all"), ("all", f"s{z:02d}")):
                    found.setdefault(key, []).append((matrix, here))
    table = []
    for (region, section), patches in found.items():
        for i, a in enumerate(GENES):
            for j, b in enumerate(GENES):
                values = [matrix[i, j] for matrix, _ in patches]
                weights = [here[j] for _, here in patches]
                both = [matrix[i, j] for matrix, here in patches if here[i] and here[j]]
                # The score from the attention: logs up to a constant of the row, so it is checked elsewhere.
                table.append(
                    {
                        "gene_a": a,
                        "gene_b": b,
                        "region": region,
                        "section": section,
                        "attention": np.mean(values),
                        "attention_weighted": np.average(values, weights=weights),
                        "attention_both": np.mean(both),
                        "patches": len(patches),
                        "patches_both": len(both),
                    }
                )
    return pd.DataFrame(table)


def test_the_matrix_equals_plain_loops(atlas: Brain, source: Source, whole: Path) -> None:
    keys = ["region", "section", "gene_a", "gene_b"]
    found = pd.read_parquet(whole / "m.parquet").astype(dict.fromkeys(keys, str))
    expected = means_by_hand(source, atlas)
    assert len(found) == len(expected) == 6 * len(GENES) ** 2
    joined = found.merge(expected, on=keys, suffixes=("", "_slow"), validate="1:1")
    assert len(joined) == len(expected)
    for column in ("attention", "attention_weighted", "attention_both", "patches", "patches_both"):
        np.testing.assert_allclose(joined[column], joined[f"{column}_slow"], rtol=1e-6, atol=1e-6)
    sums = found.groupby(["region", "section", "gene_a"])["attention"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    brain = found[(found.region == "all") & (found.section == "all")]
    score = brain.pivot(index="gene_a", columns="gene_b", values="score").to_numpy()
    np.testing.assert_allclose(score, score.T, atol=1e-6)


def test_the_strongest_pairs_are_those_of_the_table(atlas: Brain, source: Source, tmp_path: Path) -> None:
    csv = tmp_path / "m.csv"
    result = quiet(config(atlas, tmp_path, out=None, pathways=None, matrix=str(csv)), source)
    assert result.brain is None and result.images == ()
    assert csv in result.files
    table = pd.read_csv(csv)
    brain = table[(table.region == "all") & (table.section == "all") & (table.gene_a != table.gene_b)]
    first = brain.sort_values("attention_both", ascending=False).iloc[0]
    strongest = result.pairs[0]
    assert (strongest.gene_a, strongest.gene_b) == (first.gene_a, first.gene_b)
    assert strongest.both == pytest.approx(len(GENES) * first.attention_both)
    assert strongest.patches == first.patches_both
    assert [p.both for p in result.pairs] == sorted((p.both for p in result.pairs), reverse=True)
    assert not (tmp_path / "m.zarr").exists()


def test_sums_merge_to_the_whole(atlas: Brain, source: Source, tmp_path: Path) -> None:
    kept: list[MatrixSums] = []

    def keep(self: target.MatrixTarget) -> None:
        kept.append(self.sums)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target.MatrixTarget, "close", keep)
        for number, sections in enumerate((None, (0, 1), (1, 3))):
            table = str(tmp_path / f"{number}.parquet")
            quiet(config(atlas, tmp_path, out=None, pathways=None, matrix=table, sections=sections), source)
    all_at_once, first, rest = kept
    first.merge(rest)
    assert first.whole().patches == all_at_once.whole().patches
    for mine, theirs in ((first.regions, all_at_once.regions), (first.sections, all_at_once.sections)):
        assert set(mine) == set(theirs)
        for key, sums in mine.items():
            np.testing.assert_allclose(sums.matrices, theirs[key].matrices, rtol=1e-6)
            np.testing.assert_array_equal(sums.molecules, theirs[key].molecules)


def test_a_part_is_the_crop_of_the_whole(atlas: Brain, source: Source, whole: Path, tmp_path: Path) -> None:
    quiet(config(atlas, tmp_path, roi=Box(20, 80, 40, 90), sections=(1, 2)), source)
    for pathway in TWO:
        found, expected = image(tmp_path, pathway.image), image(whole, pathway.image)
        inside = (slice(None), 1, slice(1, 5), slice(2, 6))
        np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-3)
        assert expected[inside].any()
        found[inside] = 0
        assert not found.any()
    attrs = open_brain(tmp_path / "m.zarr").image_attrs("attention_GLUT")
    assert (attrs["region"], attrs["sections"]) == ([16, 80, 32, 96], [1, 2])
    with pytest.raises(OutputExistsError, match="another region"):
        quiet(config(atlas, tmp_path, sections=(1, 2)), source)


@pytest.mark.parametrize("at", [1, UNITS - 2])
def test_stopped_it_goes_on_and_repeats_at_most_a_block(
    atlas: Brain, source: Source, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    done: list[int] = []
    real = maps.unit_maps

    def counting(fail: bool) -> Callable[..., Any]:
        def unit_maps(kernel: Any, unit: Any, *rest: Any, **options: Any) -> Any:
            if fail and len(done) == at:
                raise Killed
            done.append(unit.number)
            return real(kernel, unit, *rest, **options)

        return unit_maps

    monkeypatch.setattr(run_module, "unit_maps", counting(fail=True))
    with pytest.raises(Killed):
        quiet(config(atlas, tmp_path), source)
    assert open_brain(tmp_path / "m.zarr").images == ("morphology",)
    assert not (tmp_path / "m.parquet").exists()
    monkeypatch.setattr(run_module, "unit_maps", counting(fail=False))
    lines: list[str] = []
    write_attention(config(atlas, tmp_path), source, say=lines.append)
    # The sums are kept whenever that is cheap: not necessarily after every block.
    assert done[at] <= at
    assert done[at:] == list(range(done[at], UNITS))
    assert outputs(tmp_path) == outputs(whole)


def test_maps_alone_repeat_no_finished_block(
    atlas: Brain, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    real = run_module.unit_maps

    def stopping(kernel: Any, unit: Any, *rest: Any, **options: Any) -> Any:
        if len(done) == 3:
            done.append(-1)
            raise Killed
        done.append(unit.number)
        return real(kernel, unit, *rest, **options)

    monkeypatch.setattr(run_module, "unit_maps", stopping)
    wanted = config(atlas, tmp_path, matrix=None)
    with pytest.raises(Killed):
        quiet(wanted, source)
    quiet(wanted, source)
    assert done == [0, 1, 2, -1, *range(3, UNITS)]


def test_a_disk_that_dies_anywhere(atlas: Brain, source: Source, whole: Path, tmp_path: Path) -> None:
    url = tmp_path / "m.zarr"
    wanted = config(atlas, tmp_path, matrix=None)
    with failing_disk(url) as disk:
        quiet(wanted, source)
    expected = tree(whole / "m.zarr")
    assert tree(url) == expected
    for at in np.linspace(1, disk.done - 1, 5).astype(int).tolist():
        shutil.rmtree(url)
        with pytest.raises(Killed), failing_disk(url, at, torn=at % 2 == 1):
            quiet(wanted, source)
        if url.exists() and (url / "zarr.json").exists():
            quiet(wanted, source)
            found = {name: data for name, data in tree(url).items() if not name.endswith(".tmp")}
            assert found == expected, at


def test_killed_by_the_system_it_ends_with_the_same_bytes(
    atlas: Brain, source: Source, whole: Path, tmp_path: Path
) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from teramind_data.store import Addition, open_brain
        from tests.model.test_attention_job import config, quiet
        from tests.model.tiny import tiny_source

        written, real = [], Addition.write
        def write(self, *block):
            real(self, *block)
            written.append(block)
            if len(written) == 9:
                os.kill(os.getpid(), signal.SIGKILL)
        Addition.write = write
        quiet(config(open_brain({atlas.url!r}), Path({str(tmp_path)!r})), tiny_source())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert open_brain(tmp_path / "m.zarr").images == ("morphology",)
    quiet(config(atlas, tmp_path), source)
    assert outputs(tmp_path) == outputs(whole)
    assert not (tmp_path / "m.zarr" / ".journal").exists()


def test_two_runs_refuse_each_other(atlas: Brain, source: Source, whole: Path, tmp_path: Path) -> None:
    wanted = config(atlas, tmp_path)
    quiet(replace(wanted, matrix=None), source)
    with (
        begin_addition(wanted.out or "", []),
        pytest.raises(OutputExistsError, match="another run is adding"),
    ):
        quiet(replace(wanted, pathways=(PATHWAYS["DOPA"],), matrix=None), source)
    request = json.loads((whole / "m.parquet.json").read_text())["request"]
    with (
        target.MatrixTarget(str(wanted.matrix), request, len(GENES)).begun(),
        pytest.raises(OutputExistsError, match="another run is summing"),
    ):
        quiet(wanted, source)


def test_a_table_that_is_there(atlas: Brain, source: Source, tmp_path: Path) -> None:
    wanted = config(atlas, tmp_path)
    quiet(wanted, source)
    before = outputs(tmp_path)
    lines: list[str] = []
    write_attention(wanted, source, say=lines.append)
    assert lines[-1] == f"{wanted.matrix}: up to date, skipped"
    assert outputs(tmp_path) == before
    with pytest.raises(OutputExistsError, match="table exists and was made from something else"):
        quiet(replace(wanted, out=None, pathways=None, sections=(0, 1)), source)
    (tmp_path / "m.parquet.json").unlink()
    with pytest.raises(OutputExistsError, match="no account"):
        quiet(wanted, source)
    quiet(replace(wanted, overwrite=True), source)
    assert outputs(tmp_path) == before


def test_every_section_of_a_block_is_read_once(atlas: Brain, source: Source) -> None:
    network = source.model.config
    assert isinstance(network, NetworkConfig)
    reads: list[int] = []

    class Counting:
        def window_counts(self, window: Any, box: Any, genes: Any) -> Any:
            reads.append(window.gene[0])
            return atlas.window_counts(window, box, genes)

    (plane,) = (Box(0, 5, 0, 7),)
    units = plan_units([plane], plane, range(3), 3, network)
    reader = CountsReader(Counting(), source.gene_positions(atlas), network.bins)  # type: ignore[arg-type]
    for unit in units:
        box = PatchGrid.over(unit.box, network.bins).box.refine(16)
        expected = atlas.window_counts(unit.window, box, source.gene_positions(atlas))
        np.testing.assert_array_equal(reader.read(unit), expected)
    assert sorted(reads) == sorted(set(reads)) == [-1, 0, 1, 2, 3, 4]


def test_every_patch_has_one_owner() -> None:
    canvas = Box(0, 12, 0, 10)
    for bins in (2, 4, 8):
        owners = np.zeros((30, 30), int)
        for box in (Box(0, 8, 0, 8), Box(0, 8, 8, 10), Box(8, 12, 0, 8), Box(8, 12, 8, 10)):
            grid = PatchGrid.over(box, bins)
            rows, columns = np.nonzero(grid.owned(box, canvas))
            y, x = (corner // bins for corner in (grid.box.y0 + bins // 2, grid.box.x0 + bins // 2))
            owners[rows + y, columns + x] += 1
        shape = (12 // bins + 1, 10 // bins + 1) if bins < 8 else (3, 3)
        # At eight bins the canvas ends within a patch; its centre would lie beyond the rim.
        assert owners.max() == 1
        assert owners.sum() >= (12 // bins) * (10 // bins)
        assert owners[: shape[0], : shape[1]].sum() == owners.sum()


def test_majority() -> None:
    patches = np.array([[[1, 1], [2, 3]], [[3, 2], [2, 3]], [[-1, -1], [-1, 5]], [[-1, -1], [-1, -1]]])
    assert majority(patches).tolist() == [1, 2, 5, -1]


def test_regions_fall_back_to_tissue(source: Source, tmp_path: Path) -> None:
    plain = tiny_atlas(tmp_path / "plain.zarr", canvas=(32, 64), sections=2, regions=False)
    wanted = config(plain, tmp_path, out=None, pathways=None)
    quiet(wanted, source)
    assert set(pd.read_parquet(tmp_path / "m.parquet").region) == {"all", "tissue"}


def test_pathways_by_default_are_the_papers_that_the_panel_has(
    atlas: Brain, source: Source, tmp_path: Path
) -> None:
    lines: list[str] = []
    result = write_attention(config(atlas, tmp_path, pathways=None, matrix=None), source, say=lines.append)
    assert result.images == ("attention_GLUT", "attention_DOPA")
    assert lines[0] == "BLOD is left out: the checkpoint's panel has no Aqp4"
    assert "sections of 73,216 x 105,984 px" in lines[1]
    bare = replace(source, panel=Panel(("Gad1", *GENES[1:3], *GENES[4:])))
    with pytest.raises(InputError, match="none of the paper's pathways"):
        quiet(config(atlas, tmp_path / "x", pathways=None, matrix=None), bare)


def test_what_is_wrong_is_said_before_anything_is_written(
    atlas: Brain, source: Source, tmp_path: Path
) -> None:
    for changes, kind, word in (
        ({"memory": 1 << 12}, InputError, r"memory budget.*Pass --memory 0\.1GiB"),
        ({"sections": (2, 9)}, InputError, "within 0:3"),
        ({"roi": Box(0, 96, 0, 32)}, InputError, "not on the canvas"),
        ({"pathways": (pair("Th:Nr4a3"),)}, PanelError, "found Nr4a3.*Did you mean Nr4a2"),
        ({"pathways": (Pathway("A", ("Th",)), Pathway("A", ("Cldn5",)))}, InputError, "one name"),
        ({"matrix": str(tmp_path / "m.xlsx")}, InputError, "format is not known"),
        ({"matrix": str(tmp_path / "no" / "m.csv")}, InputError, "folder of the matrix"),
        ({"matrix": "s3://bucket/m.csv"}, InputError, "the matrix is a local file"),
        ({"out": atlas.url}, InputError, "maps do not go into an atlas"),
    ):
        with pytest.raises(kind, match=word) as caught:
            quiet(config(atlas, tmp_path, **changes), source)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="nothing to write"):
        config(atlas, tmp_path, out=None, matrix=None)
    assert not any(tmp_path.iterdir())


def test_the_papers_brain_is_projected() -> None:
    assert paper_patches(NetworkConfig(genes=229)) == (1144 + 1) * (1656 + 1) * 25
    assert seconds_a_patch(Kernel(tiny_source().model, []), 2, full=True, budget_s=0.01) > 0  # type: ignore[arg-type]


def test_versions_are_computed_once_a_patch(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sections of a window, three pathways: four matrices (0-1, 1-2, 2-3, all), not eighteen."""
    fed: list[int] = []
    real = kernel.gene_queries

    def counting(model: Any, counts: Any) -> Any:
        fed.append(len(counts))
        return real(model, counts)

    monkeypatch.setattr(kernel, "gene_queries", counting)
    pathways = [np.array([0, 1]), np.array([2]), np.array([3, 4])]
    Kernel(source.model, pathways).run(torch.ones(6, 4, len(GENES), 2, 2), (1, 2), full=True)  # type: ignore[arg-type]
    assert fed == [6, 6, 6, 6]
