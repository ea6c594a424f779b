"""What a simulation needs where no atlas and no checkpoint are given: tissue on a canvas, and the paper's plan."""

from __future__ import annotations

import re
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, Section, create_brain
from teramind_model.generate.source import Source
from teramind_model.methods.registry import DEFAULT_METHOD, find_method
from teramind_model.network import NetworkConfig
from teramind_model.presets import find_preset

__all__ = ["PAPER_CANVAS", "TISSUE", "paper_source", "parse_canvas", "sparse_atlas", "sparse_spec"]

PAPER_CANVAS = (2, 73_216, 105_984)
"""Two sections of the paper's canvas, ``(z, y, x)``."""

TISSUE = 0.45
"""Share of the canvas that is tissue, as of the paper's sections."""

_GENES = ("GeneA", "GeneB")
_PIXEL_UM = 0.108
_SPACING_UM = 200.0


def parse_canvas(text: str) -> tuple[int, int, int]:
    """``"2x73216x105984"``: sections, height and width; InputError also where edges are not whole bins."""
    match = re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*x\s*(\d+)\s*", text)
    if match is None or min(map(int, match.groups())) < 1:
        raise InputError(
            "canvas cannot be read",
            expected="SECTIONSxHEIGHTxWIDTH, for example 2x73216x105984",
            found=repr(text),
        )
    canvas = int(match[1]), int(match[2]), int(match[3])
    if canvas[1] % BIN_PX or canvas[2] % BIN_PX:
        raise InputError(
            "canvas does not fit the bins",
            expected=f"edges that are multiples of {BIN_PX}",
            found=text.strip(),
        )
    return canvas


def paper_source() -> Source:
    """The paper's network of its main brain, without weights: enough to plan by."""
    preset = find_preset("main")
    network = NetworkConfig(genes=preset.genes, **preset.network)
    method = find_method(DEFAULT_METHOD)
    with torch.device("meta"):
        model = method.build(network).eval()
    panel = Panel(tuple(f"Gene{i:03d}" for i in range(preset.genes)))
    return Source(method, network, model, panel, ("DAPI", "PolyT"), _PIXEL_UM, "preset main", "none")


def sparse_spec(canvas: tuple[int, int, int], *, chunk: int = 256, shard: int | None = None) -> BrainSpec:
    """What :func:`sparse_atlas` makes, before any of it is made; arguments as there."""
    sections = tuple(Section(z, f"section_{z:03d}", z * _SPACING_UM) for z in range(canvas[0]))
    return BrainSpec(
        "expression", canvas[1:], _PIXEL_UM, sections, Panel(_GENES), (), chunk=chunk, shard=shard
    )


def sparse_atlas(
    path: str, canvas: tuple[int, int, int], *, chunk: int = 256, shard: int | None = None
) -> Brain:
    """An atlas store with an ellipse of tissue in each section, and one molecule of one of two genes in each bin of it.

    Args:
        path: where to; nothing may be there.
        canvas: sections, height and width in px, the latter multiples of 16.
        chunk: of the store, in px.
        shard: the same; by default the store's own choice.
    """
    spec = sparse_spec(canvas, chunk=chunk, shard=shard)
    writer = create_brain(path, spec)
    writer.add_labels("tissue")
    for name in ("tissue", "expression"):
        for z, box in writer.shards(name):
            tissue = _ellipse(spec.canvas, box)
            counts = np.stack([tissue & (_gene(box) == gene) for gene in range(len(_GENES))])
            writer.write(name, z, box, (tissue if name == "tissue" else counts).astype(np.uint8))
    nothing = np.zeros(0, np.int64)
    writer.write_molecules((z, nothing, nothing, nothing) for z in range(spec.n_sections))
    return writer.finish()


def _ellipse(canvas: tuple[int, int], bins: Box) -> NDArray[np.bool_]:
    """Whether bins lie in the ellipse with the canvas's proportions that takes ``TISSUE`` of it."""
    y, x = (
        ((np.arange(first, last) + 0.5) * BIN_PX / edge - 0.5) ** 2
        for first, last, edge in ((bins.y0, bins.y1, canvas[0]), (bins.x0, bins.x1, canvas[1]))
    )
    return np.asarray(y[:, None] + x[None] <= TISSUE / pi)


def _gene(bins: Box) -> NDArray[np.int64]:
    y, x = np.ogrid[bins.y0 : bins.y1, bins.x0 : bins.x1]
    return np.asarray((y + x) % len(_GENES))
