"""Damages to panels, alias tables and the annotation of regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.damage.input_tools import LABELS, NAMES, manifest, nothing, text
from tests.data.damage.store_tools import cut, delete, replace
from tests.data.damage.table import InputDamage

PANEL = ("--panel", "{}/panel.csv")
ALIASES = ("--aliases", "{}/aliases.csv")


def labels(pixels: np.ndarray):  # type: ignore[no-untyped-def]
    """Another annotation."""

    def do(root: Path) -> None:
        import tifffile

        tifffile.imwrite(root / LABELS, pixels, photometric="minisblack", metadata=None)

    return do


def marked(value: float, dtype: str):  # type: ignore[no-untyped-def]
    """The annotation with a label somewhere."""

    def do(root: Path) -> None:
        import tifffile

        pixels = tifffile.imread(root / LABELS).astype(dtype)
        pixels[0, 3, 3] = value
        labels(pixels)(root)

    return do


PANELS = [
    InputDamage("panel is gone", delete("panel.csv"), "panel.csv", "panel not found", PANEL),
    InputDamage("panel is empty", text("panel.csv", ""), "panel.csv", "panel is empty", PANEL),
    InputDamage("panel of a header", text("panel.csv", "gene\n"), "panel.csv", "panel is empty", PANEL),
    InputDamage(
        "panel of blanks", text("panel.csv", "gene\nBlank-1\n"), "panel.csv", "panel is empty", PANEL
    ),
    InputDamage(
        "panel with a gene twice",
        text("panel.csv", "gene\nTh\nGad1\nTH\n"),
        "panel.csv",
        "twice.*TH after Th",
        PANEL,
    ),
    InputDamage(
        "panel without genes", text("panel.csv", "name,id\nTh,1\n"), "panel.csv", "no gene column", PANEL
    ),
    InputDamage(
        "panel is no UTF-8", replace("panel.csv", b"gene\n\xff\xfe\n"), "panel.csv", "not a text", PANEL
    ),
    InputDamage("panel is a folder", nothing, "/raw", "no store to take a panel from", ("--panel", "{}/raw")),
    InputDamage(
        "panel with an unknown gene",
        text("panel.csv", "gene\nTh\nSox99\n"),
        "panel.csv",
        "missing Sox99",
        PANEL,
    ),
    InputDamage(
        "panel of another species",
        text("panel.csv", "gene\nAAA\nBBB\n"),
        "panel.csv",
        "of one species",
        (*PANEL, "--allow-missing"),
    ),
    InputDamage(
        "panel with a gene that is missing, allowed",
        text("panel.csv", "gene\nTh\nSox99\n"),
        "Sox99",
        "lacks 1 genes of the panel",
        (*PANEL, "--allow-missing"),
        warns=True,
    ),
    InputDamage(
        "panel with an open quote",
        text("panel.csv", 'gene\n"Th\nGad1\n'),
        "panel.csv",
        "missing|text|quote",
        PANEL,
    ),
    InputDamage(
        "panel with zero bytes",
        replace("panel.csv", b"gene\nTh\0\nGad1\n"),
        "panel.csv",
        "missing|text",
        PANEL,
    ),
]
TABLES = [
    InputDamage("aliases are gone", delete("aliases.csv"), "aliases.csv", "not found", ALIASES),
    InputDamage(
        "aliases without columns", text("aliases.csv", "a,b\nc,d\n"), "aliases.csv", "lacks columns", ALIASES
    ),
    InputDamage("aliases are empty", text("aliases.csv", ""), "aliases.csv", "lacks columns", ALIASES),
    InputDamage(
        "alias of two genes",
        text("aliases.csv", "alias,gene\na,Th\na,Sst\n"),
        "aliases.csv",
        "two genes",
        ALIASES,
    ),
    InputDamage(
        "alias of nothing", text("aliases.csv", "alias,gene\na,\n"), "aliases.csv", "empty name", ALIASES
    ),
    InputDamage(
        "aliases in a chain",
        text("aliases.csv", "alias,gene\na,b\nb,Th\n"),
        "aliases.csv",
        "from name to name",
        ALIASES,
    ),
    InputDamage(
        "aliases are no UTF-8",
        replace("aliases.csv", b"alias,gene\n\xff,a\n"),
        "aliases.csv",
        "not a text",
        ALIASES,
    ),
]
REGIONS = [
    InputDamage("annotation cut", cut(LABELS, 0.5), "regions.tif", "annotation"),
    InputDamage("annotation is empty", text(LABELS, ""), "regions.tif", "truncated or damaged"),
    InputDamage("annotation is text", text(LABELS, "no image"), "regions.tif", "truncated or damaged"),
    InputDamage(
        "annotation of another canvas", labels(np.zeros((2, 9, 9), np.uint8)), "regions.tif", "does not fit"
    ),
    InputDamage(
        "annotation of more sections",
        labels(np.zeros((5, 16, 16), np.uint8)),
        "regions.tif",
        "another number of pages",
    ),
    InputDamage(
        "annotation of fractions", labels(np.zeros((2, 16, 16), np.float32)), "regions.tif", "whole numbers"
    ),
    InputDamage("annotation below zero", marked(-3, "int16"), "regions.tif", "out of range"),
    InputDamage(
        "annotation of a region without a name",
        marked(70000, "uint32"),
        "70000",
        "not in the table",
        warns=True,
    ),
    InputDamage(
        "annotation leads out",
        manifest(lambda m: m.update(regions={"labels": "../a.tif"})),
        "a.tif",
        "leads out",
    ),
    InputDamage(
        "annotation is gone", manifest(lambda m: m.update(regions={"labels": "b.tif"})), "b.tif", "not found"
    ),
    InputDamage("names without columns", text(NAMES, "a,b\n1,c\n"), "regions.csv", "columns id"),
    InputDamage(
        "names with ids in words", text(NAMES, "id,name\none,cortex\n"), "regions.csv", "whole number"
    ),
    InputDamage(
        "names with an id twice", text(NAMES, "id,name\n1,cortex\n1,thalamus\n"), "regions.csv", "twice"
    ),
    InputDamage("names are no UTF-8", replace(NAMES, b"id,name\n1,\xff\n"), "regions.csv", "not readable"),
]
DAMAGES = [*PANELS, *TABLES, *REGIONS]
