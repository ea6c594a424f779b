"""The benchmark's baseline, the published loop: the same picture as our samplers', for more work, through files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from teramind_model.diffusion.ddim import sample_canvas
from teramind_model.diffusion.steps import ddim_steps
from teramind_model.network import NetworkConfig
from teramind_model.network.cost import count_work
from tests.benchmarks import generate
from tests.benchmarks.generation_clock import Calls, Span, counted_calls
from tests.benchmarks.generation_contestants import (
    CONTESTANTS,
    Contestant,
    Result,
    Task,
    make_task,
    random_network,
    run_contestant,
)
from tests.benchmarks.generation_figures import BRAIN_TILE_STEPS, Machine, figures, with_ratios
from tests.benchmarks.published_loop import PublishedLoop, TileFiles
from tests.test_imports import ABSENT, run_python

TINY = NetworkConfig(6, channels=4, gene_widths=(8, 4, 2), time_width=16, patch=32, dropout=0.0)
CPU = torch.device("cpu")
STEPS = 2
WORDS = "--device cpu --channels 4 --genes 5 --patch 32 --canvas 128x128 --steps 1 --rounds 1"


@pytest.fixture(scope="module")
def task() -> Task:
    """1 x 2 tiles of 128 px, 4 x 4 patches each."""
    return make_task(random_network(TINY), (128, 256), STEPS, CPU, torch.float32)


@pytest.fixture(scope="module")
def step(task: Task) -> Task:
    """One step of it, from t = 0: x_0 is not yet a picture, but all of the work is there."""
    return replace(task, steps=ddim_steps(1))


@pytest.fixture(scope="module")
def stepped(step: Task) -> torch.Tensor:
    return sample_canvas(step.model, step.counts, step.x_T, 1)


def published(task: Task, folder: Path | None, batch: int) -> torch.Tensor:
    files = TileFiles(folder, (1, 2), torch.float32)
    loop = PublishedLoop(task.model, task.counts, task.steps, batch)
    loop.begin(files, task.x_T)
    return loop.run(files)


def test_the_published_loop_makes_the_same_picture(task: Task, tmp_path: Path) -> None:
    whole = sample_canvas(task.model, task.counts, task.x_T, STEPS)
    assert whole.std() > 0.1  # a picture, not a constant
    torch.testing.assert_close(published(task, tmp_path, 2), whole, atol=1e-4, rtol=0)
    assert len(list(tmp_path.iterdir())) == 2  # of the last step alone


def test_tiles_are_read_with_their_neighbours(tmp_path: Path) -> None:
    canvas = torch.arange(2 * 24 * 36, dtype=torch.float32).view(2, 24, 36)
    files = TileFiles(tmp_path, (2, 3), torch.float32)
    for row in range(2):
        for column in range(3):
            files.write(4, (row, column), canvas[:, row * 12 : row * 12 + 12, column * 12 : column * 12 + 12])
    padded = torch.nn.functional.pad(canvas, (5,) * 4, value=-1.0)
    for row, column in ((0, 0), (1, 2), (0, 1)):
        y, x = row * 12, column * 12
        assert torch.equal(files.read(4, (row, column), 5), padded[:, y : y + 22, x : x + 22])
    files.forget(4)
    assert not list(tmp_path.iterdir())


def test_it_does_the_work_of_the_published_code_and_no_more(step: Task, stepped: torch.Tensor) -> None:
    """A tile and step: 25 patches through genes, encoder and both decoders, and 16 of the collage."""
    with counted_calls(step.model, CPU) as calls, FlopCounterMode(display=False) as counter:
        made = published(step, None, 1)
    torch.testing.assert_close(made, stepped, atol=1e-4, rtol=0)
    tiles = 2
    assert calls.places == {"gene_features": 25 * tiles, "encode": 25 * tiles, "decode": 41 * tiles}
    work = count_work(TINY)
    expected = tiles * (25 * (work.gene_branch + work.encoder) + 41 * work.decoder)
    # The counter does not know the CPU's kernel of attention; on the meta device, where work is counted, it does.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.03)
    with FlopCounterMode(display=False) as ours:
        sample_canvas(step.model, step.counts, step.x_T, 1)
    assert counter.get_total_flops() > 1.9 * ours.get_total_flops()
    assert expected / (16 * tiles) > 2 * work.tile_step


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.name)
def test_contestants_make_the_same_picture(
    contestant: Contestant, step: Task, stepped: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's too, but for the compiler, which takes long: `--rehearse` goes through it."""
    compiled: list[object] = []

    def compile_nothing(function: Callable[..., object], **options: object) -> Callable[..., object]:
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    through_files = contestant.name == "published"
    run = run_contestant(contestant, step, 2 if through_files else 8)
    # Stored in 16 bits between steps, a few pixels near the ends of the range differ by more than the mean.
    difference = (run.picture - stepped).abs()
    assert difference.mean() < (1e-3 if through_files else 1e-6)
    assert difference.max() < (0.05 if through_files else 1e-4)
    assert (run.storage.wall > 0) == through_files
    assert run.calls.places["encode"] >= 45
    assert run.total.wall > run.calls.spans["decode"].wall > 0
    assert run.peak > 0
    assert len(compiled) == (2 if "compiled" in contestant.name else 0)  # encoder and decoder
    # The network is left as it was.
    assert not any(getattr(module, "fold", False) for module in step.model.modules())
    assert not {"gene_features", "encode", "decode"} & set(vars(step.model))


def test_figures_from_times(task: Task) -> None:
    """Made-up times: what is asked of the clock, and what is computed."""
    work = count_work(TINY)

    def result(encode: int, decode: int, seconds: float, storage: float) -> Result:
        places = {"gene_features": 90, "encode": encode, "decode": decode}
        wall = {"gene_features": 0.9, "encode": encode / 100, "decode": decode / 50}
        spans = {name: Span(seconds, 9) for name, seconds in wall.items()}
        return Result(torch.zeros(1), Span(seconds, 9), Span(storage, 9), Calls(places, spans), 5)

    machine = Machine(peak_wall=1e9, peak_cpu=1.0, by="wall")
    tile_steps = 32 * STEPS
    base = figures(CONTESTANTS[0], [result(300, 492, 40.0, 4.0)], task, work, machine)
    assert base["seconds"] == pytest.approx(40 / tile_steps)
    assert base["steady_seconds"] == base["seconds_without_storage"] == pytest.approx(36 / tile_steps)
    assert base["storage_share"] == 0.1
    slow, quick = result(240, 200, 30.0, 0.0), result(240, 200, 8.3, 0.0)
    found = with_ratios(figures(CONTESTANTS[2], [slow, quick], task, work, machine), base)
    assert found["ratio_with_storage"] == pytest.approx(40 / 8.3)
    assert found["ratio"] == pytest.approx(36 / 8.3)
    # 8.3 s less 0.9, 2.4 and 4 of the network leave 1 s.
    assert found["steady_seconds"] == pytest.approx(0.01 + 0.02 + 0.01 / 15 + 1 / tile_steps)
    assert found["steady_flop"] == work.tile_step + work.gene_branch / 15
    assert found["brain_hours"] == pytest.approx(found["steady_seconds"] * BRAIN_TILE_STEPS / 3600)
    assert BRAIN_TILE_STEPS == 710_424_000


def test_it_runs_with_torch_numpy_and_zarr_alone_and_says_what_it_skips(tmp_path: Path) -> None:
    code = """
        import sys
        words, *absent = sys.argv[1:]
        for missing in absent:
            sys.modules[missing] = None
        from tests.benchmarks.generate import main
        main(words.split())
    """
    shown = run_python(code, f"{WORDS} --json {tmp_path / 'found.json'}", *sorted(ABSENT))
    assert "| steady state |" in shown
    assert "skipped: wavefront, folded, compiled: torch.compile takes" in shown
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in found["contestants"]] == [c.name for c in CONTESTANTS[:4]]
    assert set(found["skipped"]) == {c.name for c in CONTESTANTS[4:]}
    assert all(mean < 1e-3 for mean in found["checks"].values())


def test_nothing_begins_that_would_not_end_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "matmul_peak", lambda *_: (1e9, 1e9))
    assert generate.main([*WORDS.split(), "--budget", "0.0001"]) == 0
    assert "skipped: wavefront: 0 s of the budget left" in capsys.readouterr().out


def test_another_picture_is_an_error() -> None:
    found = {"dtype": "torch.float32", "skipped": {}, "checks": {"wavefront": 0.2}}
    with pytest.raises(
        AssertionError, match="wavefront: another picture than the published loop's, 0.2 apart"
    ):
        generate.tell(found)


def test_without_the_device_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert generate.main(["--device", "cuda"]) == 2
    assert "no CUDA device; --device cpu" in capsys.readouterr().err
