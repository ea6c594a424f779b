"""Our checkpoint as a file of the published kind: ``state_dict`` with ``model.`` before the published names."""

from __future__ import annotations

import os
from pathlib import Path

from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_model.checkpoint import Checkpoint
from teramind_model.importer import to_published
from teramind_model.network.config import NetworkConfig
from teramind_model.published_file import OURS_KEY, UNSEEN

__all__ = ["export_published"]


def export_published(checkpoint: Checkpoint, out: Path, *, overwrite: bool = False) -> int:
    """Write ``out``, whole or not at all; it holds tensors and plain values only (``weights_only=True`` reads it).

    Beside ``state_dict`` and what Lightning asks of a checkpoint stands a block ``teramind`` with what the published
    format has no place for: panel, stains, pixel size, history. ``import-checkpoint`` reads it back.

    Returns:
        The number of parameters.

    Raises:
        InputError: where the name does not end in ``.ckpt``, or the checkpoint is another method's.
        OutputExistsError: where ``out`` exists and may not be replaced.
        StoreError: where it cannot be written; what was there is kept.
    """
    import torch

    if out.suffix != ".ckpt":
        raise InputError("not a name for a published checkpoint", where=out, expected="a file OUT.ckpt")
    if out.is_dir() or (out.exists() and not overwrite):
        remedy = "Choose another name" if out.is_dir() else "Pass --overwrite or choose another name"
        raise OutputExistsError("output exists", where=out, remedy=remedy)
    info = checkpoint.info
    if not isinstance(info.network, NetworkConfig):
        raise InputError(
            "the published format knows only the paper's network", where=checkpoint.path, found=info.method
        )
    published = to_published(checkpoint.weights(), info.network)
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in published.items()},
        "epoch": 0,
        "global_step": int(info.training.get("steps", 0)),
        "pytorch-lightning_version": "2.0.0",  # the format's, without which Lightning refuses the file
        OURS_KEY: {
            "panel": list(info.panel.genes),
            "stains": list(info.stains),
            "pixel_size_um": info.pixel_size_um,
            "lineage": info.training.get("lineage", []),
            "averaged": info.averaged,
            **{name: getattr(info.network, name) for name in UNSEEN},
        },
    }
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            torch.save(content, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, out)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk in errors of its own.
        raise StoreError(
            "checkpoint cannot be written", where=out, found=error, remedy="Free space or check permissions"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(published)
