"""``teramind-model train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from teramind_data.console import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from teramind_data.panel import Panel
    from teramind_model.checkpoint import Checkpoint
    from teramind_model.config import Resolved


EPILOG = (
    "Example: teramind-model train --atlas A.zarr --atlas B.zarr --out RUN --preset main. "
    "The same command again resumes an interrupted run."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", epilog=EPILOG)(train)


def train(
    out: Annotated[Path, typer.Option(help="Run directory: made, or resumed where it is there.")],
    atlas: Annotated[
        list[str] | None, typer.Option(help="Atlas store to learn from; give once for each.")
    ] = None,
    panel: Annotated[
        str | None, typer.Option(help="CSV of genes to learn; else those all atlases share.")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Start from this checkpoint or run, or 'phantom'.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="main, main-279, supp, human-81, phantom.  [default: main]")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="tera-mind, patch-dm, patch-dm-genes, sinfusion, sinfusion-genes, or one that is installed.  "
            "[default: tera-mind]"
        ),
    ] = None,
    method_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the method's network; give once for each.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML of all options but --out (underscores; stains, method_options in plural); flags win."
        ),
    ] = None,
    stain: Annotated[list[str] | None, typer.Option(help="Stains to learn.  [default: DAPI PolyT]")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops a step.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts a batch is cut into.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant or cosine.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Steps of linear warm-up.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest gradient norm.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the weights' average.")] = None,
    ratio_cap: Annotated[
        float | None, typer.Option(help="Weigh steps by min-SNR up to this; 0: none.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Weights: random or identity.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of crops, noise and dropout.")] = None,
    patch: Annotated[int | None, typer.Option(help="P: 32, 64 or 128.")] = None,
    channels: Annotated[int | None, typer.Option(help="C, base width.")] = None,
    gene_slices: Annotated[int | None, typer.Option(help="S: 1, 4, 8 or 16.")] = None,
    gene_widths: Annotated[str | None, typer.Option(help="Widths of gene stages, as 128,64,32.")] = None,
    time_width: Annotated[int | None, typer.Option(help="Width of the time embedding.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout probability.")] = None,
    fold_z: Annotated[bool | None, typer.Option(help="Fold slices into channels.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="Devices of each machine; on a CPU, processes.  [default: 1]")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines (with torchrun or SLURM).")] = None,
    recompute: Annotated[
        bool | None,
        typer.Option("--recompute/--no-recompute", help="Compute activations twice to save memory."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of tissue tiles kept for validation.  [default: 0, as the paper]"),
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Steps between validations on held-out tiles; 0: none.")
    ] = None,
    wandb: Annotated[str | None, typer.Option(help="Log to this Weights & Biases project as well.")] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints; 0: only at the end.")
    ] = None,
    sample_every: Annotated[int | None, typer.Option(help="Steps between sample pictures; 0: none.")] = None,
    keep: Annotated[int | None, typer.Option(help="Newest checkpoints kept.  [default: 2]")] = None,
    milestone_every: Annotated[int | None, typer.Option(help="Keep checkpoints at multiples.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads reading ahead.")] = None,
    cache_gib: Annotated[
        float | None, typer.Option(help="Memory for atlases; larger ones are read from disk.")
    ] = None,
) -> None:
    """Learn to generate sections from gene expression, on one or more atlas stores.

    The run directory holds checkpoints/, log.csv, tensorboard/ and samples/. Interrupted, it keeps a checkpoint and
    goes on from there when the same command is given again.
    """
    flags: dict[str, Any] = {
        k: v for k, v in locals().items() if k not in ("out", "config", "stain", "compile_", "method_option")
    }
    flags["stains"], flags["compile"] = stain, compile_
    if method_option:
        flags["method_options"] = _method_options(method_option)
    if gene_widths is not None:
        flags["gene_widths"] = _widths(gene_widths)
    from teramind_model.config import read_config_file, resolve

    resolved = resolve({} if config is None else read_config_file(config), flags)
    raise typer.Exit(_run(resolved, out))


def _widths(text: str) -> list[int]:
    from teramind_data.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            "--gene-widths is malformed", expected="three numbers, as 128,64,32", found=text
        ) from None


def _method_options(pairs: list[str]) -> dict[str, Any]:
    import yaml

    from teramind_data.errors import InputError

    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError("--method-option is malformed", expected="KEY=VALUE, as depth=4", found=pair)
        options[key] = yaml.safe_load(value)
    return options


def _run(resolved: Resolved, out: Path) -> int:
    """Prepare and train; the exit code."""
    from teramind_data.panel import read_panel
    from teramind_model.checkpoint import ModelInfo, load_checkpoint
    from teramind_model.data.crops import Geometry
    from teramind_model.train.atlases import open_atlases
    from teramind_model.train.devices import first_process
    from teramind_model.train.loop import Training, train
    from teramind_model.train.options import FREE_KEYS
    from teramind_model.train.run_directory import RunDirectory

    config = resolved.config
    init = None if config.init is None else load_checkpoint(config.init)
    method = config.method if init is None else init.info.method
    wanted = None if config.panel is None else read_panel(config.panel)
    stains = config.stains
    if init is not None:
        _check_against(init, resolved, wanted)
        wanted, stains = init.panel, init.stains
    atlases = open_atlases(config.atlas, wanted, stains)
    if init is not None:
        _check_pixels(init, atlases.pixel_size_um)
    network = config.network(len(atlases.panel)) if init is None else _inherited(init, resolved)
    info = ModelInfo(network, atlases.panel, atlases.stains, atlases.pixel_size_um, method=method)
    run = RunDirectory(out)
    saved = resolved.saved(network, atlases.panel.fingerprint)
    # At a constant rate a run may be made longer; a cosine's every step depends on how many there are.
    free = FREE_KEYS | ({"steps"} if config.schedule == "constant" else frozenset())
    run.check(saved, free, resolved.defaults())
    geometry = Geometry(network.patch, network.gene_slices, network.image_slices, network.stains)
    source = atlases.source(geometry, config.seed, config.cache_gib * 2**30, held_out=config.held_out)
    say = typer.echo if first_process() else _silent
    say(
        f"{counted(len(atlases.brains), 'atlas', 'atlases')}, {counted(network.genes, 'gene')}, "
        f"{counted(sum(len(a.tissue) for a in source.atlases), 'tissue bin')}; "
        f"{method}, P={network.patch} S={network.gene_slices}; {counted(config.steps, 'step')} of {config.batch}",
        err=True,
    )
    _remark_on_genes(config.preset, network.genes, say, fresh=init is None)
    result = train(Training(info, source, config.options(), atlases.provenance(), init), run, saved)
    if result.up_to_date:
        say(f"up to date: {result.checkpoint} has {counted(result.step, 'step')}")
        return 0
    if result.signal is not None:
        say(f"stopped at step {result.step}; the same command resumes from {result.checkpoint}", err=True)
        return 128 + result.signal
    say(f"trained {counted(result.step, 'step')}: {result.checkpoint}")
    return 0


def _remark_on_genes(preset: str, genes: int, say: Callable[..., None], *, fresh: bool) -> None:
    """A preset does not bring its genes: the network has those of the panel."""
    from teramind_model.presets import find_preset

    of_preset = find_preset(preset).genes
    if fresh and genes != of_preset:
        say(
            f"note: preset {preset} stands for {counted(of_preset, 'gene')}, this network has the {genes} of "
            f"the panel; --panel chooses others",
            err=True,
        )


def _silent(_message: object, err: bool = False) -> None:
    """For all processes of a run but the first."""


def _check_against(init: Checkpoint, resolved: Resolved, panel: Panel | None) -> None:
    """Flags and panel must agree with the checkpoint that training starts from."""
    from teramind_data.errors import InputError, PanelError
    from teramind_model.config import SHAPE_KEYS

    theirs = init.network.to_dict() | {"stains": list(init.stains), "method": init.info.method}
    for key in (*SHAPE_KEYS, "stains", "method"):
        value = getattr(resolved.config, key)
        mine = list(value) if isinstance(value, tuple) else value
        if key in resolved.given and mine != theirs.get(key):
            raise InputError(
                f"{key} differs from the checkpoint to start from",
                where=init.path,
                expected=theirs.get(key),
                found=mine,
                remedy=f"Leave {key} out, or train without --init",
            )
    # Genes are found by name, so only which genes counts; their order is the checkpoint's.
    if panel is not None and (len(panel) != len(init.panel) or any(gene not in init.panel for gene in panel)):
        lacking = [gene for gene in init.panel if gene not in panel]
        extra = [gene for gene in panel if gene not in init.panel]
        parts = [
            f"{word} {', '.join(genes[:5])}"
            for word, genes in (("without", lacking), ("with", extra))
            if genes
        ]
        raise PanelError(
            "panel differs from the checkpoint to start from",
            where=init.path,
            expected=f"its {len(init.panel)} genes",
            found=f"{len(panel)} genes, {' and '.join(parts)}",
            remedy="Leave --panel out, or train without --init",
        )


def _check_pixels(init: Checkpoint, pixel_size_um: float) -> None:
    from math import isclose

    from teramind_data.errors import InputError

    if not isclose(init.pixel_size_um, pixel_size_um, rel_tol=1e-3):
        raise InputError(
            "atlases differ in pixel size from the checkpoint to start from",
            where=init.path,
            expected=f"{init.pixel_size_um:g} um",
            found=f"{pixel_size_um:g} um",
            remedy="Ingest them at the checkpoint's pixel size",
        )


def _inherited(init: Checkpoint, resolved: Resolved) -> Any:
    """The checkpoint's network; dropout and folding, which shape no parameter, are the run's where given."""
    from teramind_model.methods.registry import find_method

    chosen = {k: getattr(resolved.config, k) for k in ("dropout", "fold_z") if k in resolved.given}
    return find_method(init.info.method).shape(init.network.to_dict() | chosen)
