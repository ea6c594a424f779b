"""The training loop: Lightning Fabric for device and precision, everything random keyed by (seed, step)."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from teramind_data.console import progress
from teramind_data.errors import InputError, TeramindError
from teramind_model.checkpoint import (
    Checkpoint,
    ModelInfo,
    load_checkpoint,
    load_trainer_state,
    load_weights,
    save_checkpoint,
)
from teramind_model.data.batches import batches
from teramind_model.data.crops import CropSource
from teramind_model.data.keys import Purpose, torch_seed
from teramind_model.diffusion.objective import Block
from teramind_model.methods.protocol import Method
from teramind_model.methods.registry import find_method
from teramind_model.train import pictures
from teramind_model.train.ema import Ema
from teramind_model.train.log import Row, TrainLog
from teramind_model.train.options import TrainOptions, learning_rate
from teramind_model.train.run_directory import RunDirectory

__all__ = ["DivergedError", "TrainResult", "Training", "train"]


class DivergedError(TeramindError, ArithmeticError):
    """The loss or its gradient is no longer a number."""


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


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: its steps, the newest checkpoint, and the signal that stopped it early, if one did."""

    step: int
    checkpoint: Path
    signal: int | None = None
    up_to_date: bool = False


@dataclass
class _State:
    """What changes from step to step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    step: int = 0
    seconds: float = 0.0


def train(training: Training, run: RunDirectory, saved: Mapping[str, Any]) -> TrainResult:
    """Train until ``options.steps``, going on from the run's newest checkpoint where it has one.

    A signal (SIGTERM, SIGINT) ends it after the step in hand, with a checkpoint.

    Args:
        training: what to learn.
        run: where; :meth:`RunDirectory.check` has passed.
        saved: the resolved configuration, kept as the run's ``config.json``.

    Raises:
        DivergedError: where loss or gradient are not finite; the batch is saved beside the log.
        InputError: where the device is not there, or another process trains in the run.
    """
    newest = run.newest()
    if newest is not None and newest[0] >= training.options.steps:
        return TrainResult(newest[0], newest[1], up_to_date=True)
    fabric = _fabric(training.options)
    with run.opened(saved), _signals() as caught:
        state = _start(training, fabric.device, run.newest())
        with TrainLog(run.log, run.path / "tensorboard", state.step, training.method.terms) as log:
            _loop(fabric, training, run, state, log, caught)
    return TrainResult(state.step, run.checkpoint(state.step), caught[0] if caught else None)


def _loop(
    fabric: Any, training: Training, run: RunDirectory, state: _State, log: TrainLog, caught: Sequence[int]
) -> None:
    """Steps until the last one, or until a signal is caught."""
    options = training.options
    # Checkpoints hold plain parameter names: the state keeps the bare module, whatever wraps it here.
    module: Any = torch.compile(state.model) if options.compile else state.model
    wrapped, optimizer = fabric.setup(module, state.optimizer)
    tile = pictures.choose_tile(training.source, training.info.network.halo) if options.sample_every else None
    steps = range(state.step, options.steps)
    stream = batches(training.source, steps, options.batch, options.accumulate, workers=options.workers)
    with closing(stream), progress(len(steps), "train", "steps") as advance:
        for parts in stream:
            log.add(_step(fabric, wrapped, optimizer, state, parts, training, run))
            done, last = state.step, state.step == options.steps
            if last or caught or _due(done, options.checkpoint_every):
                _save(training, state, run, fabric.device)
            if tile is not None and (last or _due(done, options.sample_every)) and not caught:
                picture = _draw(training, state, tile)
                pictures.save(picture, run.samples / f"step-{done:07d}.png")
                log.picture(done, picture)
            advance()
            if caught:
                return


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _fabric(options: TrainOptions) -> Any:
    from lightning.fabric import Fabric

    try:
        fabric = Fabric(accelerator=options.device, devices=1, precision=options.precision)  # type: ignore[arg-type]
    except (RuntimeError, ValueError, ImportError) as error:
        raise InputError(
            "cannot train on this device",
            found=f"--device {options.device} --precision {options.precision}: {error}",
            remedy="Use --device cpu --precision 32-true",
        ) from error
    fabric.launch()
    return fabric


def _start(training: Training, device: torch.device, newest: tuple[int, Path] | None) -> _State:
    """The state to begin with: a checkpoint of this run, else the weights of ``init``, else fresh ones."""
    options = training.options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(Purpose.WEIGHTS, options.seed))
        model = training.method.build(training.info.network, options.start)
    if newest is None and training.init is not None:
        load_weights(model, training.init.weights(), training.init.path)
    trainer = None if newest is None else _trainer_state(newest[1])
    if trainer is not None:
        load_weights(model, trainer["weights"], newest[1] if newest else None)
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    if trainer is None or newest is None:
        return _State(model, optimizer, Ema(model, options.ema))
    try:
        optimizer.load_state_dict(trainer["optimizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("trainer state does not fit the network", where=newest[1], found=error) from None
    ema = Ema(model, options.ema, start=load_checkpoint(newest[1]).weights())
    return _State(model, optimizer, ema, step=int(trainer["step"]), seconds=float(trainer["seconds"]))


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


def _step(
    fabric: Any,
    wrapped: Any,
    optimizer: Any,
    state: _State,
    parts: Sequence[Block],
    training: Training,
    run: RunDirectory,
) -> Row:
    """One optimiser step over the parts of a batch; advances ``state``."""
    begin = time.perf_counter()
    options, step = training.options, state.step
    lr = learning_rate(options, step)
    for group in optimizer.param_groups:
        group["lr"] = lr
    method = training.method
    terms = torch.zeros(len(method.terms), device=fabric.device)
    for number, part in enumerate(parts):
        # Dropout draws from torch's own generator: keyed by step and part, it needs no state to resume.
        torch.manual_seed(torch_seed(Purpose.DROPOUT, options.seed, step, number))
        with fabric.no_backward_sync(wrapped, enabled=number + 1 < len(parts)):
            loss = method.loss(wrapped, fabric.to_device(part), ratio_cap=options.ratio_cap)
            each = torch.stack([loss[term] for term in method.terms])
            fabric.backward(each.sum() / len(parts))
        terms += each.detach() / len(parts)
    norm: Tensor = fabric.clip_gradients(wrapped, optimizer, max_norm=options.clip, error_if_nonfinite=False)
    *each_term, grad_norm = (float(v) for v in (*terms, norm))
    total = sum(each_term)
    if not math.isfinite(total + grad_norm):
        file = _save_offender(parts, run.path, step)
        raise DivergedError(
            "training diverged",
            where=f"step {step + 1}",
            found=f"loss {total}, gradient norm {grad_norm}",
            remedy=f"Lower --lr; the batch is in {file}, the last good checkpoint in {run.path}",
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    state.ema.update(step)
    state.step += 1
    took = time.perf_counter() - begin
    state.seconds += took
    return Row(state.step, total, tuple(each_term), lr, grad_norm, options.batch / took, state.seconds)


def _save_offender(parts: Sequence[Block], folder: Path, step: int) -> Path:
    file = folder / f"diverged-step-{step + 1:07d}.pt"
    torch.save([part._asdict() for part in parts], file)
    return file


def _save(training: Training, state: _State, run: RunDirectory, device: torch.device) -> None:
    target = run.checkpoint(state.step)
    if target.exists():
        return
    trainer = {
        "weights": {name: w.detach().cpu() for name, w in state.model.state_dict().items()},
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
    }
    save_checkpoint(target, _described(training, state, device), state.ema.weights, trainer=trainer)
    run.prune(training.options.keep, training.options.milestone_every)


def _described(training: Training, state: _State, device: torch.device) -> ModelInfo:
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
        "device": name,
        "torch": torch.__version__,
        "data": training.data,
        "options": {k: v for k, v in options.to_dict().items() if k not in ("workers", "cache_gib")},
    }
    before = list(training.init.training.get("lineage", [])) if training.init else []
    lineage = [*before, stage]
    total = {key: sum(s.get(key, 0) for s in lineage) for key in ("steps", "seconds")}
    return replace(training.info, training={**total, "lineage": lineage})


def _draw(training: Training, state: _State, tile: pictures.PictureTile) -> Any:
    method, shape = training.method, training.info.network
    with torch.random.fork_rng(devices=[]):  # drawing its first weights must not move the generator
        model = method.build(shape)
    model.load_state_dict(state.ema.weights)
    return pictures.draw(method, shape, model.to(next(state.model.parameters()).device).eval(), tile)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them; a second SIGINT interrupts at once."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    before: dict[int, Callable[..., Any] | int | None] = {}
    try:
        for which in (signal.SIGTERM, signal.SIGINT):
            before[which] = signal.signal(which, note)
    except ValueError:
        # Handlers can be set in the main thread only; elsewhere signals are the caller's business.
        before.clear()
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
