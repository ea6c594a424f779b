"""Randomness by identity: every draw of the phantom is keyed by what it is for, never by what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def _word(value: int | str) -> int:
    """A 64-bit word for one part of a key; negative integers and strings are hashed."""
    if isinstance(value, int) and value >= 0:
        return value
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "little")


def generator(*key: int | str) -> np.random.Generator:
    """A Philox generator for `key`, e.g. ``generator(seed, "A", section, "noise")``."""
    words = [_word(int(part) if isinstance(part, np.integer) else part) for part in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
