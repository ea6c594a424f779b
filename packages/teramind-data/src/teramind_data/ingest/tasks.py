"""The units of work of an ingest. Each makes whole files of its own or writes whole shards, and may be repeated.

They are picklable callables of one item (see ``run``). What a process keeps open from one to the next, it keeps a
thread, and lets go with ``release``.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import RegistrationError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.heap import give_back_freed
from teramind_data.ingest.intensity import Histogram, Window
from teramind_data.ingest.memory import TILE_CACHE, Limits
from teramind_data.ingest.plan import PlannedSection
from teramind_data.ingest.raster import FileRows, Rows, strips
from teramind_data.ingest.rasterize import bin_counts, pull_levels, sample
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.spill import BLOCK_PX, Frame, LaidSection, SortedSection, Sorting, lay_down
from teramind_data.ingest.tissue import Work
from teramind_data.store import Brain, BrainWriter, open_brain, resume_brain

HISTOGRAM_STEP = 2  # every 2nd pixel in y and x tells the intensity windows
_BLOCK = 512
_READ_ROWS = 1024  # of a shard that is read back

Unit = tuple[int, Box]  # a section and a shard's box


class _Held(threading.local):
    """What this thread keeps open."""

    def __init__(self) -> None:
        give_back_freed()
        self.slides: dict[str, Slide] = {}
        self.of: tuple[str, int] | None = None
        self.writers: dict[tuple[str, str], BrainWriter] = {}


_held = _Held()


def release() -> None:
    """Close what this thread keeps open."""
    for slide in _held.slides.values():
        slide.close()
    _held.slides, _held.of, _held.writers = {}, None, {}


def _slides(run: str, section: PlannedSection) -> dict[str, Slide]:
    """The section's open images; those of the section before are closed."""
    if _held.of != (run, section.index):
        for slide in _held.slides.values():
            slide.close()
        _held.slides, _held.of = {}, None
        with ExitStack() as stack:
            slides = {
                stain: stack.enter_context(Slide(file, TILE_CACHE)) for stain, file in section.images.items()
            }
            stack.pop_all()
        _held.slides, _held.of = slides, (run, section.index)
    return _held.slides


def _writer(run: str, url: str) -> BrainWriter:
    if (run, url) not in _held.writers:
        _held.writers = {(run, url): resume_brain(url)}
    return _held.writers[run, url]


@dataclass(frozen=True)
class ReadTranscripts:
    """A section's transcripts, laid down by place."""

    scratch: Path

    def __call__(self, section: PlannedSection) -> LaidSection:
        """Read one section."""
        give_back_freed()
        try:
            return lay_down(self.scratch, section)
        except RegistrationError as error:
            # The transform knows the place, not the file it came from.
            what = f"{error.what} {error.where}"
            raise RegistrationError(
                what, section.registration, error.expected, error.found, error.remedy
            ) from error


@dataclass(frozen=True)
class MeasuredSection:
    """What is known of a section before the store is begun."""

    molecules: SortedSection
    density: FileRows  # molecules of all genes in each bin
    counts: NDArray[np.int64]  # of each gene
    most_in_a_bin: int
    levels: Mapping[str, NDArray[np.int64]]  # histogram of each stain over tissue


@dataclass(frozen=True)
class MeasureSection:
    """Sorts a section's molecules, counts them, and finds the intensities of its tissue."""

    run: str
    scratch: Path
    pixel_size_um: float
    frame: Frame
    genes: int
    limits: Limits

    def __call__(self, item: tuple[PlannedSection, LaidSection, NDArray[np.int64]]) -> MeasuredSection:
        """Measure one section; ``item``'s last is the panel index of each of its gene numbers."""
        section, laid, codes = item
        shape = (self.frame.canvas[0] // BIN_PX, self.frame.canvas[1] // BIN_PX)
        folder = Path(tempfile.mkdtemp(prefix=f"{section.index}-bins-", dir=self.scratch))
        density = FileRows.create(folder / "density", shape, "int32")
        sorting = Sorting(self.frame, codes, self.limits.molecules)
        molecules, blocks = sorting.sort(self.scratch, laid, section.index)
        counts, most = np.zeros(self.genes, np.int64), 0
        ny, nx = self.frame.grid
        for iy in range(ny):
            first = self.frame.block(iy, 0)
            band = np.zeros((first.height // BIN_PX, shape[1]), np.int32)
            for ix in range(nx):
                block, box = next(blocks), self.frame.block(iy, ix)
                counts += np.bincount(block.gene, minlength=self.genes)
                bins = bin_counts(block.y, block.x, np.zeros(len(block), np.int64), 1, box)[0]
                band[:, box.coarsen(BIN_PX).slices[1]] = bins
                most = max(most, _most(block.y, block.x, block.gene, int(bins.max())))
            density.write(first.y0 // BIN_PX, band)
        for _ in blocks:  # its end writes the index
            pass
        tissue = _tissue(self.scratch, section.index, density, None, self.pixel_size_um, self.limits)
        levels = {
            stain: self._histogram(slide, section, tissue).levels
            for stain, slide in _slides(self.run, section).items()
        }
        return MeasuredSection(molecules, density, counts, most, levels)

    def _histogram(self, slide: Slide, section: PlannedSection, tissue: Rows) -> Histogram:
        histogram = Histogram()
        canvas = Box.from_shape(self.frame.canvas)
        for y0, y1 in strips(canvas.height, _BLOCK):
            rows = tissue.read(y0 // BIN_PX, y1 // BIN_PX)
            for box in tiles(Box(y0, y1, 0, canvas.width), _BLOCK):
                mask = rows[:, box.coarsen(BIN_PX).slices[1]]
                if mask.any():
                    counts = sample(slide, section.to_image, box.shift(*self.frame.shift), HISTOGRAM_STEP)
                    step = BIN_PX // HISTOGRAM_STEP
                    histogram.add(counts[mask.repeat(step, 0).repeat(step, 1).astype(bool)])
        return histogram


def _most(y: NDArray[Any], x: NDArray[Any], gene: NDArray[Any], bound: int) -> int:
    """Most molecules of a gene in a bin; ``bound`` is that of all genes together."""
    if bound <= 255:  # only whether it is more matters
        return bound
    bins = BLOCK_PX // BIN_PX
    flat = (gene * bins + y % BLOCK_PX // BIN_PX) * bins + x % BLOCK_PX // BIN_PX
    flat.sort()
    edges = np.flatnonzero(np.diff(flat, prepend=-1, append=-1))
    return int(np.diff(edges).max())


def _tissue(
    scratch: Path, index: int, density: Rows, dapi: Rows | None, pixel_size_um: float, limits: Limits
) -> Rows:
    folder = Path(tempfile.mkdtemp(prefix=f"{index}-tissue-", dir=scratch))

    def make(name: str, shape: tuple[int, int], dtype: str) -> Rows:
        return FileRows.create(folder / name, shape, dtype)

    found = Work(pixel_size_um, limits.strip_rows(density.shape[1]), make).mask(density, dapi)
    for file in folder.iterdir():
        if not (isinstance(found, FileRows) and file == found.path):
            file.unlink()
    return found


@dataclass(frozen=True)
class Target:
    """The store being written; ``run`` tells its writer from that of an earlier store of this name."""

    run: str
    url: str

    def writer(self, name: str) -> BrainWriter:
        """This thread's writer; opened again where ``name`` was declared after it was."""
        writer = _writer(self.run, self.url)
        if name not in writer.names:
            _held.writers = {}
            writer = _writer(self.run, self.url)
        return writer


@dataclass(frozen=True)
class WriteImages:
    """Pulls a shard of both stains through the registration."""

    target: Target
    sections: tuple[PlannedSection, ...]
    shift: tuple[int, int]
    windows: Mapping[str, Window]
    interpolation: str

    def __call__(self, unit: Unit) -> None:
        """Write one shard."""
        z, box = unit
        section = self.sections[z]
        out = np.empty((len(self.windows), *box.shape), np.uint8)
        slides = _slides(self.target.run, section)
        for channel, (stain, window) in enumerate(self.windows.items()):
            place = box.shift(*self.shift)
            pull_levels(slides[stain], section.to_image, place, window, out[channel], self.interpolation)
        self.target.writer("morphology").write("morphology", z, box, out)


@dataclass(frozen=True)
class WriteExpression:
    """Counts a shard's molecules in bins."""

    target: Target
    molecules: tuple[SortedSection, ...]
    genes: int
    dtype: str

    def __call__(self, unit: Unit) -> None:
        """Write one shard; its box is in bins."""
        z, bins = unit
        place = bins.y0 * BIN_PX // BLOCK_PX, bins.x0 * BIN_PX // BLOCK_PX
        block = self.molecules[z].block(*place)
        shape = (self.genes, *bins.shape)
        if not len(block):
            nothing = np.broadcast_to(np.zeros((), self.dtype), shape)
            self.target.writer("expression").write("expression", z, bins, nothing)
            return
        out = bin_counts(block.y, block.x, block.gene, self.genes, bins.refine(BIN_PX), self.dtype)
        self.target.writer("expression").write("expression", z, bins, out)


@dataclass(frozen=True)
class WriteTissue:
    """Finds a section's tissue from its molecules and the stored DAPI, and writes it."""

    target: Target
    scratch: Path
    density: tuple[FileRows, ...]
    pixel_size_um: float
    limits: Limits

    def __call__(self, z: int) -> None:
        """Write one section."""
        writer, density = self.target.writer("tissue"), self.density[z]
        brain = open_brain(self.target.url, incomplete=True)
        dapi = self._stain(brain, writer, z) if "DAPI" in brain.stains else None
        mask = _tissue(self.scratch, z, density, dapi, self.pixel_size_um, self.limits)
        for _, box in (unit for unit in writer.shards("tissue") if unit[0] == z):
            writer.write("tissue", z, box, mask.read(box.y0, box.y1)[:, box.x0 : box.x1])

    def _stain(self, brain: Brain, writer: BrainWriter, z: int) -> Rows:
        """Mean of DAPI in each bin, from the shards as written (so that a continued run sees the same)."""
        channel = brain.stains.index("DAPI")
        shape = self.density[z].shape
        folder = Path(tempfile.mkdtemp(prefix=f"{z}-stain-", dir=self.scratch))
        out = FileRows.create(folder / "dapi", shape, "float32")
        boxes = [box for section, box in writer.shards("morphology") if section == z]
        for y0 in sorted({box.y0 for box in boxes}):
            row = [box for box in boxes if box.y0 == y0]
            band = np.zeros((row[0].height // BIN_PX, shape[1]), np.float32)
            for box in row:
                if brain.blank("morphology", z, box):
                    continue
                for part in tiles(box, (_READ_ROWS, box.width)):
                    pixels = brain.read("morphology", z, part)[channel]
                    if pixels.any():
                        bins = part.coarsen(BIN_PX)
                        means = pixels.reshape(bins.height, BIN_PX, bins.width, BIN_PX).mean(axis=(1, 3))
                        top = bins.y0 - y0 // BIN_PX
                        band[top : top + bins.height, bins.x0 : bins.x1] = means
            out.write(y0 // BIN_PX, band)
        return out
