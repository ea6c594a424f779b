"""Places of the brain at three zooms, every store beside the real one, with the nuclei found there as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_eval.evaluate import NUCLEAR_STAIN
from teramind_eval.morphometry.segmenter import Segmenter
from teramind_eval.pairs import Compared
from teramind_eval.report.embed import lines_png
from teramind_eval.report.located import located
from teramind_eval.report.page import Panel, Place, Shown, shown
from teramind_eval.report.panels import slug
from teramind_eval.report.pictures import (
    OUTLINE,
    Stretch,
    View,
    blocks_of,
    composite,
    enlarge,
    framed,
    nuclei_in_view,
    outlined_views,
    read_view,
    rims,
    scale_bar,
    stretch_of,
)

#: How many places are shown.
PLACES = 3

_ENLARGED = 640


def places_of(
    stores: Sequence[Compared], places: Sequence[tuple[View, ...]], segmenter: Segmenter
) -> tuple[list[Place], list[dict[str, Any]]]:
    """Places for the page, and a table of where each picture is, with the nuclei outlined in it."""
    real = stores[0].brain
    out, table = [], []
    for number, views in enumerate(places, start=1):
        section = views[0].section
        stretch = stretch_of(read_view(real, section, views[0].box))
        blocks = blocks_of(real, section, segmenter)
        outlined = outlined_views(views)
        # The widest is segmented, closer views are cut from it: what nuclei need to know of a section costs most.
        labels = {
            one.label: nuclei_in_view(one.brain, outlined[0], segmenter, NUCLEAR_STAIN, blocks)
            for one in stores
            if outlined
        }
        zooms = []
        for index, view in enumerate(views):
            inner = views[index + 1] if index + 1 < len(views) else None
            pictures = []
            for one in stores:
                name = f"place{number}_zoom{index + 1}_{slug(one.label)}"
                picture, bar = _picture(one, view, inner, stretch, name)
                count = None
                if view in outlined:
                    around = outlined[0].box
                    inside = labels[one.label][view.box.shift(-around.y0, -around.x0).slices]
                    count = int(np.count_nonzero(np.unique(inside)))
                    picture = _outlined(picture, inside, count)
                pictures.append(picture)
                table.append(located(picture, one, view, number, count))
            note = f"y {view.box.y0}–{view.box.y1}, x {view.box.x0}–{view.box.x1} px; bar {bar}"
            zooms.append(Panel(view.name, note, tuple(pictures)))
        name = real.sections[section].name
        note = f"section {name}, z {real.sections[section].z_um:g} µm"
        out.append(Place(f"Place {number}", note, tuple(zooms)))
    return out, table


def _picture(one: Compared, view: View, inner: View | None, stretch: Stretch, name: str) -> tuple[Shown, str]:
    """The picture, and how long its scale bar is."""
    pixels = read_view(one.brain, view.section, view.box)
    drawn = enlarge(composite(pixels, one.brain.stains, stretch), _ENLARGED)
    if inner is not None:
        drawn = framed(drawn, view.box, inner.box)
    drawn, bar = scale_bar(drawn, view.box.width * one.brain.pixel_size_um)
    alt = f"{one.label}: {view.name.lower()}, {view.box.width} by {view.box.height} pixels"
    return shown(drawn, name, one.label, alt, one.label), bar


def _outlined(picture: Shown, labels: npt.NDArray[np.int32], count: int) -> Shown:
    lines = lines_png(rims(labels, (picture.size[1], picture.size[0])), OUTLINE)
    return replace(picture, caption=f"{picture.caption}, {count} nuclei", overlay=lines)
