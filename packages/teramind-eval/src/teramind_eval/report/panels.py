"""Rows of micrographs on the page: single stains, nuclei found, and the section montage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from teramind_eval.evaluate import NUCLEAR_STAIN
from teramind_eval.morphometry.segmenter import Segmenter
from teramind_eval.pairs import Compared
from teramind_eval.report.located import located
from teramind_eval.report.page import Panel, Shown, shown
from teramind_eval.report.pictures import (
    Picture,
    Stretch,
    View,
    blocks_of,
    composite,
    enlarge,
    nuclei_in_view,
    outlined,
    outlined_views,
    read_view,
    scale_bar,
    single,
    stretch_of,
)

_ENLARGED = 512
_MONTAGE_WIDTH = 300
_MONTAGE_MOST = 24


#: Rows that say where pictures are, see `located`.
Where = list[dict[str, Any]]


def stain_panels(
    stores: Sequence[Compared], views: Sequence[View], segmenter: Segmenter
) -> tuple[list[Panel], Where]:
    """Each stain alone at the closest zoom, then DAPI of the region with the nuclei found drawn round; of place 1.

    Of a region too wide for that, the closest view.
    """
    real = stores[0].brain
    stretch = stretch_of(read_view(real, views[0].section, views[0].box))
    panels: list[Panel] = []
    where: Where = []
    closest = views[-1]
    for index, stain in enumerate(real.stains):
        pictures = []
        for one in stores:
            pixels = read_view(one.brain, closest.section, closest.box)
            drawn = enlarge(single(pixels, index, stretch), _ENLARGED)
            pictures.append(_shown(drawn, one, closest, f"stain{index + 1}_{slug(stain)}"))
            where.append(located(pictures[-1], one, closest, 1))
        panels.append(Panel(f"{stain} alone", f"The closest view, {stain} in grey.", tuple(pictures)))
    outlines, of_outlines = _outlines(stores, outlined_views(views[1:])[0], segmenter, stretch)
    return [*panels, outlines], where + of_outlines


def _outlines(
    stores: Sequence[Compared], view: View, segmenter: Segmenter, stretch: Stretch
) -> tuple[Panel, Where]:
    channel = stores[0].brain.stains.index(NUCLEAR_STAIN)
    blocks = blocks_of(stores[0].brain, view.section, segmenter)
    pictures, where = [], []
    for one in stores:
        labels = nuclei_in_view(one.brain, view, segmenter, NUCLEAR_STAIN, blocks)
        drawn = enlarge(
            _tinted(single(read_view(one.brain, view.section, view.box), channel, stretch)),
            _ENLARGED * 3 // 2,
        )
        found = len(np.unique(labels[labels > 0]))
        pictures.append(_shown(outlined(drawn, labels), one, view, "nuclei", f", {found} nuclei"))
        where.append(located(pictures[-1], one, view, 1, found))
    note = "White lines are the nuclei that the counts, areas and matches use, found alike in every store."
    return Panel("Nuclei found in DAPI", note, tuple(pictures)), where


def _tinted(picture: Picture) -> Picture:
    # White outlines need a ground that is not white: grey becomes blue.
    return (picture * np.array([0.30, 0.55, 0.95])).astype(np.uint8)


def montage_panels(stores: Sequence[Compared]) -> tuple[list[Panel], Where]:
    """Sections through the brain, what is compared of each, a row a store; at most 24, evenly spaced."""
    real = stores[0].brain
    count = len(real.sections)
    picked = sorted(set(np.linspace(0, count - 1, min(count, _MONTAGE_MOST)).round().astype(int).tolist()))
    middle = picked[len(picked) // 2]
    stretch = stretch_of(read_view(real, middle, real.inside))
    panels, where = [], []
    for one in stores:
        pictures = []
        for section in picked:
            pixels = read_view(one.brain, section, real.inside, 2 * _MONTAGE_WIDTH)
            place = real.sections[section]
            caption = f"{place.name}, z {place.z_um:g} µm"
            drawn = composite(pixels, one.brain.stains, stretch)
            name = f"montage_{slug(one.label)}_{section:03d}"
            pictures.append(shown(drawn, name, caption, f"{one.label}, section {place.name}, DAPI and PolyT"))
            where.append(located(pictures[-1], one, View("Montage", section, real.inside)))
        panels.append(Panel(one.label[:1].upper() + one.label[1:], "", tuple(pictures)))
    return panels, where


def _shown(drawn: Picture, one: Compared, view: View, name: str, more: str = "") -> Shown:
    picture, bar = scale_bar(drawn, view.box.width * one.brain.pixel_size_um)
    alt = f"{one.label}: {view.name.lower()}, {view.box.width} by {view.box.height} pixels{more}"
    return shown(picture, f"{name}_{slug(one.label)}", f"{one.label}{more} (bar {bar})", alt)


def slug(label: str) -> str:
    """A label as part of a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in label.lower())
