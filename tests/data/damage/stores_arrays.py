"""Damages to the metadata and the pixels of a store's arrays."""

from __future__ import annotations

from tests.data.damage.store_tools import (
    EXPRESSION,
    MORPHOLOGY,
    SHARD,
    cut,
    delete,
    drop,
    empty_list,
    flip,
    new,
    node,
    put,
    replace,
    some,
    swap,
    values,
)
from tests.data.damage.table import StoreDamage

METADATA = [
    StoreDamage(
        "image group is gone",
        delete("images/morphology/zarr.json"),
        "images/morphology/zarr.json: is missing",
    ),
    StoreDamage(
        "strict group is gone", delete(f"{MORPHOLOGY}/zarr.json"), f"{MORPHOLOGY}/zarr.json: is missing"
    ),
    StoreDamage(
        "array is gone", delete(f"{MORPHOLOGY}/1/zarr.json"), f"{MORPHOLOGY}/1/zarr.json: is missing"
    ),
    StoreDamage(
        "array metadata cut", cut(f"{MORPHOLOGY}/0/zarr.json", 0.4), f"{MORPHOLOGY}/0/zarr.json: no JSON"
    ),
    StoreDamage(
        "array metadata a list", replace(f"{MORPHOLOGY}/0/zarr.json", b"[1]"), "0/zarr.json: no JSON object"
    ),
    StoreDamage(
        "array metadata empty", replace(f"{EXPRESSION}/0/zarr.json", b"{}"), "array metadata is damaged"
    ),
    StoreDamage("label group cut", cut("labels/tissue/zarr.json", 0.7), "labels/tissue/zarr.json: no JSON"),
    StoreDamage(
        "shape is another",
        node(f"{MORPHOLOGY}/0", put("shape", 2, to=512), consolidate=True),
        "shape.* '512' instead",
    ),
    StoreDamage(
        "a section too few",
        node(f"{MORPHOLOGY}/0", put("shape", 1, to=2), consolidate=True),
        "shape.* '2' instead of '3'",
    ),
    StoreDamage(
        "type is another",
        node(f"{MORPHOLOGY}/0", put("data_type", to="int8"), consolidate=True),
        "data_type is 'int8'",
    ),
    StoreDamage(
        "fill value is another",
        node(f"{MORPHOLOGY}/0", put("fill_value", to=7), consolidate=True),
        "fill_value is '7'",
    ),
    StoreDamage(
        "axes swapped",
        node(f"{MORPHOLOGY}/0", put("dimension_names", to=["c", "z", "x", "y"]), consolidate=True),
        "dimension_names",
    ),
    StoreDamage(
        "checksums off",
        node(f"{MORPHOLOGY}/0", drop("codecs", 0, "configuration", "codecs", -1), consolidate=True),
        "checksum is 'False' instead of 'True'",
    ),
    StoreDamage(
        "chunk is another",
        node(f"{MORPHOLOGY}/0", put("codecs", 0, "configuration", "chunk_shape", 3, to=32), consolidate=True),
        "chunk.* '32' instead of '64'",
    ),
    StoreDamage(
        "OME version is another",
        node(MORPHOLOGY, put("attributes", "ome", "version", to="0.4"), consolidate=True),
        f"{MORPHOLOGY}.*(version|0.4)",
    ),
    StoreDamage(
        "OME block is gone", node(MORPHOLOGY, drop("attributes", "ome"), consolidate=True), "ome is missing"
    ),
    StoreDamage(
        "unit is another",
        node(
            MORPHOLOGY,
            put("attributes", "ome", "multiscales", 0, "axes", 2, "unit", to="meter"),
            consolidate=True,
        ),
        "unit is 'meter' instead of 'micrometer'",
    ),
    StoreDamage(
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
    StoreDamage(
        "level is not listed",
        node(MORPHOLOGY, drop("attributes", "ome", "multiscales", 0, "datasets", 1), consolidate=True),
        "datasets has 1 entries instead of 2",
    ),
    StoreDamage(
        "channel renamed",
        node(
            MORPHOLOGY,
            put("attributes", "ome", "omero", "channels", 0, "label", to="Hoechst"),
            consolidate=True,
        ),
        "Hoechst",
    ),
    StoreDamage(
        "SpatialData's version is another",
        node("images/morphology", put("attributes", "ome", "version", to="0.5"), consolidate=True),
        "SpatialData does not open the store",
    ),
    StoreDamage(
        "SpatialData's scale is another",
        node(
            "images/morphology",
            put("attributes", "ome", "multiscales", 0, "coordinateTransformations", 0, "scale", 3, to=2.0),
            consolidate=True,
        ),
        "images/morphology/zarr.json: ome.multiscales",
    ),
    StoreDamage(
        "array changed, root not",
        node(f"{EXPRESSION}/0", put("attributes", "note", to="mine")),
        "differs from the consolidated metadata",
    ),
    StoreDamage(
        "group added, root not",
        new("images/mine/zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'),
        "images/mine: is not in the consolidated metadata",
    ),
    StoreDamage("list of empty shards is text", empty_list(0, "none"), "array metadata is damaged"),
    StoreDamage(
        "list of empty shards beyond the end",
        empty_list(0, [[90, 99]]),
        "list of empty shards is damaged: 90..99 of 12",
    ),
    StoreDamage("list of empty shards backwards", empty_list(0, [[3, 1]]), "list of empty shards is damaged"),
    StoreDamage(
        "full shard listed as empty", empty_list(0, [[4, 4]]), f"{SHARD}: shard is stored but listed as empty"
    ),
]
PIXELS = [
    StoreDamage("shard is gone", delete(SHARD), f"{SHARD}: shard is missing"),
    StoreDamage(
        "pixels of a section are gone", delete(f"{MORPHOLOGY}/0/c/0/2"), "0/c/0/2/0/1: shard is missing"
    ),
    StoreDamage("coarse shard is gone", delete(f"{MORPHOLOGY}/1/c/0/0/0/0"), "1/c/0/0/0/0: shard is missing"),
    StoreDamage(
        "all of expression is gone",
        delete(f"{EXPRESSION}/0/c"),
        "expression/ome.zarr/0/c/0/0/0/0: shard is missing",
    ),
    StoreDamage(
        "tissue shard is gone", delete("labels/tissue/ome.zarr/0/c/0/0/0"), "tissue.*shard is missing"
    ),
    StoreDamage("strange shard", new(f"{MORPHOLOGY}/0/c/0/7/0/0"), "0/c/0/7/0/0: is no shard of this array"),
    StoreDamage("strange file", new(f"{MORPHOLOGY}/0/c/Thumbs.db"), "Thumbs.db: is no shard of this array"),
    StoreDamage("bit flipped at the begin", flip(SHARD, 0.01), f"{SHARD}: morphology cannot be read", True),
    StoreDamage("bit flipped in the middle", flip(SHARD, 0.5), f"{SHARD}: morphology cannot be read", True),
    StoreDamage("bit flipped in the index", flip(SHARD, -12), f"{SHARD}: morphology cannot be read", True),
    StoreDamage(
        "bit flipped in the index's checksum", flip(SHARD, -1), f"{SHARD}: morphology cannot be read", True
    ),
    StoreDamage(
        "bit flipped in a coarse shard",
        flip(f"{MORPHOLOGY}/1/c/0/0/0/0", 0.3),
        "1/c/0/0/0/0: morphology cannot",
        True,
    ),
    StoreDamage(
        "bit flipped in expression", flip(f"{EXPRESSION}/0/c/0/0/0/0", 0.4), "expression cannot be read", True
    ),
    StoreDamage(
        "bit flipped in regions",
        flip("labels/regions/ome.zarr/0/c/1/0/0", 0.2),
        "regions cannot be read",
        True,
    ),
    StoreDamage("shard cut", cut(SHARD, 0.7), f"{SHARD}: morphology cannot be read", True),
    StoreDamage("shard empty", replace(SHARD, b""), f"{SHARD}: shard is cut: 0 bytes"),
    StoreDamage(
        "shard is text", replace(SHARD, b"not found" * 40), f"{SHARD}: morphology cannot be read", True
    ),
    StoreDamage(
        "shards of two sections swapped",
        swap(SHARD, SHARD.replace("0/1/0/0", "0/2/0/0")),
        "level 1 is not made",
        True,
    ),
    StoreDamage(
        "pixel changed",
        values(f"{MORPHOLOGY}/0", some((0, 1, 200, 150), 255)),
        "level 1 is not made from level 0: 1 v",
        True,
    ),
    StoreDamage(
        "coarse pixel changed", values(f"{MORPHOLOGY}/1", some((1, 0, 0, 0), 9)), "level 1 is not made", True
    ),
    StoreDamage(
        "count changed",
        values(f"{EXPRESSION}/0", some((0, 1, 12, 9), 99)),
        "counts differ from the molecules in 1 bins",
        True,
    ),
    StoreDamage(
        "strange region",
        values("labels/regions/ome.zarr/0", some((0, 12, 9), 77)),
        r"without a name: \[77\]",
        True,
    ),
]

DAMAGES = [*METADATA, *PIXELS]
