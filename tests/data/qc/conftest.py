"""A phantom brain's arrays at hand, to be spoilt in one way and written as a store again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from teramind_data.geometry import BIN_PX, Box
from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import Brain, BrainSpec, Section, create_brain

SMALL = PhantomConfig(
    brains=("A",), panels=(1,), seed=11, sections=5, canvas=(512, 768), genes=36, shared=34, blanks=1
)


@dataclass
class Arrays:
    """A brain in memory: (c, z, y, x), (z, y/16, x/16), and molecules (y, x, gene) a section."""

    spec: BrainSpec
    morphology: np.ndarray
    tissue: np.ndarray
    molecules: list[np.ndarray]

    @classmethod
    def of(cls, brain: Brain) -> Arrays:
        whole = Box.from_shape(brain.canvas)
        assert brain.tissue is not None
        return cls(
            replace(brain.spec, sections=tuple(Section(s.index, s.name, s.z_um) for s in brain.sections)),
            np.asarray(brain.morphology[:]),
            np.asarray(brain.tissue[:]),
            [
                np.stack([np.int64(v) for v in brain.molecules.read(z, whole)])
                for z in range(brain.n_sections)
            ],
        )

    def copy(self) -> Arrays:
        return Arrays(
            self.spec, self.morphology.copy(), self.tissue.copy(), [rows.copy() for rows in self.molecules]
        )

    def pick(self, sections: list[int], z_um: list[float] | None = None) -> Arrays:
        """These sections, in this order, one after the other."""
        kept = tuple(
            Section(i, f"s{i:02d}", 100.0 * i if z_um is None else z_um[i]) for i in range(len(sections))
        )
        spec = replace(self.spec, sections=kept)
        molecules = [self.molecules[z].copy() for z in sections]
        return Arrays(spec, self.morphology[:, sections].copy(), self.tissue[sections].copy(), molecules)

    def padded(self, margin: int) -> Arrays:
        """With empty canvas around, a multiple of 16 pixels."""
        height, width = (n + 2 * margin for n in self.spec.canvas)
        bins = margin // BIN_PX
        return Arrays(
            replace(self.spec, canvas=(height, width), shard=None),
            np.pad(self.morphology, [(0, 0), (0, 0), (margin, margin), (margin, margin)]),
            np.pad(self.tissue, [(0, 0), (bins, bins), (bins, bins)]),
            [rows + np.array([[margin], [margin], [0]]) for rows in self.molecules],
        )

    def move(self, z: int, dy: int, dx: int) -> None:
        """Shift a section, what leaves the canvas coming in again; multiples of 16 pixels."""
        self.morphology[:, z] = np.roll(self.morphology[:, z], (dy, dx), (1, 2))
        self.tissue[z] = np.roll(self.tissue[z], (dy // BIN_PX, dx // BIN_PX), (0, 1))
        self.molecules[z][0] = (self.molecules[z][0] + dy) % self.spec.canvas[0]
        self.molecules[z][1] = (self.molecules[z][1] + dx) % self.spec.canvas[1]

    def density(self, z: int) -> np.ndarray:
        """Molecules of all genes a bin."""
        out = np.zeros(self.tissue.shape[1:], np.int64)
        np.add.at(out, (self.molecules[z][0] // BIN_PX, self.molecules[z][1] // BIN_PX), 1)
        return out

    def write(self, url: Path, *, tissue: bool = True) -> Brain:
        writer = create_brain(url, self.spec)
        if "morphology" in writer.names:
            for z, box in writer.pending("morphology"):
                writer.write("morphology", z, box, self.morphology[(slice(None), z, *box.slices)])
        if self.spec.measured:
            self._write_genes(writer)
        if tissue:
            writer.add_labels("tissue", array=self.tissue)
        return writer.finish()

    def _write_genes(self, writer: object) -> None:
        from teramind_data.store import BrainWriter

        assert isinstance(writer, BrainWriter)
        genes = len(self.spec.panel or ())
        for z, rows in enumerate(self.molecules):
            counts = np.zeros((genes, *self.tissue.shape[1:]), self.spec.expression_dtype)
            np.add.at(counts, (rows[2], rows[0] // BIN_PX, rows[1] // BIN_PX), 1)
            for section, box in writer.pending("expression"):
                if section == z:
                    writer.write("expression", z, box, counts[(slice(None), *box.slices)])
        writer.write_molecules([(z, *rows) for z, rows in enumerate(self.molecules)])


@pytest.fixture(scope="session")
def small_brain(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Five sections of 512 x 768 px, ingested; read only."""
    out = tmp_path_factory.mktemp("quality")
    write_phantom(SMALL, out / "phantom")
    return ingest(IngestConfig(raw=out / "phantom" / "raw" / "A", out=str(out / "A.zarr")))[1]


@pytest.fixture(scope="session")
def arrays(small_brain: Brain) -> Arrays:
    """What the small brain holds; copy before spoiling."""
    return Arrays.of(small_brain)
