"""Where each micrograph of the page is: rows of `figures/places.parquet`."""

from __future__ import annotations

from typing import Any

from teramind_eval.pairs import Compared
from teramind_eval.report.page import Shown
from teramind_eval.report.pictures import View


def located(
    picture: Shown, one: Compared, view: View, place: int | None = None, nuclei: int | None = None
) -> dict[str, Any]:
    """A picture of a store: its file, section and box. `place`: number on the page; `nuclei`: how many are outlined."""
    section, box = one.brain.sections[view.section], view.box
    return {
        "file": picture.name,
        "store": one.label,
        "place": place,
        "view": view.name,
        "section": section.name,
        "z_um": section.z_um,
        "y0_px": box.y0,
        "y1_px": box.y1,
        "x0_px": box.x0,
        "x1_px": box.x1,
        "pixel_size_um": one.brain.pixel_size_um,
        "nuclei": nuclei,
    }
