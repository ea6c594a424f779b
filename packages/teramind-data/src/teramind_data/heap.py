"""The heap of a long-lived process, kept from growing with the number of large arrays that came and went."""

from __future__ import annotations

import ctypes
from functools import cache

__all__ = ["give_back_freed"]

_M_MMAP_THRESHOLD = -3  # mallopt(3)
_LARGE_BLOCK = 8 << 20  # above the planes of a block of 512 px, which come and go by the thousand


def give_back_freed() -> None:
    """Return what is free in this process's heap to the system, and large blocks from now on as soon as they are freed,
    where its allocator is glibc's. Called before each task, so that none starts with what another left behind.

    Left alone, glibc takes ever larger blocks (up to 32 MiB) from its heap once one was freed; a heap of shards has
    holes that the next shard does not fit, and a long run's memory creeps up with the number of shards.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        libc.malloc_trim  # noqa: B018  its absence is another allocator
    except (AttributeError, OSError, TypeError):
        return None
    return libc
