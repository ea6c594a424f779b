"""``teramind-model info``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from teramind_data.console import counted

if TYPE_CHECKING:
    from teramind_model.methods.protocol import NetworkShape

EPILOG = "Example: teramind-model info RUN. Before training: teramind-model info --preset main --training-memory 16"

_SHOWN_GENES = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("info", epilog=EPILOG)(info)


def info(
    checkpoint: Annotated[
        str | None, typer.Argument(help="Checkpoint or run of ours, or 'phantom'.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Instead of a checkpoint: the network of this preset.")
    ] = None,
    genes: Annotated[bool, typer.Option("--genes", help="Name all genes of the panel.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps of a generation, for its halo.")] = 15,
    training_memory: Annotated[
        int | None, typer.Option(min=1, help="Also the memory of training on this many samples at once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON; sizes in bytes.")] = False,
) -> None:
    """What a network is and costs: parameters, panel, receptive halo, work a tile, memory, history."""
    from teramind_data.errors import InputError
    from teramind_model.checkpoint import load_checkpoint
    from teramind_model.describe import (
        describe_checkpoint,
        describe_network,
        describe_training_memory,
        preset_network,
    )

    if (checkpoint is None) == (preset is None):
        raise InputError("give a checkpoint or --preset", expected="one of them")
    network: NetworkShape
    if preset is not None:
        network = preset_network(preset)
        found: dict[str, Any] = {"preset": preset, **describe_network(network, steps)}
    else:
        loaded = load_checkpoint(str(checkpoint))
        network = loaded.network
        found = describe_checkpoint(loaded, steps)
    if training_memory is not None:
        found["training_memory"] = describe_training_memory(network, training_memory)
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for label, text in _lines(found, all_genes=genes):
        typer.echo(f"{label:<12}{text}")


def _lines(found: dict[str, Any], *, all_genes: bool) -> Iterator[tuple[str, str]]:
    if "preset" in found:
        yield "preset", found["preset"]
    else:
        yield "checkpoint", found["checkpoint"]
        yield "weights", f"{_mib(found['file_bytes'])} on disk, SHA-256 {found['sha256'][:16]}..."
    yield from _network_lines(found)
    if "panel" in found:
        yield from _panel_lines(found["panel"], all_genes)
        yield "stains", f"{', '.join(found['stains'])}; pixels of {found['pixel_size_um']:g} um"
    yield from _work_lines(found["flop"])
    if "training_memory" in found:
        yield from _memory_lines(found["training_memory"])
    if "training" in found:
        yield from _history_lines(found["training"], found["scores"])


def _network_lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    parameters, size = found["parameters"], found["weights_bytes"]
    parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in parameters.items() if name != "total")
    yield "parameters", f"{parameters['total']:,} ({parts} M)"
    yield "", f"{_mib(size['float32'])} in float32, {_mib(size['half'])} in half precision"
    n = dict(found["network"])
    symbols = {
        "genes": "n",
        "gene_slices": "S",
        "image_slices": "Z",
        "stains": "k",
        "patch": "P",
        "channels": "C",
    }
    values = [f"{symbol}={n.pop(key)}" for key, symbol in symbols.items() if key in n]
    yield "network", f"{found['method']}, {' '.join(values)}"
    yield "", ", ".join(f"{key} {_plain(value)}" for key, value in n.items())
    halo = found["receptive_halo_px"]
    yield (
        "halo",
        f"a {found['network']['patch']}-px tile depends on {halo['one_step']} px around it in one step, "
        f"on {halo['generation']} px in {halo['steps']}",
    )


def _panel_lines(panel: dict[str, Any], all_genes: bool) -> Iterator[tuple[str, str]]:
    names = panel["names"]
    shown = names if all_genes else names[:_SHOWN_GENES]
    more = (
        ""
        if len(shown) == len(names)
        else f", ... (all with --genes; fingerprint {panel['fingerprint'][:16]})"
    )
    if all_genes:
        more = f" (fingerprint {panel['fingerprint']})"
    yield "panel", f"{counted(panel['genes'], 'gene')}: {', '.join(shown)}{more}"


def _work_lines(flop: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "tile_alone" in flop:
        yield "work", f"{_gflop(flop['tile_alone'])} GFLOP forward, a tile and step by itself"
        return
    plain, folded = flop["plain"], flop["folded"]

    def both(key: str) -> str:
        return f"{_gflop(plain[key])} ({_gflop(folded[key])})"

    yield "work", "GFLOP forward, in brackets with slices folded into channels (--fold-z)"
    yield "", f"{both('gene_branch')} gene branch, once a patch"
    yield "", f"{both('tile_step')} a tile and step: encoder {both('encoder')}, decoder {both('decoder')}"
    yield "", f"{both('training_forward')} a training sample: four patches and their collage"


def _memory_lines(memory: dict[str, Any]) -> Iterator[tuple[str, str]]:
    plain = memory["plain"]
    fixed = plain["weights"] + plain["optimiser"] + plain["average"]
    yield (
        "memory",
        f"training on {memory['batch']} samples at once, with activation checkpointing in brackets:",
    )
    for peaks, note in ((memory["float32"], " (the default)"), (memory, "")):
        yield (
            "",
            f"--precision {peaks['precision']}{note}: peak {_gib(peaks['plain']['peak'])} "
            f"({_gib(peaks['checkpointing']['peak'])})",
        )
    yield (
        "",
        f"of which weights, Adam and average {_gib(fixed)}; computed: leave a tenth for kernels' work space",
    )


def _history_lines(training: dict[str, Any], scores: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from teramind_model.model_card import scores_line, stage_line

    lineage = training.get("lineage", [])
    for number, stage in enumerate(lineage, start=1):
        yield ("history" if number == 1 else ""), stage_line(number, stage)
    if not lineage:
        yield "history", "none recorded"
    held_out = scores_line(scores)
    told = () if held_out is None else ("step", "held_out_loss", "held_out_loss_at_t")
    lines = [*([held_out] if held_out else []), *(f"{k}: {v}" for k, v in scores.items() if k not in told)]
    for number, line in enumerate(lines):
        yield ("scores" if number == 0 else ""), line


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _gflop(count: int) -> str:
    return f"{count / 1e9:.3g}"
