"""Whether transcripts lie where they should: on their section's image, and the sections one over the other.

Wrong units and matrices of other sections show here, before a canvas is made that reaches from one to the other.
"""

from __future__ import annotations

import numpy as np

from teramind_data.errors import InputError, RegistrationError
from teramind_data.geometry import Box
from teramind_data.ingest.plan import PlannedSection
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.spill import LaidSection

_GRID = 9  # points along an edge of the extent that are looked up in the image
_ENOUGH = 100  # transcripts below which an extent tells nothing
_LEAST = 0.01  # of the image's edge
_MOST = 3.0


def extent(laid: LaidSection) -> Box:
    """Where a section's transcripts lie, in plane pixels."""
    return Box(laid.low[0], laid.high[0] + 1, laid.low[1], laid.high[1] + 1)


def check_on_image(section: PlannedSection, laid: LaidSection) -> None:
    """Refuse transcripts that lie beside the section's image, far beyond its rim, or all on one spot of it.

    Raises:
        InputError: naming the transcript file; positions in other units than um are the usual reason.
    """
    box = extent(laid)
    xs, ys = np.linspace(box.x0, box.x1 - 1, _GRID), np.linspace(box.y0, box.y1 - 1, _GRID)
    points = section.to_image.forward(np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    source = next(iter(section.images.values()))
    with Slide(source) as slide:
        edges = np.array(slide.shape[::-1], float)  # x, y as the points are
    size = high - low + 1
    beside = (high < 0).any() or (low >= edges).any()
    beyond = (size > _MOST * edges).any()
    tiny = laid.placed >= _ENOUGH and (size < _LEAST * edges).any()
    if not (beside or beyond or tiny):
        return
    what = "lie outside" if beside else "reach far beyond" if beyond else "cover next to nothing of"
    raise InputError(
        f"transcripts {what} the section's image",
        where=f"{section.name}, {section.folder.transcripts}",
        expected=f"x 0..{edges[0]:.0f}, y 0..{edges[1]:.0f} image pixels",
        found=f"x {low[0]:.0f}..{high[0]:.0f}, y {low[1]:.0f}..{high[1]:.0f}",
        remedy="Check the positions' units (um) and the micron-to-mosaic matrix, and remove strays",
    )


def check_together(sections: tuple[PlannedSection, ...], laid_all: tuple[LaidSection, ...]) -> None:
    """Refuse a section that lies apart from all others by more than its own size: no canvas should hold both.

    Raises:
        RegistrationError: naming the section and its registration.
    """
    boxes = [extent(laid) for laid in laid_all]
    for section, box in zip(sections, boxes, strict=True):
        near = box.expand(max(box.shape))
        others = [other for other in boxes if other is not box]
        if others and all(near.intersect(other) is None for other in others):
            raise RegistrationError(
                "section lies apart from the other sections",
                where=f"{section.name}, {section.registration or section.folder.path}",
                expected=f"near {others[0]}",
                found=f"{box}",
                remedy="Check its registration, or give the canvas in the manifest",
            )
