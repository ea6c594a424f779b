"""Batches of samples as tensors, made ahead of their use by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from teramind_data.errors import InputError
from teramind_model.data.crops import CropSource, Sample
from teramind_model.diffusion.objective import Block

__all__ = ["batch_parts", "batches", "collate", "make_batch"]


def collate(samples: list[Sample]) -> Block:
    """Samples stacked into one :class:`Block` on the host."""
    image, noise, mask, counts = (
        torch.from_numpy(np.stack([getattr(s, name) for s in samples]))
        for name in ("image", "noise", "mask", "counts")
    )
    return Block(image=image, noise=noise, mask=mask, counts=counts, t=torch.tensor([s.t for s in samples]))


def make_batch(source: CropSource, step: int, numbers: range) -> Block:
    """The samples ``numbers`` of step ``step``."""
    return collate([source.sample(step, number) for number in numbers])


def batch_parts(batch: int, accumulate: int, rank: int = 0, world: int = 1) -> tuple[range, ...]:
    """Sample numbers of each part of a batch that process ``rank`` of ``world`` takes.

    Over all processes a part holds the same samples whatever their number.

    Raises:
        InputError: where the batch cannot be cut so.
    """
    if batch % (accumulate * world):
        raise InputError(
            "batch cannot be shared out",
            expected=f"a multiple of {accumulate} parts x {world} devices",
            found=batch,
            remedy="Change --batch, --accumulate or --devices",
        )
    part = batch // accumulate
    mine = part // world
    return tuple(range(i * part + rank * mine, i * part + (rank + 1) * mine) for i in range(accumulate))


def batches(
    source: CropSource, steps: range, parts: Sequence[range], *, workers: int = 1
) -> Generator[list[Block], None, None]:
    """For each step its parts, each the samples of some numbers of the batch.

    With ``workers`` threads, up to ``workers + 1`` steps are prepared ahead; the values are the same for any number.
    """

    def make(step: int) -> list[Block]:
        return [make_batch(source, step, numbers) for numbers in parts]

    if workers < 1:
        yield from map(make, steps)
        return
    ahead: deque[Future[list[Block]]] = deque()
    upcoming = iter(steps)
    with ThreadPoolExecutor(workers, thread_name_prefix="crops") as pool:
        try:
            while True:
                while len(ahead) <= workers and (step := next(upcoming, None)) is not None:
                    ahead.append(pool.submit(make, step))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
