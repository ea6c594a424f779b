"""Data side of teramind: geometry, gene panels, the store contract, ingest, phantoms and export.

Names are loaded on first use, so that ``import teramind_data`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teramind_data.brain import Brain, open_brain
    from teramind_data.geometry import BIN_PX, Box, Window, tiles, window_sections, windows
    from teramind_data.panel import Panel, read_panel, write_panel
    from teramind_data.store import BrainSpec, BrainWriter, Section, append_image, create_brain

__version__ = "0.1.0"

_HOMES = {
    "BIN_PX": "geometry",
    "Box": "geometry",
    "Window": "geometry",
    "tiles": "geometry",
    "window_sections": "geometry",
    "windows": "geometry",
    "Panel": "panel",
    "read_panel": "panel",
    "write_panel": "panel",
    "Brain": "brain",
    "BrainSpec": "store",
    "BrainWriter": "store",
    "Section": "store",
    "append_image": "store",
    "create_brain": "store",
    "open_brain": "brain",
}

__all__ = [
    "BIN_PX",
    "Box",
    "Brain",
    "BrainSpec",
    "BrainWriter",
    "Panel",
    "Section",
    "Window",
    "append_image",
    "create_brain",
    "open_brain",
    "read_panel",
    "tiles",
    "window_sections",
    "windows",
    "write_panel",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
