"""What a training run is, in plain values: no pydantic here, so that the loop runs where there is none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["FREE_KEYS", "HOW_KEYS", "TrainOptions", "learning_rate"]

HOW_KEYS = frozenset({"workers", "cache_gib", "wandb"})
"""Options that leave no trace in what is learnt; checkpoints do not name them."""

FREE_KEYS = HOW_KEYS | {
    *("checkpoint_every", "sample_every", "validate_every", "keep", "milestone_every"),
    *("device", "devices", "nodes", "recompute"),
}
"""Options that may change between the parts of a run: what is learnt stays the same (devices: within rounding)."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of a run.

    steps: optimiser steps; batch: crops a step, in ``accumulate`` equal parts. lr, schedule, warmup: constant, or
    cosine to zero at ``steps``, after a linear rise over ``warmup`` steps. clip: largest gradient norm. ema: decay.
    ratio_cap: None for the paper's objective, a number for min-SNR. start: weights drawn at random as published, or
    with the input's copy laid in (``network.identity_start``). precision, device, compile: how it computes; devices:
    on each of ``nodes`` machines; recompute: activations are computed again in the backward pass instead of being
    kept. checkpoint_every, sample_every, validate_every: steps between checkpoints, pictures and validations (0: only
    the last; of validations none). held_out: share of tiles with tissue kept for validation (the paper: none). keep:
    newest checkpoints kept, beside those at multiples of milestone_every (0: none). workers: threads that read ahead.
    cache_gib: atlases are held in memory while they fit. wandb: project of Weights & Biases to log to as well.
    """

    steps: int
    batch: int
    accumulate: int
    lr: float
    schedule: Literal["constant", "cosine"]
    warmup: int
    clip: float
    ema: float
    ratio_cap: float | None
    start: Literal["random", "identity"] = "random"
    seed: int = 0
    precision: str = "32-true"
    device: str = "auto"
    compile: bool = False
    devices: int = 1
    nodes: int = 1
    recompute: bool = False
    held_out: float = 0.0
    validate_every: int = 0
    checkpoint_every: int = 250
    sample_every: int = 250
    keep: int = 2
    milestone_every: int = 0
    workers: int = 1
    cache_gib: float = 1.0
    wandb: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def learning_rate(options: TrainOptions, step: int) -> float:
    """Learning rate of step ``step`` (0 the first): a function of the step alone, so resuming needs no state."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    if options.schedule == "constant":
        return options.lr
    progress = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
