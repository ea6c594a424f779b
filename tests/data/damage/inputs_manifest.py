"""Damages to a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.data.damage.input_tools import manifest, nothing, text
from tests.data.damage.store_tools import replace
from tests.data.damage.table import Damage, InputDamage

FILE = "raw/manifest.yaml"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def section(**new: Any) -> Damage:
    """The second section's entry changed."""
    return manifest(lambda m: m["sections"][1].update(new))


def brain(**new: Any) -> Damage:
    """An entry of the brain changed."""
    return manifest(lambda m: m.update(new))


def rewritten(change: Callable[[str], str]) -> Damage:
    """The text of a sound manifest changed."""

    def do(root: Any) -> None:
        manifest(lambda m: None)(root)
        (root / FILE).write_text(change((root / FILE).read_text()))

    return do


def third_section(root: Path) -> None:
    """A copy of the second, 850 um behind it."""
    shutil.copytree(root / "raw/section_001", root / "raw/section_002")
    shutil.rmtree(root / "raw/annotation")
    manifest(lambda m: m["sections"][2].update(z_um=950.0))(root)


TEXTS = [
    InputDamage(
        "manifest is gone", nothing, "none.yaml", "manifest not found", ("--manifest", "{}/none.yaml")
    ),
    InputDamage("manifest is a folder", nothing, "/raw", "manifest|directory", ("--manifest", "{}/raw")),
    InputDamage("manifest is empty", text(FILE, ""), FILE, "not valid.*keys and values"),
    InputDamage("manifest is a list", text(FILE, "- a\n- b\n"), FILE, "not valid.*keys and values"),
    InputDamage("manifest is no YAML", text(FILE, "sections: [a\nb: }"), FILE, "not readable YAML"),
    InputDamage("manifest with tabs", text(FILE, "sections:\n\t- folder: a\n"), FILE, "not readable YAML"),
    InputDamage("manifest is no UTF-8", replace(FILE, b"brain: \xff\xfe\n"), FILE, "not readable YAML"),
    InputDamage(
        "manifest cut", rewritten(lambda t: t[: t.index("sections") + 3]), FILE, "not valid|not readable"
    ),
    InputDamage(
        "manifest that runs code",
        text(FILE, "sections: !!python/object/apply:os.system ['touch owned']\n"),
        FILE,
        "not readable YAML",
    ),
    InputDamage("manifest that is a bomb", text(FILE, BOMB + "sections: *i\n"), FILE, "YAML"),
    InputDamage(
        "manifest with a key twice", rewritten(lambda t: t + "\nbrain: B\n"), FILE, "brain.*(twice|duplicate)"
    ),
    InputDamage("manifest of objects", text(FILE, "sections: [{folder: 2024-01-01}]\n"), FILE, "not valid"),
]
ENTRIES = [
    InputDamage("unknown entry", brain(colour="red"), "colour", "Extra inputs"),
    InputDamage("another version", brain(version=2), "version", "Input should be 1"),
    InputDamage("no sections", brain(sections=[]), "sections", "none is left"),
    InputDamage("sections left out", manifest(lambda m: m.pop("sections") and None), "sections", "required"),
    InputDamage(
        "section twice",
        manifest(lambda m: m["sections"].append(dict(m["sections"][0]))),
        "section_000",
        "twice",
    ),
    InputDamage("name twice", section(name="section_000"), "section_000", "name section_000 occurs twice"),
    InputDamage(
        "section that is not there", section(folder="section_009"), "section_009", "folder not found"
    ),
    InputDamage("section of a name with a zero byte", section(folder="a\0b"), "sections.1", "no plain text"),
    InputDamage("section that leads out", section(folder="../.."), "../..", "leads out of its folder"),
    InputDamage("section of an absolute path", section(folder="/etc"), "/etc", "leads out of its folder"),
    InputDamage("left out without reason", section(exclude=" "), "sections.1", "exclude needs a reason"),
    InputDamage(
        "all left out",
        manifest(lambda m: [s.update(exclude="torn") for s in m["sections"]] and None),
        FILE,
        "none is left",
    ),
    InputDamage("z twice", section(z_um=0.0), "section_001", "duplicate z"),
    InputDamage("z falls", section(z_um=-5.0), "section_001", "not above 0 um"),
    InputDamage("z is no number", section(z_um=float("nan")), "sections.1.z_um", "finite"),
    InputDamage("z without end", section(z_um=float("inf")), "sections.1.z_um", "finite"),
    InputDamage("z in words", section(z_um="deep"), "sections.1.z_um", "number"),
    InputDamage("z uneven", third_section, "section_001 to section_002", "uneven spacing: 850", warns=True),
    InputDamage("canvas of no multiple", brain(canvas=[256, 300]), "canvas", "multiples of 256"),
    InputDamage("canvas below zero", brain(canvas=[-256, 256]), "canvas", "multiples of 256"),
    InputDamage("canvas of one number", brain(canvas=[256]), "canvas", "required|length|items"),
    InputDamage("pixel size of 0", brain(pixel_size_um=0.0), "pixel_size_um", "greater than 0"),
    InputDamage("pixel size in nm", brain(pixel_size_um=432.0), "section_000", "scale is wrong"),
    InputDamage("pixel size in mm", brain(pixel_size_um=0.000432), "section_000", "scale is wrong"),
    InputDamage(
        "spacing below zero", brain(section_spacing_um=-100.0), "section_spacing_um", "greater than 0"
    ),
    InputDamage("intensity upside down", brain(intensity={"DAPI": [900, 100]}), "DAPI", "low < high"),
    InputDamage(
        "intensity below zero", brain(intensity={"DAPI": [-1, 100]}), "intensity.DAPI", "greater than"
    ),
    InputDamage(
        "intensity of another stain", brain(intensity={"GFP": [1, 100]}), "GFP", "intensity.*(stain|DAPI)"
    ),
    InputDamage("stain twice", brain(stains=["DAPI", "DAPI"]), "stains", "distinct"),
    InputDamage("stain that is not there", brain(stains=["DAPI", "GFP"]), "section_000", "no GFP image"),
    InputDamage("plane below zero", brain(z_plane=-1), "z_plane", "greater than|max"),
    InputDamage(
        "columns of an unknown vendor", brain(transcripts={"columns": "xenium"}), "columns", "merscope"
    ),
    InputDamage("planes that are none", brain(transcripts={"z_planes": []}), "z_planes", "at least 1"),
    InputDamage(
        "direction that is unknown",
        section(registration={"file": "a.json", "direction": "up"}),
        "direction",
        "atlas_mm",
    ),
    InputDamage(
        "transcripts outside",
        section(transcripts={"file": "../section_000/detected_transcripts.csv"}),
        "detected_tr",
        "leads out",
    ),
    InputDamage("interpolation that is unknown", brain(interpolation="lanczos"), "interpolation", "linear"),
    InputDamage("name with a slash", section(name="../../evil"), "evil", "name"),
]
DAMAGES = [*TEXTS, *ENTRIES]
