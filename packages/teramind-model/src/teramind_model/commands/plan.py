"""``teramind-model plan``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from teramind_data.console import counted
from teramind_model.commands.simulating import Simulated, simulate_plan

if TYPE_CHECKING:
    from teramind_model.generate.beside import Beside
    from teramind_model.generate.config import GenerateConfig
    from teramind_model.generate.plan import Plan

__all__ = ["register"]

_HELP = """What a generation will take, before any of it is done: units, memory, bytes, work, and time on this device.

The options are those of generate. What does not fit is refused, with the number and the remedy.

Example:

    teramind-model plan --atlas C.zarr --checkpoint RUN --tissue-only --memory 60GiB
    teramind-model plan --atlas C.zarr --checkpoint RUN --beside G.zarr
    teramind-model plan --simulate --tissue-only --memory 64GiB --steps 3 --restarts 3
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plan", help=_HELP)(command)


def command(
    atlas: Annotated[str | None, typer.Option(help="Store whose genes are read.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Checkpoint, run folder, or 'phantom'.")] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 15,
    sampler: Annotated[str, typer.Option(help="ddim or dpmpp-2m.")] = "ddim",
    seeds: Annotated[int, typer.Option(help="Draws.")] = 1,
    sections: Annotated[str | None, typer.Option(help="Only these sections, FIRST:END.")] = None,
    roi: Annotated[str | None, typer.Option(help="Only this part, y0:y1,x0:x1 px.")] = None,
    roi_exact: Annotated[bool, typer.Option("--roi-exact", help="As generate's.")] = False,
    tissue_only: Annotated[bool, typer.Option("--tissue-only", help="As generate's.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N: where time is measured.")] = "auto",
    device_tflops: Annotated[
        float | None,
        typer.Option(
            help="Time on a device that sustains so many TFLOP/s; with --device cuda a GPU, here or not."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; torch's choice by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="What the work may take: 4GiB, on a GPU 75 % of its own, of a simulation 64GiB."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Tiles a batch of the wavefront: 8, on a GPU 64.")] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="As generate's: time is measured with it.")
    ] = False,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="Do it with a network that copies its input; without --atlas as the paper's, of a made-up atlas.",
        ),
    ] = False,
    canvas: Annotated[
        str | None,
        typer.Option(help="Made-up atlas to simulate, SECTIONSxHEIGHTxWIDTH px; 2x73216x105984 by default."),
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(help="Processes of the simulation to kill at random moments; 3 by default.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="New folder to keep the simulation's stores in; else they are removed.")
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(help="Store generated with the same options: what its run took, beside the plan."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON; sizes in bytes.")] = False,
) -> None:
    """Plan and print."""
    from teramind_data.errors import InputError
    from teramind_model.generate.config import (
        GenerateConfig,
        RunOptions,
        parse_memory,
        parse_roi,
        parse_sections,
    )

    if device_tflops is not None and device_tflops <= 0:
        raise InputError("--device-tflops must be positive", expected="TFLOP/s > 0", found=device_tflops)
    asked = memory or ("64GiB" if simulate else None)
    room = None if asked is None else parse_memory(asked)
    run = RunOptions(device, precision, threads, room, batch=batch, compile=compile_)  # type: ignore[arg-type]
    config = GenerateConfig(
        atlas=atlas or "",
        checkpoint=checkpoint or "",
        out="",
        draws=seeds,
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]
        sections=None if sections is None else parse_sections(sections),
        roi=None if roi is None else parse_roi(roi),
        roi_exact=roi_exact,
        tissue_only=tissue_only,
        run=run,
    )
    only_simulated = {"--canvas": canvas, "--restarts": restarts, "--out": out}
    not_simulated = {
        "--beside": beside is not None,
        "--compile": compile_,
        "--device": device != "auto",
        "--device-tflops": device_tflops is not None,
        "--threads": threads is not None,
    }
    for option, given in not_simulated.items():
        if simulate and given:
            raise InputError(f"{option} and --simulate exclude each other", remedy="Give one of them")
    if simulate:
        simulate_plan(config, Simulated(canvas, 3 if restarts is None else restarts, out), as_json, _size)
    elif alone := [name for name, value in only_simulated.items() if value is not None]:
        raise InputError(f"{', '.join(alone)} are for simulations", remedy="Pass --simulate")
    elif not (atlas and checkpoint):
        raise InputError("nothing to plan for", remedy="Pass --atlas and --checkpoint, or --simulate")
    else:
        _print_plan(config, device_tflops, beside, as_json)


def _print_plan(
    config: GenerateConfig, device_tflops: float | None, beside: str | None, as_json: bool
) -> None:
    import torch

    from teramind_data.store import open_brain
    from teramind_model.generate.beside import taken_by
    from teramind_model.generate.plan import make_plan, measured_seconds
    from teramind_model.generate.ready import check_compile, made_ready
    from teramind_model.generate.source import load_source, pick_device

    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    # Another device than this one is planned for: no weights need go anywhere.
    elsewhere = device_tflops is not None and config.run.device.startswith("cuda")
    kind = "cuda" if elsewhere else pick_device(config.run.device)
    where = "cpu" if device_tflops is not None else kind
    config = replace(
        config, run=replace(config.run, device=kind).on(kind, _ask_memory if elsewhere else None)
    )
    source = load_source(config.checkpoint, where, kind)
    check_compile(source, config.run, kind)
    if device_tflops is None:
        source = made_ready(source, config.run)
    atlas = open_brain(config.atlas)
    took = None if beside is None else taken_by(beside, config, source, atlas)
    plan = make_plan(config, source, atlas)
    if device_tflops is None:
        seconds, pace = measured_seconds(plan, config, source)
        time: dict[str, Any] = {"seconds": seconds, "device": where, "batch_seconds": vars(pace)}
    else:
        time = {"seconds": plan.seconds_at(device_tflops), "device_tflops": device_tflops}
    if as_json:
        told = {} if took is None else {"beside": asdict(took)}
        typer.echo(json.dumps({**plan.to_dict(), "time": time, **told}, indent=1))
        return
    for label, text in _lines(plan, time) + ([] if took is None else _beside(plan, took)):
        typer.echo(f"{label:<10}{text}")


def _ask_memory() -> int:
    from teramind_data.errors import InputError

    raise InputError(
        "the memory of a GPU elsewhere is not known",
        where="--device-tflops with --device cuda",
        remedy="Pass --memory: generate takes three quarters of the device's unless told",
    )


def _lines(plan: Plan, time: dict[str, Any]) -> list[tuple[str, str]]:
    counts, memory = plan.counts, plan.memory
    overlap = counts.decoded / max(1, plan.tiles_made * plan.steps * plan.draws) - 1
    where = time.get("device") or f"{time['device_tflops']:g} TFLOP/s"
    return [
        (
            "units",
            f"{plan.units:,}: {counted(plan.windows, 'window')} in {counted(plan.strips, 'strip')} of "
            f"{counted(plan.strip_tiles, 'tile')}",
        ),
        (
            "tiles",
            f"{plan.tiles_made:,} of {plan.tiles:,}; {counted(counts.decoded, 'tile-step')} "
            f"({overlap:.1%} more than tiles times steps), {counted(counts.encoded, 'patch', 'patches')} encoded, "
            f"{counts.gene_patches:,} looked at for genes",
        ),
        (
            "batches",
            f"{counts.gene_batches + counts.encode_batches + counts.decode_batches:,} of "
            f"{counted(plan.batch, 'place')}, {counted(counts.idle(plan.batch), 'place')} idle",
        ),
        (
            "memory",
            f"{_size(memory.device)} on the device and {_size(memory.host)} beside it a unit; "
            f"weights {_size(plan.weights)}",
        ),
        ("read", f"{counted(counts.bins_read, 'gene bin')}, {_size(plan.bytes_in)} before compression"),
        (
            "written",
            f"{counted(counts.shards_written, 'shard')}, {_size(plan.bytes_out)} before compression, with the pyramid",
        ),
        ("work", f"{plan.flop:.3g} FLOP"),
        ("time", f"{_duration(time['seconds'])} on one device ({where}), reading and writing beside it"),
    ]


def _beside(plan: Plan, took: Beside) -> list[tuple[str, str]]:
    """What a run took, in the order of the plan."""
    counts, taken = plan.counts, took.taken
    said = taken.resident_peak - taken.resident_before
    memory = (
        f"{_size(said)} more than before the units, {_size(taken.resident_peak)} with libraries and weights"
    )
    if taken.device_peak:
        memory = f"{_size(taken.device_peak)} on the device, weights included; beside it {memory}"
    left = counts.shards_written - took.shards_written
    told = [
        ("taken", f"{took.tile_steps:,} of {counted(counts.decoded, 'tile-step')} planned"),
        (
            "",
            f"{took.bins_read:,} of {counted(counts.bins_read, 'gene bin')}, {took.shards_written:,} of "
            f"{counted(counts.shards_written, 'shard')}",
        ),
        ("", memory if taken.resident_peak else "memory: this system does not tell"),
        (
            "",
            f"{_duration(taken.seconds)} of work on {took.device} with {counted(took.threads, 'thread')}, reading and "
            f"writing with it; {_duration(taken.cpu_seconds)} of the CPU",
        ),
    ]
    if left > 0:
        told.append(("", f"not counted: {counted(left, 'shard')} that processes made which were stopped"))
    return told


def _size(size: int) -> str:
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
