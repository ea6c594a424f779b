"""Only tissue: the wavefront against the straightforward sampler under the same mask, the rule, and what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teramind_data.errors import OutputExistsError
from teramind_data.geometry import Box, Window, windows
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, BrainWriter, Section, create_brain
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.ddim import sample_canvas
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.steps import ddim_steps
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.config import Engine
from teramind_model.generate.rows import StoreRows
from teramind_model.generate.runs import Runs
from teramind_model.generate.tissue import TissueTiles, beside, tissue_bins
from teramind_model.generate.wavefront import Wavefront, needed
from tests.model.tiny import tiny_atlas, tiny_source

CANVAS = (208, 272)
"""No multiple of the shard (64), nor of the patch (32): 7 x 9 tiles, the last row and column sticking out."""

SOURCE = tiny_source()
SEED = 5
REGION = Box(0, 7, 0, 9)


def island(sections: int = 3) -> np.ndarray:
    """Tissue by bins: a tile in one section, some bins beside a tile's edge in the next, none in the last."""
    tissue = np.zeros((sections, CANVAS[0] // 16, CANVAS[1] // 16), np.uint8)
    tissue[0, 5, 5] = 1
    tissue[1, 4:9, 12:14] = 1
    return tissue


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    path = tmp_path_factory.mktemp("atlas") / "atlas.zarr"
    return tiny_atlas(path, CANVAS, 3, tissue=island())


# ------------------------------------------------------------------------------------------------ the rule


def by_hand(brain: Brain, window: Window, patch: int) -> np.ndarray:
    """Tile by tile, bin by bin."""
    bins, g = np.asarray(brain.tissue), patch // 16
    rows, columns = (-(-edge // patch) for edge in brain.canvas)
    made = np.zeros((rows, columns), bool)
    for row in range(rows):
        for column in range(columns):
            for z in window.image:
                for i in range((row - 1) * g, (row + 2) * g):
                    for j in range((column - 1) * g, (column + 2) * g):
                        if z < bins.shape[0] and 0 <= i < bins.shape[1] and 0 <= j < bins.shape[2]:
                            made[row, column] |= bins[z, i, j] > 0
    return made


@pytest.mark.parametrize("patch", [32, 48, 64])
def test_tiles_with_tissue_in_or_beside_them(atlas: Brain, patch: int) -> None:
    tissue = TissueTiles(atlas, patch)
    first, last = windows(atlas.n_sections, 4, 2)
    found = tissue.window(first)
    np.testing.assert_array_equal(found, by_hand(atlas, first, patch))
    assert 0 < found.sum() < found.size
    assert not tissue.window(last).any(), "section 2 has none, section 3 does not exist"


def test_an_atlas_without_a_mask_is_asked_for_its_molecules(tmp_path: Path) -> None:
    sections = tuple(Section(i, f"s{i}", 100.0 * i) for i in range(2))
    spec = BrainSpec("expression", (96, 4160), 0.4, sections, Panel(("a", "b")), (), chunk=64, shard=64)
    writer = create_brain(tmp_path / "e.zarr", spec)
    counts = np.zeros((2, 2, 6, 260), np.uint8)
    counts[1, 0, 2, 3] = counts[0, 0, 5, 259] = 1
    for z in range(2):
        writer.write("expression", z, None, counts[:, z])
    nothing = np.zeros(0, int)
    writer.write_molecules((z, nothing, nothing, nothing) for z in range(2))
    brain = writer.finish()
    for z in range(2):
        np.testing.assert_array_equal(tissue_bins(brain, z), counts[:, z].any(axis=0))


# ------------------------------------------------------------------------------------------------ the wavefront


def slow(atlas: Brain, steps: int, made: np.ndarray) -> torch.Tensor:
    """x_0 of the first window, whole canvases, -1 at every step where nothing is made and off the canvas."""
    window = windows(atlas.n_sections, 4, 2)[0]
    box = REGION.refine(32)
    counts = MeasuredCounts(atlas, SOURCE.gene_positions(atlas)).window_counts(window, box.expand(16))
    noise = torch.from_numpy(start_noise(SEED, window.image, range(2), box)).flatten(0, 1)
    inside = torch.zeros(box.shape, dtype=torch.bool)
    for row, column in np.argwhere(made):
        inside[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = True
    inside[CANVAS[0] :] = inside[:, CANVAS[1] :] = False
    return sample_canvas(
        SOURCE.model, torch.from_numpy(counts.astype(np.float32)), noise, steps, inside=inside
    )


def fast(
    atlas: Brain, steps: int, made: np.ndarray, target: Box, batch: int
) -> tuple[torch.Tensor, Wavefront]:
    window = windows(atlas.n_sections, 4, 2)[0]
    counts = MeasuredCounts(atlas, SOURCE.gene_positions(atlas))
    rows = StoreRows(counts, window, SOURCE.network, SEED, made)  # type: ignore[arg-type]
    unit = Wavefront(SOURCE.model, rows, ddim_steps(steps), target, REGION, atlas.canvas, batch)  # type: ignore[arg-type]
    found = list(unit.rows())
    assert [row for row, _ in found] == list(range(target.y0, target.y1))
    return torch.cat([x for _, x in found], dim=-2), unit


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Some tissue tiles and those beside them, and now and then any tiles at all."""
    flags = np.array(draw(st.lists(st.sampled_from([False, False, True]), min_size=63, max_size=63))).reshape(
        7, 9
    )
    if draw(st.booleans()):
        return flags
    few = np.zeros((7, 9), bool)
    few[draw(st.integers(0, 6)), draw(st.integers(0, 8))] = draw(st.booleans())
    return beside(few)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=masks(), steps=st.sampled_from([1, 2]), batch=st.integers(1, 20), data=st.data())
def test_any_mask_part_and_batch(
    atlas: Brain, made: np.ndarray, steps: int, batch: int, data: st.DataObject
) -> None:
    y = sorted(data.draw(st.sets(st.integers(0, 7), min_size=2, max_size=2)))
    x = sorted(data.draw(st.sets(st.integers(0, 9), min_size=2, max_size=2)))
    target = Box(y[0], y[1], x[0], x[1])
    found, unit = fast(atlas, steps, made, target, batch)
    expected = slow(atlas, steps, made)[(..., *target.refine(32).slices)]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    work = sum(int(made[needed(target, REGION, later).slices].sum()) for later in range(steps))
    assert unit.calls.decoded == work, "network work for tiles that are made, and no others"


def test_where_a_unit_is_cut_changes_no_bit(atlas: Brain) -> None:
    made = TissueTiles(atlas, 32).window(windows(3, 4, 2)[0])
    whole, _ = fast(atlas, 3, made, REGION, 4)
    for target in (Box(1, 4, 5, 7), Box(2, 7, 0, 6)):
        found, _ = fast(atlas, 3, made, target, 4)
        assert torch.equal(found, whole[(..., *target.refine(32).slices)])


def test_a_mask_of_everything_changes_nothing(atlas: Brain) -> None:
    everything = np.ones((7, 9), bool)
    found, unit = fast(atlas, 2, everything, REGION, 5)
    assert (unit.calls.genes, unit.calls.encoded, unit.calls.decoded) == (80, 160, 126)
    torch.testing.assert_close(found, slow(atlas, 2, everything), atol=1e-4, rtol=0)


@given(flags=st.lists(st.booleans(), max_size=12), first=st.integers(-3, 5))
def test_runs_by_hand(flags: list[bool], first: int) -> None:
    runs = Runs.of(np.array(flags, bool), first)
    columns = [first + i for i, flag in enumerate(flags) if flag]
    assert [c for r in runs for c in r] == columns
    assert len(runs) == len(columns)
    assert [runs.position(c) for c in columns] == list(range(len(columns)))
    assert all(a.stop < b.start for a, b in zip(runs.ranges, runs.ranges[1:], strict=False))


# ------------------------------------------------------------------------------------------------ the store


def make(atlas: Brain, out: Path, engine: Engine = "wavefront", **options: object) -> Brain:
    run = RunOptions(engine=engine, batch=4)
    config = GenerateConfig(atlas.url, "tiny", str(out), steps=2, run=run, **options)  # type: ignore[arg-type]
    return generate(config, SOURCE, say=lambda line: None)


@pytest.fixture(scope="module")
def straight(atlas: Brain, tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Undisturbed, the whole of it; read only."""
    return make(atlas, tmp_path_factory.mktemp("straight") / "w.zarr", tissue_only=True)


def test_both_engines_leave_the_background_black(atlas: Brain, straight: Brain, tmp_path: Path) -> None:
    made, image = straight, straight.morphology[:].astype(int)
    other = make(atlas, tmp_path / "s.zarr", "straightforward", tissue_only=True).morphology[:].astype(int)
    assert np.abs(image - other).max() <= 1
    assert np.mean(image != other) < 1e-3
    tiles = by_hand(atlas, windows(3, 4, 2)[0], 32)
    shown = np.kron(tiles, np.ones((32, 32), bool))[: CANVAS[0], : CANVAS[1]]
    assert not image[:, :2, ~shown].any()
    assert image[:, :2, shown].mean() > 20
    assert not image[:, 2].any()
    assert made.provenance["request"]["tissue_only"] is True
    # What is all background is listed as empty: it is nowhere on the disk, and known not to be missing.
    assert made.blank("morphology", 0, Box(192, 208, 0, 64))
    assert not made.blank("morphology", 0, Box(64, 128, 64, 128))
    files = list(Path(made.url).glob("images/morphology/ome.zarr/0/c/0/2/**/*"))
    assert [f for f in files if f.is_file()] == []


def test_a_region_of_it_and_another_request(atlas: Brain, straight: Brain, tmp_path: Path) -> None:
    whole = straight.morphology[:].astype(int)
    roi = Box(64, 160, 128, 256)
    part = make(atlas, tmp_path / "r.zarr", roi=roi, roi_exact=True, tissue_only=True).morphology[:]
    inside = (..., *roi.slices)
    assert np.abs(part[inside].astype(int) - whole[inside]).max() <= 1
    assert "tissue_only" not in make(atlas, tmp_path / "a.zarr", roi=roi).provenance["request"]
    with pytest.raises(OutputExistsError, match="another tissue only"):
        make(atlas, tmp_path / "a.zarr", roi=roi, tissue_only=True)


@pytest.mark.parametrize("stop", [9, 27])
def test_stopped_at_any_shard_the_bytes_are_the_same(
    atlas: Brain, straight: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    original, written = BrainWriter.write, 0

    def failing(self: BrainWriter, name: str, *arguments: object) -> object:
        nonlocal written
        written += name == "morphology"
        if written == stop:
            raise KeyboardInterrupt
        return original(self, name, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(BrainWriter, "write", failing)
        with pytest.raises(KeyboardInterrupt):
            make(atlas, tmp_path / "stopped.zarr", tissue_only=True)
    again = make(atlas, tmp_path / "stopped.zarr", tissue_only=True)
    assert straight.provenance["run"]["shards_written"] == 3 * 4 * 5
    assert again.provenance["run"]["shards_written"] == 3 * 4 * 5 - stop + 1
    np.testing.assert_array_equal(again.morphology[:], straight.morphology[:])
