"""A small brain, written as its users write one, with everything that is in it at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, BrainWriter, Section, create_brain


@dataclass
class Truth:
    """What was written."""

    spec: BrainSpec
    morphology: np.ndarray
    expression: np.ndarray
    tissue: np.ndarray
    regions: np.ndarray
    molecules: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]

    def write_images(self, writer: BrainWriter) -> None:
        for name in ("morphology", "expression"):
            for z, box in writer.pending(name):
                writer.write(name, z, box, getattr(self, name)[(slice(None), z, *box.slices)])

    def write(self, url: Any, *, finish: bool = True, overwrite: bool = False) -> Brain | BrainWriter:
        writer = create_brain(url, self.spec, overwrite=overwrite)
        self.write_images(writer)
        writer.add_labels("tissue", array=self.tissue)
        writer.add_labels("regions", "uint16", array=self.regions, names={1: "left", 300: "right"})
        writer.write_molecules(self.molecules)
        return writer.finish() if finish else writer


def make_truth(
    seed: int = 0, canvas: tuple[int, int] = (208, 304), n_genes: int = 5, shard: int = 128
) -> Truth:
    rng = np.random.default_rng(seed)
    sections = tuple(
        Section(i, f"s{i}", z, {"file": f"{i}.tif"}) for i, z in enumerate((0.0, 100.0, 200.0, 450.0))
    )
    panel = Panel(tuple(f"gene{i}" for i in range(n_genes)))
    spec = BrainSpec(
        "atlas", canvas, 0.5, sections, panel, provenance={"made": "here"}, chunk=64, shard=shard
    )
    bins = (canvas[0] // 16, canvas[1] // 16)
    morphology = rng.integers(0, 256, (2, 4, *canvas)).astype(np.uint8)
    # A shard that is empty on purpose, in one section.
    morphology[:, 1, :shard, :shard] = 0
    molecules = []
    expression = np.zeros((n_genes, 4, *bins), np.uint8)
    for z in range(4):
        n = 4000
        y, x, gene = (rng.integers(0, limit, n) for limit in (*canvas, n_genes))
        molecules.append((z, y, x, gene))
        np.add.at(expression, (gene, z, y // 16, x // 16), 1)
    regions = np.where(np.arange(bins[1]) < bins[1] // 2, 1, 300).astype(np.uint16)
    tissue = rng.random((4, *bins)) > 0.2
    return Truth(spec, morphology, expression, tissue, np.broadcast_to(regions, (4, *bins)).copy(), molecules)


@pytest.fixture(scope="session")
def truth() -> Truth:
    return make_truth()


@pytest.fixture(scope="session")
def truth_maker() -> Callable[..., Truth]:
    return make_truth


@pytest.fixture(scope="session")
def brain(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Read-only: shared by all tests."""
    made = truth.write(tmp_path_factory.mktemp("store") / "brain.zarr")
    assert isinstance(made, Brain)
    return made


@pytest.fixture
def own_brain(truth: Truth, tmp_path: Path) -> Brain:
    """A store that a test may damage."""
    made = truth.write(tmp_path / "brain.zarr")
    assert isinstance(made, Brain)
    return made
