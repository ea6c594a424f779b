"""Validation: the averaged network's loss on held-out tiles, with fixed noise at fixed times."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from teramind_model.data.batches import collate
from teramind_model.data.crops import CropSource
from teramind_model.data.keys import Purpose, generator
from teramind_model.diffusion.objective import Block
from teramind_model.methods.protocol import Method
from teramind_model.train.run_directory import replace_rows

__all__ = ["TIMES", "Validation", "append_scores", "choose"]

TIMES = (50, 200, 400, 600, 800, 950)
"""From nearly clean to nearly noise."""

_SAMPLES = 32
_BATCH = 4


@dataclass(frozen=True)
class Validation:
    """Fixed samples; each is noised at every one of :data:`TIMES`, always with the same noise."""

    blocks: tuple[Block, ...]

    @torch.no_grad()
    def losses(self, method: Method, network: nn.Module) -> dict[int, dict[str, float]]:
        """Mean of each part of the loss by time, all times alike and unweighted."""
        device = next(network.parameters()).device
        network.eval()
        scores: dict[int, dict[str, float]] = {}
        for t in TIMES:
            sums = dict.fromkeys(method.terms, 0.0)
            for block in self.blocks:
                at = block._replace(t=torch.full_like(block.t, t))
                moved = Block(*(tensor.to(device) for tensor in at))
                for term, value in method.loss(network, moved).items():
                    sums[term] += float(value) * len(block.t)
            n = sum(len(block.t) for block in self.blocks)
            scores[t] = {term: total / n for term, total in sums.items()}
        return scores


def choose(source: CropSource) -> Validation:
    """The samples that a source's seed and held-out tiles mean.

    Raises:
        InputError: where no held-out tile has tissue.
    """
    samples = []
    for number in range(_SAMPLES):
        rng = generator(Purpose.VALIDATION, source.seed, number)
        samples.append(source.at(source.validation_place(rng), 0, rng))
    return Validation(tuple(collate(samples[i : i + _BATCH]) for i in range(0, _SAMPLES, _BATCH)))


def summary(step: int, losses: dict[int, dict[str, float]]) -> dict[str, Any]:
    """What a checkpoint keeps: the step and the mean over the times of the sum of the parts."""
    totals = {str(t): sum(terms.values()) for t, terms in losses.items()}
    return {"step": step, "held_out_loss": sum(totals.values()) / len(totals), "held_out_loss_at_t": totals}


def append_scores(file: Path, step: int, terms: Sequence[str], losses: dict[int, dict[str, float]]) -> None:
    """Add a row a time to a CSV ``step, t, <terms>``; rows of this and later steps, from a run that was stopped before
    its checkpoint was written, give way. StoreError where it cannot be written."""
    header = ["step", "t", *terms]
    rows: list[list[str]] = []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as handle:
            rows = [
                r for r in csv.reader(handle) if len(r) == len(header) and r[0].isdigit() and int(r[0]) < step
            ]
    rows += [[str(step), str(t), *(repr(losses[t][term]) for term in terms)] for t in losses]
    replace_rows(file, [header, *rows])
