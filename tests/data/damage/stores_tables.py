"""Damages to a store's molecules, tables and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.data.damage.store_tools import (
    MORPHOLOGY,
    POINTS,
    SHARD,
    TABLE,
    column,
    cut,
    delete,
    flip,
    frame,
    link,
    new,
    node,
    put,
    replace,
    some,
    table,
    values,
)
from tests.data.damage.table import StoreDamage


def _only(data: Any) -> Any:
    """A table whose columns of one name are one."""
    data.obs = data.obs.loc[:, ~data.obs.columns.duplicated()]
    return data


MOLECULES = [
    StoreDamage("molecules are gone", delete("molecules"), "molecules/y: cannot be opened"),
    StoreDamage("column is gone", delete("molecules/gene"), "molecules/gene: cannot be opened"),
    StoreDamage("shard of a column is gone", delete("molecules/x/c/0"), "molecules/x/c/0: shard is missing"),
    StoreDamage(
        "column cut short", node("molecules/y", put("shape", 0, to=8000)), "columns differ in length"
    ),
    StoreDamage(
        "offsets are gone", delete("molecules/offsets/c/0"), "molecules/offsets/c/0: shard is missing"
    ),
    StoreDamage(
        "offsets too few", node("molecules/offsets", put("shape", 0, to=5)), "5 entries instead of 13"
    ),
    StoreDamage("offsets fall", values("molecules/offsets", some(3, 0)), "offsets do not rise"),
    StoreDamage("offsets begin late", values("molecules/offsets", some(0, 1)), "offsets do not rise from 0"),
    StoreDamage(
        "offsets end early", values("molecules/offsets", some(12, 8999)), "ends at 8999, but there are 9000"
    ),
    StoreDamage(
        "type of a column",
        node("molecules/x", put("data_type", to="float32")),
        "molecules/x: (is float32|cannot be)",
    ),
    StoreDamage(
        "molecule above the canvas",
        values("molecules/y", some(5, -1)),
        "molecules/y: 1 out of range 0..399.*number 5: -1",
        True,
    ),
    StoreDamage(
        "molecule beyond the canvas",
        values("molecules/x", some(7, 304)),
        "molecules/x: 1 out of range 0..303",
        True,
    ),
    StoreDamage(
        "unknown gene", values("molecules/gene", some(9, 6)), "molecules/gene: 1 out of range 0..5", True
    ),
    StoreDamage(
        "molecules out of order", values("molecules/y", lambda y: y[::-1]), "lie in another tile", True
    ),
    StoreDamage("bit flipped in a column", flip("molecules/x/c/0", 0.3), "molecules: cannot be read", True),
    StoreDamage("column cut", cut("molecules/gene/c/0", 0.5), "molecules: cannot be read", True),
    StoreDamage(
        "gene of a molecule changed",
        values("molecules/gene", lambda g: (g + 1) % 6),
        "counts differ from the molecules",
        True,
    ),
]
TABLES = [
    StoreDamage("points are gone", delete(POINTS), "there are no parts|cannot be read"),
    StoreDamage("part is gone", delete(f"{POINTS}/part.1.parquet"), "part.1.parquet: part is missing"),
    StoreDamage(
        "last part is gone", delete(f"{POINTS}/part.2.parquet"), "has 6,000 transcripts, molecules 9,000"
    ),
    StoreDamage("part cut", cut(f"{POINTS}/part.0.parquet", 0.6), "part.0.parquet: cannot be read"),
    StoreDamage("part empty", replace(f"{POINTS}/part.0.parquet", b""), "part.0.parquet: cannot be read"),
    StoreDamage(
        "part is text", replace(f"{POINTS}/part.0.parquet", b"x,y\n1,2\n"), "part.0.parquet: cannot be read"
    ),
    StoreDamage("row is gone", frame(1, lambda f: f.iloc[:-1]), "has 8,999 transcripts"),
    StoreDamage("row twice", frame(1, lambda f: f.iloc[[0, *range(len(f))]]), "has 9,001 transcripts"),
    StoreDamage("no gene column", frame(0, lambda f: f.drop(columns="gene")), "columns are missing: gene"),
    StoreDamage(
        "x is not a number",
        frame(0, column("x", 3, np.nan)),
        "1 positions are not in 0..152 um along x",
        True,
    ),
    StoreDamage(
        "y is negative", frame(0, column("y", 3, -5.0)), "1 positions are not in 0..200 um along y", True
    ),
    StoreDamage(
        "z is infinite", frame(2, column("z", 0, np.inf)), "1 positions are not in 0..300 um along z", True
    ),
    StoreDamage(
        "x in pixels", frame(0, lambda f: f.assign(x=f.x * 2)), "positions are not in 0..152 um along x", True
    ),
    StoreDamage(
        "x moved", frame(1, column("x", 3, 60.25)), "part.1.parquet: 1 transcripts differ from the mol", True
    ),
    StoreDamage(
        "gene changed", frame(1, lambda f: f.assign(gene=f.gene[::-1].to_numpy())), "transcripts differ", True
    ),
    StoreDamage(
        "gene unknown", frame(0, lambda f: f.assign(gene="Sox2")), "genes are not of the panel: Sox2", True
    ),
    StoreDamage(
        "gene empty",
        frame(0, lambda f: f.assign(gene=f.gene.where(f.index != 1))),
        "genes are not of the panel: empty",
        True,
    ),
    StoreDamage("section unknown", frame(0, column("section", 1, 9)), r"sections are not in 0\.\.2", True),
    StoreDamage(
        "bit flipped in a part",
        flip(f"{POINTS}/part.0.parquet", 0.4),
        "part.0.parquet: (cannot|.*differ from)",
        True,
    ),
    StoreDamage("table's rows are gone", delete(f"{TABLE}/obs"), "tables/sections: cannot be read"),
    StoreDamage("table's counts are cut", cut(f"{TABLE}/X/c/0/0", 0.5), "tables/sections: cannot be read"),
    StoreDamage(
        "table's group is gone",
        delete(f"{TABLE}/zarr.json"),
        "tables/sections: (cannot be read|zarr.json is missing)",
    ),
    StoreDamage(
        "table without z", table(lambda t: t.obs.pop("z_um") is None or t), "tables/sections: cannot be read"
    ),
    StoreDamage(
        "table of other sections",
        table(lambda t: setattr(t, "obs_names", ["a", "b", "c"])),
        "rows are not the sections",
    ),
    StoreDamage("table of fewer sections", table(lambda t: t[:2].copy()), "rows are not the sections"),
    StoreDamage("table of other genes", table(lambda t: t[:, ::-1].copy()), "columns are not the genes"),
    StoreDamage(
        "table's z is another",
        table(lambda t: t.obs.insert(0, "z_um", [0.0, 1.0, 2.0], True) or _only(t)),
        "z differs",
    ),
    StoreDamage(
        "table's notes are no JSON",
        table(lambda t: t.obs.__setitem__("qc", ["{"] * 3)),
        "cannot be read: JSONDecodeError",
    ),
    StoreDamage(
        "table's count is negative",
        table(lambda t: t.X.__setitem__((0, 0), -1)),
        "counts are negative or no numbers",
    ),
    StoreDamage(
        "table's count is no number",
        table(lambda t: t.X.__setitem__((0, 0), np.nan)),
        "counts are negative or no",
    ),
    StoreDamage(
        "table's count is another",
        table(lambda t: t.X.__setitem__((0, 0), 5)),
        "counts differ from the molecules in 1 c",
        True,
    ),
]
FILES = [
    StoreDamage(
        "shard links out",
        link(SHARD, lambda root: root.parent / "outside"),
        f"{SHARD}: link leads out of the store",
    ),
    StoreDamage(
        "metadata link out",
        link("zarr.json", lambda root: root.parent / "out.json"),
        "zarr.json: link leads out",
    ),
    StoreDamage(
        "link to a folder outside",
        link("images/else", lambda root: root.parent),
        "images/else: link leads out",
    ),
    StoreDamage(
        "link to the system",
        link("molecules/passwd", lambda root: Path("/etc/passwd")),
        "passwd: link leads out",
    ),
    StoreDamage(
        "link to nowhere",
        link(SHARD, lambda root: root / "nowhere"),
        f"{SHARD}: (link leads nowhere|shard is missing)",
    ),
    StoreDamage(
        "left by a writer", new(f"{MORPHOLOGY}/0/.zarr.json.12.ab.tmp"), "temporary file of a writer"
    ),
    StoreDamage("half a shard", new(f"{SHARD}.abc.partial"), "temporary file of a writer|is no shard"),
    StoreDamage(
        "journal left", new(".journal/images/morphology/0.0.0", b"{}"), ".journal: journal of writing is left"
    ),
]

DAMAGES = [*MOLECULES, *TABLES, *FILES]
