"""What a checkpoint or a preset is, in numbers: for ``teramind-model info``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from teramind_data.panel import Panel
from teramind_model.checkpoint import WEIGHTS, Checkpoint, ModelInfo
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


def receptive_halo(patch: int, steps: int) -> int:
    """Pixels around a tile on which it depends after ``steps`` steps: half a patch, and a whole one more each step."""
    return (steps - 1) * patch + patch // 2


def describe_network(network: NetworkConfig, steps: int) -> dict[str, Any]:
    """Shape, parameters, receptive halo and work, as plain values: pixels, FLOP, bytes.

    Args:
        network: the network.
        steps: DDIM steps for the halo of a whole generation.
    """
    from teramind_model.network.cost import count_work, meta_model

    model = meta_model(network)
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts[_PARTS[name.partition(".")[0]]] += parameter.numel()
    work = {}
    for key, fold in (("plain", False), ("folded", True)):
        counted = count_work(network, fold_z=fold)
        work[key] = {
            "gene_branch": counted.gene_branch,
            "encoder": counted.encoder,
            "decoder": counted.decoder,
            "tile_step": counted.tile_step,
            "training_forward": counted.training_forward,
        }
    total = sum(parts.values())
    return {
        "network": {**network.to_dict(), "image_slices": network.image_slices},
        "parameters": {"total": total, **parts},
        "weights_bytes": {"float32": 4 * total, "half": 2 * total},
        "receptive_halo_px": {
            "one_step": receptive_halo(network.patch, 1),
            "generation": receptive_halo(network.patch, steps),
            "steps": steps,
        },
        "flop": work,
    }


def describe_checkpoint(checkpoint: Checkpoint, steps: int) -> dict[str, Any]:
    """A checkpoint: its network (see :func:`describe_network`), panel, stains, pixel size and history."""
    info = checkpoint.info
    file = checkpoint.path / WEIGHTS
    return {
        "checkpoint": str(checkpoint.path),
        "sha256": checkpoint.digest,
        "file_bytes": file.stat().st_size,
        **describe_network(info.network, steps),
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


def describe_training_memory(network: NetworkConfig, batch: int) -> dict[str, Any]:
    """Peak device memory of a training step on ``batch`` samples at once, bytes: bfloat16 autocast, plain and with
    activation checkpointing. Computed, not measured (see ``network.training_memory``)."""
    from teramind_model.network.training_memory import training_memory

    found: dict[str, Any] = {"batch": batch, "precision": "bf16-mixed"}
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
    return found
