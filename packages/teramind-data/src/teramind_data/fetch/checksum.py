"""Checksums as sources publish them, and the files they are of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from teramind_data.errors import InputError

__all__ = ["DEFAULT_ALGORITHM", "LENGTHS", "Checksum", "Hasher", "hash_file", "new_hasher", "parse_checksum"]

#: Hexadecimal digits of each algorithm that is taken.
LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
#: Computed of files whose source publishes none, so that they can be checked again later.
DEFAULT_ALGORITHM = "sha256"
_BLOCK = 1 << 20


class Hasher(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""


@dataclass(frozen=True)
class Checksum:
    """An algorithm of `LENGTHS` and its lower-case hexadecimal value."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


def parse_checksum(text: str, where: object, algorithm: str | None = None) -> Checksum:
    """``md5:0123...`` as Zenodo writes it, or the bare digits of ``algorithm`` (else told by their number).

    Raises:
        InputError: no such algorithm, or not its digits.
    """
    name, colon, value = text.strip().lower().rpartition(":")
    if not colon:
        name = algorithm or next((a for a, digits in LENGTHS.items() if digits == len(value)), "")
    if LENGTHS.get(name) != len(value) or not re.fullmatch("[0-9a-f]+", value):
        raise InputError(
            "checksum is none that can be checked",
            where=where,
            expected=f"the hexadecimal digits of {', '.join(LENGTHS)}",
            found=repr(text[:80]),
            remedy="Correct the entry, or leave its checksum out",
        )
    return Checksum(name, value)


def new_hasher(algorithm: str) -> Hasher:
    """A hasher of one of `LENGTHS`; md5 and sha1 guard against accidents here, not against enemies."""
    return hashlib.new(algorithm, usedforsecurity=False)


def hash_file(
    path: Path, algorithm: str, advance: Callable[[int], None] | None = None, length: int | None = None
) -> Hasher:
    """Hash the first ``length`` bytes of a file (all of them unless told); ``advance(n)`` is told of n bytes read.

    Raises:
        OSError: the file cannot be read.
    """
    hasher = new_hasher(algorithm)
    left = path.stat().st_size if length is None else length
    with path.open("rb") as handle:
        while left > 0 and (block := handle.read(min(_BLOCK, left))):
            hasher.update(block)
            left -= len(block)
            if advance is not None:
                advance(len(block))
    return hasher
