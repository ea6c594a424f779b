"""Devices and processes of a run: one, several of a machine, or several machines (torchrun, SLURM)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.train.options import TrainOptions
from teramind_model.train.run_directory import RunDirectory

__all__ = ["agreed", "any_process", "first_process", "launch", "mean_of_processes"]

_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Where torchrun, SLURM and Fabric's own launcher say which process this is."""

_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def first_process() -> bool:
    """Whether this process speaks for the run, by the environment alone: before any group is formed."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    return rank == "0"


def launch(options: TrainOptions, network: Any) -> Any:
    """A Fabric on the devices asked for, its processes started and joined.

    ``network`` is the shape that will run on them: versions known to compute it wrongly are warned of.

    Raises:
        InputError: where a device is not there, does not know the precision, or has no compiler that is asked for.
    """
    from lightning.fabric import Fabric

    from teramind_model.network.compiler import check_compiler
    from teramind_model.network.known_traps import warn_of_traps

    if options.precision == "16-mixed" and (options.device == "cpu" or not torch.cuda.is_available()):
        # Fabric would take bfloat16 instead, and only warn.
        raise InputError(
            "16-bit floats are for GPUs",
            found=f"--device {options.device}",
            remedy="Use bf16-mixed or 32-true",
        )
    several = options.devices * options.nodes > 1
    try:
        fabric = Fabric(
            accelerator=options.device,
            devices=options.devices,
            num_nodes=options.nodes,
            strategy="ddp" if several else "auto",
            precision=options.precision,  # type: ignore[arg-type]
        )
        fabric.launch()
    except (RuntimeError, ValueError, ImportError) as error:
        raise InputError(
            "cannot train on this device",
            found=f"--device {options.device} --devices {options.devices} --precision {options.precision}: {error}",
            remedy="Use --device cpu --devices 1 --precision 32-true",
        ) from error
    if options.compile:
        check_compiler(fabric.device.type)
    if options.precision in _HALF:
        warn_of_traps(fabric.device, _HALF[options.precision], network)
    return fabric


def agreed(fabric: Any, run: RunDirectory) -> tuple[int, Path] | None:
    """The run's newest checkpoint, the same one in every process; every process must ask.

    Raises:
        InputError: in all of them, where one sees another: each would go on from its own.
    """
    newest = run.newest()
    if fabric.world_size == 1:
        return newest
    mine = torch.tensor(-1 if newest is None else newest[0], device=fabric.device)
    steps = [int(step) for step in fabric.all_gather(mine)]
    if len(set(steps)) > 1:
        raise InputError(
            "processes do not see the same checkpoints",
            where=run.path,
            expected="one newest step in all",
            found=", ".join("none" if step < 0 else str(step) for step in steps),
            remedy="Put --out on a file system that all machines share, and wait until each shows the same",
        )
    return newest


def any_process(fabric: Any, flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask."""
    if fabric.world_size == 1:
        return flag
    total: Tensor = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    return bool(total > 0)


def mean_of_processes(fabric: Any, values: Tensor) -> Tensor:
    """Mean over the processes; every process must ask."""
    if fabric.world_size == 1:
        return values
    mean: Tensor = fabric.all_reduce(values, reduce_op="mean")
    return mean
