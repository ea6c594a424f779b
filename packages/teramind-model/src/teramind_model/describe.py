"""What a checkpoint or a preset is, in numbers: for ``teramind-model info``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from teramind_data.errors import InputError
from teramind_data.panel import Panel
from teramind_model.checkpoint import WEIGHTS, Checkpoint, ModelInfo
from teramind_model.methods.protocol import NetworkShape
from teramind_model.methods.registry import DEFAULT_METHOD, find_method
from teramind_model.network.config import NetworkConfig
from teramind_model.presets import find_preset

__all__ = ["describe_checkpoint", "describe_network", "describe_training_memory", "preset_network"]

_PARTS = {
    "gene_gene": "gene branch",
    "time_embedding": "time embedding",
    "stem": "encoder",
    "encoder": "encoder",
    "middle": "middle",
    "decoder": "decoder",
    "head_norm": "decoder",
    "head": "decoder",
}


def preset_network(name: str) -> NetworkConfig:
    """The network of a preset with the panel size it is meant for."""
    preset = find_preset(name)
    return NetworkConfig(genes=preset.genes, **preset.network)


def receptive_halo(network: NetworkShape, steps: int) -> int:
    """Pixels around a tile on which it depends after ``steps`` steps: the halo of one, and for each further step the
    whole tiles in it."""
    tiles = -(-network.halo // network.patch)
    return (steps - 1) * tiles * network.patch + network.halo


def describe_network(network: NetworkShape, steps: int, method: str = DEFAULT_METHOD) -> dict[str, Any]:
    """Shape, parameters, receptive halo and work, as plain values: pixels, FLOP, bytes.

    Args:
        network: the shape of the method's network.
        steps: DDIM steps for the halo of a whole generation.
        method: whose network it is.
    """
    import torch

    with torch.device("meta"):
        model = find_method(method).build(network)
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        child = name.partition(".")[0]
        parts[_PARTS.get(child, child)] += parameter.numel()
    total = sum(parts.values())
    return {
        "method": method,
        "network": {**network.to_dict(), "image_slices": network.image_slices},
        "parameters": {"total": total, **parts},
        "weights_bytes": {"float32": 4 * total, "half": 2 * total},
        "receptive_halo_px": {
            "one_step": receptive_halo(network, 1),
            "generation": receptive_halo(network, steps),
            "steps": steps,
        },
        "flop": _work(network, method),
    }


def _work(network: NetworkShape, method: str) -> dict[str, Any]:
    """FLOP by part, plain and folded, of the paper's network; of others those of one tile by itself, halo included."""
    from teramind_model.network.cost import count_tile, count_work

    if not isinstance(network, NetworkConfig):
        return {"tile_alone": count_tile(find_method(method), network)}
    work: dict[str, Any] = {}
    for key, fold in (("plain", False), ("folded", True)):
        counted = count_work(network, fold_z=fold)
        work[key] = {
            "gene_branch": counted.gene_branch,
            "encoder": counted.encoder,
            "decoder": counted.decoder,
            "tile_step": counted.tile_step,
            "training_forward": counted.training_forward,
        }
    return work


def describe_checkpoint(checkpoint: Checkpoint, steps: int) -> dict[str, Any]:
    """A checkpoint: its network (see :func:`describe_network`), panel, stains, pixel size and history."""
    info = checkpoint.info
    file = checkpoint.path / WEIGHTS
    return {
        "checkpoint": str(checkpoint.path),
        "sha256": checkpoint.digest,
        "file_bytes": file.stat().st_size,
        **describe_network(info.network, steps, info.method),
        "panel": _panel(info.panel),
        "stains": list(info.stains),
        "pixel_size_um": info.pixel_size_um,
        "training": _training(info),
        "scores": info.training.get("scores", {}),
    }


def _panel(panel: Panel) -> dict[str, Any]:
    return {"genes": len(panel), "fingerprint": panel.fingerprint, "names": list(panel.genes)}


def _training(info: ModelInfo) -> dict[str, Any]:
    return {key: value for key, value in info.training.items() if key != "scores"}


def describe_training_memory(network: NetworkShape, batch: int) -> dict[str, Any]:
    """Peak device memory of a training step on ``batch`` samples at once, bytes: bfloat16 autocast, plain and with
    activation checkpointing, and the same peaks in ``float32``, the default of ``train``. Computed, not measured (see
    ``network.training_memory``).

    Raises:
        InputError: for another method's network.
    """
    if not isinstance(network, NetworkConfig):
        raise InputError(
            "training memory is computed for the paper's network only", where="--training-memory"
        )
    from teramind_model.network.training_memory import training_memory

    found: dict[str, Any] = {"batch": batch, "precision": "bf16-mixed", "float32": {"precision": "32-true"}}
    for key, recompute in (("plain", False), ("checkpointing", True)):
        memory = training_memory(network, batch, recompute=recompute)
        found[key] = {
            "weights": memory.weights,
            "optimiser": memory.optimiser,
            "average": memory.average,
            "kept": memory.kept,
            "step": memory.step,
            "peak": memory.peak,
        }
        in_full = training_memory(network, batch, bf16=False, recompute=recompute)
        found["float32"][key] = {"peak": in_full.peak}
    return found
