"""A tiny atlas and a tiny random network, for tests of what stands on both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from teramind_data.geometry import BIN_PX
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, Section, create_brain
from teramind_model.generate.source import Source
from teramind_model.methods.tera_mind import METHOD
from teramind_model.network import NetworkConfig, TeraMind

GENES = ("Slc17a6", "Slc17a7", "Th", "Nr4a2", "Cldn5")
ATLAS_GENES = ("Gad1", *reversed(GENES), "Aqp4")
"""What the atlas measured: more genes than the network's, in another order."""

PIXEL_UM = 0.432


def tiny_counts(canvas: tuple[int, int], sections: int, seed: int = 0) -> np.ndarray:
    """Counts ``(gene, z, by, bx)`` with a quiet corner (no molecules in the first 32 px) and structure."""
    rng = np.random.default_rng(seed)
    shape = (len(ATLAS_GENES), sections, canvas[0] // BIN_PX, canvas[1] // BIN_PX)
    counts = rng.poisson(rng.gamma(1.0, 2.0, shape)).astype(np.uint8)
    counts[:, :, :2, :2] = 0
    return counts


def tiny_atlas(
    path: Path,
    canvas: tuple[int, int] = (64, 96),
    sections: int = 3,
    *,
    regions: bool = True,
    tissue: np.ndarray | None = None,
) -> Brain:
    """An atlas store with random counts, written through the public writer; tissue everywhere, unless given by bins."""
    spec = BrainSpec(
        kind="atlas",
        canvas=canvas,
        pixel_size_um=PIXEL_UM,
        sections=tuple(Section(i, f"s{i:02d}", 100.0 * i) for i in range(sections)),
        panel=Panel(ATLAS_GENES),
        chunk=64,
        shard=64,
    )
    writer = create_brain(path, spec)
    counts = tiny_counts(canvas, sections)
    rng = np.random.default_rng(1)
    for z in range(sections):
        writer.write("morphology", z, None, rng.integers(0, 256, (2, *canvas), dtype=np.uint8))
        writer.write("expression", z, None, counts[:, z])
    bins = counts.shape[1:]
    writer.add_labels("tissue", array=np.ones(bins, np.uint8) if tissue is None else tissue)
    if regions:
        labels = np.ones(bins, np.uint16)
        labels[:, :, bins[2] // 2 :] = 2
        writer.add_labels("regions", "uint16", names={1: "left", 2: "right"}, array=labels)
    writer.write_molecules((z, *_molecules(counts[:, z], rng)) for z in range(sections))
    return writer.finish()


def _molecules(counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    gene, y, x = (np.repeat(index, counts.ravel()) for index in (i.ravel() for i in np.indices(counts.shape)))
    offset = rng.integers(0, BIN_PX, (2, len(gene)))
    return y * BIN_PX + offset[0], x * BIN_PX + offset[1], gene


def tiny_source(*, gene_slices: int = 4, patch: int = 32, channels: int = 4, seed: int = 0) -> Source:
    """A network of random weights that really look at the genes (zero-initialised ones included)."""
    config = NetworkConfig(
        genes=len(GENES),
        gene_slices=gene_slices,
        patch=patch,
        channels=channels,
        gene_widths=(8, 4, 4),
        time_width=16,
        dropout=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TeraMind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5)
    return Source(
        method=METHOD,
        network=config,
        model=model,
        panel=Panel(GENES),
        stains=("DAPI", "PolyT"),
        pixel_size_um=PIXEL_UM,
        path="tiny",
        sha256=f"tiny-{seed}",
        training={"lineage": [{"stage": "random"}]},
    )
