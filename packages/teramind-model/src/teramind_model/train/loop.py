"""The training loop: Lightning Fabric for devices and precision, everything random keyed by (seed, step, sample)."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from teramind_data.console import progress
from teramind_data.errors import TeramindError
from teramind_model.data.batches import batch_parts, batches
from teramind_model.data.keys import Purpose, torch_seed
from teramind_model.diffusion.objective import Block
from teramind_model.network.dropout import set_dropout_keys
from teramind_model.train import pictures, validation
from teramind_model.train.devices import agreed, any_process, launch, mean_of_processes
from teramind_model.train.log import Row, TrainLog, find_wandb
from teramind_model.train.options import learning_rate
from teramind_model.train.run_directory import RunDirectory
from teramind_model.train.state import State, Training, begin, build, save

__all__ = ["DivergedError", "TrainResult", "Training", "train"]

_SKIPPED = 50
"""Steps in a row that 16-bit floats may overflow in, while their scale is found."""


class DivergedError(TeramindError, ArithmeticError):
    """The loss or its gradient is no longer a number."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: its steps, the newest checkpoint, and the signal that stopped it early, if one did."""

    step: int
    checkpoint: Path
    signal: int | None = None
    up_to_date: bool = False


@dataclass
class _Run:
    """One process's part of a run. ``log`` is that of the first process; the others have none."""

    fabric: Any
    training: Training
    directory: RunDirectory
    state: State
    log: TrainLog | None
    parts: tuple[range, ...]
    wrapped: Any = None
    optimizer: Any = None
    skipped: int = 0


def train(training: Training, run: RunDirectory, saved: Mapping[str, Any]) -> TrainResult:
    """Train until ``options.steps``, going on from the run's newest checkpoint where it has one.

    A signal (SIGTERM, SIGINT) ends it after the step in hand, with a checkpoint.

    Args:
        training: what to learn.
        run: where; :meth:`RunDirectory.check` has passed.
        saved: the resolved configuration, kept as the run's ``config.json``.

    Raises:
        DivergedError: where loss or gradient are not finite; the batch is saved beside the log.
        InputError: where the device, compiler or Weights & Biases asked for is not there, the network cannot be
            built or started so, or another process trains in the run.
        StoreError: where something of the run cannot be written.
    """
    options = training.options
    newest = run.newest()
    if newest is not None and newest[0] >= options.steps:
        return TrainResult(newest[0], newest[1], up_to_date=True)
    # Before any process is started, one error and not one a process; and before the run's folder is made.
    batch_parts(options.batch, options.accumulate, 0, options.devices * options.nodes)
    if options.wandb is not None:
        find_wandb()
    model = build(training, resumed=newest is not None)
    fabric = launch(options, training.info.network)
    parts = batch_parts(options.batch, options.accumulate, fabric.global_rank, fabric.world_size)
    first = fabric.global_rank == 0
    with ExitStack() as stack:
        stack.enter_context(run.opened(saved) if first else nullcontext())
        caught = stack.enter_context(_signals())
        state = begin(training, model, fabric.device, agreed(fabric, run))
        log = None
        if first:
            terms = training.method.terms
            log = stack.enter_context(
                TrainLog(run.log, run.path / "tensorboard", state.step, terms, options.wandb)
            )
        _loop(_Run(fabric, training, run, state, log, parts), caught)
        fabric.barrier()
    return TrainResult(state.step, run.checkpoint(state.step), caught[0] if caught else None)


def _loop(run: _Run, caught: list[int]) -> None:
    """Steps until the last one, or until a signal is caught in any process."""
    options, state, fabric = run.training.options, run.state, run.fabric
    # Checkpoints hold plain parameter names: the state keeps the bare module, whatever wraps it here.
    module: Any = torch.compile(state.model) if options.compile else state.model
    run.wrapped, run.optimizer = fabric.setup(module, state.optimizer)
    if state.scaler:
        fabric.strategy.precision.load_state_dict(state.scaler)
    source, first = run.training.source, fabric.global_rank == 0
    tile = None
    if options.sample_every and first:
        tile = pictures.choose_tile(source, run.training.info.network.halo)
    held_out = validation.choose(source) if options.validate_every and first else None
    owed = state.step > 0 and _due(state.step, options.validate_every)
    if held_out is not None and owed and state.scores.get("step") != state.step:
        _validate(run, held_out)  # the part before was stopped at this step
    steps = range(state.step, options.steps)
    stream = batches(source, steps, run.parts, workers=options.workers)
    shown = progress(len(steps), "train", "steps") if first else nullcontext(lambda n=1: None)
    with closing(stream), shown as advance:
        for parts in stream:
            row = _step(run, parts)
            if run.log is not None:
                run.log.add(row)
            done, last = state.step, state.step == options.steps
            stop = any_process(fabric, bool(caught))
            if held_out is not None and (last or (_due(done, options.validate_every) and not stop)):
                _validate(run, held_out)
            if first and (last or stop or _due(done, options.checkpoint_every)):
                state.scaler = fabric.strategy.precision.state_dict()
                save(run.training, state, run.directory, fabric.device, fabric.world_size)
            if tile is not None and (last or _due(done, options.sample_every)) and not stop:
                _picture(run, tile)
            advance()
            if stop:
                caught[:] = caught or [signal.SIGTERM]
                return


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _step(run: _Run, parts: Sequence[Block]) -> Row:
    """One optimiser step over the parts of a batch; advances the state."""
    start = time.perf_counter()
    fabric, state, training = run.fabric, run.state, run.training
    options, method, step = training.options, training.method, state.step
    lr = learning_rate(options, step)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    terms = torch.zeros(len(method.terms), device=fabric.device)
    for number, (part, samples) in enumerate(zip(parts, run.parts, strict=True)):
        _key_dropout(run, step, samples)
        with fabric.no_backward_sync(run.wrapped, enabled=number + 1 < len(parts)):
            loss = method.loss(run.wrapped, fabric.to_device(part), ratio_cap=options.ratio_cap)
            each = torch.stack([loss[term] for term in method.terms])
            fabric.backward(each.sum() / len(parts))
        terms += each.detach() / len(parts)
    terms = mean_of_processes(fabric, terms)
    norm: Tensor = fabric.clip_gradients(
        run.wrapped, run.optimizer, max_norm=options.clip, error_if_nonfinite=False
    )
    *each_term, grad_norm = (float(v) for v in (*terms, norm))
    total = sum(each_term)
    _check_finite(run, parts, total, grad_norm)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    state.ema.update(step)
    state.step += 1
    took = time.perf_counter() - start
    state.seconds += took
    rate = options.batch / took
    return Row(state.step, total, tuple(each_term), lr, grad_norm, rate, state.seconds)


def _key_dropout(run: _Run, step: int, samples: range) -> None:
    """Dropout is a function of (seed, step, sample): it needs no state to resume, and no process depends on others."""
    seed = run.training.options.seed
    keys = [torch_seed(Purpose.DROPOUT, seed, step, sample) % 2**31 for sample in samples]
    set_dropout_keys(run.state.model, torch.tensor(keys, dtype=torch.int32, device=run.fabric.device))
    # For networks of others, which may use torch's own.
    torch.manual_seed(keys[0])


def _check_finite(run: _Run, parts: Sequence[Block], total: float, grad_norm: float) -> None:
    """DivergedError, with the batch saved, where training has gone wrong."""
    overflow = run.training.options.precision == "16-mixed" and math.isfinite(total)
    if math.isfinite(total + grad_norm) or (overflow and run.skipped < _SKIPPED):
        # The scaler leaves out a step whose gradient is not finite, and lowers its scale.
        run.skipped = 0 if math.isfinite(grad_norm) else run.skipped + 1
        return
    step, newest = run.state.step, run.directory.newest()
    rank = f"-process-{run.fabric.global_rank}" if run.fabric.world_size > 1 else ""
    file = run.directory.path / f"diverged-step-{step + 1:07d}{rank}.pt"
    torch.save([part._asdict() for part in parts], file)
    # A run does not go on with another rate: a new one does, from the weights of this one where it kept any.
    again = (
        "There is no checkpoint yet: give the same options with another --out and a lower --lr"
        if newest is None
        else f"Train on in another --out with --init {newest[1]} and a lower --lr"
    )
    raise DivergedError(
        "training diverged",
        where=f"step {step + 1}",
        found=f"loss {total}, gradient norm {grad_norm}",
        remedy=f"{again}; the batch is in {file}",
    )


def _averaged(run: _Run) -> nn.Module:
    """The network with its averaged weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):  # drawing its first weights must not move the generator
        model = run.training.method.build(run.training.info.network)
    model.load_state_dict(run.state.ema.weights)
    return model.to(run.fabric.device).eval()


def _picture(run: _Run, tile: pictures.PictureTile) -> None:
    training, done = run.training, run.state.step
    picture = pictures.draw(training.method, training.info.network, _averaged(run), tile)
    pictures.save(picture, run.directory.samples / f"step-{done:07d}.png")
    if run.log is not None:
        run.log.picture(done, picture)


def _validate(run: _Run, held_out: validation.Validation) -> None:
    method, done = run.training.method, run.state.step
    losses = held_out.losses(method, _averaged(run))
    validation.append_scores(run.directory.path / "validation.csv", done, method.terms, losses)
    run.state.scores = validation.summary(done, losses)
    if run.log is not None:
        run.log.scores(done, losses)


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
