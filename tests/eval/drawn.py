"""Small drawn brains: sections with nuclei, cytoplasm and molecules, and stores made of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from teramind_data.geometry import BIN_PX
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, ImageSpec, Section, append_image, create_brain

PIXEL_UM = 0.432
CANVAS = (256, 256)
PANEL = Panel(("Slc17a7", "Gad1", "Th"))


def draw_nuclei(
    seed: int, shape: tuple[int, int] = (384, 384), n: int = 150
) -> tuple[np.ndarray, np.ndarray]:
    """DAPI-like uint8 image of ellipses that may touch, and the truth `(n, 3)`: y, x, radius."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    image = np.full(shape, 18.0)
    truth: list[tuple[float, float, float]] = []
    while len(truth) < n:
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        radius = rng.uniform(8, 13)
        if any(np.hypot(y - b, x - a) < 0.95 * (radius + r) for b, a, r in truth):
            continue
        truth.append((y, x, radius))
        angle, squash = rng.uniform(0, np.pi), rng.uniform(0.8, 1.0)
        u = (rows - y) * np.cos(angle) + (columns - x) * np.sin(angle)
        v = -(rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
        image[(u / radius) ** 2 + (v / (squash * radius)) ** 2 < 1] = rng.uniform(90, 190)
    image = gaussian_filter(image, 1.5) + rng.normal(scale=5, size=shape)
    return np.clip(image, 0, 255).astype(np.uint8), np.array(truth)


@dataclass(frozen=True)
class Drawn:
    """One section: image `(2, y, x)`, truth `(n, 3)`, molecules y, x, gene."""

    image: np.ndarray
    truth: np.ndarray
    molecules: tuple[np.ndarray, np.ndarray, np.ndarray]


def draw_section(seed: int) -> Drawn:
    """Nuclei, a cytoplasm around each, and forty molecules in each."""
    dapi, truth = draw_nuclei(seed, CANVAS, 60)
    polyt = np.clip(gaussian_filter(dapi.astype(float), 5) * 1.3, 0, 255).astype(np.uint8)
    rng = np.random.default_rng([seed, 1])
    where = np.repeat(truth, 40, axis=0)
    spots = np.floor(where[:, :2] + rng.normal(size=(len(where), 2)) * where[:, 2:] / 3 + 0.5).astype(int)
    inside = np.all((spots >= 0) & (spots < CANVAS), axis=1)
    y, x = spots[inside].T
    return Drawn(np.stack([dapi, polyt]), truth, (y, x, rng.integers(0, len(PANEL), len(y))))


def spec_of(kind: str, **changes: Any) -> BrainSpec:
    """A store of two sections."""
    values: dict[str, Any] = {
        "kind": kind,
        "canvas": CANVAS,
        "pixel_size_um": PIXEL_UM,
        "sections": tuple(Section(i, f"s{i}", 100.0 * i) for i in range(2)),
        "panel": PANEL,
        "provenance": {"made_by": "tests"},
    }
    return BrainSpec(**{**values, **changes})


def write_generated(path: Path, images: list[np.ndarray], **changes: Any) -> Path:
    """A generated store of these images, `(2, y, x)` uint8 each."""
    writer = create_brain(str(path), spec_of("generated", **changes))
    for index, image in enumerate(images):
        writer.write("morphology", index, None, image)
    writer.finish()
    return path


def imitation(image: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """The image blurred a little, with smooth noise of that SD."""
    rng = np.random.default_rng([seed, 2])
    grain = gaussian_filter(rng.normal(size=image.shape), (0, 1, 1)) * noise / 0.28
    blurred = gaussian_filter(image.astype(float), (0, 1, 1))
    return np.clip(blurred + grain, 0, 255).astype(np.uint8)


PROVENANCE: dict[str, Any] = {
    "made_by": "teramind-model generate",
    "checkpoint": {
        "sha256": "0" * 64,
        "network": {"gene_slices": 2, "patch": 64},
        "training": {
            "lineage": [
                {"steps": 5000, "batch": 8, "seconds": 7200, "device": "cpu", "data": [{"name": "P.zarr"}]},
                {"steps": 60, "batch": 8, "seconds": 80, "device": "cpu", "data": [{"name": "A.zarr"}]},
            ]
        },
    },
    "seed": 3,
    "steps": 15,
    "sampler": {"name": "ddim"},
}


def write_real(path: Path, drawn: list[Drawn], *, regions: bool = False, **changes: Any) -> Path:
    """An atlas store of the drawn sections; with two regions, left and right, and tissue, where asked for."""
    writer = create_brain(str(path), spec_of("atlas", **changes))
    if regions:
        labels = np.ones((len(drawn), *(edge // BIN_PX for edge in CANVAS)), np.uint16)
        labels[:, :, 7:] = 2
        labels[:, -1] = 0
        writer.add_labels("regions", "uint16", array=labels, names={1: "left", 2: "right"})
        writer.add_labels("tissue", array=(labels > 0).astype(np.uint8))
    bins = tuple(edge // BIN_PX for edge in CANVAS)
    for index, one in enumerate(drawn):
        writer.write("morphology", index, None, one.image)
        y, x, gene = one.molecules
        counts = np.zeros((len(PANEL), *bins), dtype=np.uint8)
        np.add.at(counts, (gene, y // BIN_PX, x // BIN_PX), 1)
        writer.write("expression", index, None, counts)
    writer.write_molecules((index, *one.molecules) for index, one in enumerate(drawn))
    writer.finish()
    return path


def add_attention(
    path: Path,
    drawn: list[Drawn],
    *,
    name: str = "GLUT",
    genes: tuple[str, ...] = ("Slc17a7",),
    seed: int = 5,
    noise: float = 0.2,
    **attrs: Any,
) -> None:
    """Maps that follow the counts of genes, with some noise."""
    bins = tuple(edge // BIN_PX for edge in CANVAS)
    rng = np.random.default_rng(seed)
    codes = PANEL.positions(genes)

    def blocks() -> Any:
        for index, one in enumerate(drawn):
            y, x, gene = one.molecules
            counts = np.zeros(bins)
            mine = np.isin(gene, codes)
            np.add.at(counts, (y[mine] // BIN_PX, x[mine] // BIN_PX), len(genes))
            maps = np.stack(
                [counts * factor * np.exp(rng.normal(scale=noise, size=bins)) for factor in (0.5, 0.6, 1.0)]
            )
            yield index, None, np.log2(maps + 1).astype(np.float16)

    channels = ("previous-current", "current-next", "window")
    attrs = {"genes": list(genes), "scale": "log2(n * map + 1)", **attrs}
    append_image(
        str(path), ImageSpec(f"attention_{name}", channels, "float16", step=BIN_PX, attrs=attrs), blocks()
    )


def write_truth(path: Path, truth: np.ndarray) -> None:
    """A cell table as phantoms have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell_id", "y", "x", "radius_px"])
        writer.writerows([index, *row] for index, row in enumerate(truth.tolist()))
