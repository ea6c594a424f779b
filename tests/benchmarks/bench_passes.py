"""Peak memory of a report's passes over attention maps and over genes, at canvases of 4k and 16k.

Both canvases hold the same molecules, spread over the whole of each: as many tiles count in both. Every pass runs in
a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, ImageSpec, Section, begin_addition, create_brain

TILE = 256
CANVASES = (4096, 16384)
GENES = 200
PATHWAY = ("g0", "g1")
PER_TILE = 60
WITHIN = 0.10
PASSES = ("attention", "genes")


def molecules(edge: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]:
    """y, x and gene of as many molecules in as many tiles whatever the canvas."""
    rng = np.random.default_rng(3)
    corners = np.arange(0, edge, TILE * edge // CANVASES[0])
    y, x = (one.ravel().repeat(PER_TILE) for one in np.meshgrid(corners, corners, indexing="ij"))
    y, x = (one + rng.integers(0, TILE, one.size) for one in (y, x))
    return y.astype(np.int32), x.astype(np.int32), rng.integers(0, GENES, y.size).astype(np.uint16)


def counts(edge: int, bins: Box, genes: int = GENES) -> NDArray[np.uint8]:
    """Counts of the first genes in a box of bins, `(genes, y, x)`."""
    y, x, gene = molecules(edge)
    rows, columns = y // BIN_PX - bins.y0, x // BIN_PX - bins.x0
    inside = (gene < genes) & (rows >= 0) & (rows < bins.height) & (columns >= 0) & (columns < bins.width)
    out = np.zeros((genes, *bins.shape), np.uint8)
    np.add.at(out, (gene[inside], rows[inside], columns[inside]), 1)
    return out


def write_stores(folder: Path, edge: int) -> None:
    """An atlas of two sections and a store with attention maps; no pixels in either."""
    sections = tuple(Section(i, f"s{i}", 10.0 * i) for i in range(2))
    panel = Panel(tuple(f"g{i}" for i in range(GENES)))
    for name, kind in (("real", "atlas"), ("generated", "generated")):
        writer = create_brain(folder / f"{name}.zarr", BrainSpec(kind, (edge, edge), 0.108, sections, panel))
        for z, box in writer.pending("morphology"):
            writer.write("morphology", z, box, np.zeros((2, *box.shape), np.uint8))
        if kind == "atlas":
            for z, box in writer.pending("expression"):
                writer.write("expression", z, box, counts(edge, box))
            writer.write_molecules((z, *molecules(edge)) for z in range(len(sections)))
        writer.finish()
    image = ImageSpec(
        "attention_PAIR",
        ("previous-current", "current-next", "window"),
        "float16",
        step=BIN_PX,
        attrs={"genes": list(PATHWAY), "scale": "log2(n * map + 1)"},
    )
    with begin_addition(folder / "generated.zarr", [image]) as addition:
        for z, box in addition.pending(image.name):
            level = np.log2(3.0 * counts(edge, box, len(PATHWAY)).sum(axis=0) + 1).astype(np.float16)
            addition.write(image.name, z, box, np.stack([level] * 3))
        addition.finish()


def pass_over(folder: str, which: str) -> None:
    """Go through the stores of a folder; print what was counted, CPU seconds, and this process's peak in MiB."""
    from teramind_eval.attention.maps import map_sets
    from teramind_eval.attention.relations import relate
    from teramind_eval.genes.statistics import gene_statistics
    from teramind_eval.pairs import open_store

    real = open_store(f"{folder}/real.zarr", "real", "real")
    started = time.process_time()
    if which == "attention":
        maps = map_sets([open_store(f"{folder}/generated.zarr", "generated", "generated")])
        counted = relate(real.brain, maps, TILE // BIN_PX)[0].brain.scatter.n
    else:
        found = gene_statistics(real.brain)
        counted = 0 if found is None else int(found.brain.n[0])
    took = time.process_time() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(counted, took, peak / 1024)


def peaks(edge: int) -> Iterator[tuple[str, float]]:
    """The peak of each pass at a canvas, printed."""
    with tempfile.TemporaryDirectory(prefix="teramind-bench-") as name:
        write_stores(Path(name), edge)
        for which in PASSES:
            code = f"from tests.benchmarks.bench_passes import pass_over; pass_over({name!r}, {which!r})"
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
            )
            counted, took, peak = done.stdout.split()
            unit = "blocks" if which == "attention" else "bins of tissue"
            print(
                f"  {which:<10} {edge:>6} x {edge} px, {counted} {unit} {float(peak):8.1f} MiB, "
                f"{float(took):6.2f} CPU s"
            )
            yield which, float(peak)


def main() -> None:
    """Print peaks and their ratios."""
    print(f"\npeak memory of the passes over attention and genes ({GENES} genes, 2 sections)")
    small, large = (dict(peaks(edge)) for edge in CANVASES)
    for which in PASSES:
        print(f"  {which}: ratio {large[which] / small[which]:.3f}; aim within {WITHIN:.0%}")
