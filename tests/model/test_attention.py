"""Attention maps against the formula written out, and against the published figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from teramind_data.console import run_cli
from teramind_data.errors import InputError, OutputExistsError, PanelError
from teramind_data.geometry import Box
from teramind_data.panel import Panel
from teramind_data.store import Brain, open_brain
from teramind_model.attention import (
    CHANNELS,
    AttentionConfig,
    map_attention,
    pathway_maps,
    slots_kept,
    write_attention,
)
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.generate import GenerateConfig, Source, generate
from teramind_model.importer import convert, infer_config
from teramind_model.network import TeraMind
from teramind_model.pathways import PATHWAYS, Pathway, custom, named, pair
from teramind_model.published_file import read_published
from tests.model.tiny import ATLAS_GENES, GENES, tiny_atlas, tiny_source

GLUT = [GENES.index(gene) for gene in ("Slc17a6", "Slc17a7")]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=(80, 112))


@pytest.fixture(scope="module")
def source() -> Source:
    return tiny_source()


def written(config: AttentionConfig, source: Source) -> Brain:
    """The store after a quiet run."""
    brain = write_attention(config, source, say=lambda line: None).brain
    assert brain is not None
    return brain


def matrix_by_hand(model: TeraMind, counts: np.ndarray) -> np.ndarray:
    """``Attn_gg`` of one patch ``(S, n, g, g)``, from the weights alone, in float64."""
    layer = model.gene_gene.attention
    weight, bias = (p.detach().double().numpy() for p in (layer.q.weight, layer.q.bias))
    scale = layer.q_norm.weight.detach().double().numpy()
    genes = counts.shape[1]
    tokens = np.stack([counts[:, gene].ravel() for gene in range(genes)]).astype(float)
    q = tokens @ weight.T + bias
    q = q / np.sqrt((q**2).mean(axis=1, keepdims=True) + 1e-6) * scale
    scores = np.exp(q @ q.T / q.shape[1])
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def maps_by_hand(source: Source, atlas: Brain, z: int, pathway: list[int]) -> np.ndarray:
    """Three maps of a section ``(3, by, bx)``, patch by patch, gene by gene, bin by bin."""
    c = source.model.config
    rows = [ATLAS_GENES.index(gene) for gene in GENES]
    half = c.bins // 2
    counts = np.asarray(atlas.expression[:])[rows].astype(float)
    height, width = counts.shape[2:]
    # Half a patch and more around the canvas, and sections before the first and after the last.
    counts = np.pad(counts, ((0, 0), (c.gene_slices,) * 2, (half, 2 * c.bins), (half, 2 * c.bins)))
    window = z // c.image_slices
    first = window * c.image_slices - (c.gene_slices - c.image_slices) // 2
    out = np.zeros((3, height, width))
    keep = {0: (z - 1, z), 1: (z, z + 1), 2: range(first, first + c.gene_slices)}
    for version, sections in keep.items():
        for y in range(0, height + c.bins, c.bins):
            for x in range(0, width + c.bins, c.bins):
                patch = np.zeros((c.gene_slices, c.genes, c.bins, c.bins))
                for slot in range(c.gene_slices):
                    if first + slot in sections:
                        patch[slot] = counts[:, first + slot + c.gene_slices, y : y + c.bins, x : x + c.bins]
                matrix = matrix_by_hand(source.model, patch)
                for i, j in np.ndindex(c.bins, c.bins):
                    at = (y + i - half, x + j - half)
                    if 0 <= at[0] < height and 0 <= at[1] < width:
                        for a in pathway:
                            for b in pathway:
                                out[(version, *at)] += (
                                    matrix[a, b] * counts[b, z + c.gene_slices, y + i, x + j]
                                )
    return out


@pytest.mark.parametrize(("gene_slices", "patch"), [(4, 32), (1, 32), (8, 32), (4, 64)])
def test_maps_equal_the_formula(atlas: Brain, gene_slices: int, patch: int) -> None:
    source = tiny_source(gene_slices=gene_slices, patch=patch, channels=2)
    channels = source.gene_positions(atlas)
    genes = np.array(GLUT)
    for z in range(3):
        found = map_attention(source.model, atlas, channels, genes, z, Box(0, 5, 0, 7))
        assert found.dtype == np.float16
        expected = np.log2(len(GENES) * maps_by_hand(source, atlas, z, GLUT) + 1)
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    # Any box is the crop of the whole.
    part = map_attention(source.model, atlas, channels, genes, z, Box(1, 4, 2, 7))
    np.testing.assert_allclose(part, found[:, 1:4, 2:7], rtol=2e-3)


def test_versions_differ_where_they_should(atlas: Brain, source: Source) -> None:
    maps = map_attention(
        source.model, atlas, source.gene_positions(atlas), np.array(GLUT), 1, Box(0, 5, 0, 7)
    )
    assert maps.max() > 0
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (maps[a] != maps[b]).any(), (CHANNELS[a], CHANNELS[b])


def test_slices_kept() -> None:
    assert slots_kept(1, 4) == ((0, 1), (1, 2), (0, 1, 2, 3))
    assert slots_kept(2, 4) == ((1, 2), (2, 3), (0, 1, 2, 3))
    assert slots_kept(0, 1) == ((0,), (0,), (0,))


def test_published_figures(reference_dir: Path) -> None:
    """The matrices of ``reference/parity``, summed over a pathway's genes by hand."""
    published = read_published(reference_dir / "parity" / "state_dict.npz").weights
    model = TeraMind(infer_config(published)).eval()
    model.load_state_dict(convert(published))
    with np.load(reference_dir / "parity" / "io.npz") as io:
        counts, matrices = io["attn_counts"], io["attn_prev_cur_next_all"]
    genes = [2, 7, 11]
    # prev, cur and next hold slices 0-1, 1-2 and 2-3: for slot 1 the first two, for slot 2 the last two.
    for slot, rows in ((1, (0, 1, 3)), (2, (1, 2, 3))):
        found = pathway_maps(model, torch.from_numpy(counts), slot, torch.tensor(genes)).numpy()
        for version, row in enumerate(rows):
            matrix = matrices[row] if matrices.shape[0] == 4 else matrices[:, row]
            for patch in range(len(counts)):
                chosen = matrix[patch][np.ix_(genes, genes)].sum(axis=0)
                expected = np.tensordot(chosen, counts[patch, slot, genes], axes=1)
                np.testing.assert_allclose(found[version, patch], expected, rtol=1e-5, atol=1e-6)


def test_maps_join_a_generated_store(atlas: Brain, source: Source, tmp_path: Path) -> None:
    out = tmp_path / "g.zarr"
    generate(
        GenerateConfig(atlas.url, "tiny", str(out), steps=1, sections=(1, 3), roi=Box(0, 32, 0, 32)),
        source,
        say=lambda line: None,
    )
    config = AttentionConfig(atlas.url, "tiny", str(out), (named("glut"),))
    made = written(config, source)
    assert made.images == ("morphology", "attention_GLUT")
    attrs = made.image_attrs("attention_GLUT")
    assert attrs["channels"] == list(CHANNELS)
    assert attrs["genes"] == ["Slc17a6", "Slc17a7"]
    assert attrs["n"] == len(GENES)
    assert attrs["scale"] == "log2(n * map + 1)"
    assert attrs["checkpoint"]["sha256"] == source.sha256
    # Section 0 of the store is section 1 of the atlas.
    channels = source.gene_positions(atlas)
    for z in range(2):
        expected = map_attention(source.model, atlas, channels, np.array(GLUT), z + 1, Box(0, 5, 0, 7))
        np.testing.assert_array_equal(made.read("attention_GLUT", z), expected)


def test_the_report_reads_the_levels_that_were_written(atlas: Brain, source: Source, tmp_path: Path) -> None:
    from teramind_eval.attention.maps import attention_maps, read_levels
    from teramind_eval.part import Part

    config = AttentionConfig(atlas.url, "tiny", str(tmp_path / "maps.zarr"), (PATHWAYS["GLUT"],))
    made = Part(written(config, source))
    (found,) = attention_maps(made)
    assert (found.pathway, found.genes, found.channels) == ("GLUT", PATHWAYS["GLUT"].genes, CHANNELS)
    bins = Box(0, 5, 0, 7)
    stored = np.asarray(made.read("attention_GLUT", 1)).astype(np.float64)
    assert stored.max() > 1
    np.testing.assert_allclose(read_levels(made, found, 1, bins), 2**stored - 1, rtol=1e-12)


def test_there_already_is_skipped_or_refused(atlas: Brain, source: Source, tmp_path: Path) -> None:
    config = AttentionConfig(atlas.url, "tiny", str(tmp_path / "maps.zarr"), (PATHWAYS["GLUT"],))
    made = written(config, source)
    assert made.images == ("morphology", "attention_GLUT")
    assert not np.asarray(made.morphology[:]).any()
    lines: list[str] = []
    write_attention(config, source, say=lines.append)
    assert lines == [f"{config.out}: attention_GLUT is up to date, skipped"]
    other = replace(source, sha256="another")
    with pytest.raises(OutputExistsError, match="another checkpoint"):
        write_attention(config, other)
    write_attention(replace(config, overwrite=True), other)
    assert open_brain(config.out).image_attrs("attention_GLUT")["checkpoint"]["sha256"] == "another"


@pytest.mark.filterwarnings("ignore")  # of spatialdata's own imports
def test_maps_open_with_spatialdata(atlas: Brain, source: Source, tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    out = tmp_path / "maps.zarr"
    write_attention(AttentionConfig(atlas.url, "tiny", str(out), (pair("Th:Nr4a2"),)), source)
    assert spatialdata.read_zarr(out)["attention_Th_Nr4a2"].shape == (3, 3, 5, 7)


def test_what_does_not_fit_leaves_nothing(atlas: Brain, source: Source, tmp_path: Path) -> None:
    out = tmp_path / "maps.zarr"
    with pytest.raises(PanelError, match="Aqp4"):
        write_attention(AttentionConfig(atlas.url, "tiny", str(out), (PATHWAYS["BLOD"],)), source)
    lacking = replace(source, panel=Panel((*GENES[:4], "Pvalb")))
    with pytest.raises(PanelError, match="Pvalb"):
        write_attention(AttentionConfig(atlas.url, "tiny", str(out), (PATHWAYS["GLUT"],)), lacking)
    assert not out.exists()
    other, maps = tiny_atlas(tmp_path / "other.zarr", canvas=(32, 32), sections=1), str(tmp_path / "o.zarr")
    write_attention(AttentionConfig(other.url, "tiny", maps, (PATHWAYS["DOPA"],)), source)
    with pytest.raises(InputError, match="does not fit the atlas"):
        write_attention(AttentionConfig(atlas.url, "tiny", maps, (PATHWAYS["GLUT"],)), source)


def test_pathways() -> None:
    assert named("dopa").genes == ("Nr4a2", "Th")
    assert pair("Slc17a6:Slc17a7").image == "attention_Slc17a6_Slc17a7"
    assert custom("Gad1, Gad2", "GABA") == Pathway("GABA", ("Gad1", "Gad2"))
    with pytest.raises(InputError, match="expected GLUT, DOPA, BLOD"):
        named("FUN")
    with pytest.raises(InputError, match="GENE:GENE"):
        pair("Th")
    with pytest.raises(InputError, match="--name"):
        custom("Th", None)
    with pytest.raises(InputError, match="distinct"):
        custom("Th,th", "TWICE")
    with pytest.raises(InputError, match="name is not usable"):
        custom("Th", "../up")


def test_command(atlas: Brain, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    from teramind_model.commands import attention as command

    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    run = tmp_path / "run"
    save_checkpoint(
        run,
        ModelInfo(source.model.config, source.panel, source.stains, source.pixel_size_um),
        source.model.state_dict(),
    )
    common = ["attention", "--atlas", atlas.url, "--checkpoint", str(run), "--out", str(tmp_path / "m.zarr")]
    for options, code, word in (
        (["--pathway", "GLUT"], 0, "images/attention_GLUT"),
        (["--genes", "Th,Cldn5", "--name", "MIX"], 0, "images/attention_MIX"),
        (["--pathway", "GLUT", "--pair", "Th:Nr4a2"], 0, "images/attention_Th_Nr4a2"),
        ([], 0, "images/attention_DOPA"),
        (["--pathway", "BLOD"], 2, "Aqp4"),
        (["--pathway", "GLUT", "--name", "MINE"], 2, "--name names the map of --genes"),
    ):
        with pytest.raises(SystemExit) as exit_:
            run_cli(app, [*common, *options])
        captured = capsys.readouterr()
        assert exit_.value.code == code, captured.err
        assert word in captured.out + captured.err
        if code:
            assert captured.err.count("\n") == 1
    assert open_brain(tmp_path / "m.zarr").images == (
        "morphology",
        "attention_GLUT",
        "attention_MIX",
        "attention_Th_Nr4a2",
        "attention_DOPA",
    )
