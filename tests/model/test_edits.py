"""Genes edited before generation: as a plain loop edits them, bin by bin; only where asked; told in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teramind_data.cli import app as data_app
from teramind_data.console import run_cli
from teramind_data.errors import InputError, MissingInputError, OutputExistsError, PanelError
from teramind_data.geometry import BIN_PX, Box, Window
from teramind_data.panel import Panel
from teramind_data.store import Brain
from teramind_model.controls import MeasuredCounts
from teramind_model.edits import EditedCounts, find_edits, find_place, parse_edit
from teramind_model.generate import GenerateConfig, generate
from tests.model.tiny import ATLAS_GENES, GENES, tiny_atlas, tiny_source

CANVAS = (96, 144)
CHANNELS = np.array([ATLAS_GENES.index(gene) for gene in GENES])
WINDOW = Window(0, (0, 1), (-1, 0, 1, 2))
AROUND = Box(-32, 128, -16, 176)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", CANVAS, 2)


def right_half(atlas: Brain) -> np.ndarray:
    """Bins of the region that is called so, ``(z, by, bx)``."""
    bins = Box(0, CANVAS[0] // BIN_PX, 0, CANVAS[1] // BIN_PX)
    return np.stack([atlas.read("regions", z, bins) for z in range(2)]) == 2


def edited(atlas: Brain, edits: list[str], place: str | None = None, box: Box = AROUND) -> np.ndarray:
    found = find_edits(edits, place, Panel(GENES), atlas)
    return EditedCounts(MeasuredCounts(atlas, CHANNELS), found, atlas.canvas, 2).window_counts(WINDOW, box)


def measured(atlas: Brain, box: Box = AROUND) -> np.ndarray:
    return MeasuredCounts(atlas, CHANNELS).window_counts(WINDOW, box).astype(np.float32)


def by_hand(atlas: Brain, edits: list[str], where: np.ndarray, box: Box = AROUND) -> np.ndarray:
    """One number after the other. ``where (z, by, bx)``: the bins of the brain that are edited."""
    out = measured(atlas, box)
    bins = box.coarsen(BIN_PX)
    for slot, y, x in np.ndindex(len(WINDOW.gene), *bins.shape):
        z, by, bx = WINDOW.gene[slot], bins.y0 + y, bins.x0 + x
        inside = 0 <= z < 2 and 0 <= by < CANVAS[0] // BIN_PX and 0 <= bx < CANVAS[1] // BIN_PX
        if not inside or not where[z, by, bx]:
            continue
        now = {gene: float(out[slot, i, y, x]) for i, gene in enumerate(GENES)}
        for edit in edits:
            if "<>" in edit:
                a, b = edit.split("<>")
                now[a], now[b] = now[b], now[a]
            elif "*" in edit:
                a, b = edit.split("*")
                now[a] = now[a] * float(b)
            elif "+" in edit:
                a, b = edit.split("+")
                now[a] = max(0.0, now[a] + float(b))
            else:
                a, b = edit.split("=")
                now[a] = now[b] if b in now else float(b)
        out[slot, :, y, x] = list(now.values())
    return out


GENE = st.sampled_from(GENES)
NUMBER = st.sampled_from(["0.5", "2", "3.25", "1e1"])
EDIT = st.one_of(
    st.tuples(GENE, st.sampled_from("*="), st.one_of(NUMBER, st.just("0"))).map("".join),
    st.tuples(GENE, st.sampled_from(["+", "+-"]), NUMBER).map("".join),
    st.tuples(GENE, st.sampled_from(["=", "<>"]), GENE).filter(lambda edit: edit[0] != edit[2]).map("".join),
)


@settings(max_examples=25, deadline=None)
@given(edits=st.lists(EDIT, min_size=1, max_size=4), right=st.booleans())
def test_equals_a_plain_loop_over_bins(atlas: Brain, edits: list[str], right: bool) -> None:
    where = np.ones((2, CANVAS[0] // BIN_PX, CANVAS[1] // BIN_PX), bool)
    if right:
        where = right_half(atlas)
    found = edited(atlas, edits, "Right" if right else None)
    np.testing.assert_array_equal(found, by_hand(atlas, edits, where))


def test_places(atlas: Brain, tmp_path: Path) -> None:
    shape = (2, CANVAS[0] // BIN_PX, CANVAS[1] // BIN_PX)
    box = np.zeros(shape, bool)
    box[:, 1:4, 2:6] = True  # the bins that the pixels touch
    mask = np.random.default_rng(0).random(shape) < 0.5
    np.save(tmp_path / "whole.npy", mask)
    np.save(tmp_path / "plane.npy", mask[1])
    for text, where in {
        "20:50,32:95": box,
        str(tmp_path / "whole.npy"): mask,
        str(tmp_path / "plane.npy"): np.stack([mask[1]] * 2),
        "2": right_half(atlas),
    }.items():
        np.testing.assert_array_equal(edited(atlas, ["Th=9"], text), by_hand(atlas, ["Th=9"], where), text)


def test_half_a_molecule_is_kept_and_outside_stays_empty(atlas: Brain) -> None:
    found = edited(atlas, ["Th+0.5"])
    change = found - measured(atlas)
    assert found.dtype == np.float32
    assert set(np.unique(change[:, GENES.index("Th")])) == {0.0, 0.5}
    assert not found[0].any(), "before the first section"
    assert not found[1, :, :2].any(), "above the canvas"
    assert not found[1, :, :, 10:].any(), "right of the canvas"


@pytest.mark.parametrize(
    "edit", ["Th", "Th*", "*2", "Th*-1", "Th=-1", "Th*x", "Th=nan", "Th+inf", "Th*2*3", "Th=1=2", ""]
)
def test_what_is_no_edit_is_refused(edit: str) -> None:
    with pytest.raises(InputError, match="edit"):
        parse_edit(edit)


@pytest.mark.parametrize("edit", ["Th*1", "Th * 1.0", "Th+0", "Th+-0", "Th*1.00000000001"])
def test_a_number_that_changes_nothing_is_refused(edit: str) -> None:
    with pytest.raises(InputError, match=r"edit changes nothing: --edit Th.*another number than [01], found"):
        parse_edit(edit)
    assert parse_edit("Th=1").operand == 1


def test_how_to_subtract_is_said() -> None:
    with pytest.raises(InputError, match=r"edit cannot be read.*GENE\+-1 \(subtract\).*found 'Th-1'"):
        parse_edit("Th-1")


def test_changed_bins_are_those_with_other_counts(atlas: Brain) -> None:
    found = find_edits(["Th*0", "Cldn5+-1"], "right", Panel(GENES), atlas)
    counts = EditedCounts(MeasuredCounts(atlas, CHANNELS), found, atlas.canvas, 2)
    now = atlas.read("expression", 1)
    held = (now[ATLAS_GENES.index("Th")] > 0) | (now[ATLAS_GENES.index("Cldn5")] > 0)
    expected = np.zeros((10, 12), bool)  # AROUND, in bins
    expected[2:8, 1:10] = held & right_half(atlas)[1]
    np.testing.assert_array_equal(counts.changed(1, AROUND), expected)
    assert expected.any()


def test_spaces_and_minus_signs() -> None:
    assert parse_edit(" Th * 0.5 ") == parse_edit("Th*0.5")
    assert parse_edit("Th+-2").operand == -2
    assert parse_edit("H2-K1=Nkx2-1").operand == "Nkx2-1"


def test_errors_name_what_there_is(atlas: Brain, tmp_path: Path) -> None:
    panel = Panel(GENES)
    with pytest.raises(
        PanelError, match=r"edited gene is none of the network's.*Gad1.*info CHECKPOINT --genes"
    ):
        find_edits(["Gad1*0"], None, panel, atlas)
    with pytest.raises(PanelError, match="Nope"):
        find_edits(["Th=Nope"], None, panel, atlas)
    for nothing in ("Th=Th", "Th<>th"):
        with pytest.raises(InputError, match=f"edit changes nothing: --edit {nothing} .expected two genes"):
            find_edits([nothing], None, panel, atlas)
    with pytest.raises(InputError, match="atlas has no such region.*left, right.*middle"):
        find_place("middle", atlas)
    with pytest.raises(InputError, match="atlas has no such region.*left, right.*3"):
        find_place("3", atlas)
    with pytest.raises(InputError, match="edited region is not on the canvas"):
        find_place("0:97,0:16", atlas)
    with pytest.raises(MissingInputError, match="mask not found"):
        find_place(str(tmp_path / "no.npy"), atlas)
    np.save(tmp_path / "m.npy", np.ones((6, 9)))
    with pytest.raises(InputError, match=r"mask does not fit.*bool \(6, 9\) or \(2, 6, 9\).*float64"):
        find_place(str(tmp_path / "m.npy"), atlas)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="mask cannot be read"):
        find_place(str(tmp_path / "bad.npy"), atlas)
    plain = tiny_atlas(tmp_path / "plain.zarr", regions=False)
    with pytest.raises(MissingInputError, match="no annotated regions"):
        find_place("left", plain)
    with pytest.raises(InputError, match="--edit-region is for --edit"):
        GenerateConfig("a", "c", "o", edit_region="left")


def test_a_brain_made_from_edited_genes_says_so(
    atlas: Brain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_source()

    def make(name: str, *edits: str, region: str | None = None) -> Brain:
        config = GenerateConfig(
            atlas.url, "tiny", str(tmp_path / name), steps=2, edits=edits, edit_region=region
        )
        return generate(config, source, say=said.append)

    said: list[str] = []
    plain = make("plain.zarr")
    assert not any("edits" in line for line in said)
    same = make("same.zarr", "Th+1", "Th+-1")
    assert any("same.zarr: the edits change no count that the network sees" in line for line in said)
    np.testing.assert_array_equal(plain.morphology[:], same.morphology[:])
    assert "edits" not in plain.provenance["request"]

    said.clear()
    changed = make("changed.zarr", "Th*0", "Cldn5 + 2", region="right")
    assert not any("edits" in line for line in said)
    assert changed.provenance["request"]["edits"] == ["Th*0", "Cldn5+2"]
    assert changed.provenance["request"]["edited"] == {"label": 2, "name": "right"}
    assert changed.provenance["control"]["edits"] == ["Th*0", "Cldn5+2"]
    told = {}
    for brain in (plain, changed):
        with pytest.raises(SystemExit):
            run_cli(data_app, ["info", brain.url])
        told[brain.url] = capsys.readouterr().out
    assert "sampled     ddim, 2 steps, seed 0" in told[plain.url] and "EDITED" not in told[plain.url]
    assert "EDITED      Th*0, Cldn5+2 in right" in told[changed.url]
    difference = plain.morphology[:] != changed.morphology[:]
    # Random weights: most pixels are black or white whatever the genes.
    assert difference[..., 96:].mean() > 0.02
    # What two steps and the halo of genes cannot reach.
    assert not difference[..., :16].any()
    with pytest.raises(OutputExistsError, match="store with another edit"):
        make("changed.zarr", "Th*0", "Cldn5+3", region="right")
