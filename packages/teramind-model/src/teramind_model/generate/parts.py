"""Who makes which units: one run all of them, the tasks of a SLURM array a part each, by one process or by several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from teramind_data.errors import InputError

__all__ = ["Hands", "Part", "parse_devices", "parse_part"]

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The ``index``-th (from 1) of ``of`` parts of a generation's units, each made by a run of its own."""

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of:
            expected = f"1/{self.of} .. {self.of}/{self.of}" if self.of else "I/N with N of at least 1"
            raise InputError("no such part of the units", expected=expected, found=self)

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def choose(self, units: Sequence[T]) -> tuple[T, ...]:
        """Each ``of``-th unit: parts are disjoint, cover all, and are of like size wherever the tissue lies."""
        return tuple(units[self.index - 1 :: self.of])


@dataclass(frozen=True)
class Hands:
    """By whom the units are made; changes no byte of them, but for the threads (``RunOptions.threads``).

    Attributes:
        workers: processes of this machine; 1 is this one.
        devices: CUDA devices, a process each; instead of ``workers``.
        scheduler: address of a dask.distributed scheduler whose workers make a unit each; instead of both.
        part: only these units; all where None.
    """

    workers: int = 1
    devices: tuple[int, ...] = ()
    scheduler: str | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError("number of workers is not usable", expected="at least 1", found=self.workers)
        given = {"--workers": self.workers > 1, "--devices": self.devices, "--scheduler": self.scheduler}
        asked = [name for name, value in given.items() if value]
        if len(asked) > 1:
            raise InputError(f"{' and '.join(asked)} exclude each other", remedy="Give one of them")

    @property
    def alone(self) -> bool:
        """Whether this process makes the units itself."""
        return self.workers == 1 and not self.devices and self.scheduler is None


def parse_part(text: str) -> Part:
    """``"2/8"``: the second of eight."""
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None:
        raise InputError(
            "part of the units cannot be read", expected="I/N, for example 1/8", found=repr(text)
        )
    return Part(int(match[1]), int(match[2]))


def parse_devices(text: str) -> tuple[int, ...]:
    """``"0,1"``: numbers of CUDA devices."""
    if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", text):
        raise InputError("devices cannot be read", expected="numbers, for example 0,1", found=repr(text))
    numbers = tuple(int(number) for number in text.split(","))
    if len(set(numbers)) < len(numbers):
        raise InputError("a device is named twice", expected="one process a device", found=repr(text))
    return numbers
