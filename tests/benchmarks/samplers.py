"""Samplers beside each other: pictures of a phantom brain in few steps and in many.

    python -m tests.benchmarks.samplers [--canvas 256] [--sections 2] [--seed 0] [--out DIR] [--bfloat16]

A phantom that the shipped checkpoint never saw is drawn, ingested and generated from one start noise by each sampler,
and each picture is scored (means over 64-px tiles with molecules, both stains together) against the real brain and
against DDIM's of 50 steps. Network calls are in proportion to the steps. DDIM evenly spaced in log SNR and DPM-Solver++
evenly spaced in t are what the two samplers are not, so that order and spacing can be told apart. With --out the
pictures of the first section are kept. With --bfloat16 a table of the samplers' pictures in that precision against
those in float32 is printed instead, in levels of uint8.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box, windows
from teramind_data.store import Brain, open_brain
from teramind_eval.metrics.image import psnr, score_tiles
from teramind_model.controls import MeasuredCounts
from teramind_model.diffusion.steps import Step, ddim_steps, dpm_steps, multistep
from teramind_model.generate.sampling import Sampler
from teramind_model.generate.source import Source, load_source

__all__ = ["CONTESTANTS", "Row", "compare", "precisions", "table"]

CONTESTANTS: dict[str, tuple[Callable[[int], tuple[Step, ...]], tuple[int, ...]]] = {
    "ddim": (ddim_steps, (50, 15, 12, 8, 4)),
    "ddim, even in log SNR": (lambda n: tuple(step.ddim for step in dpm_steps(n)), (12, 8, 4)),
    "dpmpp-2m": (dpm_steps, (15, 12, 8, 4)),
    "dpmpp-2m, even in t": (lambda n: multistep(ddim_steps(n)), (12, 8, 4)),
}
"""How each makes so many steps, and the numbers tried; the first is what the others should look like."""

_TILE = 64


@dataclass(frozen=True)
class Row:
    """Scores of one picture, PSNR in dB and SSIM each: against the real brain, and against the first contestant's."""

    sampler: str
    steps: int
    real: tuple[float, float]
    many: tuple[float, float]


def compare(atlas: Brain, source: Source, seed: int, out: Path | None = None) -> Iterator[Row]:
    """Each contestant's picture, scored."""
    real = np.asarray(atlas.morphology[:])
    tiles = _tissue_tiles(atlas)
    many: NDArray[np.uint8] | None = None
    for name, (make, numbers) in CONTESTANTS.items():
        for number in numbers:
            picture = _picture(atlas, source, make(number), seed)
            many = picture if many is None else many
            if out is not None:
                _keep(out / f"{name.replace(' ', '-').replace(',', '')}-{number}.png", picture[:, 0])
            yield Row(name, number, _scores(real, picture, tiles), _scores(many, picture, tiles))


def table(rows: Iterator[Row]) -> Iterator[str]:
    """Markdown, a line a row as it is made."""
    yield "| sampler | steps | PSNR, real (dB) | SSIM, real | PSNR, 50 steps of DDIM (dB) | SSIM, 50 steps |"
    yield "|---|---:|---:|---:|---:|---:|"
    for index, row in enumerate(rows):
        many = f"{row.many[0]:.2f} | {row.many[1]:.3f}" if index else "| "
        yield f"| {row.sampler} | {row.steps} | {row.real[0]:.2f} | {row.real[1]:.3f} | {many} |"


def precisions(atlas: Brain, source: Source, seed: int) -> Iterator[str]:
    """Markdown: how far bfloat16 is from float32."""
    yield "| sampler | steps | mean difference | median | 99 % | largest | more than 8 levels | PSNR (dB) |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, number in (("ddim", 15), ("dpmpp-2m", 8)):
        steps = CONTESTANTS[name][0](number)
        exact, rough = (_picture(atlas, source, steps, seed, p) for p in ("float32", "bfloat16"))
        apart = np.abs(exact.astype(int) - rough.astype(int))
        median, high = np.percentile(apart, (50, 99))
        yield (
            f"| {name} | {number} | {apart.mean():.2f} | {median:.0f} | {high:.0f} | {apart.max()} "
            f"| {np.mean(apart > 8):.2%} | {psnr(exact, rough):.1f} |"
        )


def _picture(
    atlas: Brain, source: Source, steps: tuple[Step, ...], seed: int, precision: str = "float32"
) -> NDArray[np.uint8]:
    """``(stains, sections, h, w)`` by the straightforward engine."""
    network = source.network
    counts = MeasuredCounts(atlas, source.gene_positions(atlas))
    tiles = Box.from_shape(atlas.canvas).cover(network.patch)
    sampler = Sampler(source, counts, tiles, atlas.canvas, steps, seed, precision)
    made = [sampler.window(w) for w in windows(atlas.n_sections, network.gene_slices, network.image_slices)]
    return np.concatenate(made, axis=1)[:, : atlas.n_sections]


def _tissue_tiles(atlas: Brain) -> list[tuple[int, Box]]:
    """Section and box of the tiles that hold molecules."""
    counts = np.asarray(atlas.expression[:]).sum(axis=0)
    boxes = [
        Box.from_shape((_TILE, _TILE), (y, x))
        for y in range(0, atlas.canvas[0] - _TILE + 1, _TILE)
        for x in range(0, atlas.canvas[1] - _TILE + 1, _TILE)
    ]
    return [
        (z, box)
        for z in range(atlas.n_sections)
        for box in boxes
        if counts[(z, *box.coarsen(BIN_PX).slices)].any()
    ]


def _scores(
    reference: NDArray[np.uint8], picture: NDArray[np.uint8], tiles: list[tuple[int, Box]]
) -> tuple[float, float]:
    """Mean PSNR and SSIM of the tiles, both stains together."""
    psnr, ssim = [], []
    for z in sorted({z for z, _ in tiles}):
        scores = score_tiles(reference[:, z], picture[:, z], [box for at, box in tiles if at == z])
        psnr.append(scores.psnr[:, -1])
        ssim.append(scores.ssim[:, -1])
    return float(np.concatenate(psnr).mean()), float(np.concatenate(ssim).mean())


def _keep(path: Path, image: NDArray[np.uint8]) -> None:
    """DAPI and PolyT side by side."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(list(image), axis=1)).save(path)


def _brain(folder: Path, canvas: int, sections: int) -> Brain:
    """The evidence's main phantom (seed 7), which the checkpoint never saw, read in as raw data are."""
    raw, store = folder / "phantom", folder / "main.zarr"
    for words in (
        f"phantom {raw} --brains main --panels 1 --sections {sections} --genes 64 --shared 40 --blanks 4 "
        f"--canvas {canvas},{canvas} --pixel-size 0.432 --seed 7",
        f"ingest {raw / 'raw' / 'main'} {store}",
    ):
        subprocess.run(
            [sys.executable, "-m", "teramind_data.cli", *words.split()], check=True, stdout=sys.stderr
        )
    return open_brain(store)


def main() -> None:
    """Make the brain, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--canvas", type=int, default=256)
    parser.add_argument("--sections", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the start noise")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    parser.add_argument("--bfloat16", action="store_true", help="compare precisions, not samplers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        atlas = _brain(Path(folder), options.canvas, options.sections)
        source = load_source("phantom", "cpu")
        lines = (
            precisions(atlas, source, options.seed)
            if options.bfloat16
            else table(compare(atlas, source, options.seed, options.out))
        )
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
