"""Synthetic brains of which everything is known, written in the vendor's own layout.

`section_truth` gives one section in memory; `write_phantom` writes whole raw brains with their truth
beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teramind_data.phantom.config import PhantomConfig
    from teramind_data.phantom.render import SectionTruth, section_truth
    from teramind_data.phantom.write import is_written, write_phantom

__all__ = ["PhantomConfig", "SectionTruth", "is_written", "section_truth", "write_phantom"]

_HOMES = {
    "PhantomConfig": "config",
    "SectionTruth": "render",
    "is_written": "write",
    "section_truth": "render",
    "write_phantom": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
