"""A finding: what is wrong with a store, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["READ_ERRORS", "RESTORE", "Finding", "describe", "difference"]

#: What readers, ours and others', raise on damaged data. (Not MemoryError, not KeyboardInterrupt.)
READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

#: The remedy where data are lost.
RESTORE = "Restore it from a copy, or write the store again"


@dataclass(frozen=True)
class Finding:
    """One thing wrong: ``str`` is one line, ``element: problem. Remedy``."""

    element: str
    problem: str
    remedy: str = RESTORE

    def __str__(self) -> str:
        return " ".join(f"{self.element}: {self.problem}. {self.remedy}".split())


def describe(error: BaseException) -> str:
    """An error in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Where two JSON values first differ, in words; None where they are equal. Numbers compare by value."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}, key=str):
            here = f"{path}.{key}" if path else str(key)
            if key not in found:
                return f"{here} is missing"
            if key not in expected:
                return f"{here} is not expected"
            inner = difference(expected[key], found[key], here)
            if inner:
                return inner
        return None
    if isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple)):
        if len(expected) != len(found):
            return f"{path} has {len(found)} entries instead of {len(expected)}"
        inner_ones = (
            difference(e, f, f"{path}[{n}]") for n, (e, f) in enumerate(zip(expected, found, strict=True))
        )
        return next((inner for inner in inner_ones if inner), None)
    if expected == found and isinstance(expected, bool) == isinstance(found, bool):
        return None
    return f"{path} is {str(found)[:60]!r} instead of {str(expected)[:60]!r}"
