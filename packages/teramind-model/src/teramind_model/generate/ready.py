"""A network made ready to generate: the same function, computed as its device does best.

On a CUDA device slices are folded into channels (2-D convolutions on channels-last maps, which the feature maps are
without a copy; measured on an H200 in bfloat16: 1.5 times as fast), the folded weights are kept, and ``bfloat16`` means
weights of that type instead of autocast, which would cast most of them at every call. ``--compile`` lets
``torch.compile`` fuse what lies between the convolutions (norm, SiLU and modulation: most of the time in an eager run;
encoder and decoder alone were 2.9 times as fast).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from teramind_data.errors import InputError
from teramind_model.generate.config import Precision, RunOptions
from teramind_model.generate.source import Source
from teramind_model.network.blocks import SliceConv
from teramind_model.network.compiler import check_compiler
from teramind_model.network.unet import PatchUNet

__all__ = ["check_compile", "compiled", "computing", "made_ready", "settled"]

Network = Callable[..., Any]


def check_compile(source: Source, run: RunOptions, device: str) -> None:
    """InputError where ``--compile`` is asked for and cannot be done on ``device``."""
    if not run.compile:
        return
    if not isinstance(source.model, PatchUNet) or not device.startswith("cuda"):
        raise InputError(
            "--compile is for methods with a wavefront, on a GPU",
            found=f"{source.method.name} on {device}",
            remedy="Leave it out",
        )


def made_ready(source: Source, run: RunOptions) -> Source:
    """``source`` with a network of its own that is ready on its device, or as it is where there is nothing to do."""
    model = source.model
    if not isinstance(model, PatchUNet) or not _on_gpu(model) or "encode" in vars(model):
        return source  # the last: it is ready
    # A copy: whoever loaded it may go on with it.
    model = settled(deepcopy(model).to(getattr(torch, run.precision)))
    if run.compile:
        check_compiler("cuda")
        model = compiled(model)
    return replace(source, model=model)


def _on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cuda"


def settled(model: PatchUNet) -> PatchUNet:
    """``model``, its folded weights kept."""
    for module in model.modules():
        if isinstance(module, SliceConv):
            module.settle(model.config.image_slices)
    return model


def compiled(model: PatchUNet, **options: Any) -> PatchUNet:
    """``model``, encoder and decoder compiled at their first call (a minute or so), for one shape.

    ``options`` of ``torch.compile``; by default kernels are chosen by rule, not by the clock, so that another process
    has the same.
    """
    if not options:
        options = {"options": {"deterministic": True}}
    for name in ("encode", "decode"):
        setattr(model, name, _alike(torch.compile(getattr(model, name), dynamic=False, **options)))
    return model


def _alike(call: Network) -> Network:
    """Inputs laid out alike at each call: another layout would be compiled anew."""

    def called(*inputs: Any) -> Any:
        return call(*pytree.tree_map_only(Tensor, Tensor.contiguous, inputs))

    return called


def computing(model: nn.Module, precision: Precision) -> AbstractContextManager[object]:
    """What runs a network in a precision: as it is where its weights have that type, else under autocast."""
    first, dtype = next(model.parameters()), getattr(torch, precision)
    return nullcontext() if first.dtype == dtype else torch.autocast(first.device.type, dtype=dtype)
