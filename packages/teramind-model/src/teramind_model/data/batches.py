"""Batches of samples as tensors, made ahead of their use by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from teramind_model.data.crops import CropSource, Sample
from teramind_model.diffusion.objective import Block

__all__ = ["batches", "collate", "make_batch"]


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


def batches(
    source: CropSource, steps: range, batch: int, accumulate: int, *, workers: int = 1
) -> Generator[list[Block], None, None]:
    """For each step its ``accumulate`` parts, ``batch`` samples in all.

    With ``workers`` threads, up to ``workers + 1`` steps are prepared ahead; the values are the same for any number.
    """
    part = batch // accumulate

    def make(step: int) -> list[Block]:
        return [make_batch(source, step, range(i * part, (i + 1) * part)) for i in range(accumulate)]

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
