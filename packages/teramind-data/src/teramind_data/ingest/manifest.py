"""The manifest of a brain: which sections, in what order, at which z, registered how, and which are left out and why.

``discover`` writes one from a folder of raw sections; people edit it; ``load_manifest`` reads it strictly.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from teramind_data.errors import InputError, MissingInputError, OutputExistsError
from teramind_data.ingest.annotation_entries import AtlasEntry, CellsEntry, RegionsEntry
from teramind_data.ingest.merscope import Layout
from teramind_data.ingest.paths import inside as inside
from teramind_data.ingest.registration import Direction
from teramind_data.ingest.transcripts import PRESETS, Columns

MANIFEST_NAME = "manifest.yaml"
#: Folders of a brain that hold no section.
ANNOTATION_FOLDER = "annotation"
_UNEVEN = 0.01  # of the usual spacing
_REGISTRATION_PATTERNS = ("ABBA-Transform-*.json", "registration.json")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RegistrationEntry(_Strict):
    """A registration file (relative to the section's folder) and what it maps to what."""

    file: str
    direction: Direction = Direction.ATLAS_MM_TO_IMAGE_PX


class ColumnsEntry(_Strict):
    """Names of a transcript table's columns: places in um of the section, gene, and plane."""

    x: str
    y: str
    gene: str
    z: str | None = None


class TranscriptsEntry(_Strict):
    """Where the transcripts are and how to read them.

    file: relative to the section's folder, else found there. columns: a preset, or names; else the first preset that
    fits. z_planes: values of the z column to keep; else all.
    """

    file: str | None = None
    columns: Literal["merscope", "allen"] | ColumnsEntry | None = None
    z_planes: Annotated[tuple[Finite, ...], Field(min_length=1)] | None = None

    def resolved(self) -> Columns | None:
        """The columns named; None to find out."""
        if isinstance(self.columns, ColumnsEntry):
            return Columns(self.columns.x, self.columns.y, self.columns.gene, self.columns.z)
        return None if self.columns is None else PRESETS[self.columns]


Plane = Annotated[int, Field(ge=0)] | Literal["max"]


class ImageEntry(_Strict):
    """The file that holds a stain (relative to the section's folder), its channel there (number or name) and plane."""

    file: str
    channel: Annotated[int, Field(ge=0)] | str | None = None
    z_plane: Plane | None = None


class SectionEntry(_Strict):
    """One section. ``registration: identity`` means that section um are already um of the common plane."""

    folder: str
    name: str | None = None
    z_um: Finite | None = None
    registration: RegistrationEntry | Literal["identity"] = "identity"
    transcripts: TranscriptsEntry | None = None
    images: dict[str, ImageEntry] = Field(default_factory=dict)
    regions: str | None = None
    atlas_depth_um: Finite | None = None
    exclude: str | None = None

    @field_validator("exclude", mode="before")
    @classmethod
    def _reason(cls, value: object) -> object:
        # A bare `exclude:` is null in YAML: taken as "not excluded" it would let a bad section in unnoticed.
        if not (isinstance(value, str) and value.strip()):
            raise ValueError("exclude needs a reason, a few words; leave the key out to keep the section")
        return value

    @model_validator(mode="after")
    def _name(self) -> SectionEntry:
        if not self.title.isprintable() or "/" in self.title:
            raise ValueError(f"name {self.title!r} is no plain text in UTF-8 on one line, without /")
        return self

    @property
    def title(self) -> str:
        """The section's name: given, or its folder's."""
        return self.name or Path(self.folder).name


class Manifest(_Strict):
    """A brain as people describe it. Paths are relative to the brain's folder and stay inside it."""

    version: Literal[1] = 1
    brain: str | None = None
    pixel_size_um: Positive | None = None
    canvas: tuple[int, int] | None = None
    origin_um: tuple[Finite, Finite] | None = None
    stains: tuple[str, ...] | None = None
    section_spacing_um: Positive = 100.0
    z_plane: Plane | None = None
    transcripts: TranscriptsEntry | None = None
    images: dict[str, ImageEntry] = Field(default_factory=dict)
    image_pixel_size_um: Positive | None = None
    interpolation: Literal["linear", "cubic"] = "linear"
    intensity: dict[str, tuple[Count, Count]] = Field(default_factory=dict)
    regions: RegionsEntry | None = None
    atlas: AtlasEntry | None = None
    cells: CellsEntry | Literal["none"] | None = None
    sections: tuple[SectionEntry, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if not self.kept:
            raise ValueError("sections: none is left")
        for what, values in (
            ("folder", [entry.folder for entry in self.sections]),
            ("name", [entry.title for entry in self.kept]),
        ):
            doubled = sorted({value for value in values if values.count(value) > 1})
            if doubled:
                raise ValueError(f"sections: {what} {doubled[0]} occurs twice")
        if self.canvas is not None and any(edge <= 0 or edge % 256 for edge in self.canvas):
            raise ValueError(f"canvas: {list(self.canvas)} is not two positive multiples of 256")
        for stain, (low, high) in self.intensity.items():
            if low >= high:
                raise ValueError(f"intensity: {stain} needs low < high, found {low}, {high}")
        if self.stains is not None and (not self.stains or len(set(self.stains)) != len(self.stains)):
            raise ValueError("stains: give distinct names, or leave it out")
        self._annotated()
        z = self.z_positions()
        for before, after, entry in zip(z, z[1:], self.kept[1:], strict=False):
            if after <= before:
                raise ValueError(
                    f"sections: duplicate z: {entry.title} is at {after:g} um as the section before it; "
                    "give it its own z_um, or exclude it and say why"
                    if after == before
                    else f"sections: z of {entry.title} is {after:g} um, not above {before:g} um before it"
                )
        return self

    def _annotated(self) -> None:
        own = [entry.title for entry in self.sections if entry.regions is not None]
        if self.regions is not None and self.atlas is not None:
            raise ValueError("atlas: there is regions too; regions come from one of them")
        if own and self.regions is None:
            raise ValueError(
                f"sections: {own[0]} has regions, but the brain says nothing of them (regions: {{}})"
            )
        if self.regions is not None and self.regions.labels is None and not own:
            raise ValueError("regions: give labels here, or regions of each section")

    @property
    def kept(self) -> tuple[SectionEntry, ...]:
        """The sections that are not left out, in order."""
        return tuple(entry for entry in self.sections if entry.exclude is None)

    @property
    def excluded(self) -> tuple[SectionEntry, ...]:
        """The sections that are left out, each with its reason."""
        return tuple(entry for entry in self.sections if entry.exclude is not None)

    def z_positions(self) -> tuple[float, ...]:
        """z in um of the kept sections: given, or their place in the list (left-out sections count) x spacing."""
        places = (
            entry.z_um if entry.z_um is not None else index * self.section_spacing_um
            for index, entry in enumerate(self.sections)
            if entry.exclude is None
        )
        return tuple(float(z) for z in places)

    def layout(self, entry: SectionEntry) -> Layout:
        """Where a section's files are and how to read them: its own entries before the brain's."""
        transcripts = entry.transcripts or self.transcripts or TranscriptsEntry()
        return Layout(
            transcripts=transcripts.file,
            columns=transcripts.resolved(),
            z_planes=transcripts.z_planes,
            images={
                stain: (image.file, image.channel, image.z_plane)
                for stain, image in {**self.images, **entry.images}.items()
            },
            z_plane=self.z_plane,
            pixel_size_um=self.image_pixel_size_um,
        )

    def to_plain(self) -> dict[str, Any]:
        """JSON types, without what was left at its default."""
        plain = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return {"version": 1, **plain}


def parse_manifest(data: object, where: Path) -> Manifest:
    """Validate parsed YAML; InputError naming the first place that is wrong."""
    try:
        # Through JSON: strict there still takes lists for tuples and text for enumerations.
        return Manifest.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(
            "manifest is not valid",
            where=f"{where}, {place}",
            found=message,
            remedy="Correct it; `teramind-data manifest` writes one to begin with",
        ) from error
    except (TypeError, ValueError) as error:
        raise InputError(
            "manifest is not valid", where=where, found=error, remedy="Use plain YAML values"
        ) from error


def load_manifest(path: Path) -> Manifest:
    """Read a YAML manifest.

    Raises MissingInputError or InputError, one line naming the file and the entry.
    """
    import yaml

    from teramind_data.ingest.strict_yaml import load_strictly

    try:
        data = load_strictly(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise MissingInputError(
            "manifest not found",
            where=path,
            remedy="Write one with `teramind-data manifest RAW -o manifest.yaml`",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "manifest is not readable YAML", where=path, found=error, remedy="Correct it"
        ) from error
    if not isinstance(data, dict):
        raise InputError(
            "manifest is not valid", where=path, expected="keys and values", remedy="See the ingest guide"
        )
    return parse_manifest(data, path)


def discover(raw: Path, section_spacing_um: float = 100.0) -> Manifest:
    """A manifest from what is in a folder: its section folders by name, their registrations, the annotation.

    A section folder is one that holds ``images/`` or a transcript file. Where the folders' names are one name and a
    number, the number tells the order and z, so that a section that is not there leaves its gap.
    Raises MissingInputError where there is none.
    """
    if not 0 < section_spacing_um < float("inf"):
        raise InputError(
            "section spacing is not a length", "--section-spacing", "um > 0", section_spacing_um, "Correct it"
        )
    if not raw.is_dir():
        raise MissingInputError("folder of raw sections not found", where=raw, remedy="Check the path")
    strange = [path.name for path in raw.iterdir() if not path.name.isprintable()]
    if strange:
        raise InputError(
            "name in the folder is no plain text",
            where=f"{raw}, {strange[0]!r}",
            expected="printable UTF-8 on one line",
            remedy="Rename it",
        )
    folders = sorted(
        (path for path in raw.iterdir() if _is_section(path)), key=lambda path: _natural(path.name)
    )
    if not folders:
        raise MissingInputError(
            "folder has no sections",
            where=raw,
            expected="one folder a section, each with images/ and detected_transcripts.csv",
            found=", ".join(sorted(path.name for path in raw.iterdir())[:6]) or "nothing",
            remedy="Name the folder of one brain",
        )
    labels = raw / ANNOTATION_FOLDER / "regions.tif"
    names = labels.with_suffix(".csv")
    regions = None
    if labels.is_file():
        regions = RegionsEntry(
            labels=str(labels.relative_to(raw)),
            names=str(names.relative_to(raw)) if names.is_file() else None,
        )
    return Manifest(
        brain=raw.resolve().name,
        section_spacing_um=section_spacing_um,
        regions=regions,
        sections=tuple(
            _entry(folder, place * section_spacing_um)
            for folder, place in zip(folders, _places([folder.name for folder in folders]), strict=True)
        ),
    )


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts section_2 before section_10."""
    return tuple((text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name))


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers at the names' ends; None where the rest of the names differs or a number occurs twice."""
    found = [re.fullmatch(r"(.*?)(\d{1,9})", name) for name in names]
    if not all(found) or len({match[1] for match in found if match}) != 1:
        return None
    numbers = [int(match[2]) for match in found if match]
    return numbers if len(set(numbers)) == len(numbers) else None


def _places(names: Sequence[str]) -> list[int]:
    numbers = _numbers(names)
    return list(range(len(names))) if numbers is None else [number - numbers[0] for number in numbers]


def notes(manifest: Manifest) -> tuple[str, ...]:
    """What is odd about a brain's sections, a line each: left out, missing, unevenly spaced, twice at one z.

    The store closes its sections up (z index 0, 1, ...) and keeps true z; this says what that hides.
    """
    said = [f"{entry.title} is left out: {entry.exclude}" for entry in manifest.excluded]
    said += _missing([Path(entry.folder).name for entry in manifest.sections])
    z = manifest.z_positions()
    steps = [after - before for before, after in pairwise(z)]
    usual = median_low(steps) if steps else 0.0  # as the store's z_spacing_um
    for step, before, after in zip(steps, manifest.kept, manifest.kept[1:], strict=False):
        if abs(step - usual) > _UNEVEN * abs(usual):
            said.append(
                f"uneven spacing: {step:g} um from {before.title} to {after.title}, {usual:g} um is usual"
            )
    places: dict[float, str] = {}
    for index, entry in enumerate(manifest.sections):
        at = entry.z_um if entry.z_um is not None else index * manifest.section_spacing_um
        if at in places:
            said.append(f"duplicate z: {entry.title} is at {at:g} um as {places[at]} is")
        places.setdefault(at, entry.title)
    return tuple(said)


def _missing(names: list[str]) -> list[str]:
    numbers = _numbers(names)
    if numbers is None:
        return []
    width = len(re.sub(r"^.*?(\d+)$", r"\1", names[0]))
    stem = names[0][: len(names[0]) - width]
    said = []
    ordered = sorted(numbers)
    for before, after in pairwise(ordered):
        if after - before > 1:
            first, last = (f"{stem}{n:0{width}d}" for n in (before + 1, after - 1))
            said.append(
                f"missing: {first}" + ("" if first == last else f" to {last} ({after - before - 1} sections)")
            )
    return said


def _is_section(path: Path) -> bool:
    from teramind_data.ingest.merscope import find_transcripts

    if not path.is_dir() or path.name.startswith(".") or path.name == ANNOTATION_FOLDER:
        return False
    return (path / "images").is_dir() or find_transcripts(path) is not None


def _entry(folder: Path, z_um: float) -> SectionEntry:
    found = [file for pattern in _REGISTRATION_PATTERNS for file in sorted(folder.glob(pattern))]
    if len(found) > 1:
        raise InputError(
            "section has several registrations",
            where=folder,
            found=", ".join(file.name for file in found),
            remedy="Name the right one in a manifest, or move the others away",
        )
    if not found:
        return SectionEntry(folder=folder.name, z_um=z_um)
    return SectionEntry(folder=folder.name, z_um=z_um, registration=RegistrationEntry(file=found[0].name))


def write_manifest(manifest: Manifest, path: Path, *, overwrite: bool = False) -> None:
    """Write a manifest as YAML, whole or not at all; OutputExistsError where it exists."""
    import yaml

    if path.exists() and not overwrite:
        raise OutputExistsError("output exists", where=path, remedy="Choose another name or pass --overwrite")
    if not path.parent.is_dir():
        raise MissingInputError("output folder not found", where=path.parent, remedy="Make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(
                "# A brain for `teramind-data ingest`. Edit: order, z_um, exclude: <reason>, registration.\n"
            )
            yaml.safe_dump(manifest.to_plain(), handle, sort_keys=False, default_flow_style=None)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
