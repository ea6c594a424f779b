"""Generation beside the published loop: one process, the same weights, the same canvas.

    python -m tests.benchmarks.generate --device cpu|cuda [--json FILE] [--canvas 256x256] [--steps 2] [--channels 64]
        [--rounds 2] [--threads 2] [--budget 420] [--by wall|cpu] [--batches 8,128] [--only NAME+NAME] [--rehearse]

Makes its own network and data; needs torch, numpy and zarr. Contestants (`generation_contestants`) take turns, in one
order and back, and the least time of each counts. It ends by itself: none is begun that would not end within the
budget, and what is under way half a minute after it is broken off. `--rehearse` takes the CUDA contestants' way on the
CPU, compiling with the backend that makes no code.

"As run" is the whole canvas, on which each row has one patch more than tiles, the pipeline fills and empties, and
batches have idle places. "Steady state" is the same run's time a call of the network, a patch encoded and a tile
decoded a step, gene features shared by 15 steps, and the rest as it was: the inside of a wide strip, which is nearly
all of a brain. What strips overlap (14 tiles each, 2.7 % at 512) is not in it, nor is reading the atlas and writing the
result.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from teramind_model.generate.config import RunOptions
from teramind_model.network import NetworkConfig
from teramind_model.network.cost import count_work
from tests.benchmarks.generation_clock import matmul_peak
from tests.benchmarks.generation_contestants import (
    CONTESTANTS,
    Contestant,
    Result,
    Task,
    make_task,
    random_network,
    run_contestant,
)
from tests.benchmarks.generation_figures import Machine, figures, table, with_ratios

__all__ = ["Options", "benchmark", "main", "tell"]

_GRACE = 30
"""Seconds after the budget at which what is under way is broken off."""

_TOLERANCE = 0.01
"""Largest mean difference, in a range of 2, of pictures computed in float32 and stored in 16 bits between steps."""


class OutOfTime(BaseException):
    """Not an Exception: compilers catch those."""


@dataclass(frozen=True)
class Options:
    """What is run. ``by``: the clock that figures go by. ``batches``: of the published loop and of the others; tried
    out where none. ``only``: these contestants. ``rehearse``: CUDA's on the CPU."""

    network: NetworkConfig
    device: torch.device
    canvas: tuple[int, int]
    steps: int
    rounds: int
    budget: float
    by: str
    dtype: torch.dtype
    batches: tuple[int, ...] = ()
    only: tuple[str, ...] = ()
    rehearse: bool = False


def benchmark(options: Options, json_file: Path | None = None) -> dict[str, Any]:
    """Run all contestants, print tables, and return (and write) the figures."""
    began = time.perf_counter()
    task = make_task(
        random_network(options.network), options.canvas, options.steps, options.device, options.dtype
    )
    _describe(options, task)
    machine = Machine(*matmul_peak(options.device, options.dtype), options.by)
    print(
        f"  matrix product: {machine.peak_wall / 1e9:,.0f} GFLOP/s, {machine.peak_cpu / 1e9:,.0f} a CPU second"
    )
    runs: dict[str, list[Result]] = {}
    skipped: dict[str, str] = {}
    checks: dict[str, float] = {}
    try:
        with _alarm(options.budget + _GRACE):
            if options.device.type == "cuda" or options.rehearse:
                checks["float32, 3 steps"] = _float32_check(options)
            tried = ("published", "wavefront")
            given = dict(zip(tried, options.batches, strict=True)) if options.batches else {}
            batches = given or {name: _best_batch(name, task, options) for name in tried}
            for contestant in _turns(options, skipped):
                left = options.budget - (time.perf_counter() - began)
                _take_turn(contestant, task, batches, left, runs, skipped)
    except OutOfTime:
        print(f"  broken off {_GRACE} s after the budget")
    found = _report(options, task, machine, runs)
    found |= {"skipped": skipped, "checks": checks | _agreement(runs)}
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")
    tell(found)
    return found


def _describe(options: Options, task: Task) -> None:
    c = options.network
    where = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "CPU"
    dtype = str(options.dtype).removeprefix("torch.")
    print(
        f"\ngeneration of {options.canvas[0]} x {options.canvas[1]} px ({task.tiles.area} tiles), "
        f"{options.steps} steps, C = {c.channels}, n = {c.genes}, P = {c.patch}; {where}, {dtype}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; by {options.by} time"
    )


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _turns(options: Options, skipped: dict[str, str]) -> Iterator[Contestant]:
    """Contestants in turn, every second round backwards."""
    able = []
    for contestant in CONTESTANTS:
        if options.only and contestant.name not in options.only:
            continue
        if contestant.cuda_only and options.device.type != "cuda" and not options.rehearse:
            skipped[contestant.name] = contestant.cuda_only
        else:
            able.append(contestant)
    for number in range(options.rounds):
        yield from reversed(able) if number % 2 else able


def _take_turn(
    contestant: Contestant,
    task: Task,
    batches: dict[str, int],
    left: float,
    runs: dict[str, list[Result]],
    skipped: dict[str, str],
) -> None:
    """Run where the time is enough; it is taken to need what it took, or what the quickest other one took."""
    name = contestant.name
    known = [max(run.total.wall for run in made) for made in runs.values()]
    took = max(run.total.wall for run in runs[name]) if name in runs else min(known, default=0.0)
    # Prepared once, whatever turns it takes.
    need = 1.2 * took + (0.0 if name in runs else contestant.seconds)
    if need > left:
        if name not in runs:
            skipped[name] = f"{max(0, left):.0f} s of the budget left, needs about {need:.0f}"
        return
    batch = batches["published" if name == "published" else "wavefront"]
    result = run_contestant(
        contestant, task, batch, warm=task.device.type == "cuda" or contestant.seconds > 0
    )
    runs.setdefault(name, []).append(replace(result, picture=result.picture.cpu()))
    print(
        f"  {name:<42} {result.total.wall:8.2f} s wall {result.total.cpu:8.2f} s CPU"
        f" (storage {result.storage.wall:.2f}, {result.storage.cpu:.2f}), batch {batch}",
        flush=True,
    )


def _best_batch(name: str, task: Task, options: Options) -> int:
    """The quickest of some batches in one step. On a CPU, which any batch fills: one tile of the published loop (25
    patches), one row of the wavefront, so that decoding leaves no place idle, or its default where rows are longer."""
    contestant = next(c for c in CONTESTANTS if c.name == name)
    if task.device.type != "cuda" and not options.rehearse:
        return 1 if name == "published" else min(RunOptions().places, task.tiles.width)
    scale = 1 if name == "published" else 16
    short = replace(task, steps=task.steps[:1])
    best, took = scale, float("inf")
    for factor in (1, 2, 4, 8) if task.device.type == "cuda" else (1, 2):
        try:
            result = run_contestant(contestant, short, scale * factor, warm=True)
        except torch.cuda.OutOfMemoryError:
            print(f"  {name}: a batch of {scale * factor} does not fit")
            break
        # By the place: in a single step most of a large batch is idle, which in all steps together it is not.
        calls = result.calls
        seconds = sum(calls.spans[call].wall / calls.places[call] for call in ("encode", "decode"))
        print(f"  {name}: batch {scale * factor}, {seconds:.4g} s a patch encoded and decoded", flush=True)
        if seconds < took:
            best, took = scale * factor, seconds
    return best


def _float32_check(options: Options) -> float:
    """Mean difference of the two pictures in float32, whatever the precision that is timed."""
    edge = 4 * options.network.patch
    network = random_network(options.network)
    small = make_task(network, (edge, 2 * edge), 3, options.device, torch.float32)
    with torch.backends.cudnn.flags(allow_tf32=False):
        pictures = [run_contestant(c, small, 16).picture for c in CONTESTANTS if c.name in _COMPARED]
    return _difference(pictures[0], pictures[1])


_COMPARED = ("published", "wavefront")


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.cpu().float() - other.cpu().float()).abs().mean().item()


def _agreement(runs: dict[str, list[Result]]) -> dict[str, float]:
    """Mean difference of each contestant's picture from the published loop's."""
    if "published" not in runs:
        return {}
    base = runs["published"][0].picture
    return {name: _difference(made[0].picture, base) for name, made in runs.items() if name != "published"}


def _report(options: Options, task: Task, machine: Machine, runs: dict[str, list[Result]]) -> dict[str, Any]:
    work = {fold: count_work(options.network, fold_z=fold) for fold in (False, True)}
    rows: dict[str, list[dict[str, Any]]] = {}
    for by in ("wall", "cpu"):
        clock = replace(machine, by=by)
        made = [figures(c, runs[c.name], task, work[c.folded], clock) for c in CONTESTANTS if c.name in runs]
        if "published" in runs:
            made = [with_ratios(row, made[0]) for row in made]
        rows[by] = made
    if "published" in runs:
        print(f"\n{table(rows[options.by])}\n")
    device = options.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "network": options.network.to_dict(),
        "canvas": options.canvas,
        "steps": options.steps,
        "dtype": str(options.dtype),
        "by": options.by,
        "matmul_flop_per_second": {"wall": machine.peak_wall, "cpu": machine.peak_cpu},
        "contestants": rows[options.by],
        "by_clock": rows,
    }


def tell(found: dict[str, Any]) -> None:
    """Print what was skipped and how like the pictures are; AssertionError where they are not."""
    for name, reason in found["skipped"].items():
        print(f"  skipped: {name}: {reason}")
    exact = found["dtype"] == "torch.float32"
    for name, mean in found["checks"].items():
        judged = exact or name.startswith("float32")
        verdict = f"at most {_TOLERANCE}" if judged else "not judged: rounding of 16-bit arithmetic"
        print(f"  mean difference from the published loop's picture: {name}: {mean:.2g} ({verdict})")
        if judged and not mean <= _TOLERANCE:
            raise AssertionError(f"{name}: another picture than the published loop's, {mean:.3g} apart")


def _canvas(text: str) -> tuple[int, int]:
    height, width = (int(part) for part in text.split("x"))
    return height, width


def _numbers(text: str) -> tuple[int, ...]:
    published, others = (int(part) for part in text.split(","))
    return published, others


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    if unknown := set(names) - {contestant.name for contestant in CONTESTANTS}:
        raise argparse.ArgumentTypeError(f"no contestant is called {', '.join(sorted(unknown))}")
    return names


def main(words: Sequence[str] | None = None) -> int:
    """Parse and run; 2 where the device is not there."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.generate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument(
        "--canvas", type=_canvas, help="HxW pixels, multiples of 4 P; 256x256, on CUDA 1024x2048"
    )
    parser.add_argument("--steps", type=int, help="2, on CUDA 15")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--genes", type=int, default=229)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--budget", type=float, default=420, help="seconds")
    parser.add_argument("--by", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="float32, on CUDA bfloat16")
    parser.add_argument(
        "--batches", type=_numbers, default=(), help="tiles a batch of the published loop, of the others"
    )
    parser.add_argument("--only", type=_names, default=(), help="contestants, joined by +")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args(words)
    cuda = given.device == "cuda"
    if cuda and not torch.cuda.is_available():
        print(
            "error: no CUDA device; --device cpu, or --device cpu --rehearse for its branches",
            file=sys.stderr,
        )
        return 2
    if given.threads:
        torch.set_num_threads(given.threads)
    options = Options(
        network=NetworkConfig(given.genes, patch=given.patch, channels=given.channels, dropout=0.0),
        device=torch.device(given.device),
        canvas=given.canvas or ((1024, 2048) if cuda else (256, 256)),
        steps=given.steps or (15 if cuda else 2),
        rounds=given.rounds,
        budget=given.budget,
        by=given.by,
        dtype=getattr(torch, given.dtype or ("bfloat16" if cuda else "float32")),
        batches=given.batches,
        only=given.only,
        rehearse=given.rehearse,
    )
    benchmark(options, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
