"""Generation: an atlas's genes to a brain's images, window by window, into a store of the same contract.

``config`` says what is asked for, ``source`` loads the network, ``budget`` refuses what does not fit, ``sampling``
makes one window, ``output`` decides what happens to what is there already, ``run`` puts them together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teramind_model.generate.config import GenerateConfig, RunOptions
    from teramind_model.generate.run import generate
    from teramind_model.generate.source import Source, load_source

__all__ = ["GenerateConfig", "RunOptions", "Source", "generate", "load_source"]

_HOMES = {
    "GenerateConfig": "config",
    "RunOptions": "config",
    "Source": "source",
    "generate": "run",
    "load_source": "source",
}


def __getattr__(name: str) -> Any:
    # torch is slow to import; `--help` needs the configuration alone.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
