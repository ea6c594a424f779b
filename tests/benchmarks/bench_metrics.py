"""Image scores of tiles beside torchmetrics, and memory of the pass over two stores at canvases of 4k and 16k.

Rates are of two threads on both sides; the values of a few tiles are compared first (windows that stick out filled by
reflection, as torchmetrics does it). Memory is the peak of a fresh process that scores the same number of tiles, spread
over the whole canvas, so that both canvases cost the same time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import Box, tiles
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, Section, create_brain

TILE = 256
BLOCK = 1024
THREADS = 2
CANVASES = (4096, 16384)
AIM, WITHIN = 2.0, 0.10

Pixels = NDArray[np.uint8]


def pictures(edge: int, seed: int) -> Pixels:
    """Two stains, smooth with grain: `(2, edge, edge)`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (2, edge // 16, edge // 16), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2) + rng.integers(0, 32, (2, edge, edge), dtype=np.uint8)


def best(run: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Least wall and least CPU seconds of some calls."""
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(one[0] for one in found), min(one[1] for one in found)


def ours(x: Pixels, y: Pixels, boxes: Sequence[Box]) -> None:
    """PSNR, SSIM and MS-SSIM as a report has them, tiles shared out over threads."""
    from teramind_eval.metrics.image import score_tiles

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda part: score_tiles(x, y, part), [boxes[i::THREADS] for i in range(THREADS)]))


def on_gpu(x: Pixels, y: Pixels, boxes: Sequence[Box]) -> None:
    """The same on a GPU, the way there and back included."""
    from teramind_eval.metrics.image_on_device import scorer

    scorer("cuda")(x, y, boxes)


def theirs(x: Pixels, y: Pixels, boxes: Sequence[Box], scales: bool) -> None:
    """PSNR and SSIM of torchmetrics per tile and stain, all tiles in one batch; MS-SSIM too where asked for."""
    import torch
    from torchmetrics.functional import image

    torch.set_num_threads(THREADS)
    a, b = (
        torch.from_numpy(
            np.stack([p[(slice(None), *t.slices)] for t in boxes]).reshape(-1, 1, TILE, TILE)
        ).float()
        for p in (x, y)
    )
    image.peak_signal_noise_ratio(b, a, data_range=255.0, dim=(1, 2, 3), reduction="none")
    image.structural_similarity_index_measure(b, a, data_range=255.0, reduction="none")
    if scales:
        image.multiscale_structural_similarity_index_measure(b, a, data_range=255.0, reduction="none")


def check(x: Pixels, y: Pixels) -> None:
    """Raise AssertionError where the two disagree."""
    import torch
    from torchmetrics.functional import image

    from teramind_eval.metrics.image import ssim

    cut = (slice(None), slice(0, TILE), slice(0, TILE))
    a, b = (torch.from_numpy(p[cut][:, None]).float() for p in (x, y))
    expected = image.structural_similarity_index_measure(b, a, data_range=255.0, reduction="none").numpy()
    if np.abs(ssim(x[cut], y[cut], windows="reflected") - expected).max() > 1e-4:
        raise AssertionError("SSIM differs from torchmetrics")


def rates() -> None:
    """Print MP/s (a pixel of a stain counts one) and ratios."""
    from teramind_eval.metrics.image_on_device import pick_device

    x, y = pictures(BLOCK, 1), pictures(BLOCK, 2)
    check(x, y)
    boxes = list(tiles(Box(0, BLOCK, 0, BLOCK), TILE))
    amount = x.size / 1e6
    cases: list[tuple[str, Callable[[], object]]] = [
        ("torchmetrics, PSNR + SSIM", lambda: theirs(x, y, boxes, False)),
        ("torchmetrics, PSNR + SSIM + MS-SSIM", lambda: theirs(x, y, boxes, True)),
        ("teramind, PSNR + SSIM + MS-SSIM", lambda: ours(x, y, boxes)),
    ]
    if pick_device("auto") == "cuda":
        on_gpu(x, y, boxes)  # kernels are chosen at the first call
        cases.append(("teramind, the same on a GPU", lambda: on_gpu(x, y, boxes)))
    print(f"\nimage scores of {len(boxes)} tiles of {TILE} px, 2 stains, {THREADS} threads")
    base = (0.0, 0.0)
    for name, run in cases:
        wall, cpu = (amount / seconds for seconds in best(run))
        base = base if base[0] else (wall, cpu)
        print(
            f"  {name:<38} {wall:7.2f} MP/s  {cpu:7.2f} MP/CPU s   {wall / base[0]:5.2f} x, "
            f"by CPU {cpu / base[1]:5.2f} x; aim {AIM:g} x"
        )


def write_stores(folder: Path, edge: int) -> None:
    """An atlas of one section with molecules in as many tiles as the small canvas has, and an imitation."""
    spec = {
        "canvas": (edge, edge),
        "pixel_size_um": 0.108,
        "sections": (Section(0, "s0", 0.0),),
        "panel": Panel(("a",)),
    }
    for name, kind, seed in (("real", "atlas", 1), ("generated", "generated", 2)):
        writer = create_brain(folder / f"{name}.zarr", BrainSpec(kind=kind, **spec))
        pixels = pictures(CANVASES[0], seed)
        for z, box in writer.pending("morphology"):
            writer.write("morphology", z, box, pixels[:, : box.height, : box.width])
        if kind == "atlas":
            for z, box in writer.pending("expression"):
                writer.write("expression", z, box, np.zeros((1, *box.shape), np.uint8))
            at = np.arange(8, edge, TILE * edge // CANVASES[0])
            y, x = (one.ravel().astype(np.int32) for one in np.meshgrid(at, at, indexing="ij"))
            writer.write_molecules([(0, y, x, np.zeros(y.size, np.uint16))])
        writer.finish()


def pass_over(folder: str) -> None:
    """Score the stores of a folder and print how many tiles there were, and this process's peak memory in MiB."""
    from teramind_eval.likeness import measure_tiles
    from teramind_eval.pairs import open_store

    stores = (
        open_store(f"{folder}/real.zarr", "real", "real"),
        open_store(f"{folder}/generated.zarr", "generated", "generated"),
    )
    found = measure_tiles(stores, 0, TILE)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(found["generated"].image.measures["ssim"]["together"].n, peak / 1024)


def memory() -> None:
    """Print peaks and their ratio."""
    print("\npeak memory of the pass over two stores, a process each")
    peaks = []
    for edge in CANVASES:
        with tempfile.TemporaryDirectory(prefix="teramind-bench-") as name:
            write_stores(Path(name), edge)
            code = f"from tests.benchmarks.bench_metrics import pass_over; pass_over({name!r})"
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
            )
        count, peak = done.stdout.split()
        peaks.append(float(peak))
        print(f"  {edge:>6} x {edge} px, {count} tiles {peaks[-1]:10.1f} MiB")
    print(f"  ratio {peaks[1] / peaks[0]:.3f}; aim within {WITHIN:.0%}")


def main() -> None:
    """Print rates, then memory."""
    rates()
    memory()
