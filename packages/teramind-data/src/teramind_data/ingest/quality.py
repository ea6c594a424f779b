"""The quality numbers of an ingest: what reading a section's files told, and what is measured of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.ingest.measure import Measured, collect
from teramind_data.ingest.provenance import section_registration, section_source
from teramind_data.ingest.raster import FileRows
from teramind_data.qc import MeasuredSection, assemble, measure_section
from teramind_data.store import Section, open_brain
from teramind_data.workers import Runner


@dataclass(frozen=True)
class MeasureQuality:
    """Measures a section of the store being written; its images and tissue must be there."""

    url: str
    density: tuple[FileRows, ...]
    counts: NDArray[np.int64]  # (sections, genes)

    def __call__(self, z: int) -> MeasuredSection:
        """Measure one section."""
        brain = open_brain(self.url, incomplete=True)
        return measure_section(brain, z, density=self.density[z], counts=self.counts[z])


def sections_with_quality(
    measured: Measured, url: str, where: Runner, more: Mapping[int, Mapping[str, Any]]
) -> tuple[Section, ...]:
    """The sections with their sources, registrations and quality numbers; ``more``: others that are known of some."""
    density = tuple(section.density for section in measured.sections)
    indices = [section.index for section in measured.plan.sections]
    task = MeasureQuality(url, density, measured.counts)
    found = dict(collect(where, task, indices, ("quality", "sections")))
    numbers = assemble(
        open_brain(url, incomplete=True),
        [found[index] for index in indices],
        [{**_of_reading(measured, index), **more.get(index, {})} for index in indices],
    )
    return tuple(
        Section(
            section.index,
            section.name,
            section.z_um,
            section_source(section),
            section_registration(section),
            quality,
        )
        for section, quality in zip(measured.plan.sections, numbers, strict=True)
    )


def _of_reading(measured: Measured, index: int) -> dict[str, Any]:
    """What became of the rows of a section's file, and the medians of its images as they came."""
    count, own = measured.laid[index].count, measured.sections[index]
    return {
        "transcripts_in_file": count.rows,
        "transcripts_controls": count.controls,
        "transcripts_not_finite": count.not_finite,
        "transcripts_no_gene": count.no_gene,
        "transcripts_other_planes": count.other_planes,
        "transcripts_left_out": measured.laid[index].placed - int(own.counts.sum()),
        **measured.medians(index),
    }
