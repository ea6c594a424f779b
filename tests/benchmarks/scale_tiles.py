"""`import-tiles` at growing canvases: peak memory of the same tiles, scattered ever farther.

    python -m tests.benchmarks.scale_tiles [EDGE ...] [--runs N]

Six tiles of two sections and five genes at the corners and in the middle of a canvas, genes alone and with images. Each
import runs in a process of its own, N times (3); the table has the least and the most.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from teramind_data.geometry import Box
from tests.data.imports.conftest import MARGIN, NAMES, npz_bytes, stem_of, write_zip, zarr_members

EDGES = (4096, 16384, 49152)
SECTIONS = 2
PER_TILE = 20_000  # molecules of a tile with its margin

_RUN = """
import json, resource, sys, time
from pathlib import Path
from teramind_data.imports.tiles import TilesConfig, import_tiles
from teramind_data.ingest.tissue import FileTissue
genes, images, out, panel = sys.argv[1:]
begin = time.perf_counter()
_, brain = import_tiles(TilesConfig(Path(genes), Path(images) if images else None, out, panel), FileTissue())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"wall": time.perf_counter() - begin, "cpu": time.process_time(), "peak": peak,
                  "canvas": brain.canvas, "transcripts": brain.molecules.total}))
"""


def write_tiles(root: Path, edge: int) -> None:
    """Gene and image tiles whose extent is a canvas of this edge."""
    rng = np.random.default_rng(8)
    last = edge - 512
    corners = [(256, 256), (256, last), (last, 256), (last, last)]
    middle = edge // 512 * 256
    corners += [(middle, middle), (middle, middle + 256)]
    for name in ("gene", "img"):
        (root / name).mkdir()
    (root / "panel.csv").write_text("gene\n" + "\n".join(NAMES) + "\n")
    for y, x in corners:
        core = Box.from_shape((256, 256), (y, x))
        around = core.expand(MARGIN)
        tops = (*around.shape, SECTIONS * len(NAMES))
        place = np.stack([rng.integers(0, top, PER_TILE) for top in tops])
        index, counts = np.unique(place, axis=1, return_counts=True)
        members = {
            "data.npy": npz_bytes(counts.astype(np.uint16)),
            "shape.npy": npz_bytes(np.array(tops)),
            "fill_value.npy": npz_bytes(np.zeros((), np.uint16)),
            "coords.npy": npz_bytes(np.asfortranarray(index)),
        }
        write_zip(root / "gene" / f"{stem_of(core)}.npz", members)
        pixels = rng.integers(0, 256, (2 * SECTIONS, *around.shape)).astype(np.uint8)
        write_zip(root / "img" / f"{stem_of(core)}.zip", zarr_members(pixels))


def measure(root: Path, images: bool) -> dict[str, float]:
    """Import once, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="teramind-tiles-", dir=root) as folder:
        words = (root / "gene", root / "img" if images else "", Path(folder) / "out.zarr", root / "panel.csv")
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True,
        )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    words = sys.argv[1:]
    runs = 3
    if "--runs" in words:
        at = words.index("--runs")
        runs = int(words[at + 1])
        del words[at : at + 2]
    print("| canvas | tiles | peak RSS | CPU seconds | wall seconds |")
    print("|---|---|---|---|---|")
    for edge in map(int, words or EDGES):
        with tempfile.TemporaryDirectory(prefix="teramind-tiles-") as name:
            root = Path(name)
            write_tiles(root, edge)
            for images in (False, True):
                found = [measure(root, images) for _ in range(runs)]
                low, high = (pick(one["peak"] for one in found) for pick in (min, max))
                cpu, wall = (min(one[key] for one in found) for key in ("cpu", "wall"))
                kind = "genes and images" if images else "genes"
                print(
                    f"| {edge} x {edge} | {kind} | {low:.0f} .. {high:.0f} MiB | {cpu:.1f} | {wall:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
