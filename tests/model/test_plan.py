"""The plan against brute force, against what runs count, and against the memory that they take."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from teramind_data.console import run_cli
from teramind_data.geometry import Box, Window, tiles, windows
from teramind_data.store import Brain
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.cli import app
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.steps import ddim_steps
from teramind_model.generate import GenerateConfig, RunOptions, Source, generate
from teramind_model.generate.budget import Work, unit_memory, unit_needs
from teramind_model.generate.config import Precision
from teramind_model.generate.counting import Counts, count_unit
from teramind_model.generate.plan import make_plan
from teramind_model.generate.ready import computing
from teramind_model.generate.rows import StoreRows
from teramind_model.generate.strips import _each_under
from teramind_model.generate.units import Layout, Unit
from teramind_model.generate.wavefront import Wavefront
from teramind_model.network import NetworkConfig
from teramind_model.network.training_memory import LiveStorages
from tests.model.tiny import tiny_atlas, tiny_source

CANVAS = (208, 272)
SOURCE = tiny_source()
WINDOW = Window(0, (0, 1), (-1, 0, 1, 2))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    tissue = np.zeros((3, CANVAS[0] // 16, CANVAS[1] // 16), np.uint8)
    tissue[1, 4:7, 9:12] = 1
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", CANVAS, 3, tissue=tissue)


# ------------------------------------------------------------------------------------------------ counts


def by_hand(
    layout: Layout, unit: Unit, shards: list[Box], steps: int, batch: int, live: np.ndarray
) -> Counts:
    """Tile by tile: what each step must make for the next, which patches lie under it, in which wave each comes."""

    def made_in(box: Box) -> list[tuple[int, int]]:
        cells = product(
            range(box.y0 // layout.patch, -(-box.y1 // layout.patch)),
            range(box.x0 // layout.patch, -(-box.x1 // layout.patch)),
        )
        region = layout.region
        inside = [(r, c) for r, c in cells if region.y0 <= r < region.y1 and region.x0 <= c < region.x1]
        return [cell for cell in inside if live[cell]]

    shown = [box for box in shards if made_in(box)]
    if not shown:
        return Counts(shards_written=len(shards))
    top = min(box.y0 for box in shown) // layout.band * layout.band_tiles
    bottom = -(-max(box.y1 for box in shown) // layout.band) * layout.band_tiles
    rows = range(max(layout.region.y0, top), min(layout.region.y1, bottom))
    wanted = {(r, c) for r in rows for c in unit.columns}
    decoded, encoded = set(), set()
    known = layout.known
    for s in reversed(range(steps)):
        decoded |= {(s, r, c) for r, c in wanted if live[r, c]}
        near = {(r + dy, c + dx) for r, c in wanted for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        wanted = {(r, c) for r, c in near if known.y0 <= r < known.y1 and known.x0 <= c < known.x1}
    for s, r, c in decoded:
        encoded |= {(s, r + dy, c + dx) for dy in (0, 1) for dx in (0, 1)}
    genes = {(p, c) for s, p, c in encoded if s == 0}

    def batches(waves: list[int]) -> int:
        return sum(-(-waves.count(wave) // batch) for wave in set(waves))

    half, first = layout.patch // 2, max(known.x0, unit.columns.start - steps + 1)
    width = min(known.x1, unit.columns.stop + steps - 1) - first + 1
    bands = {y // 256 for p, _ in genes for y in range(p * layout.patch - half, p * layout.patch + half)}
    return Counts(
        len(genes),
        len(encoded),
        len(decoded),
        batches([p for p, _ in genes]),
        batches([p - 1 + 2 * s for s, p, _ in encoded]),
        batches([r + 2 * s for s, r, _ in decoded]),
        len(bands) * 16 * width * layout.patch // 16,
        len(shards),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layout, Unit, list[Box], int, int, np.ndarray]:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    known = Box(0, rows, 0, columns)
    y0, x0 = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    region = Box(y0, draw(st.integers(y0 + 1, rows)), x0, draw(st.integers(x0 + 1, columns)))
    if draw(st.booleans()):
        known = region
    layout = Layout(region, known, 32, draw(st.sampled_from([32, 64, 128])))
    unit = Unit(WINDOW, draw(st.sampled_from(list(layout.strips(draw(st.integers(1, 3)))))))
    canvas = Box(0, rows * 32 - 16 * draw(st.integers(0, 1)), 0, columns * 32)
    shards = [box for box in tiles(canvas, layout.shard) if layout.owns(unit.columns, box)]
    share = draw(st.sampled_from([1.0, 0.6, 0.1]))
    live = np.random.default_rng(draw(st.integers(0, 99))).random((rows, columns)) < share
    return layout, unit, shards, draw(st.integers(1, 4)), draw(st.integers(1, 9)), live


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_counts_by_hand(case: tuple[Layout, Unit, list[Box], int, int, np.ndarray]) -> None:
    layout, unit, shards, steps, batch, live = case
    assert count_unit(layout, unit, shards, steps, batch, live) == by_hand(*case)
    if live.all():
        assert count_unit(layout, unit, shards, steps, batch) == by_hand(*case)


@pytest.mark.parametrize(
    ("options", "strip"),
    [
        ({"sections": (0, 1)}, 1),
        ({"tissue_only": True, "draws": 2}, None),
        # Strips are cut at multiples of their width from the canvas's corner: two, where one would do.
        ({"roi": Box(40, 150, 70, 200), "roi_exact": True, "sections": (1, 3)}, None),
    ],
)
def test_a_run_does_what_was_planned(
    atlas: Brain, tmp_path: Path, options: dict[str, object], strip: int | None
) -> None:
    run = RunOptions(batch=5)
    draws = int(options.get("draws", 1))  # type: ignore[call-overload]
    if strip is not None:
        network = SOURCE.network
        assert isinstance(network, NetworkConfig)
        work = Work(network, network.genes, network.gene_slices, 2, 5)
        run = RunOptions(batch=5, memory=draws * unit_memory(work, 2, 9, 64))
    config = GenerateConfig(
        atlas.url, "tiny", str(tmp_path / "g.zarr"), steps=2, run=run, **options  # type: ignore[arg-type]
    )  # fmt: skip
    plan = make_plan(config, SOURCE, atlas)
    assert (plan.strips > 1) == (strip is not None or config.roi is not None)
    done = generate(config, SOURCE, say=lambda line: None).provenance["run"]
    counts = plan.counts
    assert (done["tile_steps"], done["patches_encoded"]) == (counts.decoded, counts.encoded)
    assert (done["gene_patches"], done["idle_places"]) == (counts.gene_patches, counts.idle(5))
    assert (done["bins_read"], done["shards_written"]) == (counts.bins_read, counts.shards_written)
    assert plan.tiles_made < plan.tiles if config.tissue_only else plan.tiles_made == plan.tiles


# ------------------------------------------------------------------------------------------------ memory


def device_peak(
    source: Source,
    atlas: Brain,
    steps: int,
    target: Box,
    region: Box,
    batch: int,
    precision: Precision = "float32",
) -> int:
    """Bytes of all tensors at the worst moment of a unit."""
    network = source.network
    window = windows(atlas.n_sections, network.gene_slices, network.image_slices)[0]
    reader = StoreRows(MeasuredCounts(atlas, source.gene_positions(atlas)), window, source.model.config, 0)
    with torch.inference_mode(), LiveStorages() as storages:
        unit = Wavefront(source.model, reader, ddim_steps(steps), target, region, atlas.canvas, batch)
        for _ in _each_under(lambda: computing(source.model, precision), unit.rows()):
            pass
    return storages.peak


def network_of(source: Source) -> NetworkConfig:
    assert isinstance(source.network, NetworkConfig)
    return source.network


@pytest.mark.parametrize(
    ("channels", "steps", "strip", "batch"),
    # The last: batches of several rows, as a GPU has them where strips are narrow.
    [
        (4, 2, 8, 4),
        (4, 3, 3, 16),
        pytest.param(8, 3, 8, 6, marks=pytest.mark.soak),
        (16, 2, 5, 3),
        (4, 4, 4, 20),
    ],
)
def test_memory_on_the_device_is_as_planned(
    tmp_path: Path, channels: int, steps: int, strip: int, batch: int
) -> None:
    rows = steps + 3  # more take no more (see below)
    atlas = tiny_atlas(tmp_path / "a.zarr", (32 * rows, 256), 2)
    source = tiny_source(channels=channels)
    network = network_of(source)
    region = Box(0, rows, 0, 8)
    measured = device_peak(source, atlas, steps, Box(0, rows, 0, strip), region, batch)
    work = Work(network, network.genes, network.gene_slices, steps, batch)
    planned = unit_needs(work, strip, 8, 64).device
    assert 0.85 * measured < planned < 1.15 * measured, (planned >> 10, measured >> 10)


def test_memory_in_bfloat16_is_as_planned(tmp_path: Path) -> None:
    """Autocast halves what is encoded; x stays as it is."""
    atlas = tiny_atlas(tmp_path / "a.zarr", (32 * 4, 64), 2)
    source, region = tiny_source(), Box(0, 4, 0, 2)
    measured = device_peak(source, atlas, 2, region, region, 3, "bfloat16")
    network = network_of(source)
    work = Work(network, network.genes, network.gene_slices, 2, 3, precision="bfloat16")
    planned = unit_needs(work, 2, 2, 64).device
    assert 0.85 * measured < planned < 1.15 * measured, (planned >> 10, measured >> 10)
    assert planned < 0.7 * unit_needs(replace(work, precision="float32"), 2, 2, 64).device


def test_memory_on_the_device_does_not_grow_with_the_height(tmp_path: Path) -> None:
    source, peaks = tiny_source(channels=2), []
    for rows in (4, 16):
        atlas = tiny_atlas(tmp_path / f"{rows}.zarr", (32 * rows, 32), 2)
        box = Box(0, rows, 0, 1)
        peaks.append(device_peak(source, atlas, 1, box, box, 2))
    assert peaks[0] == peaks[1]


# ------------------------------------------------------------------------------------------------ the command


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        run_cli(app, ["plan", *map(str, arguments)])
    out = capsys.readouterr()
    return int(stopped.value.code or 0), out.out, out.err


def test_the_command(atlas: Brain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = SOURCE.network
    assert isinstance(network, NetworkConfig)
    info = ModelInfo(network, SOURCE.panel, SOURCE.stains, SOURCE.pixel_size_um, {"lineage": []})
    save_checkpoint(tmp_path / "run", info, SOURCE.model.state_dict())
    given_ = ("--atlas", atlas.url, "--checkpoint", tmp_path / "run", "--steps", 2, "--device", "cpu")
    code, out, err = command(capsys, *given_)
    assert code == 0, err
    for word in (
        "units     2: 2 windows in 1 strip of 9 tiles",
        "126 of 126",
        "FLOP",
        "on one device (cpu)",
    ):
        assert word in out
    code, out, _ = command(capsys, *given_, "--tissue-only", "--device-tflops", 0.5, "--json")
    found = json.loads(out)
    assert found["tiles_made"] < found["tiles"] == 126
    assert found["time"]["seconds"] == pytest.approx(found["flop"] / 5e11)
    elsewhere = (*given_[:-2], "--device", "cuda", "--device-tflops", 0.5)
    code, out, err = command(capsys, *elsewhere, "--memory", "4GiB", "--compile", "--json")
    assert code == 0, err
    gpu = json.loads(out)
    assert gpu["batch"] == 64 and found["batch"] == 8
    folded = gpu["flop"] / (gpu["counts"]["encode_batches"] * 64)
    assert folded < 0.9 * found["flop"] / (found["counts"]["encode_batches"] * 8)
    code, _, err = command(capsys, *elsewhere)
    assert code == 2 and "the memory of a GPU elsewhere is not known" in err and "Pass --memory" in err
    code, _, err = command(capsys, "--simulate", "--compile")
    assert code == 2 and "--compile and --simulate exclude each other" in err
    code, _, err = command(capsys, *given_, "--memory", "1MiB")
    assert code == 2
    assert "does not fit the memory budget" in err and "Pass --memory" in err


def test_strips_cost_their_overlap() -> None:
    """Design section 5: 14 / W more tile-steps for a strip of W tiles at 15 steps."""
    known = Box(0, 100, 0, 4 * 64)
    whole = Layout(known, known, 64, 4096)
    found = [
        count_unit(whole, Unit(WINDOW, range(a, b)), [Box(0, 6400, a * 64, b * 64)], 15, 16)
        for a, b in pairwise((0, 64, 128, 192, 256))
    ]
    inner = found[1].decoded / (64 * 100 * 15)
    assert inner == pytest.approx(1 + 14 / 64, rel=1e-3)
