"""Region annotation as label images: TIFF or OME-Zarr in the plane of the canvas or of the atlas, read by blocks.

A bin takes the label under its centre (the nearest pixel there; of whole canvas pixels the one below and right of the
centre, which lies on a corner). Labels may be any whole numbers up to 2^32 - 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, TeramindError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.ingest.annotation_entries import RegionsEntry
from teramind_data.ingest.images import ImageStack, Plane, open_stack
from teramind_data.ingest.images.protocol import ANY_INTEGER
from teramind_data.ingest.paths import inside
from teramind_data.ingest.structures import as_ids

if TYPE_CHECKING:
    from teramind_data.ingest.plan import Plan
    from teramind_data.ingest.spill import Frame

_CACHE = 32 << 20
_BLOCK_BYTES = 32 << 20  # of label pixels read for a block of bins


class RegionSource(Protocol):
    """Where a section's region ids come from. Picklable: workers read."""

    def blocks(self, section: int, band: Box) -> Iterator[tuple[Box, NDArray[np.uint32]]]:
        """Ids of the bins of ``band`` (a box in bins of the canvas), in boxes that cover it; 0 is nothing."""
        ...


@dataclass(frozen=True)
class Axis:
    """Which label pixel lies under the centre of bin i: ``floor(start + step * i)``, exact where that is whole."""

    start: float
    step: float

    def pixels(self, first: int, stop: int) -> NDArray[np.int64]:
        """For bins ``first .. stop - 1``."""
        # A centre on the corner of two pixels belongs to the second, however the product rounds.
        return np.floor(self.start + self.step * np.arange(first, stop) + 1e-6).astype(np.int64)


@dataclass(frozen=True)
class LabelPage:
    """One section's labels: a page (or z plane) of a file, and how bins lie on it in y and x."""

    file: Path
    page: int
    y: Axis
    x: Axis


@dataclass(frozen=True)
class LabelImages:
    """Sections' label images; None where a section has none."""

    pages: tuple[LabelPage | None, ...]

    def blocks(self, section: int, band: Box) -> Iterator[tuple[Box, NDArray[np.uint32]]]:
        """See ``RegionSource``. InputError where the file is damaged or holds what is no id."""
        page = self.pages[section]
        if page is None:
            return
        stack = _open(page.file)
        try:
            plane = _plane(stack, page.page)
            for box in tiles(band, _block(plane, page)):
                yield box, _ids(page, plane, box)
        except InputError as error:
            raise _ours(error, page.file) from error
        finally:
            stack.close()


def _block(plane: Plane, page: LabelPage) -> tuple[int, int]:
    """Bins to read at once: a square, or all columns where the file is stored in rows."""
    pixels = _BLOCK_BYTES // plane.dtype.itemsize
    tile = getattr(plane, "tile", plane.shape)
    if tile[1] >= plane.shape[1] > 4 * tile[0]:
        rows = max(1, int(pixels / plane.shape[1] / page.y.step))
        return rows, 1 << 30
    edge = max(16, int(math.sqrt(pixels) / max(page.y.step, page.x.step)))
    return edge, edge


def _ids(page: LabelPage, plane: Plane, box: Box) -> NDArray[np.uint32]:
    """The label under each bin's centre; 0 off the image."""
    out = np.zeros(box.shape, np.uint32)
    rows, columns = page.y.pixels(box.y0, box.y1), page.x.pixels(box.x0, box.x1)
    on_y = np.flatnonzero((rows >= 0) & (rows < plane.shape[0]))
    on_x = np.flatnonzero((columns >= 0) & (columns < plane.shape[1]))
    if not len(on_y) or not len(on_x):
        return out
    rows, columns = rows[on_y], columns[on_x]
    area = Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    pixels = plane.read(area)[np.ix_(rows - area.y0, columns - area.x0)]
    out[np.ix_(on_y, on_x)] = as_ids(pixels, page.file)
    return out


def label_images(plan: Plan, entry: RegionsEntry, frame: Frame) -> LabelImages:
    """Find and check the label image of every kept section.

    The brain's own file holds a page a section of the manifest (left-out ones included, or the kept ones only); a
    section's own file, where it names one, goes before it.

    Raises:
        InputError: unreadable, of another size than the canvas, or of unknown pixel size; names the file.
        MissingInputError: not there.
    """
    common: list[LabelPage | None] = [None] * len(plan.sections)
    if entry.labels is not None:
        common = [*_stack_pages(plan, entry, frame, inside(plan.config.raw, entry.labels, "region labels"))]
    for section in plan.sections:
        if section.entry.regions is not None:
            file = inside(section.folder.path, section.entry.regions, "region labels")
            stack = _open(file)
            try:
                if _count(stack) != 1:
                    raise _miscounted(file, "1 page, as a section's own file", _count(stack))
                common[section.index] = _page(stack, 0, plan, entry, frame)
            finally:
                stack.close()
    return LabelImages(tuple(common))


def _stack_pages(plan: Plan, entry: RegionsEntry, frame: Frame, file: Path) -> list[LabelPage | None]:
    entries = plan.manifest.sections
    kept = [i for i, section in enumerate(entries) if section.exclude is None]
    stack = _open(file)
    try:
        count = _count(stack)
        if count not in (len(entries), len(kept)):
            expected = f"{len(entries)} pages, one a section of the manifest"
            if len(kept) != len(entries):
                expected += f", or {len(kept)}, one a section that is not left out"
            raise _miscounted(file, expected, count)
        return [
            _page(stack, page, plan, entry, frame) for page in (range(count) if count == len(kept) else kept)
        ]
    except InputError as error:
        raise _ours(error, file) from error
    finally:
        stack.close()


def _page(stack: ImageStack, page: int, plan: Plan, entry: RegionsEntry, frame: Frame) -> LabelPage:
    shape = _plane(stack, page).shape
    canvas, pixel = frame.canvas, plan.pixel_size_um
    size = entry.pixel_size_um
    if entry.plane == "canvas" and size is None:
        # Of whole pixels or of bins: the corners agree, and so do the far ends.
        step = next((n for n in (1, BIN_PX) if shape == (canvas[0] // n, canvas[1] // n)), None)
        if step is None:
            bins = (canvas[0] // BIN_PX, canvas[1] // BIN_PX)
            raise _misfit(stack.path, f"{canvas} pixels or {bins} bins of the canvas", shape)
        axis = Axis(BIN_PX / 2 / step, BIN_PX / step)
        return LabelPage(stack.path, page, axis, axis)
    if size is None:
        told = stack.pixel_size_um
        if told is None or abs(told[0] - told[1]) > 1e-3 * told[0]:
            raise InputError(
                "annotation does not tell its pixel size",
                where=stack.path,
                expected="one size in um in OME metadata",
                found=told or "none",
                remedy="Give regions.pixel_size_um in the manifest",
            )
        size = told[0]
    starts = []
    for axis_number in (0, 1):
        # The canvas's pixel 0 covers 0 .. 1; in the plane, whole pixel coordinates are centres.
        first = BIN_PX / 2 * pixel - entry.origin_um[axis_number]
        if entry.plane == "atlas":
            corner = plan.origin_um[axis_number] + frame.shift[axis_number] * pixel
            first += corner - pixel / 2
        starts.append(first / size)
    step_px = BIN_PX * pixel / size
    return LabelPage(stack.path, page, Axis(starts[0], step_px), Axis(starts[1], step_px))


def _open(file: Path) -> ImageStack:
    try:
        stack = open_stack(file, _CACHE, ANY_INTEGER)
    except InputError as error:
        raise _ours(error, file) from error
    if len(stack.channels) != 1:
        stack.close()
        raise _misfit(file, "one channel", f"{len(stack.channels)} channels")
    return stack


def _count(stack: ImageStack) -> int:
    return stack.unnamed or stack.planes


def _plane(stack: ImageStack, page: int) -> Plane:
    return stack.plane(0, 0, page) if stack.unnamed else stack.plane(0, page)


def _ours(error: InputError, file: Path) -> TeramindError:
    """An image's error said of an annotation."""
    what = str(error.what).replace("image is", "annotation is").replace("image's", "annotation's")
    remedy = error.remedy
    if what != error.what:
        remedy = "Copy it again from its source, or save it as a tiled TIFF of whole numbers"
    return type(error)(what, error.where or file, error.expected, error.found, remedy)


def _miscounted(file: Path, expected: str, count: int) -> InputError:
    return InputError(
        "annotation has another number of pages than there are sections",
        where=file,
        expected=expected,
        found=f"{count} pages",
        remedy="List the missing section in the manifest with a reason to exclude it, remove its page, or give each "
        "section a file of its own (sections: regions)",
    )


def _misfit(file: Path, expected: object, found: object) -> InputError:
    return InputError(
        "annotation does not fit the canvas",
        where=file,
        expected=expected,
        found=found,
        remedy="Draw it in the canvas plane, or give the canvas or the pixel size it was drawn at in the manifest",
    )
