"""Randomness by identity: a draw is keyed by what it is for, never by what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def _word(value: int | str) -> int:
    """A word for one part of a key: integers of at least 0 as they are, strings hashed to 64 bits."""
    if not isinstance(value, str):
        return int(value)
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")


def generator(*key: int | str) -> np.random.Generator:
    """A Philox generator for `key`, e.g. ``generator(seed, "A", section, "noise")``."""
    words = [_word(part) for part in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
