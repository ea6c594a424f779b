"""Stores that are shown side by side: the same sections of each, on one canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from teramind_data.console import note
from teramind_data.errors import InputError, StoreError
from teramind_eval.drawing.colour import MORPHOLOGY
from teramind_eval.part import Part, same_pixel_size

if TYPE_CHECKING:
    from teramind_data.store import Brain

_KINDS = {"atlas": "measured", "expression": "measured", "generated": "generated"}


def open_parts(stores: Sequence[str], *, incomplete: bool = False) -> list[Part]:
    """Stores cut to the sections that all have, by name, in the order of the first; noted where some are left out.

    Raises
    ------
    InputError
        where canvases or pixel sizes differ, or no section is common.
    """
    from teramind_data.store import open_brain

    brains = [open_brain(url, incomplete=incomplete) for url in stores]
    for brain in brains:
        _check_channels(brain)
    first = brains[0]
    for other in brains[1:]:
        sizes = first.pixel_size_um, other.pixel_size_um
        for what, mine, theirs, same in (
            ("canvas (height, width) px", first.canvas, other.canvas, first.canvas == other.canvas),
            ("pixel size, um", *sizes, same_pixel_size(*sizes)),
        ):
            if not same:
                raise InputError(
                    f"{what} of the store beside differs",
                    other.url,
                    mine,
                    theirs,
                    remedy="Give a store of the same brain at the same scale",
                )
    names = [section.name for section in first.sections if all(_has(other, section.name) for other in brains)]
    if not names:
        raise InputError("the stores have no section in common", where=brains[-1].url)
    left = first.n_sections - len(names)
    if left:
        note(f"{left} of {first.n_sections} sections are not in the store beside and are left out")
    return [Part(brain).named(names) for brain in brains]


def _check_channels(brain: Brain) -> None:
    """StoreError where the array of stains is not of the stains that the store names."""
    if MORPHOLOGY in brain.images and (found := brain.morphology.shape[0]) != len(brain.stains):
        raise StoreError(
            "store's image has not as many channels as stains",
            where=brain.url,
            expected=", ".join(brain.stains),
            found=f"{found} channels",
            remedy="Write it again, or mend its metadata; teramind-data validate says more",
        )


def _has(brain: Brain, name: str) -> bool:
    return any(section.name == name for section in brain.sections)


def titled(part: Part) -> str:
    """What a store is called in a picture: the last part of its URL, and whether it was measured."""
    name = str(part.url).rstrip("/").rpartition("/")[2].removesuffix(".zarr")
    return f"{name}, {_KINDS[part.kind]}"
