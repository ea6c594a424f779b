"""What making units takes of a process: time, and memory at its highest."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Taken", "metered"]

_STATUS = Path("/proc/self/status")
"""Of Linux; proc(5)."""


@dataclass
class Taken:
    """What making units took; times of several processes together, memory of the one that took most.

    Attributes:
        seconds, cpu_seconds: by the clock, and of all threads.
        resident_before, resident_peak: bytes of the process's memory, libraries and weights included, before the units
            and at its highest since it began, the loading of weights included; 0 where the system does not tell.
        device_peak: bytes of tensors on a CUDA device at their highest, weights included; 0 on a CPU.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    resident_before: int = 0
    resident_peak: int = 0
    device_peak: int = 0

    def add(self, other: Taken) -> None:
        """Count what others took, too."""
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds
        if other.resident_peak - other.resident_before >= self.resident_peak - self.resident_before:
            self.resident_before, self.resident_peak = other.resident_before, other.resident_peak
        self.device_peak = max(self.device_peak, other.device_peak)


@contextmanager
def metered(taken: Taken, device: torch.device) -> Iterator[None]:
    """A scope whose time and memory are added to ``taken`` at its end, however it ends.

    They are the process's: of several scopes at once in one process each counts the others, too.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    before = _resident("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        taken.add(
            Taken(
                time.perf_counter() - began,
                time.process_time() - cpu,
                before,
                _resident("VmHWM"),
                torch.cuda.max_memory_allocated(device) if cuda else 0,
            )
        )


def _resident(field: str) -> int:
    if not _STATUS.exists():
        return 0
    found = re.search(rf"^{field}:\s*(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024
