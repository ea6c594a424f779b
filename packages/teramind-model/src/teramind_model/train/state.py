"""What changes from step to step, and how it comes back from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from teramind_data.errors import InputError
from teramind_model.checkpoint import (
    Checkpoint,
    ModelInfo,
    load_checkpoint,
    load_trainer_state,
    load_weights,
    save_checkpoint,
)
from teramind_model.data.crops import CropSource
from teramind_model.data.keys import Purpose, torch_seed
from teramind_model.methods.protocol import Method
from teramind_model.methods.registry import find_method
from teramind_model.network.recompute import recompute_blocks
from teramind_model.train.ema import Ema
from teramind_model.train.options import HOW_KEYS, TrainOptions
from teramind_model.train.run_directory import RunDirectory

__all__ = ["State", "Training", "begin", "build", "save"]


@dataclass(frozen=True)
class Training:
    """Everything a run needs: what to learn (``info``), from what, how, and where from (``init``)."""

    info: ModelInfo
    source: CropSource
    options: TrainOptions
    data: list[dict[str, Any]]
    init: Checkpoint | None = None

    @property
    def method(self) -> Method:
        """What is trained."""
        return find_method(self.info.method)


@dataclass
class State:
    """Network, optimiser, average, steps and seconds so far; ``scores`` of the last validation; ``scaler``: of 16-bit
    floats, what Fabric keeps of it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    step: int = 0
    seconds: float = 0.0
    scores: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


def build(training: Training, *, resumed: bool) -> nn.Module:
    """The network with the weights of ``init``, else fresh ones; resumed, any, for a checkpoint's take their place.

    Raises:
        InputError: where the network cannot start so, ``init`` does not fit it, or it has no blocks to recompute.
    """
    options, init = training.options, training.init
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(Purpose.WEIGHTS, options.seed))
        # Not every network can start otherwise than at random, and what is loaded over it does not ask for it.
        start = "random" if resumed or init is not None else options.start
        model = training.method.build(training.info.network, start)
    if options.recompute and not recompute_blocks(model):
        raise InputError(
            "the method's network has no blocks that can be recomputed",
            where=training.info.method,
            remedy="Leave --recompute out",
        )
    if init is not None and not resumed:
        load_weights(model, init.weights(), init.path)
    return model


def begin(
    training: Training, model: nn.Module, device: torch.device, newest: tuple[int, Path] | None
) -> State:
    """The state to begin with: a checkpoint of this run, else ``model`` as :func:`build` made it."""
    options = training.options
    trainer = None if newest is None else _trainer_state(newest[1])
    if trainer is not None:
        load_weights(model, trainer["weights"], newest[1] if newest else None)
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    if trainer is None or newest is None:
        return State(model, optimizer, Ema(model, options.ema))
    try:
        optimizer.load_state_dict(trainer["optimizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("trainer state does not fit the network", where=newest[1], found=error) from None
    found = load_checkpoint(newest[1])
    return State(
        model,
        optimizer,
        Ema(model, options.ema, start=found.weights()),
        step=int(trainer["step"]),
        seconds=float(trainer["seconds"]),
        scores=dict(found.training.get("scores", {})),
        scaler=dict(trainer.get("scaler", {})),
    )


def _trainer_state(checkpoint: Path) -> dict[str, Any]:
    state = load_trainer_state(checkpoint)
    wanted = ("weights", "optimizer", "step", "seconds")
    lacking = [key for key in wanted if key not in state]
    if lacking:
        raise InputError(
            "trainer state lacks what resuming needs",
            where=checkpoint,
            expected=", ".join(wanted),
            found=f"no {', '.join(lacking)}",
            remedy="Start another run from this checkpoint with --init",
        )
    return state


def save(training: Training, state: State, run: RunDirectory, device: torch.device, world: int) -> None:
    """Write the checkpoint of the state's step, unless it is there, and remove those no longer wanted."""
    target = run.checkpoint(state.step)
    if target.exists():
        return
    trainer = {
        "weights": {name: w.detach().cpu() for name, w in state.model.state_dict().items()},
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "scaler": state.scaler,
    }
    info = _described(training, state, device, world)
    save_checkpoint(target, info, state.ema.weights, trainer=trainer)
    run.prune(training.options.keep, training.options.milestone_every)


def _described(training: Training, state: State, device: torch.device, world: int) -> ModelInfo:
    """The run's ModelInfo with its training so far, earlier stages first."""
    options = training.options
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    stage = {
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "batch": options.batch,
        "device": name if world == 1 else f"{world} x {name}",
        "torch": torch.__version__,
        "data": training.data,
        "options": {k: v for k, v in options.to_dict().items() if k not in HOW_KEYS},
    }
    before = list(training.init.training.get("lineage", [])) if training.init else []
    lineage = [*before, stage]
    total = {key: sum(s.get(key, 0) for s in lineage) for key in ("steps", "seconds")}
    scores = {"scores": state.scores} if state.scores else {}
    return replace(training.info, training={**total, **scores, "lineage": lineage})
