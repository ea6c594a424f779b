"""Training: the loader alone, the step alone, and both, in samples a second.

The aim for the loader is 60 samples a second a core with the paper's crops (P = 64, S = 4, 229 genes).
The step is the small network's (preset phantom), for which a step is quick and the loader has to hurry most.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from teramind_data import BrainSpec, Panel, Section, create_brain
from teramind_data.geometry import BIN_PX
from teramind_model.data.batches import batch_parts, batches
from teramind_model.data.crops import CropSource, Geometry
from teramind_model.methods.registry import find_method
from teramind_model.presets import PRESETS
from teramind_model.train.atlases import open_atlases

EDGE, SECTIONS, DENSITY = 2048, 4, 0.03
GENES = 229
SECONDS = 20.0
TARGET = 60.0


def write_atlas(folder: Path) -> str:
    """An atlas store of noise with as many molecules a pixel as a MERFISH section."""
    url = str(folder / "atlas.zarr")
    genes = tuple(f"gene{i}" for i in range(GENES))
    sections = tuple(Section(i, f"s{i}", 100.0 * i) for i in range(SECTIONS))
    spec = BrainSpec("atlas", (EDGE, EDGE), 0.108, sections, Panel(genes))
    writer = create_brain(url, spec)
    rng = np.random.default_rng(0)
    bins = EDGE // BIN_PX
    molecules = []
    for z in range(SECTIONS):
        n = int(EDGE**2 * DENSITY)
        y, x, gene = (rng.integers(0, limit, n) for limit in (EDGE, EDGE, GENES))
        counts = np.zeros((GENES, bins, bins), np.uint8)
        np.add.at(counts, (gene, y // BIN_PX, x // BIN_PX), 1)
        writer.write("morphology", z, None, rng.integers(0, 256, (2, EDGE, EDGE), dtype=np.uint8))
        writer.write("expression", z, None, counts)
        molecules.append((z, y, x, gene))
    writer.add_labels("tissue", array=np.ones((SECTIONS, bins, bins), np.uint8))
    writer.write_molecules(iter(molecules))
    writer.finish()
    return url


def source(url: str, patch: int, cache: float) -> CropSource:
    """Crops of the atlas; ``cache`` bytes of it in memory."""
    geometry = Geometry(patch=patch, gene_slices=4, image_slices=2, stains=2)
    return open_atlases([url], None, ("DAPI", "PolyT")).source(geometry, 0, cache)


def rate_of(run: object, batch: int) -> tuple[float, float]:
    """Samples a wall second and a CPU second of an iterator of batches, for some seconds after the first."""
    stream = iter(run)  # type: ignore[call-overload]
    next(stream)
    wall, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < SECONDS:
        next(stream)
        done += batch
    return done / (time.perf_counter() - wall), done / (time.process_time() - cpu)


class Step:
    """Optimiser steps of the small network on batches of its own crops."""

    def __init__(self) -> None:
        preset = PRESETS["phantom"]
        self.method = find_method("tera-mind")
        shape = self.method.shape({"genes": GENES, "stains": 2, **preset.network})
        self.network = self.method.build(shape, "identity").train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-4)

    def __call__(self, block: object) -> None:
        """One step."""
        loss = self.method.loss(self.network, block, ratio_cap=100.0)  # type: ignore[arg-type]
        sum(loss.values()).backward()  # type: ignore[union-attr]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """Print the rates and what of the slower is reached together."""
    batch = 8
    parts = batch_parts(batch, 1)
    forever = range(10**9)
    with tempfile.TemporaryDirectory() as folder:
        url = write_atlas(Path(folder))
        print(
            f"\nTraining: crops of 4 gene slices and {GENES} genes, {torch.get_num_threads()} torch threads"
        )
        for name, cache in (("from memory", 8 * 2.0**30), ("from disk", 0.0)):
            wall, cpu = rate_of(batches(source(url, 64, cache), forever, parts, workers=0), batch)
            note = f"{cpu / TARGET:.2f} x the target of {TARGET:g} a core"
            print(f"  loader, P = 64, {name:<12} {wall:8.1f} samples/s   {cpu:8.1f} a CPU second   {note}")
        small = source(url, 32, 8 * 2.0**30)
        loader, _ = rate_of(batches(small, forever, parts, workers=0), batch)
        (block,) = next(batches(small, forever, parts, workers=0))
        step = Step()
        alone, _ = rate_of((step(block) for _ in forever), batch)
        both, _ = rate_of((step(b) for (b,) in batches(small, forever, parts, workers=1)), batch)
        slower = min(loader, alone)
        print(f"  loader alone, P = 32               {loader:8.1f} samples/s")
        print(f"  step alone, preset phantom         {alone:8.1f} samples/s")
        print(
            f"  both                               {both:8.1f} samples/s   {both / slower:.2f} x the slower"
        )
        print(f"  ({os.cpu_count()} cores; the aim is 0.90 x or more)")


if __name__ == "__main__":
    main()
