"""The regions of a brain, from label images or an atlas volume: read bin by bin, then written as compact labels.

All is read before the store is begun: what does not fit is refused then, and only then is known which ids occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.geometry import Box
from teramind_data.ingest.atlas import atlas_cut
from teramind_data.ingest.measure import Measured, collect
from teramind_data.ingest.paths import inside
from teramind_data.ingest.raster import FileRows, strips
from teramind_data.ingest.regions import RegionSource, label_images
from teramind_data.ingest.structures import Legend, make_legend, read_structures
from teramind_data.ingest.tasks import Target
from teramind_data.workers import Runner

_ROWS = 256  # of bins worked at once
_FEW = 0.5  # of a section's transcripts in regions: fewer is worth a word


@dataclass(frozen=True)
class SectionRegions:
    """A section's region ids by bin, those that occur, and how many of its molecules lie in one."""

    rows: FileRows
    ids: tuple[int, ...]
    molecules: int
    of: int

    @property
    def share(self) -> float:
        """Of the molecules, in a region."""
        return self.molecules / self.of if self.of else 0.0


@dataclass(frozen=True)
class Annotation:
    """The regions of all sections, read and named."""

    sections: tuple[SectionRegions, ...]
    legend: Legend
    source: dict[str, Any]

    def attributes(self) -> dict[str, Any]:
        """What the store keeps beside the labels: where they came from, and ids and acronyms."""
        return {"source": self.source, **self.legend.attributes()}

    def notes(self, names: tuple[str, ...]) -> list[str]:
        """What a person should know of it, a line each; ``names`` of the sections."""
        said = []
        if self.legend.nameless:
            listed = ", ".join(map(str, self.legend.nameless[:8]))
            said.append(f"regions: {len(self.legend.nameless)} ids are not in the table of names: {listed}")
        for name, section in zip(names, self.sections, strict=True):
            if section.share < _FEW:
                said.append(
                    f"{name}: {section.share:.0%} of its transcripts lie in a region: check how the annotation lies"
                )
        return said


@dataclass(frozen=True)
class ReadRegions:
    """Reads a section's region ids into a plane of bins on disk."""

    scratch: Path
    source: RegionSource
    density: tuple[FileRows, ...]  # molecules in each bin

    def __call__(self, z: int) -> SectionRegions:
        """Read one section."""
        density = self.density[z]
        height, width = density.shape
        rows = FileRows.create(self.scratch / f"{z}-regions", density.shape, "uint32")
        ids: set[int] = set()
        inside_count = total = 0
        for y0, y1 in strips(height, _ROWS):
            band = np.zeros((y1 - y0, width), np.uint32)
            for box, values in self.source.blocks(z, Box(y0, y1, 0, width)):
                band[box.shift(-y0, 0).slices] = values
                ids.update(np.unique(values).tolist())
            molecules = density.read(y0, y1)
            total += int(molecules.sum(dtype=np.int64))
            inside_count += int(molecules[band != 0].sum(dtype=np.int64))
            rows.write(y0, band)
        return SectionRegions(rows, tuple(sorted(ids | {0})), inside_count, total)


@dataclass(frozen=True)
class WriteRegions:
    """Writes a section's regions as labels."""

    target: Target
    annotation: Annotation

    def __call__(self, z: int) -> None:
        """Write one section."""
        writer, legend = self.target.writer("regions"), self.annotation.legend
        rows = self.annotation.sections[z].rows
        for _, box in (unit for unit in writer.shards("regions") if unit[0] == z):
            out = np.empty(box.shape, np.uint16)
            for y0, y1 in strips(box.height, _ROWS):
                ids: NDArray[Any] = rows.read(box.y0 + y0, box.y0 + y1)[:, box.x0 : box.x1]
                out[y0:y1] = legend.encode(ids)
            writer.write("regions", z, box, out)


def read_annotation(measured: Measured, scratch: Path, runner: Runner) -> Annotation | None:
    """Read the regions that the manifest names; None where it names none.

    Raises:
        TeramindError: one line naming the file or the section that does not fit.
    """
    plan = measured.plan
    entry = plan.manifest.regions or plan.manifest.atlas
    if entry is None:
        return None
    table = None if entry.names is None else inside(plan.config.raw, entry.names, "region names")
    structures = read_structures(table)
    source: RegionSource
    if plan.manifest.atlas is not None:
        source = atlas_cut(plan, plan.manifest.atlas, measured.frame, scratch)
        described: dict[str, Any] = {"atlas": plan.manifest.atlas.volume}
    else:
        assert plan.manifest.regions is not None
        source = label_images(plan, plan.manifest.regions, measured.frame)
        described = {"labels": plan.manifest.regions.labels or "of each section"}
    task = ReadRegions(scratch, source, tuple(section.density for section in measured.sections))
    indices = [section.index for section in plan.sections]
    found = dict(collect(runner, task, indices, ("annotation", "sections")))
    sections = tuple(found[index] for index in indices)
    present = {number for section in sections for number in section.ids}
    return Annotation(sections, make_legend(structures, present, table or plan.config.raw), described)


__all__ = ["Annotation", "ReadRegions", "SectionRegions", "WriteRegions", "read_annotation"]
