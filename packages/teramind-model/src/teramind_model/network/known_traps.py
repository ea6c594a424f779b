"""Versions of cuDNN and PyTorch whose 3-D convolution is wrong or wasteful in half precision.

Folding the slices into channels (``fold_z``) computes the same sums with 2-D convolutions, which are not concerned.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["KnownTrapWarning", "Versions", "convolution_trap", "warn_of_traps"]

_HALF = (torch.bfloat16, torch.float16)


class KnownTrapWarning(UserWarning):
    """Wrong results or wasted memory that the installed versions are known for."""


@dataclass(frozen=True)
class Versions:
    """``torch`` as ``(2, 9, 1)``; ``cudnn`` as cuDNN counts since 9: 91002 is 9.10.2. None: no cuDNN."""

    torch: tuple[int, int, int]
    cudnn: int | None

    @classmethod
    def installed(cls) -> Versions:
        """Those of this process."""
        numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", torch.__version__)
        parts = (int(n or 0) for n in numbers.groups()) if numbers else (0, 0, 0)
        major, minor, patch = parts
        return cls((major, minor, patch), torch.backends.cudnn.version())

    @property
    def cudnn_name(self) -> str:
        """As people write it."""
        if self.cudnn is None:
            return "none"
        return f"{self.cudnn // 10_000}.{self.cudnn // 100 % 100}.{self.cudnn % 100}"


def convolution_trap(versions: Versions) -> str | None:
    """What is wrong with 3-D convolution in half precision under ``versions``; None where nothing is known.

    PyTorch before 2.9 hands it to cuDNN, whose 9.8 to 9.10 give wrong numbers in bfloat16, silently
    (pytorch/pytorch#163539). PyTorch 2.9.0 therefore avoids cuDNN from 9.8 on (#163581) and falls back to a kernel
    that unfolds the input in memory (#166643, #166790); later ones avoid only 9.8 to 9.14 (#166480, #167111).
    """
    if versions.cudnn is None or versions.cudnn < 90_800:
        return None
    if versions.torch < (2, 9, 0):
        if versions.cudnn < 91_100:
            return f"3-D convolution in bfloat16 is wrong on cuDNN {versions.cudnn_name} (9.8 to 9.10)"
        return None
    if versions.torch == (2, 9, 0) or versions.cudnn < 91_500:
        name = ".".join(map(str, versions.torch))
        return (
            f"3-D convolution in half precision takes several times the memory with PyTorch {name} "
            f"and cuDNN {versions.cudnn_name}"
        )
    return None


def warn_of_traps(
    device: torch.device | str, dtype: torch.dtype, network: Any, versions: Versions | None = None
) -> str | None:
    """Warn, in one line, where running a network of shape ``network`` on ``device`` in ``dtype`` meets a known trap.

    Call it where a device and a precision (autocast's type, or the weights') are chosen.

    Returns
    -------
    The warning's text, or None where there is nothing to warn of: another device, float32, one slice, folded slices,
    or a shape without ``fold_z``, whose network makes its convolutions otherwise.
    """
    if torch.device(device).type != "cuda" or dtype not in _HALF:
        return None
    if getattr(network, "fold_z", True) or network.gene_slices == 1:
        return None
    trap = convolution_trap(Versions.installed() if versions is None else versions)
    if trap is None:
        return None
    text = f"{trap}. Use --fold-z, float32, or PyTorch 2.10 or later with cuDNN 9.15 or later"
    warnings.warn(text, KnownTrapWarning, stacklevel=2)
    return text
