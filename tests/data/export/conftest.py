"""A small store with every element, made the way ingest makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from teramind_data.brain import Brain, open_brain
from teramind_data.elements import write_points, write_sections_table
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, Section, create_brain

#: Canvas: two levels, two shards a side, so that tiles, shards and rims are all different.
CANVAS = (400, 304)
SPACING_UM = 100.0
PIXEL_UM = 0.5


def write_small(url: Path, *, seed: int = 0) -> Brain:
    """A disc of tissue with nuclei-like spots; gene 0 lies in its left half, gene 1 in its right."""
    rng = np.random.default_rng(seed)
    sections = tuple(Section(i, f"s{i}", SPACING_UM * i, {"file": f"{i}.tif"}) for i in range(3))
    provenance = {"tool": "teramind-data ingest", "inputs": [], "excluded": []}
    spec = BrainSpec(
        "atlas",
        CANVAS,
        PIXEL_UM,
        sections,
        Panel(tuple(f"gene{i}" for i in range(6))),
        provenance=provenance,
        chunk=64,
        shard=256,
    )
    y, x = np.mgrid[: CANVAS[0], : CANVAS[1]]
    disc = ((y - CANVAS[0] / 2) / 170) ** 2 + ((x - CANVAS[1] / 2) / 130) ** 2 < 1
    writer = create_brain(url, spec)
    tissue = np.repeat(disc[None, 8::16, 8::16], 3, 0).astype(np.uint8)
    regions = np.where(np.arange(tissue.shape[2]) < tissue.shape[2] // 2, 1, 2) * tissue.astype(np.uint16)
    writer.add_labels("tissue", array=tissue)
    writer.add_labels("regions", "uint16", array=regions.astype(np.uint16), names={1: "left", 2: "right"})
    molecules = []
    expression = np.zeros((6, 3, *tissue.shape[1:]), np.uint8)
    for z in range(3):
        stain = np.stack([60 + 20 * np.sin(y / 9) * np.sin(x / 7), np.full(CANVAS, 90.0)])
        image = np.where(disc, stain + rng.normal(0, 4, (2, *CANVAS)), 0).clip(0, 255).astype(np.uint8)
        for _, box in (u for u in writer.pending("morphology") if u[0] == z):
            writer.write("morphology", z, box, image[(slice(None), *box.slices)])
        rows, columns = (part.astype(np.int64) for part in np.nonzero(disc))
        pick = rng.integers(0, len(rows), 3000)
        my, mx = rows[pick], columns[pick]
        gene = np.where(rng.random(3000) < 0.5, (mx >= CANVAS[1] // 2).astype(int), rng.integers(2, 6, 3000))
        molecules.append((z, my, mx, gene))
        np.add.at(expression[:, z], (gene, my // 16, mx // 16), 1)
        for _, box in (u for u in writer.pending("expression") if u[0] == z):
            writer.write("expression", z, box, expression[(slice(None), z, *box.slices)])
    writer.write_molecules(molecules)
    write_points(url)
    writer.finish()
    write_sections_table(url)
    return open_brain(url)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Read-only: shared by all tests."""
    return write_small(tmp_path_factory.mktemp("small") / "small.zarr")
