"""Model side of teramind: the Tera-MIND network, its training, generation and attention maps.

Names are loaded on first use, so that ``import teramind_model`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teramind_model.attention_matrix import gene_gene_attention
    from teramind_model.checkpoint import load_checkpoint, load_model
    from teramind_model.diffusion.ddim import sample_canvas
    from teramind_model.diffusion.objective import training_loss
    from teramind_model.network import NetworkConfig, TeraMind

__version__ = "0.1.0"

_HOMES = {
    "NetworkConfig": "network",
    "TeraMind": "network",
    "gene_gene_attention": "attention_matrix",
    "load_checkpoint": "checkpoint",
    "load_model": "checkpoint",
    "sample_canvas": "diffusion.ddim",
    "training_loss": "diffusion.objective",
}

__all__ = [
    "NetworkConfig",
    "TeraMind",
    "gene_gene_attention",
    "load_checkpoint",
    "load_model",
    "sample_canvas",
    "training_loss",
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
