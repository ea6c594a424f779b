"""Damages to a store's own block: what it is, its sections, panel and provenance."""

from __future__ import annotations

from tests.data.damage.store_tools import block, cut, delete, drop, input_of, node, put, replace
from tests.data.damage.table import StoreDamage

ROOT = [
    StoreDamage("root is gone", delete("zarr.json"), "zarr.json: not a teramind store"),
    StoreDamage("root is empty", replace("zarr.json", b""), "zarr.json: store metadata is not readable"),
    StoreDamage("root is cut", cut("zarr.json", 0.5), "zarr.json: store metadata is not readable"),
    StoreDamage("root is a list", replace("zarr.json", b"[]"), "not readable.*not an object"),
    StoreDamage(
        "root is no UTF-8", replace("zarr.json", b'{"a": "\xff\xfe"}'), "zarr.json: .*(readable|damaged)"
    ),
    StoreDamage("root is no group", node("", put("node_type", to="array")), "root is no Zarr group"),
    StoreDamage("block is gone", node("", drop("attributes", "teramind")), "not a teramind store"),
    StoreDamage("block is a word", node("", put("attributes", "teramind", to="x")), "not a teramind store"),
    StoreDamage("schema is newer", block(put("schema_version", to=99)), "another schema version.*found 99"),
    StoreDamage("complete is false", block(put("complete", to=False)), "store is incomplete"),
    StoreDamage("complete is a word", block(put("complete", to="yes")), "store is incomplete"),
    StoreDamage("complete is gone", block(drop("complete")), "store is incomplete"),
    StoreDamage("kind is unknown", block(put("kind", to="cake")), "unknown kind of store"),
    StoreDamage("canvas is gone", block(drop("canvas")), "damaged.*canvas"),
    StoreDamage(
        "canvas is no multiple of 16", block(put("canvas", to=[401, 304])), "canvas does not fit the bins"
    ),
    StoreDamage(
        "canvas is another",
        block(put("canvas", to=[416, 304])),
        "zarr.json: shape.* is '400' instead of '416'",
    ),
    StoreDamage("canvas is one number", block(put("canvas", to=[400])), "metadata is damaged"),
    StoreDamage("pixel size is negative", block(put("pixel_size_um", to=-0.5)), "pixel size is not a length"),
    StoreDamage(
        "pixel size is not a number",
        block(put("pixel_size_um", to=float("nan"))),
        "pixel size is not a length",
    ),
    StoreDamage("pixel size is text", block(put("pixel_size_um", to="half")), "damaged.*half"),
    StoreDamage(
        "pixel size in other units",
        block(put("pixel_size_um", to=0.0005)),
        "coordinateTransformations.*scale",
    ),
    StoreDamage("chunk is odd", block(put("chunk", to=63)), "chunk is not usable"),
    StoreDamage("shard is another", block(put("shard", to=128)), "shard.* instead of"),
    StoreDamage(
        "expression type is another",
        block(put("expression_dtype", to="float32")),
        "expression type is not usable",
    ),
    StoreDamage("stain twice", block(put("stains", to=["DAPI", "DAPI"])), "stains"),
    StoreDamage("images are gone", block(put("images", to=[])), "images/morphology: is not in this store"),
    StoreDamage(
        "image entry without name", block(drop("images", 0, "name")), "zarr.json: metadata is damaged.*name"
    ),
    StoreDamage("molecules denied", block(put("molecules", to=False)), "molecules: are not in this store"),
    StoreDamage(
        "SpatialData's attributes are gone",
        node("", drop("attributes", "spatialdata_attrs")),
        "spatialdata_attrs",
    ),
    StoreDamage(
        "consolidated metadata are gone",
        node("", drop("consolidated_metadata")),
        "consolidated metadata is missing",
    ),
]
SECTIONS = [
    StoreDamage(
        "two sections at one z", block(put("sections", 1, "z_um", to=0.0)), "s0 and s1 have the same z"
    ),
    StoreDamage("z falls", block(put("sections", 2, "z_um", to=50.0)), "z falls from s1 to s2"),
    StoreDamage("z is not a number", block(put("sections", 1, "z_um", to=float("nan"))), "z is no length"),
    StoreDamage(
        "z is text", block(put("sections", 1, "z_um", to="deep")), "zarr.json: .*damaged|z is no length"
    ),
    StoreDamage("spacing is another", block(put("z_spacing_um", to=50.0)), "z_spacing_um is 50.0"),
    StoreDamage("name twice", block(put("sections", 1, "name", to="s0")), "name 's0' is used twice"),
    StoreDamage("section misnumbered", block(put("sections", 1, "index", to=2)), "not numbered in order"),
    StoreDamage("section is gone", block(drop("sections", 2)), "shape.* instead of"),
    StoreDamage("no sections", block(put("sections", to=[])), "not numbered in order"),
    StoreDamage(
        "section with a strange field", block(put("sections", 0, "colour", to="red")), "damaged.*colour"
    ),
]
PANEL = [
    StoreDamage("gene renamed", block(put("panel", 0, to="Sox2")), "panel: fingerprint does not belong"),
    StoreDamage(
        "genes swapped",
        block(put("panel", to=[f"gene{i}" for i in (1, 0, 2, 3, 4, 5)])),
        "panel: fingerprint",
    ),
    StoreDamage("gene twice", block(put("panel", 1, to="gene0")), "zarr.json: .*gene0"),
    StoreDamage("panel is gone", block(put("panel", to=None)), "needs a panel"),
    StoreDamage("fingerprint is another", block(put("panel_fingerprint", to="0" * 64)), "panel: fingerprint"),
    StoreDamage(
        "a blank among the genes",
        block(put("panel", 5, to="Blank-1")),
        "panel: controls are among the genes: Blank-1",
    ),
    StoreDamage(
        "region without a name",
        block(put("region_names", to={"1": "left"})),
        r"regions without a name: \[2\]",
        True,
    ),
    StoreDamage(
        "region id is text", block(put("region_names", to={"one": "left"})), "zarr.json: metadata is damaged"
    ),
]
PROVENANCE = [
    StoreDamage("maker unknown", block(put("provenance", to={})), "provenance: does not say what made"),
    StoreDamage("provenance is a list", block(put("provenance", to=[1])), "zarr.json: .*damaged"),
    StoreDamage(
        "inputs are no list", block(put("provenance", "inputs", to="all")), "provenance: inputs are no list"
    ),
    StoreDamage("input without path", input_of(path=None), "provenance: input 0 has no path"),
    StoreDamage("input without size", input_of(bytes=None), "provenance: input a.csv has no size"),
    StoreDamage("input with negative size", input_of(bytes=-1), "provenance: input a.csv has no size"),
    StoreDamage("input without hash", input_of(sha256=None), "provenance: input a.csv has no SHA-256"),
    StoreDamage("input with half a hash", input_of(sha256="ab12"), "provenance: input a.csv has no SHA-256"),
    StoreDamage(
        "section left out without reason",
        block(put("provenance", "excluded", to=[{"name": "s9"}])),
        "left out without name and reason",
    ),
    StoreDamage(
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

DAMAGES = [*ROOT, *SECTIONS, *PANEL, *PROVENANCE]
