"""Reading a published checkpoint: which of its tensors are the weights, and what else it holds.

Lightning keeps everything that a module owns in one flat ``state_dict``: the network under ``model.``, perhaps an
average of it under ``ema_model.`` (or ``ema_model.module.``, as ``AveragedModel`` wraps it), and buffers of the
diffusion. Nothing is dropped silently: what is not taken is either known to be no weight, and said, or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from teramind_data.errors import InputError, MissingInputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OURS_KEY", "UNSEEN", "PublishedFile", "read_published"]

OURS_KEY = "teramind"
"""Beside ``state_dict`` in files that we export: panel, stains, pixel size, history, and what of the network no shape
shows (:data:`UNSEEN`); plain values."""

UNSEEN = ("dropout", "fold_z")
"""Fields of NetworkConfig that the weights' shapes do not show."""

_AVERAGED, _RAW = "ema_model.", "model."
_WRAPPERS = ("module.", "_orig_mod.")
"""Put before names by data parallelism, ``AveragedModel`` and ``torch.compile``."""

_COUNTERS = frozenset({"n_averaged", "num_updates", "decay", "initted", "step"})
"""What averages keep beside the weights, one number each."""

_BUFFERS = frozenset(
    {
        "betas",
        "alphas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "alphas_cumprod_next",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "loss_weight",
        "p2_loss_weight",
        "x_T",  # the fixed noise of sample pictures
    }
)


@dataclass(frozen=True)
class PublishedFile:
    """``weights``: tensors under published names without prefix. ``left_over``: names that are neither weights nor
    known. ``notes``: one line each on what was chosen and what left out. ``ours``: the block of a file of our own
    making. ``averaged``: whether the weights are an average; None where the file does not say.
    """

    weights: dict[str, Tensor]
    left_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ours: dict[str, Any] = field(default_factory=dict)
    averaged: bool | None = None


def read_published(path: Path, *, averaged: bool = True) -> PublishedFile:
    """Read a published checkpoint: Lightning ``.ckpt`` (with ``weights_only=True``), ``.npz`` or ``.safetensors``.

    Args:
        path: the file.
        averaged: take ``ema_model.`` where there are both; else ``model.``.

    Raises:
        MissingInputError, InputError: where there is no such file, it is not such a checkpoint, or it was trained
            under another noise schedule.
    """
    if not path.is_file():
        raise MissingInputError("no checkpoint to import", where=path, remedy="Check the path")
    if path.suffix == ".npz":
        return _sorted_out(_read_npz(path), averaged, path)
    if path.suffix == ".safetensors":
        return _sorted_out(_read_safetensors(path), averaged, path)
    return _read_lightning(path, averaged)


def _sorted_out(tensors: Mapping[str, Tensor], averaged: bool, path: Path) -> PublishedFile:
    """Weights, known buffers and the rest of a flat ``state_dict``."""
    groups: dict[str, dict[str, Tensor]] = {_AVERAGED: {}, _RAW: {}}
    others: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix = next((p for p in groups if name.startswith(p)), "")
        inner = _unwrapped(name.removeprefix(prefix))
        if inner in _BUFFERS or (inner in _COUNTERS and tensor.numel() == 1):
            known[name] = tensor
        elif prefix:
            groups[prefix][inner] = tensor
        else:
            others[name] = tensor
    _check_schedule(known, path)
    notes = [f"left out, as no weights: {', '.join(sorted(known))}"] if known else []
    present = [prefix for prefix, group in groups.items() if group]
    if not present:
        return PublishedFile({_unwrapped(n): t for n, t in others.items()}, notes=tuple(notes))
    chosen = present[0] if averaged else present[-1]
    if len(present) == 2:
        word = "averaged" if chosen == _AVERAGED else "last"
        other = present[1 - present.index(chosen)]
        notes.insert(0, f"{word} weights taken ({chosen}), not their twins ({other})")
    elif chosen == _AVERAGED:
        notes.insert(0, f"averaged weights taken ({chosen}); there are no others")
    # A twin must not hide a parameter that those taken have no name for.
    twins = [p + n for p in present if p != chosen for n in groups[p] if n not in groups[chosen]]
    known_average = True if chosen == _AVERAGED else (False if len(present) == 2 else None)
    return PublishedFile(groups[chosen], (*others, *twins), tuple(notes), averaged=known_average)


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _check_schedule(buffers: Mapping[str, Tensor], path: Path) -> None:
    """The weights know time by number; under another schedule the same number means another noise."""
    import numpy as np

    from teramind_model.diffusion.schedule import alpha_bar

    for name, tensor in buffers.items():
        if _unwrapped(name.removeprefix(_AVERAGED).removeprefix(_RAW)) != "alphas_cumprod":
            continue
        ours = alpha_bar()
        if tensor.shape != ours.shape or not np.allclose(tensor.double().numpy(), ours, rtol=1e-3):
            raise InputError(
                "checkpoint was trained under another noise schedule",
                where=f"{path}, {name}",
                expected=f"{len(ours)} steps, linear beta 1e-4 to 2e-2",
                found=f"{tensor.numel()} steps ending at {tensor.flatten()[-1].item():.2g}",
            )


def _read_npz(path: Path) -> dict[str, Tensor]:
    import zipfile

    import numpy as np
    import torch

    try:
        # As a zip archive, or NumPy would take a single array, or a pickle, under the same name.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            "not an .npz of arrays of numbers", where=path, found=error, remedy="Copy the file again"
        ) from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            "not a safetensors file", where=path, found=error, remedy="Copy the file again"
        ) from None


def _read_lightning(path: Path, averaged: bool) -> PublishedFile:
    from dataclasses import replace

    from teramind_model.plain_load import load_plain

    content = load_plain(
        path,
        "not a checkpoint that can be read safely",
        "Copy it again if it is damaged; if you trust it, save its state_dict as .safetensors and import that",
    )
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not _are_tensors(tensors):
        raise InputError(
            "the checkpoint holds no state_dict of tensors",
            where=path,
            expected="state_dict: {name: tensor}",
            found=type(tensors or content).__name__,
        )
    read = _sorted_out(tensors, averaged, path)
    if tensors is content:
        return read
    rest = {str(key): value for key, value in content.items() if key != "state_dict"}
    ours = rest.pop(OURS_KEY, {})
    # Weights beside the state_dict, under any name, are not "other state".
    strays = {key: value for key, value in rest.items() if value and _are_tensors(value)}
    plain = sorted(set(rest) - set(strays))
    notes = [f"left out, as no weights: {', '.join(plain)}"] if plain else []
    return replace(
        read,
        left_over=(*read.left_over, *(f"{key}.{name}" for key, group in strays.items() for name in group)),
        notes=(*read.notes, *notes),
        ours=ours if isinstance(ours, dict) else {},
    )


def _are_tensors(value: object) -> TypeGuard[dict[str, Tensor]]:
    import torch

    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )
