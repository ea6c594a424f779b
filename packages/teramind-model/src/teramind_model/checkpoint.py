"""Checkpoints: a directory of ``model.safetensors`` and ``config.json``, whole or not there at all.

``config.json`` says everything needed to use the weights: the network's shape, the gene panel, the stains, the
pixel size, and how they were trained. ``trainer.pt``, where present, is what resuming needs beside the weights; it
holds tensors and plain values only and is read with ``weights_only=True``. Nothing here unpickles a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teramind_data.errors import InputError, MissingInputError, OutputExistsError, StoreError
from teramind_data.panel import Panel
from teramind_model.methods.registry import DEFAULT_METHOD, find_method

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from teramind_model.methods.protocol import NetworkShape

__all__ = [
    "Checkpoint",
    "ModelInfo",
    "load_checkpoint",
    "load_model",
    "load_trainer_state",
    "means_shipped",
    "resolve_checkpoint",
    "run_checkpoints",
    "save_checkpoint",
]

FORMAT_VERSION = 1
WEIGHTS, CONFIG, TRAINER, CARD = "model.safetensors", "config.json", "trainer.pt", "README.md"
CHECKPOINTS = "checkpoints"
SHIPPED = ("phantom",)
_STEP_NAME = re.compile(r"step-(\d{7,})")


@dataclass(frozen=True)
class ModelInfo:
    """What weights mean: shape of the method's network, genes in their order, stains, pixel size and provenance.

    ``training`` is plain JSON: resolved options, steps, seconds, data, and ``lineage``, one entry a stage.
    """

    network: NetworkShape
    panel: Panel
    stains: tuple[str, ...]
    pixel_size_um: float
    training: dict[str, Any] = field(default_factory=dict)
    method: str = DEFAULT_METHOD

    def __post_init__(self) -> None:
        if len(self.panel) != self.network.genes:
            raise InputError(
                "panel and network differ in genes", expected=self.network.genes, found=len(self.panel)
            )
        if len(self.stains) != self.network.stains:
            raise InputError("stains and network differ", expected=self.network.stains, found=self.stains)
        if not (isfinite(self.pixel_size_um) and self.pixel_size_um > 0):
            raise InputError(
                "pixel size is not a positive number", expected="um, > 0", found=self.pixel_size_um
            )

    @property
    def averaged(self) -> bool | None:
        """Whether the weights are an exponential moving average, as ours are; None where an imported file does not
        say."""
        lineage = self.training.get("lineage", [])
        averaged = lineage[-1].get("averaged", True) if lineage else True
        return averaged if isinstance(averaged, bool) else None

    def to_dict(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {
            "format_version": FORMAT_VERSION,
            "method": self.method,
            "network": self.network.to_dict(),
            "panel": list(self.panel.genes),
            "panel_fingerprint": self.panel.fingerprint,
            "stains": list(self.stains),
            "pixel_size_um": self.pixel_size_um,
            "ema": self.averaged,
            "training": self.training,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> ModelInfo:
        """Inverse of :meth:`to_dict`; InputError (of a panel, PanelError) naming ``where`` for anything else."""
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError("unknown checkpoint format", where=where, expected=FORMAT_VERSION, found=version)
        try:
            # Checkpoints from before there were several methods do not name theirs.
            method = str(values.get("method", DEFAULT_METHOD))
            info = cls(
                network=find_method(method).shape(values["network"]),
                panel=Panel(tuple(values["panel"])),
                stains=tuple(values["stains"]),
                pixel_size_um=float(values["pixel_size_um"]),
                training=dict(values["training"]),
                method=method,
            )
        except KeyError as missing:
            raise InputError(
                "checkpoint configuration lacks a key", where=where, expected=missing.args[0]
            ) from None
        except InputError as error:
            found = error.where if error.found is None else error.found
            raise type(error)(error.what, where, error.expected, found, error.remedy) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "checkpoint configuration holds a value of the wrong kind",
                where=where,
                found=error,
                remedy="The file was edited or damaged; take the original",
            ) from None
        if info.panel.fingerprint != values.get("panel_fingerprint"):
            raise InputError(
                "checkpoint's panel does not match its fingerprint",
                where=where,
                expected=values.get("panel_fingerprint"),
                found=info.panel.fingerprint,
                remedy="The file was edited or damaged; take the original",
            )
        return info


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: what it is, and its weights when asked for."""

    path: Path
    info: ModelInfo

    @property
    def network(self) -> NetworkShape:
        """Shape of the network."""
        return self.info.network

    @property
    def panel(self) -> Panel:
        """Genes in the order the network wants them."""
        return self.info.panel

    @property
    def stains(self) -> tuple[str, ...]:
        """Image channels, in order."""
        return self.info.stains

    @property
    def pixel_size_um(self) -> float:
        """Pixel size of the atlases it was trained on."""
        return self.info.pixel_size_um

    @property
    def training(self) -> dict[str, Any]:
        """Provenance, plain JSON."""
        return self.info.training

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the weights file."""
        with (self.path / WEIGHTS).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def weights(self) -> dict[str, Tensor]:
        """EMA weights under our names, float32."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.path / WEIGHTS
        try:
            return {name: tensor.float() for name, tensor in load_file(file).items()}
        except FileNotFoundError:
            raise MissingInputError("checkpoint has no weights", where=file) from None
        except SafetensorError as error:
            raise InputError(
                "weights cannot be read", where=file, found=error, remedy="Copy the file again"
            ) from error

    def build(self, device: str | torch.device = "cpu", *, fold_z: bool | None = None) -> nn.Module:
        """The network with these weights, in eval mode. ``fold_z`` overrides how it computes, not what."""
        method = find_method(self.info.method)
        values = self.network.to_dict()
        if fold_z is not None and "fold_z" in values:
            values["fold_z"] = fold_z
        model = method.build(method.shape(values))
        load_weights(model, self.weights(), self.path)
        return model.to(device).eval()


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], where: object, named: Callable[[str], str] = str
) -> None:
    """Put ``weights`` into ``model``; every parameter accounted for, or InputError naming what is left over.

    ``named`` turns our name of a parameter into that of where it came from, for the error.
    """
    expected = model.state_dict()
    missing, surplus = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    wrong = [n for n in sorted(set(expected) & set(weights)) if expected[n].shape != weights[n].shape]
    for what, names in (("lacks", missing), ("has left-over", surplus), ("has wrongly shaped", wrong)):
        if names:
            shown = ", ".join(map(named, names[:5])) + (
                f" and {len(names) - 5} more" if len(names) > 5 else ""
            )
            raise InputError(f"checkpoint {what} parameters", where=where, found=shown)
    model.load_state_dict(dict(weights))


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what a checkpoint is (its weights only when asked for).

    Args:
        path: a checkpoint directory, a run directory of ``teramind-model train`` (its newest checkpoint), or the
            name of a shipped one: ``phantom``.

    Raises:
        MissingInputError, InputError: where there is none, or it is not one of ours.
    """
    folder = resolve_checkpoint(path)
    file = folder / CONFIG
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInputError("checkpoint has no configuration", where=file) from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            "checkpoint configuration is not JSON", where=file, found=error, remedy="Copy the file again"
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            "checkpoint configuration is not a JSON object", where=file, found=type(values).__name__
        )
    return Checkpoint(folder, ModelInfo.from_dict(values, file))


def load_model(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> nn.Module:
    """The network of a checkpoint with its EMA weights, in eval mode; ``path`` as for :func:`load_checkpoint`.

    The module of the paper's method is called ``model(x, t, counts) -> (eps_patch, eps_collage)``:
    ``x (b * 4, k * Z, P, P)``, ``t (b,)``, ``counts (b * 4, S, n, g, g)``.
    """
    return load_checkpoint(path).build(device)


def means_shipped(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a shipped checkpoint's name, and no checkpoint or run lies here under it.

    Another folder of that name hides nothing; one that lacks parts of a checkpoint, or a run just begun, does.
    """
    return str(path) in SHIPPED and not any(
        (Path(path) / name).exists() for name in (WEIGHTS, CONFIG, CHECKPOINTS)
    )


def resolve_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint directory that ``path`` means (see :func:`load_checkpoint`)."""
    folder = Path(path)
    if means_shipped(path):
        from teramind_model.pretrained import shipped

        return shipped(str(path))
    if not folder.is_dir():
        left = sorted(folder.parent.glob(f".{folder.name}.*.old")) if folder.name else []
        raise MissingInputError(
            "no checkpoint",
            where=folder,
            expected=f"a checkpoint, a run, or one of {', '.join(SHIPPED)}",
            remedy=f"Its replacement was interrupted. Rename {left[-1]} to it" if left else None,
        )
    if (folder / WEIGHTS).is_file():
        return folder
    found = run_checkpoints(folder)
    if not found:
        raise MissingInputError(
            "no checkpoint", where=folder, expected=f"{WEIGHTS}, or checkpoints/step-*", remedy="Train first"
        )
    return found[-1][1]


def run_checkpoints(run: Path) -> list[tuple[int, Path]]:
    """``(step, directory)`` of a run's checkpoints, oldest first. Half-written ones have other names."""
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        return []
    matches = ((_STEP_NAME.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), entry) for match, entry in matches if match and entry.is_dir())


def checkpoint_name(step: int) -> str:
    """Directory name of the checkpoint after ``step`` steps."""
    return f"step-{step:07d}"


def save_checkpoint(
    path: Path,
    info: ModelInfo,
    weights: Mapping[str, Tensor],
    *,
    trainer: Mapping[str, Any] | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint directory, whole or not at all.

    Files go to a temporary sibling and are synced; one rename gives them their name.

    Args:
        path: the directory to make.
        info: what the weights are.
        weights: EMA weights under our names.
        trainer: what resuming needs, tensors and plain values only.
        half: store the weights as float16 (for shipping; loading gives float32).
        overwrite: replace a checkpoint that is there. Anything else there is an error.

    Raises:
        OutputExistsError: where ``path`` exists and may not be replaced.
        StoreError: where it cannot be written; what was there is kept.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from teramind_model.model_card import model_card

    _check_free(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        dtype = torch.float16 if half else torch.float32
        tensors = {name: w.detach().to("cpu", dtype).contiguous() for name, w in weights.items()}
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(info.to_dict(), indent=1, ensure_ascii=False) + "\n"
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        (temporary / CARD).write_text(model_card(info), encoding="utf-8")
        # safetensors makes files that only their owner can read.
        (temporary / WEIGHTS).chmod((temporary / CONFIG).stat().st_mode)
        if trainer is not None:
            torch.save(dict(trainer), temporary / TRAINER)
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        _put_in_place(temporary, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch and safetensors report a full disk in errors of their own.
        raise StoreError(
            "checkpoint cannot be written",
            where=path,
            found=error,
            remedy="Free space or check permissions; older ones are kept",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_free(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    ours = path.is_dir() and (path / WEIGHTS).is_file() and (path / CONFIG).is_file()
    if not overwrite or not ours:
        remedy = (
            "Pass --overwrite or choose another name"
            if ours
            else "It is no checkpoint of ours; choose another name"
        )
        raise OutputExistsError("output exists", where=path, remedy=remedy)


def _put_in_place(temporary: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    replaced = path.exists()
    if replaced:
        os.rename(path, old)
    try:
        os.rename(temporary, path)
        _sync(path.parent)
    except OSError:
        # Failing means that nothing has changed.
        if path.exists():
            os.rename(path, temporary)
        if replaced:
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_trainer_state(path: Path) -> dict[str, Any]:
    """What resuming needs of the checkpoint directory ``path``.

    Raises:
        MissingInputError, InputError: where there is none, or it cannot be read safely.
    """
    file = path / TRAINER
    if not file.is_file():
        raise MissingInputError(
            "checkpoint cannot be resumed: no trainer state", where=file, remedy="Use it with --init"
        )
    from teramind_model.plain_load import load_plain

    state = load_plain(
        file,
        "trainer state cannot be read",
        "Remove this checkpoint to resume from the one before, or start another run from it with --init",
    )
    if not isinstance(state, dict):
        raise InputError(
            "trainer state is not one of ours", where=file, expected="a dict", found=type(state).__name__
        )
    return state
