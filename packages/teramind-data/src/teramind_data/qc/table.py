"""The numbers as text: a table for the terminal, and all of them as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from teramind_data.qc.measures import MEASURES
from teramind_data.store import Brain

__all__ = ["gaps", "to_csv", "to_text"]

_UNEVEN = 1.5  # of the median spacing: a section or more is missing


def gaps(brain: Brain) -> dict[int, float]:
    """Sections before which z leaps, and by how many um: more than half a spacing beyond the median one."""
    usual = brain.z_spacing_um
    steps = {b.index: b.z_um - a.z_um for a, b in pairwise(brain.sections)}
    return {index: step for index, step in steps.items() if step > _UNEVEN * usual}


def to_text(brain: Brain, numbers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table: one a section, one a gap, and the flags below."""
    columns = _columns(brain, numbers)
    widths = [max(len(line[i]) for line in columns) for i in range(len(columns[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 1 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in columns
    ]
    missing = gaps(brain)
    out = lines[:1]
    for section, line in zip(brain.sections, lines[1:], strict=True):
        if section.index in missing:
            text = f"gap: {missing[section.index]:g} um, {brain.z_spacing_um:g} um is usual"
            out.append(f"{'':>{widths[0]}}  {text}")
        out.append(line)
    for left in brain.provenance.get("excluded", ()):
        at = "" if left.get("z_um") is None else f" at {left['z_um']:g} um"
        out.append(f"left out: {left['name']}{at}: {left['reason']}")
    # What closing z up hides and no line of the table shows: folders that are not there, two sections at one place.
    out += [n for n in brain.provenance.get("notes", ()) if n.startswith(("missing: ", "duplicate z: "))]
    flagged = [(s, n["flags"]) for s, n in zip(brain.sections, numbers, strict=True) if n["flags"]]
    for section, texts in flagged:
        out += [f"section {section.index} ({section.name}): {text}" for text in texts]
    if not flagged:
        out.append("nothing stands out")
    return out


def _columns(brain: Brain, numbers: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The header and a row a section; measures that no section has are left out."""
    wanted = [
        ("transcripts", "transcripts", "{:,.0f}"),
        ("in tissue", "transcripts_in_tissue", "{:.1%}"),
        ("per mm2", "density_per_mm2", "{:,.0f}"),
        ("tissue mm2", "tissue_mm2", "{:.3g}"),
        ("genes", "genes_seen", "{:.0f}"),
    ]
    for stain in brain.stains:
        wanted += [
            (f"{stain} median", f"{stain}_p50", "{:.0f}"),
            ("saturated", f"{stain}_saturated", "{:.2%}"),
            ("focus", f"{stain}_focus", "{:.3g}"),
            ("covers", f"{stain}_coverage", "{:.1%}"),
        ]
    wanted += [("residue um", "residue_um", "{:.3g}"), ("Dice", "dice", "{:.2f}"), ("flags", "", "")]
    kept = [item for item in wanted if not item[1] or any(n.get(item[1]) is not None for n in numbers)]
    rows = [["", "section", "z um", *(title for title, _, _ in kept)]]
    for section, own in zip(brain.sections, numbers, strict=True):
        cells = [_cell(own.get(key), form) if key else str(len(own["flags"]) or "-") for _, key, form in kept]
        rows.append([str(section.index), section.name, f"{section.z_um:g}", *cells])
    return rows


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def to_csv(brain: Brain, numbers: Sequence[Mapping[str, Any]]) -> bytes:
    """One row a section, one column a number (empty where there is none), flags joined by semicolons."""
    keys = list(dict.fromkeys(key for own in numbers for key in own))
    # Numbers of reading come as they are, those of quality in the order of their table, the flags last.
    order = {
        key: place for place, key in enumerate(m.key for m in MEASURES if "{" not in m.key) if key in keys
    }
    keys.sort(key=lambda key: (key == "flags", key not in order, order.get(key, 0)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["index", "section", "z_um", *keys])
    for section, own in zip(brain.sections, numbers, strict=True):
        values = ["; ".join(own[k]) if k == "flags" else own.get(k) for k in keys]
        writer.writerow([section.index, section.name, section.z_um, *values])
    return buffer.getvalue().encode()
