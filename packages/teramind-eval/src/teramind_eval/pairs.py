"""Stores that are compared: opened, checked against the real one, and the tiles and patches in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError, StoreError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_eval.part import Part, same_pixel_size
from teramind_eval.regions import has_regions, read_regions, region_of_most
from teramind_eval.results import Role


@dataclass(frozen=True)
class Compared:
    """A store in a report: how it is called, what part it plays, and what of it is compared."""

    label: str
    role: Role
    brain: Part


def open_store(url: str, label: str, role: Role, *, incomplete: bool = False) -> Compared:
    """Open a store for a report; an incomplete one only where asked for.

    Raises
    ------
    MissingInputError, IncompleteStoreError, StoreError
        from the store, naming it.
    InputError
        where the real store holds no molecules, which say where tissue is.
    """
    from teramind_data.store import open_brain

    brain = open_brain(url, incomplete=incomplete)
    if role == "real" and not brain.has_molecules:
        raise InputError(
            "the real store holds no molecules",
            where=url,
            expected="an atlas store as written by `teramind-data ingest`",
            found=f"kind {brain.kind!r}",
            remedy="Give the atlas as --real and the other store as --generated or --control NAME=STORE",
        )
    return Compared(label, role, Part(brain))


def check_comparable(real: Part, other: Compared) -> Compared:
    """The store with the real one's stains, in that order; InputError, in one line, where it cannot be laid over it.

    Which sections it has is for `same_sections` to judge.
    """
    brain = other.brain
    if not brain.stains:
        raise InputError(
            f"{other.label} has no images to compare",
            where=brain.url,
            expected=f"stains {', '.join(real.stains)}",
            found=f"kind {brain.kind!r}",
            remedy="Generate images from it with `teramind-model generate --atlas`, and compare those",
        )
    remedy = f"Give a store that was generated from {real.url}, or generate it again from that atlas"
    if not same_pixel_size(real.pixel_size_um, brain.pixel_size_um):
        raise InputError(
            f"pixel size of {other.label} differs from the real brain's",
            where=brain.url,
            expected=f"{real.pixel_size_um} um",
            found=f"{brain.pixel_size_um} um",
            remedy=remedy,
        )
    if tuple(real.canvas) != tuple(brain.canvas):
        raise InputError(
            f"canvas (height, width) px of {other.label} differs from the real brain's",
            where=brain.url,
            expected=tuple(real.canvas),
            found=tuple(brain.canvas),
            remedy=remedy,
        )
    if not set(real.stains) <= set(brain.stains):
        raise InputError(
            f"stains of {other.label} are not those of the real brain",
            where=brain.url,
            expected=", ".join(real.stains),
            found=", ".join(brain.stains),
            remedy=remedy,
        )
    return other if brain.stains == real.stains else replace(other, brain=brain.stained(real.stains))


def same_sections(stores: Sequence[Compared]) -> tuple[Compared, ...]:
    """All stores cut to the sections that every generated one has, found by name, in the real brain's order.

    Args:
        stores: the real one, the generated ones, then controls.

    Raises
    ------
    InputError
        where a generated store has a section that the real one has not, where the generated stores have none in
        common, or where a control lacks one of those.
    """
    real = stores[0].brain
    has = {one.label: _names(one) for one in stores}
    runs = [one for one in stores if one.role == "generated"]
    for one in runs:
        strange = [name for name in has[one.label] if name not in has[stores[0].label]]
        if strange:
            found = f"{some(strange)}, which are not there"
            raise _wrong_names(
                one, f"{real.url}'s", found, f"Give a store that was generated from {real.url}"
            )
    names = [name for name in _names(stores[0]) if all(name in has[one.label] for one in runs)]
    if not names:
        raise InputError(
            "generated stores have no section in common",
            where=", ".join(one.brain.url for one in runs),
            expected="sections of the same names",
            found="; ".join(some(has[one.label]) for one in runs),
            remedy="Compare them in reports of their own",
        )
    for one in stores:
        lacking = [name for name in names if name not in has[one.label]]
        if lacking:
            remedy = f"Give a control that was generated from {real.url}, in the sections of the runs"
            raise _wrong_names(one, some(names), f"no {some(lacking)}", remedy)
    return tuple(replace(one, brain=one.brain.named(names)) for one in stores)


def same_place(stores: Sequence[Compared]) -> tuple[Compared, ...]:
    """All stores cut to the part of the canvas in which all images were generated (`generate --roi`).

    Raises
    ------
    InputError
        where the stores have no such part in common.
    """
    inside = stores[0].brain.inside
    for one in stores[1:]:
        region = region_of(one.brain) if "morphology" in one.brain.images else None
        common = inside if region is None else inside.intersect(region)
        if common is None:
            raise InputError(
                f"{one.label} was generated in another part of the canvas",
                where=one.brain.url,
                expected=f"some of {inside}",
                found=region,
                remedy="Compare it in a report of its own",
            )
        inside = common
    return tuple(replace(one, brain=one.brain.within(inside)) for one in stores)


def region_of(brain: Part) -> Box | None:
    """Where a store was generated, as `teramind-model generate` records it; None if unknown."""
    request = brain.provenance.get("request")
    region = request.get("region") if isinstance(request, dict) else None
    if not (
        isinstance(region, list | tuple) and len(region) == 4 and all(isinstance(n, int) for n in region)
    ):
        return None  # of another program, which means something else by the word
    return Box(*region).clip(brain.canvas)


def _names(store: Compared) -> list[str]:
    names = [section.name for section in store.brain.sections]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        remedy = "Make the store again with a name of its own for each section"
        raise _wrong_names(store, "each once", f"{twice[0]} twice", remedy)
    return names


def _wrong_names(store: Compared, expected: str, found: str, remedy: str) -> InputError:
    return InputError(
        f"section names of {store.label} are not those to compare",
        where=store.brain.url,
        expected=expected,
        found=found,
        remedy=remedy,
    )


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def tissue_boxes(brain: Part, section: int, box: Box, size: int) -> list[Box]:
    """Tiles of `size` px that hold molecules of the real atlas; `box` starts on the tile grid and lies in the canvas.

    Tiles cut at the canvas's rim to less than half, and those not wholly in the part compared, are left out.
    """
    y, x, _ = brain.molecules.read(section, box)
    columns = -(-box.width // size)
    rows = -(-box.height // size)
    index = (np.asarray(y, np.int64) - box.y0) // size * columns + (np.asarray(x, np.int64) - box.x0) // size
    counts = np.bincount(index, minlength=rows * columns)
    return [
        tile
        for tile, count in zip(tiles(box, size), counts, strict=True)
        if count and min(tile.shape) * 2 >= size and brain.inside.contains(tile)
    ]


def tissue_blocks(brain: Part, section: int, size: int) -> list[Box]:
    """Blocks of `size` px of a section that hold any molecule, row-major, cut to the part compared.

    Uncut, they would bring the black around that part into a segmenter's levels.
    """
    out = []
    for block in tiles(Box(0, brain.canvas[0], 0, brain.canvas[1]), size):
        cut = block.intersect(brain.inside)
        if cut is not None and len(brain.molecules.read(section, block)[0]):
            out.append(cut)
    return out


def regions_of_tiles(brain: Part, section: int, boxes: Sequence[Box]) -> npt.NDArray[np.uint16]:
    """`(t,)` the label of the annotation that most of each tile has; 0 only where it has no other.

    All 0 where the brain has no annotation. Labels of one name are one. A bin that a tile cuts counts whole.
    """
    out = np.zeros(len(boxes), np.uint16)
    if not has_regions(brain):
        return out
    for index, box in enumerate(boxes):
        out[index] = region_of_most(read_regions(brain, section, box.cover(BIN_PX).coarsen(BIN_PX)))
    return out


def genes_shown(provenance: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The control that a store is (``shuffled``, say; empty where it is none), and the edits of its genes."""
    request = provenance.get("request")
    request = request if isinstance(request, dict) else {}
    control, edits = request.get("control"), request.get("edits")
    kind = control.get("kind", "none") if isinstance(control, dict) else "none"
    return "" if kind == "none" else kind, tuple(map(str, edits)) if isinstance(edits, list) else ()


def read_stain(brain: Part, section: int, box: Box, stain: str) -> np.ndarray:
    """One stain of a section's box, uint8 `(y, x)`; StoreError names a store without that stain.

    Black outside the part compared, as a store is that was generated in that part only: nuclei are cut alike in all.
    """
    if stain not in brain.stains:
        raise StoreError(
            "store lacks a stain", where=brain.url, expected=stain, found=", ".join(brain.stains) or "none"
        )
    pixels = np.asarray(brain.read("morphology", section, box)[brain.stains.index(stain)])
    if brain.inside.contains(box):
        return pixels
    out = np.zeros_like(pixels)
    common = box.intersect(brain.inside)
    if common is not None:
        here = common.shift(-box.y0, -box.x0).slices
        out[here] = pixels[here]
    return out
