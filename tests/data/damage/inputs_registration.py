"""Damages to a section's registration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.damage.input_tools import AFFINE, FIRST, SPLINE, link_out, manifest, several, text
from tests.data.damage.store_tools import cut, delete, new, replace
from tests.data.damage.table import Damage, InputDamage

ABBA = "ABBA-Transform-A-section_000.json"
WARP = "ABBA-Transform-A-section_001.json"


def parsed(change: Callable[[Any], Any], key: str = AFFINE) -> Damage:
    """The JSON changed."""

    def do(root: Path) -> None:
        data = json.loads((root / key).read_text())
        changed = change(data)
        (root / key).write_text(json.dumps(data if changed is None else changed))

    return do


def numbers(change: Callable[[list[float]], Any]) -> Damage:
    """The first affine changed."""
    return parsed(lambda data: change(data["realTransform_0"]["affinetransform3d"]))


def spline(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """The spline changed."""
    return parsed(
        lambda data: change(data["realTransform_1"]["wrappedTransform"]["wrappedTransform"]), SPLINE
    )


def to(index: int, value: Any) -> Callable[[list[Any]], None]:
    def do(values: list[Any]) -> None:
        values[index] = value

    return do


def named(file: str, direction: str = "atlas_mm_to_image_px", content: str | None = None) -> Damage:
    """The first section registered by another file."""
    entry = {"file": file, "direction": direction}
    naming = manifest(lambda m: m["sections"][0].update(registration=entry))
    return naming if content is None else several(text(f"{FIRST}/{file}", content), naming)


def sparse_file(root: Path) -> None:
    with (root / AFFINE).open("wb") as handle:
        handle.truncate(70 << 20)


def pickled(root: Path) -> None:
    np.save(root / FIRST / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    named("p.npy")(root)


def folded(transform: dict[str, Any]) -> None:
    """Two landmarks change places."""
    for row in transform["tgtPts"]:
        row[5], row[10] = row[10], row[5]


FILES = [
    InputDamage("registration cut", cut(AFFINE, 0.5), ABBA, "not readable JSON"),
    InputDamage("registration is empty", text(AFFINE, ""), ABBA, "not readable JSON"),
    InputDamage("registration is no UTF-8", replace(AFFINE, b'{"type": "\xff"}'), ABBA, "not readable JSON"),
    InputDamage("registration is a number", text(AFFINE, "3"), ABBA, "not a transform"),
    InputDamage("registration too large", sparse_file, ABBA, "too large.*at most"),
    InputDamage(
        "registration twice", new(f"{FIRST}/registration.json", b"{}"), FIRST, "several registrations"
    ),
    InputDamage("registration is gone", several(named(ABBA), delete(AFFINE)), ABBA, "registration not found"),
    InputDamage("registration leads out", named(f"../section_001/{WARP}"), WARP, "leads out of its folder"),
    InputDamage(
        "registration links out", several(link_out(AFFINE), named(ABBA)), ABBA, "leads out of its folder"
    ),
    InputDamage("registration of an unknown kind", named("a.xml", content="<x/>"), "a.xml", "unknown kind"),
    InputDamage("registration pickled", pickled, "p.npy", "not a readable npy"),
    InputDamage("npy of text", named("a.npy", content="junk"), "a.npy", "not a readable npy"),
    InputDamage("matrix with a header", named("a.csv", content="a,b,c\n1,2,3\n"), "a.csv", "not a matrix"),
    InputDamage("matrix of two by two", named("a.csv", content="1,2\n3,4\n"), "a.csv", "wrong shape.*2x2"),
    InputDamage(
        "matrix with ragged rows", named("a.csv", content="1,0,0\n0,1\n"), "a.csv", "not a matrix|shape"
    ),
    InputDamage(
        "registration that is projective",
        named("a.csv", content="1,0,0\n0,1,0\n0.1,0,1\n"),
        "a.csv",
        "projective",
    ),
]
CONTENT = [
    InputDamage("transform of an unknown kind", parsed(lambda d: {"type": "Bogus"}), ABBA, "unknown.*Bogus"),
    InputDamage(
        "affine of eleven numbers", numbers(lambda v: v.__delitem__(0)), ABBA, "12 numbers.*found 11"
    ),
    InputDamage("affine of words", numbers(to(0, "one")), ABBA, "no number"),
    InputDamage("affine that is not finite", numbers(to(3, float("nan"))), ABBA, "no number"),
    InputDamage("affine without end", numbers(to(3, float("inf"))), ABBA, "no number"),
    InputDamage(
        "affine without inverse",
        parsed(lambda d: {"affinetransform3d": [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0]}),
        ABBA,
        "cannot be inverted",
    ),
    InputDamage("affine that tilts", numbers(to(2, 0.3)), ABBA, "tilts the section"),
    InputDamage(
        "sequence without a part", parsed(lambda d: d.pop("realTransform_1") and None), ABBA, "incomplete"
    ),
    InputDamage("sequence of a size in words", parsed(lambda d: d.update(size="two")), ABBA, "no size"),
    InputDamage("sequence of a vast size", parsed(lambda d: d.update(size=10**9)), ABBA, "no size"),
    InputDamage("sequence cut short", parsed(lambda d: d.update(size=1)), ABBA, "scale is wrong"),
    InputDamage(
        "nested without end",
        text(AFFINE, '{"type":"Wrapped2DTransformAs3D","wrappedTransform":' * 200 + "0" + "}" * 200),
        ABBA,
        "too deeply",
    ),
    InputDamage("nested beyond reading", text(AFFINE, "[" * 200_000), ABBA, "not readable JSON"),
    InputDamage(
        "landmarks that do not pair",
        spline(lambda s: s["tgtPts"][0].__delitem__(0)),
        WARP,
        "pair up|no number",
    ),
    InputDamage(
        "landmarks of fewer points",
        spline(lambda s: s.update(tgtPts=[row[:-1] for row in s["tgtPts"]])),
        WARP,
        "do not pair up",
    ),
    InputDamage(
        "landmarks on a line",
        spline(lambda s: s.update(srcPts=[s["srcPts"][0], s["srcPts"][0]])),
        WARP,
        "degenerate",
    ),
    InputDamage(
        "landmarks that are not finite",
        spline(lambda s: to(3, float("nan"))(s["srcPts"][0])),
        WARP,
        "no number",
    ),
    InputDamage("landmarks that fold", spline(folded), WARP, "folds the section|no inverse"),
    InputDamage(
        "landmarks in um",
        spline(lambda s: s.update(tgtPts=[[v * 1e3 for v in r] for r in s["tgtPts"]])),
        WARP,
        "scale is wrong|no inverse|folds",
    ),
]
PLACES = [
    InputDamage(
        "units are um", named(ABBA, "atlas_um_to_image_px"), ABBA, "scale is wrong.*about 1 image pixel"
    ),
    InputDamage("direction is the other", named(ABBA, "image_px_to_atlas_mm"), ABBA, "scale is wrong"),
    InputDamage("plane is in pixels", named(ABBA, "canvas_px_to_image_px"), ABBA, "scale is wrong"),
    InputDamage("target is um", named(ABBA, "atlas_um_to_section_um"), ABBA, "scale is wrong"),
    InputDamage("section thrown away", numbers(to(3, 1e9)), "section_000", "no usable|far|apart|lost"),
    InputDamage("section moved far", numbers(to(3, 30.0)), "section_000", "apart from the other sections"),
    InputDamage(
        "section off the canvas",
        several(numbers(to(3, 30.0)), manifest(lambda m: m.update(canvas=[256, 256]))),
        "section_000",
        "outside the canvas",
    ),
]
DAMAGES = [*FILES, *CONTENT, *PLACES]
