"""Generation: the store it makes, against the sampler by hand; resuming; refusals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from teramind_data.console import run_cli
from teramind_data.errors import InputError, OutputExistsError, PanelError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.panel import Panel
from teramind_data.store import Brain, open_brain, store_state
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.diffusion.ddim import OUTSIDE, sample_canvas, to_uint8
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.steps import carried, ddim_steps, sampler_steps
from teramind_model.generate import GenerateConfig, RunOptions, Source, generate
from teramind_model.generate.budget import Work, check_memory, unit_memory, window_memory
from teramind_model.generate.config import WatchOptions, parse_memory, parse_roi, parse_sections
from teramind_model.generate.units import Layout, choose_strip
from teramind_model.network import NetworkConfig, TeraMind
from tests.model.tiny import ATLAS_GENES, GENES, PIXEL_UM, tiny_atlas, tiny_source

STEPS = 2


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr")


@pytest.fixture(scope="module")
def odd_atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Neither edge is whole patches."""
    return tiny_atlas(tmp_path_factory.mktemp("odd") / "atlas.zarr", canvas=(48, 80), sections=2)


@pytest.fixture(scope="module")
def source() -> Source:
    return tiny_source()


def make(atlas: Brain, out: Path, source: Source, **options: object) -> Brain:
    config = GenerateConfig(atlas.url, "tiny", str(out), **{"steps": STEPS, **options})  # type: ignore[arg-type]
    return generate(config, source, say=lambda line: None)


def counts_by_hand(atlas: Brain, sections: list[int], box: Box, halo: int) -> torch.Tensor:
    """Counts ``(S, n, h + 2 halo, w + 2 halo)`` over ``box`` (bins) and around it, zeros outside the atlas."""
    rows = [ATLAS_GENES.index(gene) for gene in GENES]
    everything = np.asarray(atlas.expression[:])[rows].astype(np.float32)
    _, depth, height, width = everything.shape
    out = np.zeros((len(sections), len(GENES), box.height + 2 * halo, box.width + 2 * halo), np.float32)
    for slot, z in enumerate(sections):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                y, x = box.y0 - halo + i, box.x0 - halo + j
                if 0 <= z < depth and 0 <= y < height and 0 <= x < width:
                    out[slot, :, i, j] = everything[:, z, y, x]
    return torch.from_numpy(out)


def slow_canvas(
    model: TeraMind, counts: torch.Tensor, x: torch.Tensor, inside: tuple[int, int]
) -> torch.Tensor:
    """The sampler tile by tile, each through the network's public 2 x 2 call; -1 outside ``inside``."""
    edge, g = model.config.patch, model.config.bins
    hidden = torch.ones(x.shape[-2:], dtype=torch.bool)
    hidden[: inside[0], : inside[1]] = False
    x = x.clone()
    x[:, hidden] = OUTSIDE
    for step in ddim_steps(STEPS):
        padded = torch.full((x.shape[0], x.shape[1] + edge, x.shape[2] + edge), OUTSIDE)
        padded[:, edge // 2 : -edge // 2, edge // 2 : -edge // 2] = x
        eps = torch.full_like(x, torch.nan)
        for y in range(0, x.shape[1], edge):
            for left in range(0, x.shape[2], edge):
                corners = [(y + dy, left + dx) for dy in (0, edge) for dx in (0, edge)]
                patches = torch.stack([padded[:, a : a + edge, b : b + edge] for a, b in corners])
                bins = [(a // BIN_PX, b // BIN_PX) for a, b in corners]
                genes = torch.stack([counts[..., a : a + g, b : b + g] for a, b in bins])
                with torch.inference_mode():
                    _, tile = model(patches, torch.tensor([step.t]), genes)
                eps[:, y : y + edge, left : left + edge] = tile[0]
        x = step.apply(x, eps)
        x[:, hidden] = OUTSIDE
    return x


def noise(sections: list[int], box: Box, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(start_noise(seed, sections, [0, 1], box)).flatten(0, 1)


STRAIGHTFORWARD = RunOptions(engine="straightforward")


def strips_of_one_band(source: Source, canvas: tuple[int, int], batch: int) -> RunOptions:
    """Options whose memory does for strips of one band, and no wider."""
    network = source.network
    assert isinstance(network, NetworkConfig)
    tiles = Box.from_shape(canvas).coarsen(32)
    layout = Layout(tiles, tiles, 32, 64)
    work = Work(network, network.genes, network.gene_slices, STEPS, batch)
    options = RunOptions(batch=batch, memory=unit_memory(work, 2, layout.region.width, layout.band))
    assert choose_strip(work, layout, options.memory) == 1
    assert len(list(layout.strips(1))) == 2
    return options


@pytest.mark.parametrize("kind", ["straightforward", "one strip", "two strips"])
def test_store_equals_the_sampler_by_hand(atlas: Brain, source: Source, tmp_path: Path, kind: str) -> None:
    run = STRAIGHTFORWARD if kind == "straightforward" else RunOptions()
    run = strips_of_one_band(source, atlas.canvas, 3) if kind == "two strips" else run
    made = make(atlas, tmp_path / "g.zarr", source, run=run)
    whole = Box.from_shape(atlas.canvas)
    for first in (0, 2):
        counts = counts_by_hand(atlas, [first - 1, first, first + 1, first + 2], whole.coarsen(BIN_PX), 1)
        x = sample_canvas(source.model, counts, noise([first, first + 1], whole), STEPS)
        expected = to_uint8(x).unflatten(0, (2, 2)).numpy()
        for slot in range(2):
            # Section 3 does not exist: the last window's surplus slice is discarded.
            if first + slot < atlas.n_sections:
                image = made.read("morphology", first + slot)
                if run.engine == "straightforward":
                    np.testing.assert_array_equal(image, expected[:, slot])
                # A difference in the last bits may fall on the border between two grey levels.
                difference = np.abs(image.astype(int) - expected[:, slot])
                assert difference.max() <= 1
                assert (difference > 0).mean() < 1e-3
    assert ((expected > 0) & (expected < 255)).mean() > 0.02, "all saturated: the comparison would be weak"


def test_sampler_keeps_minus_one_outside_the_canvas(source: Source, odd_atlas: Brain) -> None:
    box = Box(0, 64, 0, 96)
    counts = counts_by_hand(odd_atlas, [-1, 0, 1, 2], box.coarsen(BIN_PX), 1)
    x_T = noise([0, 1], box)
    seen: list[int] = []
    fast = sample_canvas(source.model, counts, x_T, STEPS, inside=(48, 80), on_row=seen.append)
    slow = slow_canvas(source.model, counts, x_T, (48, 80))
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-4)
    assert (fast[:, 48:] == OUTSIDE).all()
    assert (fast[..., 80:] == OUTSIDE).all()
    assert seen == [3] * 2 * STEPS
    filled = sample_canvas(source.model, counts, x_T, STEPS)
    assert (filled[:, :48, :80] - fast[:, :48, :80]).abs().max() > 1e-2, "what lies outside must matter"


def test_canvas_of_no_whole_tiles(source: Source, odd_atlas: Brain, tmp_path: Path) -> None:
    made = make(odd_atlas, tmp_path / "g.zarr", source)
    box = Box(0, 64, 0, 96)
    counts = counts_by_hand(odd_atlas, [-1, 0, 1, 2], box.coarsen(BIN_PX), 1)
    x = sample_canvas(source.model, counts, noise([0, 1], box), STEPS, inside=(48, 80))
    expected = to_uint8(x).unflatten(0, (2, 2)).numpy()[..., :48, :80]
    np.testing.assert_array_equal(np.asarray(made.morphology[:]), expected)


def test_region_is_grown_to_tiles_and_black_outside(atlas: Brain, source: Source, tmp_path: Path) -> None:
    made = make(atlas, tmp_path / "g.zarr", source, roi=Box(40, 60, 33, 90), sections=(0, 2))
    box = Box(32, 64, 32, 96)
    # Around the region the atlas's own genes, and an image of -1.
    counts = counts_by_hand(atlas, [-1, 0, 1, 2], box.coarsen(BIN_PX), 1)
    x = slow_canvas(source.model, counts, noise([0, 1], box), box.shape)
    found = np.asarray(made.morphology[:]).astype(int)
    expected = to_uint8(x).unflatten(0, (2, 2)).numpy().astype(int)
    assert np.abs(found[..., 32:64, 32:96] - expected).max() <= 1
    found[..., 32:64, 32:96] = 0
    assert not found.any()


def test_part_of_the_sections_equals_the_whole(atlas: Brain, source: Source, tmp_path: Path) -> None:
    whole = make(atlas, tmp_path / "whole.zarr", source)
    part = make(atlas, tmp_path / "part.zarr", source, sections=(1, 3))
    assert [s.name for s in part.sections] == ["s01", "s02"]
    np.testing.assert_array_equal(np.asarray(part.morphology[:]), np.asarray(whole.morphology[:])[:, 1:])


@pytest.mark.parametrize("gene_slices", [1, 8])
def test_other_numbers_of_slices(atlas: Brain, tmp_path: Path, gene_slices: int) -> None:
    source = tiny_source(gene_slices=gene_slices, channels=2)
    made = make(atlas, tmp_path / "g.zarr", source, steps=1, roi=Box(0, 32, 0, 32))
    depth = source.model.config.image_slices
    counts = counts_by_hand(
        atlas, [z - (gene_slices - depth) // 2 for z in range(gene_slices)], Box(0, 2, 0, 2), 1
    )
    x = sample_canvas(source.model, counts, noise(list(range(depth)), Box(0, 32, 0, 32)), 1)
    expected = to_uint8(x).unflatten(0, (2, depth)).numpy()
    some = min(depth, atlas.n_sections)
    np.testing.assert_array_equal(np.asarray(made.morphology[:])[:, :some, :32, :32], expected[:, :some])


def test_seed_decides(atlas: Brain, source: Source, tmp_path: Path) -> None:
    options = {"roi": Box(0, 32, 0, 64), "sections": (0, 1), "steps": 1}
    first, again, other = (
        np.asarray(make(atlas, tmp_path / f"{name}.zarr", source, seed=seed, **options).morphology[:])
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.1


def arrays(store: Path) -> dict[str, bytes]:
    """All files below a store but its root metadata, which holds times."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path != store / "zarr.json"
    }


def test_restart_equals_the_straight_run(
    atlas: Brain, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from teramind_model.generate import sampling

    straight, stopped = tmp_path / "straight.zarr", tmp_path / "stopped.zarr"
    make(atlas, straight, source, run=STRAIGHTFORWARD)
    made: list[int] = []

    def counting(original: object, limit: int) -> object:
        def window(self: sampling.Sampler, window: object, on_row: object = None) -> object:
            if len(made) == limit:
                raise KeyboardInterrupt
            made.append(window.index)  # type: ignore[attr-defined]
            return original(self, window, on_row)  # type: ignore[operator]

        return window

    original = sampling.Sampler.window
    monkeypatch.setattr(sampling.Sampler, "window", counting(original, 1))
    with pytest.raises(KeyboardInterrupt):
        make(atlas, stopped, source, run=STRAIGHTFORWARD)
    assert store_state(stopped) == "incomplete"
    with pytest.raises(OutputExistsError, match=r"another seed \(0, not 9\).*Pass what it was begun with"):
        make(atlas, stopped, source, run=STRAIGHTFORWARD, seed=9)
    monkeypatch.setattr(sampling.Sampler, "window", counting(original, 99))
    make(atlas, stopped, source, run=STRAIGHTFORWARD)
    assert made == [0, 1], "the finished window was made again"
    assert arrays(stopped) == arrays(straight)


@pytest.mark.parametrize(
    ("name", "calls"), [("write", 0), ("write", 8), ("write", 15), ("add_labels", 1), ("finish", 0)]
)
def test_stopped_at_any_write_it_resumes(
    atlas: Brain, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, calls: int
) -> None:
    from teramind_data.store import BrainWriter

    options = {"roi": Box(0, 32, 0, 32), "steps": 1}
    straight, stopped = tmp_path / "straight.zarr", tmp_path / "stopped.zarr"
    make(atlas, straight, source, **options)
    original, seen = getattr(BrainWriter, name), [0]

    def failing(self: BrainWriter, *arguments: object, **keywords: object) -> object:
        if seen[0] == calls:
            raise OSError("no space left on device")
        seen[0] += 1
        return original(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(BrainWriter, name, failing)
        with pytest.raises(OSError, match="no space left"):
            make(atlas, stopped, source, **options)
    assert store_state(stopped) == "incomplete"
    make(atlas, stopped, source, **options)
    assert store_state(stopped) == "complete"
    assert arrays(stopped) == arrays(straight)


@pytest.mark.parametrize("strips_wanted", [1, 2])
def test_a_wavefront_stopped_goes_on_at_its_unfinished_shards(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strips_wanted: int
) -> None:
    """The same bytes, each shard written once, and no more network work than the unfinished bands and their lead-in."""
    from teramind_data.store import BrainWriter
    from teramind_model.generate import strips

    tall = tiny_atlas(tmp_path / "tall.zarr", canvas=(64 * 3, 128), sections=1)
    run = RunOptions(batch=4) if strips_wanted == 1 else strips_of_one_band(source, tall.canvas, 4)
    straight, stopped = tmp_path / "straight.zarr", tmp_path / "stopped.zarr"
    whole = make(tall, straight, source, run=run).provenance["run"]
    assert whole["shards_written"] == 3 * 2
    original, written = BrainWriter.write, 0

    def failing(self: BrainWriter, name: str, *arguments: object) -> object:
        nonlocal written
        written += name == "morphology"
        if written == 4:
            raise KeyboardInterrupt
        return original(self, name, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(strips.BrainWriter, "write", failing)
        with pytest.raises(KeyboardInterrupt):
            make(tall, stopped, source, run=run)
    again = make(tall, stopped, source, run=run).provenance["run"]
    assert again["shards_written"] == whole["shards_written"] - 3
    assert again["tile_steps"] < whole["tile_steps"]
    assert arrays(stopped) == arrays(straight)


def test_another_batch_is_another_request(atlas: Brain, source: Source, tmp_path: Path) -> None:
    make(atlas, tmp_path / "g.zarr", source)
    with pytest.raises(OutputExistsError, match=r"another batch \(\d+, not 5\)"):
        make(atlas, tmp_path / "g.zarr", source, run=RunOptions(batch=5))


def test_bfloat16_is_near(atlas: Brain, source: Source, tmp_path: Path) -> None:
    options = {"roi": Box(0, 32, 0, 64), "sections": (0, 1)}
    exact = np.asarray(make(atlas, tmp_path / "a.zarr", source, **options).morphology[:]).astype(int)
    lower = make(atlas, tmp_path / "b.zarr", source, **options, run=RunOptions(precision="bfloat16", batch=2))
    assert lower.provenance["request"]["precision"] == "bfloat16"
    difference = np.abs(np.asarray(lower.morphology[:]) - exact)[:, 0, :32, :64]
    assert 0 < difference.mean() < 4


def test_complete_and_identical_is_up_to_date(atlas: Brain, source: Source, tmp_path: Path) -> None:
    out = tmp_path / "g.zarr"
    options = {"roi": Box(0, 32, 0, 32), "sections": (0, 1), "steps": 1}
    make(atlas, out, source, **options)
    before = (out / "zarr.json").read_bytes()
    lines: list[str] = []
    config = GenerateConfig(atlas.url, "tiny", str(out), **options)  # type: ignore[arg-type]
    generate(config, source, say=lines.append)
    assert len(lines) == 1
    assert "up to date" in lines[0]
    assert (out / "zarr.json").read_bytes() == before
    for change in ({"seed": 1}, {"control": "shuffled"}, {"steps": 2}):
        with pytest.raises(OutputExistsError, match="another " + next(iter(change))):
            make(atlas, out, source, **{**options, **change})
    replaced = make(atlas, out, source, **{**options, "seed": 1}, run=RunOptions(overwrite=True))
    assert replaced.provenance["seed"] == 1


@pytest.mark.filterwarnings("ignore")  # of spatialdata's own imports
def test_store_is_of_the_contract_and_says_where_it_came_from(
    atlas: Brain, source: Source, tmp_path: Path
) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    out = tmp_path / "g.zarr"
    made = make(atlas, out, source, seed=11, roi=Box(0, 64, 0, 64), steps=1)
    assert made.kind == "generated"
    assert made.panel == source.panel
    assert made.canvas == atlas.canvas
    np.testing.assert_array_equal(np.asarray(made.tissue), np.asarray(atlas.tissue))
    np.testing.assert_array_equal(np.asarray(made.regions), np.asarray(atlas.regions))
    assert made.region_names == atlas.region_names
    told = made.provenance
    assert told["seed"] == 11
    assert told["steps"] == 1
    assert told["sampler"]["name"] == "ddim"
    assert told["checkpoint"]["sha256"] == "tiny-0"
    assert told["checkpoint"]["training"]["lineage"] == [{"stage": "random"}]
    assert told["atlas"]["url"] == atlas.url
    assert len(told["atlas"]["fingerprint"]) == 64
    assert {"python", "torch", "numpy", "teramind-model"} <= set(told["software"])
    assert told["run"]["wall_time_s"] > 0
    data = spatialdata.read_zarr(out)
    assert data["morphology"].shape == (2, 3, *atlas.canvas)
    assert list(data["sections"].obs_names) == [s.name for s in atlas.sections]
    assert len(open_brain(out).levels("morphology")) == len(atlas.levels("morphology"))


# ------------------------------------------------------------------------------------------------ refusals


def checkpoint(
    path: Path, source: Source, genes: tuple[str, ...] = GENES, pixel_size_um: float = PIXEL_UM
) -> Path:
    info = ModelInfo(source.model.config, Panel(genes), source.stains, pixel_size_um, {"lineage": []})
    save_checkpoint(path, info, source.model.state_dict())
    return path


def run_main(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of ``teramind-model generate``."""
    import typer

    from teramind_model.commands import generate as command

    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    with pytest.raises(SystemExit) as exit_:
        run_cli(app, ["generate", *map(str, arguments)])
    return int(exit_.value.code or 0), capsys.readouterr().err


def test_command_end_to_end(
    atlas: Brain, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "run", source)
    arguments = ("--atlas", atlas.url, "--checkpoint", run, "--out", tmp_path / "g.zarr", "--steps", "1")
    arguments += ("--roi", "0:32,0:32", "--sections", "0:1", "--device", "cpu", "--genes-from", "neighbour")
    code, err = run_main(capsys, *arguments)
    assert code == 0, err
    assert "4/4 tile-steps" in err or "1/1 tile-steps" in err
    told = open_brain(tmp_path / "g.zarr").provenance
    assert told["control"]["kind"] == "neighbour"
    assert len(told["checkpoint"]["sha256"]) == 64
    code, err = run_main(capsys, *arguments)
    assert (code, err.count("\n")) == (0, 1)
    assert "up to date" in err


@pytest.mark.parametrize(
    ("checkpoint_options", "options", "words"),
    [
        ({"genes": (*GENES[:3], "Pvalb", "Sst")}, (), ("Pvalb", "Sst", "atlas lacks genes")),
        ({"pixel_size_um": 0.108}, (), ("pixel size", "0.108 um", "0.432 um")),
        ({}, ("--memory", "1MiB"), ("does not fit", "Pass --memory")),
        ({}, ("--steps", "501"), ("501",)),
        ({}, ("--sections", "1:9"), ("sections", "1:9")),
        ({}, ("--roi", "0:999,0:32"), ("region",)),
        ({}, ("--roi", "5"), ("region cannot be read",)),
        ({}, ("--device", "abacus"), ("device",)),
        ({}, ("--device", "meta"), ("unknown device", "meta")),
        ({}, ("--device", "mps"), ("unknown device", "mps")),
        ({}, ("--device", "cuda:99"), ("no such device here", "cuda:99")),
        ({}, ("--shuffle-tile", "32"), ("--shuffle-tile is for --shuffle-genes",)),
        ({}, ("--strata", "2"), ("--strata is for --shuffle-genes",)),
        ({}, ("--shuffle-genes", "--genes-from", "neighbour"), ("exclude",)),
        ({}, ("--shuffle-genes", "--shuffle-tile", "20"), ("multiple of 16",)),
    ],
)
def test_bad_requests_are_one_line_and_leave_nothing(
    atlas: Brain,
    source: Source,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    checkpoint_options: dict[str, object],
    options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    run = checkpoint(tmp_path / "run", source, **checkpoint_options)  # type: ignore[arg-type]
    out = tmp_path / "g.zarr"
    code, err = run_main(capsys, "--atlas", atlas.url, "--checkpoint", run, "--out", out, *options)
    assert code == 2
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    for word in words:
        assert word in err
    assert not out.exists()


def test_what_is_not_ours_stays(atlas: Brain, source: Source, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="no store of ours"):
            make(atlas, out, source, run=RunOptions(overwrite=overwrite))
    assert (out / "chapter1.txt").read_text() == "years of work"


def test_missing_genes_are_named(atlas: Brain, source: Source) -> None:
    from dataclasses import replace

    with pytest.raises(PanelError, match="Pvalb"):
        replace(source, panel=Panel((*GENES[:4], "Pvalb"))).gene_positions(atlas)
    assert [ATLAS_GENES[i] for i in source.gene_positions(atlas)] == list(GENES)


@pytest.mark.parametrize("text", ["", "3", "5:5", "6:2", "a:b", "-1:2"])
def test_sections_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="sections cannot be read"):
        parse_sections(text)


def test_options_are_read() -> None:
    assert parse_sections("2:5") == (2, 5)
    assert parse_roi("0:512, 256:768") == Box(0, 512, 256, 768)
    assert [parse_memory(t) for t in ("4GiB", "1.5g", "800MB", "77")] == [4 << 30, 3 << 29, 800 << 20, 77]
    with pytest.raises(InputError, match="memory"):
        parse_memory("lots")


# ------------------------------------------------------------------------------------------------ memory

_MEASURE = """
import sys
from pathlib import Path
import torch
from teramind_model.generate.units import Layout, choose_strip
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.diffusion.ddim import sample_canvas
from teramind_model.diffusion.steps import sampler_steps

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

torch.set_num_threads(1)
rows, columns, config = int(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
model = TeraMind(config).eval()

def run(rows, columns):
    g = config.bins
    counts = torch.ones(config.gene_slices, config.genes, g * (rows + 1), g * (columns + 1))
    x = torch.randn(config.stains * config.image_slices, config.patch * rows, config.patch * columns)
    sample_canvas(model, counts, x, sampler_steps(sys.argv[4], int(sys.argv[5])))

run(1, 1)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
before = status("VmRSS")
run(rows, columns)
print(status("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("rows", "columns", "genes", "sampler", "steps"),
    [(12, 12, 40, "ddim", 1), (2, 24, 8, "ddim", 1), (6, 12, 8, "dpmpp-2m", 2)],
)
def test_memory_estimate_against_measurement(
    rows: int, columns: int, genes: int, sampler: str, steps: int
) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory of a stretch of a process is read from Linux's /proc")
    network = NetworkConfig(genes=genes, patch=32, channels=8, gene_widths=(16, 8, 4), time_width=64)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(rows), str(columns), repr(network), sampler, str(steps)],
        capture_output=True,
        text=True,
        check=True,
    )
    history = carried(sampler_steps(sampler, steps))
    measured, estimate = int(done.stdout), window_memory(network, (rows, columns), history).total
    # It must not promise too little; the allocator's own share varies by some MiB.
    assert 0.9 * measured - (8 << 20) < estimate < 2 * measured, (estimate >> 20, measured >> 20)


def test_memory_is_refused_with_number_and_remedy() -> None:
    network = NetworkConfig(genes=229)
    box = Box(0, 73216, 0, 105984)
    with pytest.raises(InputError, match=r"about [\d.]+ GiB.*--memory [\d.]+GiB.*--roi") as error:
        check_memory(network, box, 4 << 30)
    assert "\n" not in str(error.value)
    # What is offered is enough.
    offered = parse_memory(str(error.value).split("--memory ")[1].split(",")[0])
    assert check_memory(network, box, offered).total <= offered


def test_a_store_that_is_read_is_never_the_output(atlas: Brain, source: Source, tmp_path: Path) -> None:
    real = tmp_path / "a.zarr"
    shutil.copytree(atlas.url, real)
    (tmp_path / "link.zarr").symlink_to(real)
    before = arrays(real)
    run = RunOptions(overwrite=True)
    for read, out in ((real, real), (real, tmp_path / "link.zarr"), (tmp_path / "x" / ".." / "a.zarr", real)):
        with pytest.raises(InputError, match="--out is the store that --atlas reads"):
            generate(GenerateConfig(str(read), "tiny", str(out), run=run), source)
    watch = WatchOptions(None, str(real))
    with pytest.raises(InputError, match="--out is the store that --compare-with reads"):
        generate(GenerateConfig(atlas.url, "tiny", str(real), run=run, watch=watch), source)
    assert arrays(real) == before
