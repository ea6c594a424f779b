"""Ingest beside what one would use otherwise, on the same files, each contestant in a process of its own.

Transcripts of a section to counts of every gene in 16-px bins, beside spatialdata-io's reader and SpatialData's
rasterize. (Ours also sorts the molecules, finds the tissue and stores the counts with their pyramid; theirs stay in
memory.) And a stain through its registration to the sharded layout, with its pyramid, beside a copy of the same pixels
to the same layout by the same writer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.ingest_contestants import EDGE, PIXEL_UM

TILE = 256
TRANSCRIPTS = 5_000_000
GENES = 500
REPEATS = 2


def main() -> None:
    """Write the files, run all and print ratios."""
    with tempfile.TemporaryDirectory(prefix="teramind-bench-") as name:
        folder = Path(name)
        write_section(folder / "section_000")
        title = f"{TRANSCRIPTS:,} transcripts of {GENES} genes (csv) to counts in bins, {EDGE} x {EDGE} px"
        found = contest(folder, title, "spatialdata", "teramind")
        if len(results := {f"{run['result']:,}" for run in found.values()}) > 1:
            print(f"  counted differently, at the rim of the canvas: {' and '.join(sorted(results))}")
        contest(folder, f"a stain of {EDGE} x {EDGE} px to the sharded layout", "copy", "affine", "spline")


def contest(folder: Path, title: str, baseline: str, *others: str) -> dict[str, dict[str, Any]]:
    """Run contestants in turn, and print the best of each and its ratios to the baseline."""
    print(f"\n{title}")
    best: dict[str, dict[str, Any]] = {}
    for _ in range(REPEATS):
        for name in (baseline, *others):
            found = run(name, folder)
            held = best.setdefault(name, found)
            best[name] = {**found, **{key: min(found[key], held[key]) for key in ("wall", "cpu", "peak")}}
    base = best[baseline]
    for name, found in best.items():
        line = f"  {name:<12} {found['wall']:7.1f} s wall {found['cpu']:7.1f} s CPU {found['peak'] / 2**20:7.0f} MiB"
        line += f"   (and {found['loading']:.1f} s CPU to load libraries)"
        if name != baseline:
            line += (
                f"   rate {base['wall'] / found['wall']:.2f} x by wall, {base['cpu'] / found['cpu']:.2f} x by CPU; "
                f"memory {found['peak'] / base['peak']:.2f} x"
            )
        print(line, flush=True)
    return best


def run(name: str, folder: Path) -> dict[str, Any]:
    """One contestant in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.ingest_contestants", name, str(folder)],
        capture_output=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_section(folder: Path) -> None:
    """A section in the vendor's layout: one stain, uncompressed tiles of uint16, and transcripts as CSV."""
    import tifffile

    (folder / "images").mkdir(parents=True)
    scale = 1 / PIXEL_UM
    matrix = f"{scale!r} 0 0\n0 {scale!r} 0\n0 0 1\n"
    (folder / "images" / "micron_to_mosaic_pixel_transform.csv").write_text(matrix)
    rng = np.random.default_rng(5)
    pictures = [picture(rng) for _ in range(16)]
    grid = EDGE // TILE
    tifffile.imwrite(
        folder / "images" / "mosaic_DAPI_z0.tif",
        (pictures[(7 * (i // grid) + i % grid) % len(pictures)] for i in range(grid * grid)),
        shape=(EDGE, EDGE),
        dtype=np.uint16,
        tile=(TILE, TILE),
        bigtiff=True,
        photometric="minisblack",
        metadata=None,
    )
    write_transcripts(folder / "detected_transcripts.csv")


def picture(rng: np.random.Generator) -> NDArray[np.uint16]:
    """A tile that compresses about as stains do: smooth blobs and the noise of counting photons."""
    from scipy import ndimage

    coarse = rng.uniform(300, 4000, (TILE // 16, TILE // 16))
    smooth = ndimage.zoom(coarse, 16, order=1, mode="grid-wrap", grid_mode=True)
    return (smooth + rng.normal(0, 30, smooth.shape)).clip(0, 65535).astype(np.uint16)


def write_transcripts(file: Path) -> None:
    """The vendor's columns, field of view by field of view."""
    import polars as pl

    rng = np.random.default_rng(6)
    side = 8  # fields of view
    genes = np.array([f"Gene{i}" for i in range(GENES)])
    with file.open("wb") as handle:
        for fov in range(side * side):
            count = TRANSCRIPTS // side**2
            size = EDGE // side
            x = (rng.uniform(0, size - 1, count) + fov % side * size) * PIXEL_UM
            y = (rng.uniform(0, size - 1, count) + fov // side * size) * PIXEL_UM
            gene = rng.integers(0, GENES, count)
            table = {
                "": np.arange(count) + fov * count,
                "barcode_id": gene,
                "global_x": x,
                "global_y": y,
                "global_z": rng.integers(0, 7, count).astype(float),
                "x": x,
                "y": y,
                "fov": np.full(count, fov),
                "gene": genes[gene],
                "transcript_id": np.full(count, "ENSMUST00000000001"),
                "cell_id": rng.integers(-1, 10**15, count),
            }
            pl.DataFrame(table).write_csv(handle, include_header=fov == 0)


if __name__ == "__main__":
    main()
