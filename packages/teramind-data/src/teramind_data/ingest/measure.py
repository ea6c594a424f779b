"""From a checked plan to all that must be known before the store is begun: canvas, panel, windows, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.errors import InputError
from teramind_data.geometry import Box, ceil_div
from teramind_data.ingest import merscope
from teramind_data.ingest.folds import check_fold
from teramind_data.ingest.intensity import Histogram, Window
from teramind_data.ingest.memory import Limits, limits
from teramind_data.ingest.placement import check_on_image, check_together, extent
from teramind_data.ingest.plan import Plan
from teramind_data.ingest.spill import Frame, LaidSection
from teramind_data.ingest.tasks import MeasuredSection, MeasureSection, ReadTranscripts
from teramind_data.panel import Panel
from teramind_data.workers import Runner

CANVAS_STEP = 256
RIM_PX = 2  # transcripts this little outside do not make the canvas a tile larger: registrations round
_MOST_IN_A_BIN = 65535

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Measured:
    """What is known of a brain once its transcripts and intensities are read, before the store is begun.

    ``dropped``: genes it has that were not asked for; ``missing``: genes asked for that it lacks.
    """

    plan: Plan
    panel: Panel
    frame: Frame
    limits: Limits
    laid: tuple[LaidSection, ...]
    sections: tuple[MeasuredSection, ...]
    windows: Mapping[str, Window]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.frame.canvas

    @property
    def origin_um(self) -> tuple[float, float]:
        """The canvas's corner in the plane: y, x in um."""
        first, pixel = self.plan.origin_um, self.plan.pixel_size_um
        return first[0] + self.frame.shift[0] * pixel, first[1] + self.frame.shift[1] * pixel

    @property
    def most_in_a_bin(self) -> int:
        """Most molecules of a gene in a bin, or a bound of it up to 255."""
        return max(section.most_in_a_bin for section in self.sections)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Molecules of each gene in each section, ``(sections, genes)``."""
        return np.stack([section.counts for section in self.sections])

    def medians(self, section: int) -> dict[str, int]:
        """Median intensity over tissue of each stain that is there."""
        found = {}
        for stain, levels in self.sections[section].levels.items():
            histogram = Histogram(levels)
            if histogram.total:
                found[f"{stain}_median"] = histogram.percentile(50)
        return found


def collect(
    runner: Runner, task: Callable[[T], R], items: Iterable[T], words: tuple[str, str]
) -> Iterator[tuple[T, R]]:
    """Run a task for all items, and show how far it is; ``words``: what is done, and to what."""
    listed = list(items)
    with progress(len(listed), *words) as advance:
        for pair in runner.map(task, listed):
            advance()
            yield pair


def measure(plan: Plan, scratch: Path, run: str, runner: Runner) -> Measured:
    """Read all transcripts, fix canvas and panel, and find the intensity windows."""
    budget = plan.config.memory
    limits(budget, len(plan.stains), 0)  # too little for the images is told before hours of reading
    found: dict[int, LaidSection] = {}
    for section, laid in collect(
        runner, ReadTranscripts(scratch), plan.sections, ("transcripts", "sections")
    ):
        found[section.index] = laid
    laid_all = tuple(found[section.index] for section in plan.sections)
    _check_placed(plan, laid_all)
    for section, laid in zip(plan.sections, laid_all, strict=True):
        check_fold(section.to_image, extent(laid), where=section.registration)
        check_on_image(section, laid)
    if plan.manifest.canvas is None:
        check_together(plan.sections, laid_all)
    frame = _frame(plan, laid_all)
    names = {name for laid in laid_all for name in laid.names.names}
    panel, missing = _panel(plan, names)
    codes = [laid.names.to_panel(panel, plan.aliases) for laid in laid_all]
    fits = limits(budget, len(plan.stains), len(panel), 2)
    task = MeasureSection(run, scratch, plan.pixel_size_um, frame, len(panel), fits)
    measured: dict[int, MeasuredSection] = {}
    work = zip(plan.sections, laid_all, codes, strict=True)
    for (section, laid, _), result in collect(runner, task, work, ("places and intensity", "sections")):
        measured[section.index] = result
        rmtree(laid.folder)
    sections = tuple(measured[section.index] for section in plan.sections)
    _check_counts(sections)
    kept = [set(np.array(laid.names.names)[code >= 0]) for laid, code in zip(laid_all, codes, strict=True)]
    dropped = tuple(names.difference(*kept))
    windows = _windows(plan, sections)
    return Measured(plan, panel, frame, fits, laid_all, sections, windows, dropped, missing)


def _check_placed(plan: Plan, laid_all: tuple[LaidSection, ...]) -> None:
    for section, laid in zip(plan.sections, laid_all, strict=True):
        if not laid.placed:
            raise InputError(
                "section has no usable transcripts",
                where=section.folder.transcripts,
                expected="rows of genes with finite global_x and global_y",
                found=f"{laid.count.rows} rows, {laid.count.controls} controls, "
                f"{laid.count.not_finite} without a place, {laid.count.other_planes} of other planes, "
                f"{laid.far} too far away",
                remedy="Restore the file, or exclude the section in the manifest and say why",
            )


def _check_counts(sections: tuple[MeasuredSection, ...]) -> None:
    most = max(section.most_in_a_bin for section in sections)
    if most > _MOST_IN_A_BIN:
        raise InputError(
            "a bin holds too many molecules of a gene", expected=f"at most {_MOST_IN_A_BIN}", found=most
        )


def _frame(plan: Plan, laid_all: tuple[LaidSection, ...]) -> Frame:
    """The canvas's corner in plane pixels and its size.

    Given in the manifest; else from the plane's origin (moved up or left by whole tiles where transcripts lie before
    it) to the last transcript, rounded up to a multiple of 256.
    """
    low = [min(laid.low[i] for laid in laid_all) for i in (0, 1)]
    high = [max(laid.high[i] for laid in laid_all) for i in (0, 1)]
    if plan.manifest.canvas is not None:
        _check_inside(plan, laid_all, plan.manifest.canvas)
        return Frame((0, 0), plan.manifest.canvas)
    corner = [0, 0]
    if plan.manifest.origin_um is None:
        corner = [0 if edge >= -RIM_PX else (edge + RIM_PX) // CANVAS_STEP * CANVAS_STEP for edge in low]
    size = [
        max(CANVAS_STEP, ceil_div(edge + 1 - RIM_PX - start, CANVAS_STEP) * CANVAS_STEP)
        for edge, start in zip(high, corner, strict=True)
    ]
    return Frame((corner[0], corner[1]), (size[0], size[1]))


def _check_inside(plan: Plan, laid_all: tuple[LaidSection, ...], canvas: tuple[int, int]) -> None:
    for section, laid in zip(plan.sections, laid_all, strict=True):
        area = extent(laid)
        if area.clip(canvas) is None:
            raise InputError(
                "section lies outside the canvas",
                where=section.registration or section.folder.path,
                expected=f"transcripts in {Box.from_shape(canvas)}",
                found=f"in {area}",
                remedy="Check the registration's direction and units, origin_um and canvas in the manifest",
            )


def _panel(plan: Plan, names: set[str]) -> tuple[Panel, tuple[str, ...]]:
    """The store's panel, and which genes that were asked for the brain lacks."""
    own = merscope.collect_panel(
        (merscope.table_genes(section.folder) for section in plan.sections), sorted(names), plan.aliases
    )
    wanted = plan.wanted
    return (own, ()) if wanted is None else wanted.choose(own)


def _windows(plan: Plan, sections: tuple[MeasuredSection, ...]) -> dict[str, Window]:
    """One window a stain for the whole brain."""
    windows = {}
    for stain in plan.stains:
        given: Any = plan.manifest.intensity.get(stain)
        if given is None:
            total = Histogram(
                sum((section.levels[stain] for section in sections), np.zeros(1 << 16, np.int64))
            )
            windows[stain] = total.window(stain)
        else:
            windows[stain] = Window(*given)
    return windows
