"""A table of damages to a store, and what ``validate`` says of each: one line that names the element, and a remedy.

A damage is a name, what is done to a small sound store, words that the findings must contain, and whether only the deep
check can see it. ``test_count`` prints how many there are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from teramind_data.store import refresh_metadata
from teramind_data.validate import validate
from tests.data.export.conftest import write_small

# Notices of other libraries are not ours to turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore")

MORPHOLOGY = "images/morphology/ome.zarr"
SHARD = f"{MORPHOLOGY}/0/c/0/1/0/0"
EXPRESSION = "images/expression/ome.zarr"
POINTS = "points/transcripts/points.parquet"
TABLE = "tables/sections"

Damage = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """One way to damage a store."""

    name: str
    damage: Damage
    words: str
    deep: bool = False


# --- tools -------------------------------------------------------------------------------------------------------


def delete(key: str) -> Damage:
    def do(root: Path) -> None:
        path = root / key
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def replace(key: str, content: bytes) -> Damage:
    return lambda root: (root / key).write_bytes(content)


def cut(key: str, part: float) -> Damage:
    def do(root: Path) -> None:
        data = (root / key).read_bytes()
        (root / key).write_bytes(data[: int(len(data) * part)])

    return do


def flip(key: str, at: float) -> Damage:
    """One bit, at a part of the file's length (from the end where negative, in bytes)."""

    def do(root: Path) -> None:
        data = bytearray((root / key).read_bytes())
        position = int(len(data) * at) if at >= 0 else len(data) + int(at)
        data[position] ^= 4
        (root / key).write_bytes(data)

    return do


def swap(one: str, other: str) -> Damage:
    def do(root: Path) -> None:
        a, b = (root / one).read_bytes(), (root / other).read_bytes()
        (root / one).write_bytes(b)
        (root / other).write_bytes(a)

    return do


def node(key: str, change: Callable[[dict[str, Any]], Any], *, consolidate: bool = False) -> Damage:
    """Change the JSON of a ``zarr.json``; with ``consolidate`` also the root's copy, so that readers believe it."""

    def do(root: Path) -> None:
        path = root / key / "zarr.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
        if consolidate:
            refresh_metadata(str(root))

    return do


def block(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change the ``teramind`` block of the root."""
    return node("", lambda root: change(root["attributes"]["teramind"]))


def put(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value deep inside JSON."""

    def do(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = to

    return do


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Remove a value deep inside JSON."""

    def do(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    return do


def values(key: str, change: Callable[[np.ndarray], Any]) -> Damage:
    """Change values of an array through zarr, so that every checksum is right."""

    def do(root: Path) -> None:
        array = zarr.open_array(root / key, mode="r+")
        data = array[:]
        changed = change(data)
        array[:] = data if changed is None else changed

    return do


def frame(part: int, change: Callable[[Any], Any]) -> Damage:
    """Change a part of the points."""

    def do(root: Path) -> None:
        import pandas as pd

        path = root / POINTS / f"part.{part}.parquet"
        data = pd.read_parquet(path)
        changed = change(data)
        (data if changed is None else changed).to_parquet(path, index=False)

    return do


def table(change: Callable[[Any], Any]) -> Damage:
    """Change the table of sections through anndata."""

    def do(root: Path) -> None:
        import anndata

        group = zarr.open_group(root / "tables", mode="r+", zarr_format=3, use_consolidated=False)
        attributes = dict(group["sections"].attrs)
        data = anndata.io.read_elem(group["sections"])
        changed = change(data)
        anndata.io.write_elem(group, "sections", data if changed is None else changed)
        group["sections"].attrs.update(attributes)
        refresh_metadata(str(root))

    return do


def link(key: str, target: Callable[[Path], Path]) -> Damage:
    def do(root: Path) -> None:
        goal = target(root)
        if goal.parent == root.parent and (root / key).is_file():
            shutil.copy(root / key, goal)
        (root / key).unlink(missing_ok=True)
        (root / key).symlink_to(goal)

    return do


def new(key: str, content: bytes = b"x") -> Damage:
    def do(root: Path) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(content)

    return do


def some(index: Any, to: Any) -> Callable[[np.ndarray], None]:
    def do(data: np.ndarray) -> None:
        data[index] = to

    return do


def column(name: str, row: int, to: Any) -> Callable[[Any], None]:
    def do(data: Any) -> None:
        data.loc[row, name] = to

    return do


def input_of(**change: Any) -> Damage:
    item = {"path": "a.csv", "bytes": 10, "sha256": "0" * 64, **change}
    item = {key: value for key, value in item.items() if value is not None}
    return block(put("provenance", "inputs", to=[item]))


def empty_list(level: int, ranges: Any) -> Damage:
    return node(
        f"{MORPHOLOGY}/{level}", put("attributes", "teramind", "empty_shards", to=ranges), consolidate=True
    )


# --- the table ---------------------------------------------------------------------------------------------------

ROOT = [
    Case("root is gone", delete("zarr.json"), "zarr.json: not a teramind store"),
    Case("root is empty", replace("zarr.json", b""), "zarr.json: store metadata is not readable"),
    Case("root is cut", cut("zarr.json", 0.5), "zarr.json: store metadata is not readable"),
    Case("root is a list", replace("zarr.json", b"[]"), "not readable.*not an object"),
    Case("root is no UTF-8", replace("zarr.json", b'{"a": "\xff\xfe"}'), "zarr.json: .*(readable|damaged)"),
    Case("root is no group", node("", put("node_type", to="array")), "root is no Zarr group"),
    Case("block is gone", node("", drop("attributes", "teramind")), "not a teramind store"),
    Case("block is a word", node("", put("attributes", "teramind", to="x")), "not a teramind store"),
    Case("schema is newer", block(put("schema_version", to=99)), "another schema version.*found 99"),
    Case("complete is false", block(put("complete", to=False)), "store is incomplete"),
    Case("complete is a word", block(put("complete", to="yes")), "store is incomplete"),
    Case("complete is gone", block(drop("complete")), "store is incomplete"),
    Case("kind is unknown", block(put("kind", to="cake")), "unknown kind of store"),
    Case("canvas is gone", block(drop("canvas")), "damaged.*canvas"),
    Case("canvas is no multiple of 16", block(put("canvas", to=[401, 304])), "canvas does not fit the bins"),
    Case(
        "canvas is another",
        block(put("canvas", to=[416, 304])),
        "zarr.json: shape.* is '400' instead of '416'",
    ),
    Case("canvas is one number", block(put("canvas", to=[400])), "metadata is damaged"),
    Case("pixel size is negative", block(put("pixel_size_um", to=-0.5)), "pixel size is not a length"),
    Case(
        "pixel size is not a number",
        block(put("pixel_size_um", to=float("nan"))),
        "pixel size is not a length",
    ),
    Case("pixel size is text", block(put("pixel_size_um", to="half")), "damaged.*half"),
    Case(
        "pixel size in other units",
        block(put("pixel_size_um", to=0.0005)),
        "coordinateTransformations.*scale",
    ),
    Case("chunk is odd", block(put("chunk", to=63)), "chunk is not usable"),
    Case("shard is another", block(put("shard", to=128)), "shard.* instead of"),
    Case(
        "expression type is another",
        block(put("expression_dtype", to="float32")),
        "expression type is not usable",
    ),
    Case("stain twice", block(put("stains", to=["DAPI", "DAPI"])), "stains"),
    Case("images are gone", block(put("images", to=[])), "images/morphology: is not in this store"),
    Case(
        "image entry without name", block(drop("images", 0, "name")), "zarr.json: metadata is damaged.*name"
    ),
    Case("molecules denied", block(put("molecules", to=False)), "molecules: are not in this store"),
    Case(
        "SpatialData's attributes are gone",
        node("", drop("attributes", "spatialdata_attrs")),
        "spatialdata_attrs",
    ),
    Case(
        "consolidated metadata are gone",
        node("", drop("consolidated_metadata")),
        "consolidated metadata is missing",
    ),
]
SECTIONS = [
    Case("two sections at one z", block(put("sections", 1, "z_um", to=0.0)), "s0 and s1 have the same z"),
    Case("z falls", block(put("sections", 2, "z_um", to=50.0)), "z falls from s1 to s2"),
    Case("z is not a number", block(put("sections", 1, "z_um", to=float("nan"))), "z is no length"),
    Case("z is text", block(put("sections", 1, "z_um", to="deep")), "zarr.json: .*damaged|z is no length"),
    Case("spacing is another", block(put("z_spacing_um", to=50.0)), "z_spacing_um is 50.0"),
    Case("name twice", block(put("sections", 1, "name", to="s0")), "name 's0' is used twice"),
    Case("section misnumbered", block(put("sections", 1, "index", to=2)), "not numbered in order"),
    Case("section is gone", block(drop("sections", 2)), "shape.* instead of"),
    Case("no sections", block(put("sections", to=[])), "not numbered in order"),
    Case("section with a strange field", block(put("sections", 0, "colour", to="red")), "damaged.*colour"),
]
PANEL = [
    Case("gene renamed", block(put("panel", 0, to="Sox2")), "panel: fingerprint does not belong"),
    Case(
        "genes swapped",
        block(put("panel", to=[f"gene{i}" for i in (1, 0, 2, 3, 4, 5)])),
        "panel: fingerprint",
    ),
    Case("gene twice", block(put("panel", 1, to="gene0")), "zarr.json: .*gene0"),
    Case("panel is gone", block(put("panel", to=None)), "needs a panel"),
    Case("fingerprint is another", block(put("panel_fingerprint", to="0" * 64)), "panel: fingerprint"),
    Case(
        "a blank among the genes",
        block(put("panel", 5, to="Blank-1")),
        "panel: controls are among the genes: Blank-1",
    ),
    Case(
        "region without a name",
        block(put("region_names", to={"1": "left"})),
        r"regions without a name: \[2\]",
        True,
    ),
    Case(
        "region id is text", block(put("region_names", to={"one": "left"})), "zarr.json: metadata is damaged"
    ),
]
PROVENANCE = [
    Case("maker unknown", block(put("provenance", to={})), "provenance: does not say what made"),
    Case("provenance is a list", block(put("provenance", to=[1])), "zarr.json: .*damaged"),
    Case(
        "inputs are no list", block(put("provenance", "inputs", to="all")), "provenance: inputs are no list"
    ),
    Case("input without path", input_of(path=None), "provenance: input 0 has no path"),
    Case("input without size", input_of(bytes=None), "provenance: input a.csv has no size"),
    Case("input with negative size", input_of(bytes=-1), "provenance: input a.csv has no size"),
    Case("input without hash", input_of(sha256=None), "provenance: input a.csv has no SHA-256"),
    Case("input with half a hash", input_of(sha256="ab12"), "provenance: input a.csv has no SHA-256"),
    Case(
        "section left out without reason",
        block(put("provenance", "excluded", to=[{"name": "s9"}])),
        "left out without name and reason",
    ),
    Case(
        "generated without seed",
        block(
            put(
                "provenance",
                to={"made_by": "teramind-model generate", "checkpoint": {}, "atlas": {}, "steps": 1},
            )
        ),
        "does not say its seed",
    ),
]
METADATA = [
    Case(
        "image group is gone",
        delete("images/morphology/zarr.json"),
        "images/morphology/zarr.json: is missing",
    ),
    Case("strict group is gone", delete(f"{MORPHOLOGY}/zarr.json"), f"{MORPHOLOGY}/zarr.json: is missing"),
    Case("array is gone", delete(f"{MORPHOLOGY}/1/zarr.json"), f"{MORPHOLOGY}/1/zarr.json: is missing"),
    Case("array metadata cut", cut(f"{MORPHOLOGY}/0/zarr.json", 0.4), f"{MORPHOLOGY}/0/zarr.json: no JSON"),
    Case(
        "array metadata a list", replace(f"{MORPHOLOGY}/0/zarr.json", b"[1]"), "0/zarr.json: no JSON object"
    ),
    Case("array metadata empty", replace(f"{EXPRESSION}/0/zarr.json", b"{}"), "array metadata is damaged"),
    Case("label group cut", cut("labels/tissue/zarr.json", 0.7), "labels/tissue/zarr.json: no JSON"),
    Case(
        "shape is another",
        node(f"{MORPHOLOGY}/0", put("shape", 2, to=512), consolidate=True),
        "shape.* '512' instead",
    ),
    Case(
        "a section too few",
        node(f"{MORPHOLOGY}/0", put("shape", 1, to=2), consolidate=True),
        "shape.* '2' instead of '3'",
    ),
    Case(
        "type is another",
        node(f"{MORPHOLOGY}/0", put("data_type", to="int8"), consolidate=True),
        "data_type is 'int8'",
    ),
    Case(
        "fill value is another",
        node(f"{MORPHOLOGY}/0", put("fill_value", to=7), consolidate=True),
        "fill_value is '7'",
    ),
    Case(
        "axes swapped",
        node(f"{MORPHOLOGY}/0", put("dimension_names", to=["c", "z", "x", "y"]), consolidate=True),
        "dimension_names",
    ),
    Case(
        "checksums off",
        node(f"{MORPHOLOGY}/0", drop("codecs", 0, "configuration", "codecs", -1), consolidate=True),
        "checksum is 'False' instead of 'True'",
    ),
    Case(
        "chunk is another",
        node(f"{MORPHOLOGY}/0", put("codecs", 0, "configuration", "chunk_shape", 3, to=32), consolidate=True),
        "chunk.* '32' instead of '64'",
    ),
    Case(
        "OME version is another",
        node(MORPHOLOGY, put("attributes", "ome", "version", to="0.4"), consolidate=True),
        f"{MORPHOLOGY}.*(version|0.4)",
    ),
    Case(
        "OME block is gone", node(MORPHOLOGY, drop("attributes", "ome"), consolidate=True), "ome is missing"
    ),
    Case(
        "unit is another",
        node(
            MORPHOLOGY,
            put("attributes", "ome", "multiscales", 0, "axes", 2, "unit", to="meter"),
            consolidate=True,
        ),
        "unit is 'meter' instead of 'micrometer'",
    ),
    Case(
        "scale is another",
        node(
            MORPHOLOGY,
            put(
                "attributes",
                "ome",
                "multiscales",
                0,
                "datasets",
                1,
                "coordinateTransformations",
                0,
                "scale",
                2,
                to=9.0,
            ),
            consolidate=True,
        ),
        r"datasets\[1\].*scale\[2\] is '9.0' instead of '1.0'",
    ),
    Case(
        "level is not listed",
        node(MORPHOLOGY, drop("attributes", "ome", "multiscales", 0, "datasets", 1), consolidate=True),
        "datasets has 1 entries instead of 2",
    ),
    Case(
        "channel renamed",
        node(
            MORPHOLOGY,
            put("attributes", "ome", "omero", "channels", 0, "label", to="Hoechst"),
            consolidate=True,
        ),
        "Hoechst",
    ),
    Case(
        "SpatialData's version is another",
        node("images/morphology", put("attributes", "ome", "version", to="0.5"), consolidate=True),
        "SpatialData does not open the store",
    ),
    Case(
        "SpatialData's scale is another",
        node(
            "images/morphology",
            put("attributes", "ome", "multiscales", 0, "coordinateTransformations", 0, "scale", 3, to=2.0),
            consolidate=True,
        ),
        "images/morphology/zarr.json: ome.multiscales",
    ),
    Case(
        "array changed, root not",
        node(f"{EXPRESSION}/0", put("attributes", "note", to="mine")),
        "differs from the consolidated metadata",
    ),
    Case(
        "group added, root not",
        new("images/mine/zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'),
        "images/mine: is not in the consolidated metadata",
    ),
    Case("list of empty shards is text", empty_list(0, "none"), "array metadata is damaged"),
    Case(
        "list of empty shards beyond the end",
        empty_list(0, [[90, 99]]),
        "list of empty shards is damaged: 90..99 of 12",
    ),
    Case("list of empty shards backwards", empty_list(0, [[3, 1]]), "list of empty shards is damaged"),
    Case(
        "full shard listed as empty", empty_list(0, [[4, 4]]), f"{SHARD}: shard is stored but listed as empty"
    ),
]
PIXELS = [
    Case("shard is gone", delete(SHARD), f"{SHARD}: shard is missing"),
    Case("pixels of a section are gone", delete(f"{MORPHOLOGY}/0/c/0/2"), "0/c/0/2/0/1: shard is missing"),
    Case("coarse shard is gone", delete(f"{MORPHOLOGY}/1/c/0/0/0/0"), "1/c/0/0/0/0: shard is missing"),
    Case(
        "all of expression is gone",
        delete(f"{EXPRESSION}/0/c"),
        "expression/ome.zarr/0/c/0/0/0/0: shard is missing",
    ),
    Case("tissue shard is gone", delete("labels/tissue/ome.zarr/0/c/0/0/0"), "tissue.*shard is missing"),
    Case("strange shard", new(f"{MORPHOLOGY}/0/c/0/7/0/0"), "0/c/0/7/0/0: is no shard of this array"),
    Case("strange file", new(f"{MORPHOLOGY}/0/c/Thumbs.db"), "Thumbs.db: is no shard of this array"),
    Case("bit flipped at the begin", flip(SHARD, 0.01), f"{SHARD}: morphology cannot be read", True),
    Case("bit flipped in the middle", flip(SHARD, 0.5), f"{SHARD}: morphology cannot be read", True),
    Case("bit flipped in the index", flip(SHARD, -12), f"{SHARD}: morphology cannot be read", True),
    Case("bit flipped in the index's checksum", flip(SHARD, -1), f"{SHARD}: morphology cannot be read", True),
    Case(
        "bit flipped in a coarse shard",
        flip(f"{MORPHOLOGY}/1/c/0/0/0/0", 0.3),
        "1/c/0/0/0/0: morphology cannot",
        True,
    ),
    Case(
        "bit flipped in expression", flip(f"{EXPRESSION}/0/c/0/0/0/0", 0.4), "expression cannot be read", True
    ),
    Case(
        "bit flipped in regions",
        flip("labels/regions/ome.zarr/0/c/1/0/0", 0.2),
        "regions cannot be read",
        True,
    ),
    Case("shard cut", cut(SHARD, 0.7), f"{SHARD}: morphology cannot be read", True),
    Case("shard empty", replace(SHARD, b""), f"{SHARD}: shard is cut: 0 bytes"),
    Case("shard is text", replace(SHARD, b"not found" * 40), f"{SHARD}: morphology cannot be read", True),
    Case(
        "shards of two sections swapped",
        swap(SHARD, SHARD.replace("0/1/0/0", "0/2/0/0")),
        "level 1 is not made",
        True,
    ),
    Case(
        "pixel changed",
        values(f"{MORPHOLOGY}/0", some((0, 1, 200, 150), 255)),
        "level 1 is not made from level 0: 1 v",
        True,
    ),
    Case(
        "coarse pixel changed", values(f"{MORPHOLOGY}/1", some((1, 0, 0, 0), 9)), "level 1 is not made", True
    ),
    Case(
        "count changed",
        values(f"{EXPRESSION}/0", some((0, 1, 12, 9), 99)),
        "counts differ from the molecules in 1 bins",
        True,
    ),
    Case(
        "strange region",
        values("labels/regions/ome.zarr/0", some((0, 12, 9), 77)),
        r"without a name: \[77\]",
        True,
    ),
]
MOLECULES = [
    Case("molecules are gone", delete("molecules"), "molecules/y: cannot be opened"),
    Case("column is gone", delete("molecules/gene"), "molecules/gene: cannot be opened"),
    Case("shard of a column is gone", delete("molecules/x/c/0"), "molecules/x/c/0: shard is missing"),
    Case("column cut short", node("molecules/y", put("shape", 0, to=8000)), "columns differ in length"),
    Case("offsets are gone", delete("molecules/offsets/c/0"), "molecules/offsets/c/0: shard is missing"),
    Case("offsets too few", node("molecules/offsets", put("shape", 0, to=5)), "5 entries instead of 13"),
    Case("offsets fall", values("molecules/offsets", some(3, 0)), "offsets do not rise"),
    Case("offsets begin late", values("molecules/offsets", some(0, 1)), "offsets do not rise from 0"),
    Case(
        "offsets end early", values("molecules/offsets", some(12, 8999)), "ends at 8999, but there are 9000"
    ),
    Case(
        "type of a column",
        node("molecules/x", put("data_type", to="float32")),
        "molecules/x: (is float32|cannot be)",
    ),
    Case(
        "molecule above the canvas",
        values("molecules/y", some(5, -1)),
        "molecules/y: 1 out of range 0..399.*number 5: -1",
        True,
    ),
    Case(
        "molecule beyond the canvas",
        values("molecules/x", some(7, 304)),
        "molecules/x: 1 out of range 0..303",
        True,
    ),
    Case("unknown gene", values("molecules/gene", some(9, 6)), "molecules/gene: 1 out of range 0..5", True),
    Case("molecules out of order", values("molecules/y", lambda y: y[::-1]), "lie in another tile", True),
    Case("bit flipped in a column", flip("molecules/x/c/0", 0.3), "molecules: cannot be read", True),
    Case("column cut", cut("molecules/gene/c/0", 0.5), "molecules: cannot be read", True),
    Case(
        "gene of a molecule changed",
        values("molecules/gene", lambda g: (g + 1) % 6),
        "counts differ from the molecules",
        True,
    ),
]
TABLES = [
    Case("points are gone", delete(POINTS), "there are no parts|cannot be read"),
    Case("part is gone", delete(f"{POINTS}/part.1.parquet"), "part.1.parquet: part is missing"),
    Case("last part is gone", delete(f"{POINTS}/part.2.parquet"), "has 6,000 transcripts, molecules 9,000"),
    Case("part cut", cut(f"{POINTS}/part.0.parquet", 0.6), "part.0.parquet: cannot be read"),
    Case("part empty", replace(f"{POINTS}/part.0.parquet", b""), "part.0.parquet: cannot be read"),
    Case(
        "part is text", replace(f"{POINTS}/part.0.parquet", b"x,y\n1,2\n"), "part.0.parquet: cannot be read"
    ),
    Case("row is gone", frame(1, lambda f: f.iloc[:-1]), "has 8,999 transcripts"),
    Case("row twice", frame(1, lambda f: f.iloc[[0, *range(len(f))]]), "has 9,001 transcripts"),
    Case("no gene column", frame(0, lambda f: f.drop(columns="gene")), "columns are missing: gene"),
    Case(
        "x is not a number",
        frame(0, column("x", 3, np.nan)),
        "1 positions are not in 0..152 um along x",
        True,
    ),
    Case("y is negative", frame(0, column("y", 3, -5.0)), "1 positions are not in 0..200 um along y", True),
    Case("z is infinite", frame(2, column("z", 0, np.inf)), "1 positions are not in 0..300 um along z", True),
    Case(
        "x in pixels", frame(0, lambda f: f.assign(x=f.x * 2)), "positions are not in 0..152 um along x", True
    ),
    Case(
        "x moved", frame(1, column("x", 3, 60.25)), "part.1.parquet: 1 transcripts differ from the mol", True
    ),
    Case(
        "gene changed", frame(1, lambda f: f.assign(gene=f.gene[::-1].to_numpy())), "transcripts differ", True
    ),
    Case("gene unknown", frame(0, lambda f: f.assign(gene="Sox2")), "genes are not of the panel: Sox2", True),
    Case(
        "gene empty",
        frame(0, lambda f: f.assign(gene=f.gene.where(f.index != 1))),
        "genes are not of the panel: empty",
        True,
    ),
    Case("section unknown", frame(0, column("section", 1, 9)), r"sections are not in 0\.\.2", True),
    Case(
        "bit flipped in a part",
        flip(f"{POINTS}/part.0.parquet", 0.4),
        "part.0.parquet: (cannot|.*differ from)",
        True,
    ),
    Case("table's rows are gone", delete(f"{TABLE}/obs"), "tables/sections: cannot be read"),
    Case("table's counts are cut", cut(f"{TABLE}/X/c/0/0", 0.5), "tables/sections: cannot be read"),
    Case(
        "table's group is gone",
        delete(f"{TABLE}/zarr.json"),
        "tables/sections: (cannot be read|zarr.json is missing)",
    ),
    Case(
        "table without z", table(lambda t: t.obs.pop("z_um") is None or t), "tables/sections: cannot be read"
    ),
    Case(
        "table of other sections",
        table(lambda t: setattr(t, "obs_names", ["a", "b", "c"])),
        "rows are not the sections",
    ),
    Case("table of fewer sections", table(lambda t: t[:2].copy()), "rows are not the sections"),
    Case("table of other genes", table(lambda t: t[:, ::-1].copy()), "columns are not the genes"),
    Case(
        "table's z is another",
        table(lambda t: t.obs.insert(0, "z_um", [0.0, 1.0, 2.0], True) or _only(t)),
        "z differs",
    ),
    Case(
        "table's notes are no JSON",
        table(lambda t: t.obs.__setitem__("qc", ["{"] * 3)),
        "cannot be read: JSONDecodeError",
    ),
    Case(
        "table's count is negative",
        table(lambda t: t.X.__setitem__((0, 0), -1)),
        "counts are negative or no numbers",
    ),
    Case(
        "table's count is no number",
        table(lambda t: t.X.__setitem__((0, 0), np.nan)),
        "counts are negative or no",
    ),
    Case(
        "table's count is another",
        table(lambda t: t.X.__setitem__((0, 0), 5)),
        "counts differ from the molecules in 1 c",
        True,
    ),
]
FILES = [
    Case(
        "shard links out",
        link(SHARD, lambda root: root.parent / "outside"),
        f"{SHARD}: link leads out of the store",
    ),
    Case(
        "metadata link out",
        link("zarr.json", lambda root: root.parent / "out.json"),
        "zarr.json: link leads out",
    ),
    Case(
        "link to a folder outside",
        link("images/else", lambda root: root.parent),
        "images/else: link leads out",
    ),
    Case(
        "link to the system",
        link("molecules/passwd", lambda root: Path("/etc/passwd")),
        "passwd: link leads out",
    ),
    Case(
        "link to nowhere",
        link(SHARD, lambda root: root / "nowhere"),
        f"{SHARD}: (link leads nowhere|shard is missing)",
    ),
    Case("left by a writer", new(f"{MORPHOLOGY}/0/.zarr.json.12.ab.tmp"), "temporary file of a writer"),
    Case("half a shard", new(f"{SHARD}.abc.partial"), "temporary file of a writer|is no shard"),
    Case(
        "journal left", new(".journal/images/morphology/0.0.0", b"{}"), ".journal: journal of writing is left"
    ),
]


def _only(data: Any) -> Any:
    """A table whose columns of one name are one."""
    data.obs = data.obs.loc[:, ~data.obs.columns.duplicated()]
    return data


CASES = [*ROOT, *SECTIONS, *PANEL, *PROVENANCE, *METADATA, *PIXELS, *MOLECULES, *TABLES, *FILES]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_small(tmp_path_factory.mktemp("sound") / "brain.zarr").url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """SpatialData and ome-zarr-models take most of the time; only damages that need them are shown to them."""
    if "case" in request.fixturenames:
        case = request.getfixturevalue("case")
        if not re.search("SpatialData|OME|ome", case.name):
            monkeypatch.setattr("teramind_data.validate._by_others", lambda location, brain: iter(()))


def test_a_sound_store_has_no_findings(sound: Path) -> None:
    assert validate(sound) == []
    assert validate(sound, deep=True) == []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_damage_is_named(sound: Path, tmp_path: Path, case: Case) -> None:
    root = tmp_path / "brain.zarr"
    shutil.copytree(sound, root)
    case.damage(root)
    lines = [str(finding) for finding in validate(root, deep=case.deep)]
    assert any(re.search(case.words, line) for line in lines), lines
    for line in lines:
        assert "\n" not in line
        # Element, problem, remedy: "element: problem. Remedy".
        assert re.fullmatch(r"\S+: .+\. [A-Z].+", line), line


def test_what_needs_depth_is_not_claimed_without(sound: Path, tmp_path: Path) -> None:
    """A flipped bit inside a chunk is seen by reading it, and only then."""
    root = tmp_path / "brain.zarr"
    shutil.copytree(sound, root)
    flip(SHARD, 0.5)(root)
    assert validate(root) == []
    assert validate(root, deep=True)


def test_count(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{len(CASES)} ways to damage a store, each named")
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_command_exits_with_2_and_one_line_a_finding(
    sound: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from teramind_data.cli import app
    from teramind_data.console import run_cli

    def run(*words: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            run_cli(app, [str(word) for word in words])
        done = capfd.readouterr()
        return stop.value.code, done.out, done.err

    code, out, _ = run("validate", sound, "--deep")
    assert code == 0 and out == f"{sound}: sound\n"
    root = tmp_path / "brain.zarr"
    shutil.copytree(sound, root)
    (root / SHARD).unlink()
    code, out, err = run("validate", root)
    assert code == 2 and out.count("\n") == 1 and out.startswith(f"{SHARD}: shard is missing")
    assert "1 finding" in err
    code, _, err = run("validate", tmp_path / "none.zarr")
    assert code == 2 and err.splitlines()[-1].startswith("error: store not found")
