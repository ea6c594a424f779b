"""Ingest at growing canvases: peak memory and time per occupied megapixel.

    python -m tests.benchmarks.scale_ingest [EDGE:TISSUE_EDGE:SECTIONS ...] [--memory 2GiB]

Tissue (both stains and transcripts) in a square at each section's corner, nothing elsewhere (tiles that the TIFF does
not hold). Smaller canvases have more sections, so that the start of the program does not count as time per pixel. The
squares are of whole shards (4096 px): one that is filled in part costs nearly as much as a full one. Each ingest runs
in a process of its own. Not part of `make bench`: the largest takes minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PIXEL_UM = 0.108
TILE = 256
DENSITY = 0.05  # transcripts a pixel of tissue: a batch is full on the smallest canvas too
GENES = 100
CANVASES = ("4096:4096:8", "16384:8192:2", "65536:20480:1")

_RUN = """
import json, resource, sys, time
from pathlib import Path
from teramind_data.ingest.build import ingest
from teramind_data.ingest.memory import parse_bytes
from teramind_data.ingest.plan import IngestConfig
begin = time.perf_counter()
cpu = time.process_time()
_, brain = ingest(IngestConfig(raw=Path(sys.argv[1]), out=sys.argv[2], memory=parse_bytes(sys.argv[3])))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu, "peak": peak,
                  "canvas": brain.canvas, "transcripts": brain.molecules.total}))
"""


def write_raw(folder: Path, edge: int, tissue: int, sections: int) -> None:
    """Sections in the vendor's layout, 10 um apart."""
    names = [f"section_{i:03d}" for i in range(sections)]
    for name in names:
        write_section(folder / name, edge, tissue)
    entries = "".join(
        f"- {{folder: {n}, z_um: {10.0 * i}, registration: identity}}\n" for i, n in enumerate(names)
    )
    (folder / "manifest.yaml").write_text(f"version: 1\ncanvas: [{edge}, {edge}]\nsections:\n{entries}")


def write_section(section: Path, edge: int, tissue: int) -> None:
    """One section."""
    import tifffile

    (section / "images").mkdir(parents=True)
    scale = 1 / PIXEL_UM
    (section / "images" / "micron_to_mosaic_pixel_transform.csv").write_text(
        f"{scale!r} 0 0\n0 {scale!r} 0\n0 0 1\n"
    )
    rng = np.random.default_rng(5)
    pictures = [picture(rng) for _ in range(16)]
    for stain in ("DAPI", "PolyT"):
        tifffile.imwrite(
            section / "images" / f"mosaic_{stain}_z0.tif",
            stored(edge, tissue, pictures),
            shape=(edge, edge),
            dtype=np.uint16,
            tile=(TILE, TILE),
            bigtiff=True,
        )
    write_transcripts(section / "detected_transcripts.parquet", tissue)


def picture(rng: np.random.Generator) -> NDArray[np.uint16]:
    """A tile that compresses about as stains do: blobs and some noise."""
    blobs = rng.integers(200, 4000, (TILE // 16, TILE // 16)).repeat(16, 0).repeat(16, 1)
    return (blobs + rng.integers(0, 100, (TILE, TILE))).astype(np.uint16)


def stored(edge: int, tissue: int, pictures: list[NDArray[np.uint16]]) -> Iterator[NDArray[np.uint16] | None]:
    """The tiles in order; None where the file holds none."""
    for y in range(0, edge, TILE):
        for x in range(0, edge, TILE):
            inside = y < tissue and x < tissue
            yield pictures[(7 * (y // TILE) + x // TILE) % len(pictures)] if inside else None


def write_transcripts(file: Path, tissue: int) -> None:
    """Transcripts everywhere in the tissue, a strip of it at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("global_x", pa.float64()), ("global_y", pa.float64()), ("gene", pa.string())])
    names = np.array([f"Gene{i}" for i in range(GENES)])
    with pq.ParquetWriter(file, schema) as out:
        for y0 in range(0, tissue, 1024):
            rng = np.random.default_rng((6, y0))
            count = int(DENSITY * 1024 * tissue)
            x = rng.uniform(0, tissue - 1, count) * PIXEL_UM
            y = rng.uniform(y0, y0 + 1023, count) * PIXEL_UM
            gene = names[rng.integers(0, GENES, count)]
            out.write_table(pa.table({"global_x": x, "global_y": y, "gene": gene}, schema=schema))


def measure(edge: int, tissue: int, sections: int, memory: str) -> dict[str, float]:
    """Make, ingest and remove one brain."""
    with tempfile.TemporaryDirectory(prefix="teramind-scale-") as name:
        folder = Path(name)
        write_raw(folder / "raw", edge, tissue, sections)
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(folder / "raw"), str(folder / "out.zarr"), memory],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True,
        )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    words = sys.argv[1:]
    memory = "2GiB"
    if "--memory" in words:
        at = words.index("--memory")
        memory = words[at + 1]
        del words[at : at + 2]
    print(
        "| canvas | sections | occupied | transcripts | peak RSS | CPU seconds | wall seconds | CPU s / occupied MP |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for word in words or CANVASES:
        edge, tissue, sections = (int(part) for part in word.split(":"))
        found = measure(edge, tissue, sections, memory)
        occupied = sections * tissue**2 / 1e6
        print(
            f"| {edge} x {edge} | {sections} | {occupied:.1f} MP | {found['transcripts']:,} | {found['peak']:.0f} MiB "
            f"| {found['cpu']:.1f} | {found['seconds']:.1f} | {found['cpu'] / occupied:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
