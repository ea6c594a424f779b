"""Everything about a brain's inputs, found and checked before any output exists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from teramind_data.errors import InputError, MissingInputError, RegistrationError
from teramind_data.ingest import merscope
from teramind_data.ingest.annotation_entries import AtlasEntry
from teramind_data.ingest.atlas import check_volume
from teramind_data.ingest.cell_files import CellFiles, find_cells
from teramind_data.ingest.genes_wanted import Wanted, foresee
from teramind_data.ingest.images import ImageSource
from teramind_data.ingest.images.source import size_and_hash
from teramind_data.ingest.manifest import (
    MANIFEST_NAME,
    Manifest,
    RegistrationEntry,
    SectionEntry,
    discover,
    inside,
    load_manifest,
)
from teramind_data.ingest.merscope import SectionFolder
from teramind_data.ingest.registration import Direction, canvas_to_image, read_placed
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.space import Depth
from teramind_data.ingest.structures import read_structures
from teramind_data.ingest.transforms import IDENTITY, Transform
from teramind_data.panel import ALIASES, Panel, read_aliases

#: Part of every build's key; raised when the same inputs would give another store.
INGEST_VERSION = 8
KNOWN_STAINS = ("DAPI", "PolyT")


@dataclass(frozen=True)
class IngestConfig:
    """What `ingest` is asked to do.

    raw: folder of one brain. out: path or URL of the store. manifest: its YAML, else ``raw/manifest.yaml``, else one
    made from the folder. panel: genes to keep, in their order; else all genes there are.
    aliases: CSV of further names of genes. allow_missing: go on without genes of the panel that the brain lacks.
    section_spacing_um: for a manifest made from the folder. memory: bytes a worker may take. workers: processes.
    scheduler: address of a dask.distributed scheduler to run on instead. scratch: where intermediate files go (all
    workers must see it); beside a local output by default. The last four change nothing in the store.
    """

    raw: Path
    out: str
    manifest: Path | None = None
    panel: Path | None = None
    aliases: Path | None = None
    allow_missing: bool = False
    section_spacing_um: float = 100.0
    overwrite: bool = False
    memory: int = 2 << 30
    workers: int = 1
    scheduler: str | None = None
    scratch: Path | None = None


@dataclass(frozen=True)
class PlannedSection:
    """One kept section: its files, and S from plane pixels (canvas pixels up to a shift) to image pixels.

    depth_um: where its registration says that it lies across the plane, by x and y in um of the plane.
    """

    index: int
    entry: SectionEntry
    z_um: float
    folder: SectionFolder
    images: Mapping[str, ImageSource]
    registration: Path | None
    to_image: Transform
    cells: CellFiles | None = None
    depth_um: Depth | None = None

    @property
    def name(self) -> str:
        """The section's name in messages and in the store."""
        return self.entry.title


@dataclass(frozen=True)
class InputFile:
    """One file that went in: path relative to the raw folder, size, SHA-256."""

    path: str
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"path": self.path, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class Plan:
    """A checked brain, ready to be read.

    notes: lines for the store to keep. doubts: lines for the person who waits, on what reading may yet refuse.
    """

    config: IngestConfig
    manifest: Manifest
    pixel_size_um: float
    origin_um: tuple[float, float]
    stains: tuple[str, ...]
    sections: tuple[PlannedSection, ...]
    panel: Panel | None
    aliases: Mapping[str, str]
    inputs: tuple[InputFile, ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def wanted(self) -> Wanted | None:
        """The genes asked for; None for all there are."""
        return _wanted(self.config, self.panel, self.aliases)

    @property
    def key(self) -> str:
        """SHA-256 of all that determines the store: equal keys build equal stores."""
        content = {
            "ingest_version": INGEST_VERSION,
            "manifest": self.manifest.to_plain(),
            "panel": None if self.panel is None else list(self.panel),
            "aliases": dict(self.aliases),
            "allow_missing": self.config.allow_missing,
            "inputs": [file.to_dict() for file in self.inputs],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def make_plan(config: IngestConfig) -> Plan:
    """Find and check every input of a brain.

    Raises a TeramindError, one line naming the file, for anything missing, unreadable or contradictory. Reads headers,
    schemas and hashes, not yet the transcripts' rows (some of them where a panel is asked for that the gene tables do
    not cover) or the images' pixels.
    """
    manifest = _manifest(config)
    folders = [
        merscope.read_folder(inside(config.raw, entry.folder, "section folder"), manifest.layout(entry))
        for entry in manifest.kept
    ]
    for folder in folders:
        merscope.scan_transcripts(folder.transcript_source)
    panel = None if config.panel is None else load_panel(config.panel)
    aliases = ALIASES if config.aliases is None else read_aliases(config.aliases)
    wanted = _wanted(config, panel, aliases)
    doubts = () if wanted is None else foresee(folders, wanted)
    stains = _stains(manifest, folders)
    _check_windows(manifest, stains)
    pixel = manifest.pixel_size_um or _pixel_size(folders)
    sections = tuple(_section(index, manifest, folder, stains, pixel) for index, folder in enumerate(folders))
    annotation = _annotation(config.raw, manifest, sections)
    return Plan(
        config=config,
        manifest=manifest,
        pixel_size_um=pixel,
        origin_um=manifest.origin_um or (0.0, 0.0),
        stains=stains,
        sections=sections,
        panel=panel,
        aliases=aliases,
        inputs=_inputs(config.raw, sections, annotation),
        notes=(*_stains_left_out(folders, stains), *_links_out(sections)),
        doubts=doubts,
    )


def load_panel(path: str | Path) -> Panel:
    """A panel from a CSV or text file, or from a store (all genes it has)."""
    from teramind_data.panel import read_panel
    from teramind_data.store import open_brain, store_state

    text = str(path)
    if "://" in text or Path(text).is_dir():
        if store_state(text) not in ("complete", "incomplete"):
            raise MissingInputError(
                "no store to take a panel from", where=text, remedy="Give a store or a CSV"
            )
        panel = open_brain(text).panel
        if panel is None:
            raise InputError("store has no panel", where=text, remedy="Give an atlas store or a CSV")
        return panel
    return read_panel(text)


def _wanted(config: IngestConfig, panel: Panel | None, aliases: Mapping[str, str]) -> Wanted | None:
    if panel is None or config.panel is None:
        return None
    return Wanted(panel, config.panel, aliases, config.allow_missing)


def _manifest(config: IngestConfig) -> Manifest:
    if not config.raw.is_dir():
        raise MissingInputError("folder of raw sections not found", where=config.raw, remedy="Check the path")
    if config.manifest is not None:
        return load_manifest(config.manifest)
    own = config.raw / MANIFEST_NAME
    return load_manifest(own) if own.is_file() else discover(config.raw, config.section_spacing_um)


def _stains(manifest: Manifest, folders: list[SectionFolder]) -> tuple[str, ...]:
    """The manifest's stains, or those that all sections have (DAPI and PolyT first, beads and the like by name)."""
    if manifest.stains is not None:
        return manifest.stains
    first = set.intersection(*(set(folder.mosaics) for folder in folders))
    if not first:
        raise InputError(
            "sections have no stain in common",
            expected="at least one, DAPI first",
            found="; ".join(f"{f.path.name}: {', '.join(f.mosaics)}" for f in folders[:4]),
            remedy="Exclude sections in the manifest, or restore their mosaics",
        )
    known = [stain for stain in KNOWN_STAINS if stain in first]
    return tuple(known) or tuple(sorted(first))


def _check_windows(manifest: Manifest, stains: tuple[str, ...]) -> None:
    unknown = [stain for stain in manifest.intensity if stain not in stains]
    if unknown:
        raise InputError(
            "intensity is given for a stain that is not there",
            where=f"manifest, intensity.{unknown[0]}",
            expected=", ".join(stains),
            found=unknown[0],
            remedy="Correct the stain's name in the manifest",
        )


def _stains_left_out(folders: list[SectionFolder], stains: tuple[str, ...]) -> tuple[str, ...]:
    """A line for each of the known stains that some sections have and others lack, so that the store has it not."""
    said = []
    for stain in KNOWN_STAINS:
        lacking = [folder.path.name for folder in folders if stain not in folder.mosaics]
        if stain not in stains and 0 < len(lacking) < len(folders):
            said.append(f"{stain} is left out: no such image in {', '.join(lacking[:4])}")
    return tuple(said)


def _links_out(sections: tuple[PlannedSection, ...]) -> tuple[str, ...]:
    """A line for each file at the vendor's place that is a link out of its folder (those of manifests are refused)."""
    said = []
    for section in sections:
        root = section.folder.path.resolve()
        images = [file for source in section.images.values() for file in source.files]
        for file in (section.folder.transcripts, section.folder.micron_to_mosaic_file, *images):
            parts = file.rglob("*") if file.is_dir() else ()
            for part in (file, *(part for part in parts if part.is_symlink())):
                if not part.resolve().is_relative_to(root):
                    name = part.relative_to(section.folder.path)
                    said.append(f"{section.name}: {name} is a link out of the section's folder")
                    break
    return tuple(said)


def _pixel_size(folders: list[SectionFolder]) -> float:
    """The sections' common pixel size from their micron-to-mosaic matrices; they must agree to 1 %."""
    sizes = [merscope.pixel_size_um(folder) for folder in folders]
    middle = float(median(sizes))
    worst = max(range(len(sizes)), key=lambda i: abs(sizes[i] - middle))
    if abs(sizes[worst] - middle) > 0.01 * middle:
        raise InputError(
            "sections differ in pixel size",
            where=folders[worst].micron_to_mosaic_file,
            expected=f"{middle:.6g} um",
            found=f"{sizes[worst]:.6g} um",
            remedy="Give pixel_size_um in the manifest; the registrations bring all sections to it",
        )
    return float(f"{middle:.9g}")  # the inverse of a rounded scale: 0.432, not 0.43200000000000005


def _section(
    index: int, manifest: Manifest, folder: SectionFolder, stains: tuple[str, ...], pixel: float
) -> PlannedSection:
    entry = manifest.kept[index]
    images = {stain: folder.image_source(stain) for stain in stains}
    shapes = {}
    for stain, mosaic in images.items():
        with Slide(mosaic) as slide:
            shapes[stain] = slide.shape
    if len(set(shapes.values())) > 1:
        raise InputError(
            "a section's mosaics differ in size",
            where=folder.path,
            expected=f"{shapes[stains[0]]} ({stains[0]})",
            found=", ".join(f"{shape} ({stain})" for stain, shape in shapes.items()),
            remedy="Restore the mosaics: all stains share one micron-to-mosaic matrix",
        )
    registration: Transform = IDENTITY
    depth: Depth | None = None
    file: Path | None = None
    direction = Direction.ATLAS_UM_TO_SECTION_UM
    if isinstance(entry.registration, RegistrationEntry):
        file = inside(folder.path, entry.registration.file, "registration")
        direction = entry.registration.direction
        found = read_placed(file, forward=direction.forward)
        registration = found.transform
        if found.depth is not None and direction.um is not None:
            depth = found.depth.scaled(direction.um)
    to_image = canvas_to_image(
        registration, direction, folder.micron_to_mosaic, pixel, manifest.origin_um or (0.0, 0.0)
    )
    _check_scale(to_image, shapes[stains[0]], file or folder.micron_to_mosaic_file)
    z_um = manifest.z_positions()[index]
    return PlannedSection(index, entry, z_um, folder, images, file, to_image, _cells(manifest, folder), depth)


def _cells(manifest: Manifest, folder: SectionFolder) -> CellFiles | None:
    """The section's files of cells, unless the manifest will not have them; outlines of the images' plane."""
    if manifest.cells == "none":
        return None
    return find_cells(folder.path, manifest.cells, None if manifest.z_plane == "max" else manifest.z_plane)


def _check_scale(to_image: Transform, shape: tuple[int, int], file: Path) -> None:
    """A step of one canvas pixel must be about one image pixel: else direction or units are wrong."""
    middle = np.array([[shape[1] / 2, shape[0] / 2]])
    at = to_image.inverse(middle)
    step = to_image.forward(at + [[1.0, 0.0]]) - to_image.forward(at - [[1.0, 0.0]])
    length = float(np.hypot(*step[0]) / 2)
    if not 0.05 < length < 20:
        raise RegistrationError(
            "registration's scale is wrong",
            where=file,
            expected="about 1 image pixel a canvas pixel",
            found=f"{length:.3g}",
            remedy="Check its direction and units in the manifest (registration.direction)",
        )


def _annotation(raw: Path, manifest: Manifest, sections: tuple[PlannedSection, ...]) -> tuple[Path, ...]:
    """The files of the regions: label images or a volume, and the table of names."""
    entry = manifest.regions or manifest.atlas
    if entry is None:
        return ()
    named = entry.volume if isinstance(entry, AtlasEntry) else entry.labels
    listed = [(raw, named, "region labels"), (raw, entry.names, "region names")]
    listed += [(section.folder.path, section.entry.regions, "region labels") for section in sections]
    files = [inside(root, name, what) for root, name, what in listed if name is not None]
    for file in files:
        if not file.exists():
            raise MissingInputError(
                "annotation not found", where=file, remedy="Correct regions or atlas in the manifest"
            )
    if isinstance(entry, AtlasEntry):
        check_volume(entry, files[0])
    read_structures(None if entry.names is None else raw / entry.names)
    return tuple(files)


def _inputs(
    raw: Path, sections: tuple[PlannedSection, ...], annotation: tuple[Path, ...]
) -> tuple[InputFile, ...]:
    files: list[Path] = []
    for section in sections:
        folder = section.folder
        optional = [section.registration, folder.cell_by_gene]
        files += [folder.transcripts, folder.micron_to_mosaic_file]
        files += [file for source in section.images.values() for file in source.files]
        files += [file for file in optional if file is not None]
        files += () if section.cells is None else section.cells.files
    files += annotation
    unique = dict.fromkeys(files)  # a file may hold all stains
    return tuple(InputFile(file.relative_to(raw).as_posix(), *size_and_hash(file)) for file in unique)
