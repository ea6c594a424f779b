"""Random numbers keyed by what they are for, never by what happened before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """First part of every key, so that two uses of one (seed, step, sample) never share numbers."""

    SAMPLE = 1
    DROPOUT = 2
    PICTURE = 3
    WEIGHTS = 4
    HELD_OUT = 5
    VALIDATION = 6


def generator(purpose: Purpose, *key: int) -> np.random.Generator:
    """A generator that depends on the key alone; key parts are non-negative integers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([int(purpose), *key])))


def torch_seed(purpose: Purpose, *key: int) -> int:
    """A seed for ``torch.manual_seed`` that depends on the key alone."""
    return int(np.random.SeedSequence([int(purpose), *key]).generate_state(1, np.uint64)[0] >> np.uint64(1))
