"""Which kernel computes attention: PyTorch's, or the optional ``flash-attn`` package where it is the faster one.

``scaled_dot_product_attention`` serves everywhere and is what the parity figures are checked with. Where ``flash-attn``
(the extra ``teramind-model[flash]``) is installed, supports the call and was measured to be faster on this device for
this shape, it is taken instead. They agree to rounding: :data:`TOLERANCE`.

The environment variable ``TERAMIND_ATTENTION`` fixes the choice: ``sdpa``, ``flash`` (wherever supported, unmeasured)
or ``auto``. A measurement may fall out differently another time, and kernels round differently: for restarts with the
same bytes on a GPU that has ``flash-attn``, fix it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from teramind_data.errors import InputError

__all__ = ["CHOICES", "TOLERANCE", "flash_supports", "flash_wanted", "single_head"]

CHOICES = ("auto", "flash", "sdpa")
VARIABLE = "TERAMIND_ATTENTION"

TOLERANCE = {torch.float16: 2**-9, torch.bfloat16: 2**-6}
"""Largest difference of the two kernels' outputs, relative to the largest value: some units in the last place of the
type (10 and 7 bits), as both sum in float32 but round at other places."""

_MAX_HEAD = 256
_MARGIN = 1.1
"""How many times as fast flash-attn must be measured: below that the choice would be chance."""

_LOG = logging.getLogger(__name__)

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def single_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Single-head attention of ``(b, tokens, c)``, scaled by 1/c as published (not 1/sqrt(c))."""
    # Under torch.compile the compiler chooses; asking the clock would break the graph.
    if not torch.compiler.is_compiling() and flash_wanted(q, k, v):
        return _flash(q, k, v)
    return _sdpa(q, k, v)


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # The fused kernels want an axis of heads; without one PyTorch falls back to explicit products, twice as slow.
    q, k, v = (tokens.unsqueeze(1) for tokens in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, scale=1 / q.shape[-1]).squeeze(1)


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # flash-attn's axes are (b, tokens, heads, c).
    q, k, v = (tokens.unsqueeze(2) for tokens in (q, k, v))
    return _flash_function()(q, k, v, softmax_scale=1 / q.shape[-1]).squeeze(2)


@cache
def _flash_function() -> Any:
    """``flash_attn.flash_attn_func``, or None where the package is not installed or does not load."""
    try:
        return import_module("flash_attn").flash_attn_func
    except ModuleNotFoundError:
        return None
    except (ImportError, AttributeError, OSError) as error:
        # Built for another torch: common, and no reason to stop.
        _LOG.warning("flash-attn is installed but does not load (%s); using PyTorch's attention", error)
        return None


def flash_supports(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether flash-attn is there and computes this call: CUDA of capability 8.0 or later, half precision in all three,
    heads of at most 256 in multiples of 8. The middle block of the published networks has 512."""
    head = q.shape[-1]
    return (
        q.dtype in TOLERANCE
        and k.dtype == v.dtype == q.dtype
        and head <= _MAX_HEAD
        and head % 8 == 0
        and _device_serves(q.device)
        and _flash_function() is not None
    )


@cache
def _device_serves(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def flash_wanted(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether to take flash-attn for this call (see the module).

    Raises
    ------
    InputError
        Where ``TERAMIND_ATTENTION`` is none of :data:`CHOICES`, or ``flash`` where the package is missing.
    """
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise InputError(
            "unknown attention kernel", where=VARIABLE, expected=", ".join(CHOICES), found=choice
        )
    if choice == "flash" and _flash_function() is None:
        raise InputError(
            "flash-attn is asked for but not installed",
            where=VARIABLE,
            remedy="Install teramind-model[flash], or unset the variable",
        )
    if choice == "sdpa" or not flash_supports(q, k, v):
        return False
    return choice == "flash" or _flash_is_faster(
        q.device, q.dtype, tuple(q.shape), k.shape[1], torch.is_grad_enabled()
    )


@cache
def _flash_is_faster(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, ...], keys: int, training: bool
) -> bool:
    """Measured once a process, shape and type, on numbers of its own, backward included where training."""
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        # Filled without the generator: training's random numbers must not depend on which kernel was tried.
        q = torch.full(shape, 0.5, device=device, dtype=dtype, requires_grad=training)
        memory = torch.full(
            (shape[0], keys, shape[2]), 0.5, device=device, dtype=dtype, requires_grad=training
        )
        ours, theirs = (_milliseconds(kernel, q, memory, training) for kernel in (_sdpa, _flash))
    _LOG.info("attention %s on %d keys: PyTorch %.3f ms, flash-attn %.3f ms", shape, keys, ours, theirs)
    return theirs * _MARGIN < ours


def _milliseconds(kernel: Kernel, q: Tensor, memory: Tensor, training: bool) -> float:
    """Median of some runs after a warm-up."""
    times = []
    for _ in range(12):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        out = kernel(q, memory, memory)
        if training:
            torch.autograd.grad(out.sum(), (q, memory))
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times[2:])[5]
