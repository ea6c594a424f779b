"""Where a store came from: inputs with sizes and hashes, software, the configuration as it was resolved."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_data.ingest.intensity import HIGH_PERCENTILE, LOW_PERCENTILE
from teramind_data.ingest.manifest import RegistrationEntry, notes
from teramind_data.ingest.merscope import table_genes
from teramind_data.panel import canonical

if TYPE_CHECKING:
    from teramind_data.ingest.measure import Measured
    from teramind_data.ingest.plan import PlannedSection
    from teramind_data.ingest.spill import LaidSection

_SOFTWARE = ("teramind-data", "numpy", "scipy", "zarr", "polars", "tifffile", "spatialdata")


def provenance(measured: Measured, more_notes: Sequence[str] = ()) -> dict[str, Any]:
    """The provenance block of a store (plain JSON). Paths are relative to the raw folder."""
    plan = measured.plan
    manifest = plan.manifest
    return {
        "tool": "teramind-data ingest",
        "key": plan.key,
        "brain": manifest.brain or plan.config.raw.resolve().name,
        "inputs": [file.to_dict() for file in plan.inputs],
        "software": {"python": platform.python_version(), **_versions()},
        "configuration": {
            "manifest": manifest.to_plain(),
            "canvas": list(measured.canvas),
            "origin_um": list(measured.origin_um),
            "pixel_size_um": plan.pixel_size_um,
            "stains": list(plan.stains),
            "interpolation": manifest.interpolation,
            "panel": "given" if plan.panel is not None else "all genes of the brain",
        },
        "intensity": {
            stain: {
                "low": window.low,
                "high": window.high,
                "from": "manifest"
                if stain in manifest.intensity
                else f"percentiles {LOW_PERCENTILE} and {HIGH_PERCENTILE} over tissue",
            }
            for stain, window in measured.windows.items()
        },
        "excluded": [
            {"folder": entry.folder, "name": entry.title, "z_um": entry.z_um, "reason": entry.exclude}
            for entry in manifest.excluded
        ],
        "genes_left_out": sorted(measured.dropped),
        "genes_missing": list(measured.missing),
        "notes": [*_notes(measured), *more_notes],
    }


def _notes(measured: Measured) -> list[str]:
    """What a person should know of this brain, a line each."""
    said = [*notes(measured.plan.manifest), *measured.plan.notes]
    if measured.missing:
        said.append(
            f"the brain lacks {len(measured.missing)} genes of the panel: {', '.join(measured.missing)}"
        )
    for section, laid in zip(measured.plan.sections, measured.laid, strict=True):
        said += [f"{section.name}: {line}" for line in laid.count.warnings()]
        if laid.far:
            said.append(f"{section.name}: {laid.far:,} rows too far from the plane's origin were left out")
        said += _strange_genes(section, laid)
        for stain, levels in measured.sections[section.index].levels.items():
            if np.count_nonzero(levels) == 1:
                said.append(
                    f"{section.name}: its {stain} image is flat: every tissue pixel is {levels.argmax()}"
                )
    return said


def _strange_genes(section: PlannedSection, laid: LaidSection) -> list[str]:
    """Genes among the transcripts that the section's own gene table does not list: rows of another panel."""
    listed = {canonical(name) for name in table_genes(section.folder)}
    strange = sorted(name for name in laid.names.names if canonical(name) not in listed) if listed else []
    if not strange:
        return []
    shown = ", ".join(strange[:4]) + (f" and {len(strange) - 4} more" if len(strange) > 4 else "")
    return [f"{section.name}: genes of the transcripts are not in its cell_by_gene.csv: {shown}"]


def _versions() -> dict[str, str]:
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def section_source(section: PlannedSection) -> dict[str, Any]:
    """The files a section was made from, relative to its folder's parent."""
    folder = section.folder.path
    return {
        "folder": folder.name,
        "transcripts": section.folder.transcripts.name,
        "images": {stain: source.describe(folder) for stain, source in section.images.items()},
    }


def section_registration(section: PlannedSection) -> dict[str, Any]:
    """The registration a section was placed by."""
    entry = section.entry.registration
    if isinstance(entry, RegistrationEntry):
        return {"file": entry.file, "direction": entry.direction.value}
    return {"file": "", "direction": "identity"}
