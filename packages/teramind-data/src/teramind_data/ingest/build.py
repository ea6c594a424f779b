"""The whole of ingest: a brain's raw sections in, an atlas store out.

The inputs are found and checked, transcripts laid out by place in a scratch folder and the intensity windows measured
before the output exists. Then the store is written shard by shard and declared complete last. Memory is bounded by a
shard and a row of tiles, not by the canvas.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.errors import InputError, OutputExistsError, PanelError, TeramindError
from teramind_data.geometry import BIN_PX, Box, ceil_div, tiles
from teramind_data.ingest import merscope
from teramind_data.ingest.intensity import Histogram, Window
from teramind_data.ingest.plan import IngestConfig, Plan, PlannedSection, make_plan
from teramind_data.ingest.provenance import provenance, section_registration, section_source
from teramind_data.ingest.rasterize import bin_counts, pull, sample
from teramind_data.ingest.regions import read_names, read_regions
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.spill import TILE_PX, Spill
from teramind_data.ingest.tissue import tissue_mask
from teramind_data.panel import Panel
from teramind_data.store import (
    Brain,
    BrainSpec,
    BrainWriter,
    Section,
    create_brain,
    open_brain,
    resume_brain,
    store_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CANVAS_STEP = 256
RIM_PX = 2  # transcripts this little outside do not make the canvas a tile larger: registrations round
HISTOGRAM_STEP = 2  # every 2nd pixel in y and x tells the intensity windows
_HISTOGRAM_BLOCK = 512

Outcome = Literal["written", "up to date"]


@dataclass
class Measured:
    """What is known of a brain once its transcripts and intensities are read, before the store is begun."""

    plan: Plan
    panel: Panel
    canvas: tuple[int, int]
    origin_um: tuple[float, float]
    spill: Spill
    most_in_a_bin: int
    windows: dict[str, Window]
    counts: NDArray[np.int64]  # (sections, genes)
    density: Callable[[int], NDArray[np.int64]]
    qc: list[dict[str, Any]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


def ingest(config: IngestConfig) -> tuple[Outcome, Brain]:
    """Build the store of one brain; returns what was done and the open store.

    An output that is complete and made from the very same inputs is left alone (``up to date``); an incomplete one of
    the same inputs is continued; any other store is replaced with ``overwrite`` only, and what is no store never.

    Raises:
        TeramindError: one line naming the file and what to do. Where this run began the output, bad input leaves
            nothing of it; otherwise what is there stays marked incomplete.
    """
    state = _state(config)
    plan = make_plan(config)
    if state == "complete" and not config.overwrite:
        brain = open_brain(config.out)
        if brain.provenance.get("key") == plan.key:
            return "up to date", brain
        raise OutputExistsError(
            "output exists and was made from other inputs",
            where=config.out,
            expected=plan.key[:12],
            found=str(brain.provenance.get("key"))[:12],
            remedy="Choose another name or pass --overwrite",
        )
    if state == "incomplete" and not config.overwrite:
        found = open_brain(config.out, incomplete=True).provenance.get("key")
        if found != plan.key:
            raise OutputExistsError(
                "output is an unfinished store of other inputs",
                where=config.out,
                expected=plan.key[:12],
                found=str(found)[:12],
                remedy="Choose another name or pass --overwrite",
            )
    with _scratch(config.out) as folder:
        measured = measure(plan, Spill(folder))
        _regions(measured)  # so that an annotation that does not fit is refused before the store is begun
        return "written", _write(measured, fresh=state in ("absent", "empty"))


def _state(config: IngestConfig) -> str:
    state = store_state(config.out)
    if state == "foreign":
        raise OutputExistsError(
            "output exists and is no store of ours",
            where=config.out,
            expected="a new name or a teramind store",
            found="something else",
            remedy="Choose another name; it is never replaced, not even with --overwrite",
        )
    return state


@contextmanager
def _scratch(out: str) -> Iterator[Path]:
    """A scratch folder beside a local output (same disk), removed at the end, whatever happens."""
    parent, name = None, "teramind"
    if "://" not in out:
        path = Path(out).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        parent, name = path.parent, path.name
        for stale in parent.glob(f".{name}.scratch-*"):
            if not _alive(stale.name.rsplit("-", 2)[-2]):
                shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.scratch-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def measure(plan: Plan, spill: Spill) -> Measured:
    """Read all transcripts, fix canvas and panel, and find the intensity windows."""
    with progress(len(plan.sections), "transcripts", "sections") as advance:
        for section in plan.sections:
            spilled = spill.add(section)
            if not spilled.placed:
                raise InputError(
                    "section has no usable transcripts",
                    where=section.folder.transcripts,
                    expected="rows of genes with finite global_x and global_y",
                    found=f"{spilled.count.rows} rows, {spilled.count.controls} controls, "
                    f"{spilled.count.not_finite} without a place",
                    remedy="Restore the file, or exclude the section in the manifest and say why",
                )
            advance()
    shift, canvas = _canvas(plan, spill)
    panel = _panel(plan, spill)
    codes = spill.names.to_panel(panel)
    spill.settle(shift, canvas, codes)
    most, counts = _count(plan, spill, len(panel))
    origin = tuple(plan.origin_um[i] + shift[i] * plan.pixel_size_um for i in (0, 1))

    def density(section: int) -> NDArray[np.int64]:
        return _density(spill, section, canvas)

    windows, qc = _windows(plan, shift, canvas, density)
    return Measured(
        plan=plan,
        panel=panel,
        canvas=canvas,
        origin_um=(origin[0], origin[1]),
        spill=spill,
        most_in_a_bin=most,
        windows=windows,
        counts=counts,
        density=density,
        qc=qc,
        dropped={name: 0 for name, code in zip(spill.names.names, codes, strict=True) if code < 0},
    )


def _canvas(plan: Plan, spill: Spill) -> tuple[tuple[int, int], tuple[int, int]]:
    """The canvas's corner in plane pixels and its size.

    Given in the manifest; else from the plane's origin (moved up or left by whole tiles where transcripts lie before
    it) to the last transcript, rounded up to a multiple of 256.
    """
    low = [min(section.low[i] for section in spill.sections) for i in (0, 1)]
    high = [max(section.high[i] for section in spill.sections) for i in (0, 1)]
    if plan.manifest.canvas is not None:
        canvas, shift = plan.manifest.canvas, (0, 0)
        for section, spilled in zip(plan.sections, spill.sections, strict=True):
            area = Box(spilled.low[0], spilled.high[0] + 1, spilled.low[1], spilled.high[1] + 1)
            if area.clip(canvas) is None:
                raise InputError(
                    "section lies outside the canvas",
                    where=section.registration or section.folder.path,
                    expected=f"transcripts in {Box.from_shape(canvas)}",
                    found=f"in {area}",
                    remedy="Check the registration's direction and units, origin_um and canvas in the manifest",
                )
        return shift, canvas
    corner = [0, 0]
    if plan.manifest.origin_um is None:
        corner = [0 if edge >= -RIM_PX else (edge + RIM_PX) // CANVAS_STEP * CANVAS_STEP for edge in low]
    size = [
        max(CANVAS_STEP, ceil_div(edge + 1 - RIM_PX - start, CANVAS_STEP) * CANVAS_STEP)
        for edge, start in zip(high, corner, strict=True)
    ]
    return (corner[0], corner[1]), (size[0], size[1])


def _panel(plan: Plan, spill: Spill) -> Panel:
    own = merscope.collect_panel(
        (merscope.table_genes(section.folder) for section in plan.sections), spill.names.names
    )
    if plan.panel is None:
        return own
    try:
        own.positions(plan.panel)
    except PanelError as error:
        raise PanelError(
            "brain lacks genes of the panel",
            where=plan.config.panel,
            expected=error.expected,
            found=error.found,
            remedy="Take the common genes (teramind-data panel intersect) or another panel",
        ) from None
    return plan.panel


def _count(plan: Plan, spill: Spill, genes: int) -> tuple[int, NDArray[np.int64]]:
    """Most molecules of one gene in one bin, and molecules of each gene in each section."""
    most = 0
    counts = np.zeros((len(plan.sections), genes), np.int64)
    for section in plan.sections:
        for row in spill.tile_rows(section.index):
            counts[section.index] += np.bincount(row.gene, minlength=genes)
            if len(row):
                columns = row.x // BIN_PX
                flat = (row.gene * (TILE_PX // BIN_PX) + row.y % TILE_PX // BIN_PX) * (
                    columns.max() + 1
                ) + columns
                most = max(most, int(np.unique(flat, return_counts=True)[1].max()))
    return most, counts


def _density(spill: Spill, section: int, canvas: tuple[int, int]) -> NDArray[np.int64]:
    """Molecules of all genes in each bin of a section, ``(y/16, x/16)``."""
    out = np.zeros((canvas[0] // BIN_PX, canvas[1] // BIN_PX), np.int64)
    for number, row in enumerate(spill.tile_rows(section)):
        box = Box(number * TILE_PX, min((number + 1) * TILE_PX, canvas[0]), 0, canvas[1])
        out[box.coarsen(BIN_PX).slices] = bin_counts(row.y, row.x, np.zeros(len(row), np.int64), 1, box)[0]
    return out


def _windows(
    plan: Plan,
    shift: tuple[int, int],
    canvas: tuple[int, int],
    density: Callable[[int], NDArray[np.int64]],
) -> tuple[dict[str, Window], list[dict[str, Any]]]:
    """One window a stain for the whole brain, and each section's median intensity over tissue."""
    total = {stain: Histogram() for stain in plan.stains}
    qc: list[dict[str, Any]] = []
    with progress(len(plan.sections), "intensity", "sections") as advance:
        for section in plan.sections:
            tissue = tissue_mask(density(section.index), plan.pixel_size_um)
            numbers: dict[str, Any] = {}
            for stain in plan.stains:
                own = _tissue_histogram(section, stain, tissue, shift, canvas)
                total[stain].levels += own.levels
                if own.total:
                    numbers[f"{stain}_median"] = own.percentile(50)
            qc.append(numbers)
            advance()
    windows = {}
    for stain in plan.stains:
        given = plan.manifest.intensity.get(stain)
        windows[stain] = total[stain].window(stain) if given is None else Window(*given)
    return windows, qc


def _tissue_histogram(
    section: PlannedSection,
    stain: str,
    tissue: NDArray[np.uint8],
    shift: tuple[int, int],
    canvas: tuple[int, int],
) -> Histogram:
    histogram = Histogram()
    with Slide(section.images[stain]) as slide:
        for box in tiles(Box.from_shape(canvas), _HISTOGRAM_BLOCK):
            mask = tissue[box.coarsen(BIN_PX).slices]
            if mask.any():
                counts = sample(slide, section.to_image, box.shift(*shift), HISTOGRAM_STEP)
                fine = mask.repeat(BIN_PX // HISTOGRAM_STEP, 0).repeat(BIN_PX // HISTOGRAM_STEP, 1)
                histogram.add(counts[fine.astype(bool)])
    return histogram


def _write(measured: Measured, fresh: bool) -> Brain:
    """Write the store; where this run began it, bad input found on the way leaves nothing of it."""
    writer = _begin(measured)
    try:
        _write_morphology(measured, writer)
        _write_expression(measured, writer)
        writer.write_molecules(_sorted_molecules(measured))
        tissue = _write_labels(measured, writer)
        writer.set_sections(_sections(measured, tissue))
        _write_elements(measured, writer.url)
        return writer.finish()
    except TeramindError:
        if fresh and "://" not in writer.url:
            shutil.rmtree(writer.url, ignore_errors=True)
        raise


def _begin(measured: Measured) -> BrainWriter:
    plan, config = measured.plan, measured.plan.config
    spec = BrainSpec(
        kind="atlas",
        canvas=measured.canvas,
        pixel_size_um=plan.pixel_size_um,
        sections=tuple(
            Section(
                section.index,
                section.name,
                section.z_um,
                section_source(section),
                section_registration(section),
            )
            for section in plan.sections
        ),
        panel=measured.panel,
        stains=plan.stains,
        provenance=provenance(measured),
        expression_dtype="uint8" if measured.most_in_a_bin <= 255 else "uint16",
    )
    if store_state(config.out) == "incomplete" and not config.overwrite:
        return resume_brain(config.out, spec)
    return create_brain(config.out, spec, overwrite=config.overwrite)


def _write_morphology(measured: Measured, writer: BrainWriter) -> None:
    plan = measured.plan
    shift = _shift(measured)
    pending = writer.pending("morphology")
    with progress(len(pending), "images", "shards") as advance, ExitStack() as stack:
        slides: dict[str, Slide] = {}
        opened = -1
        for z, box in pending:
            if z != opened:
                stack.close()
                section, opened = plan.sections[z], z
                slides = {stain: stack.enter_context(Slide(file)) for stain, file in section.images.items()}
            out = np.empty((len(plan.stains), *box.shape), np.uint8)
            for channel, stain in enumerate(plan.stains):
                counts = pull(
                    slides[stain], plan.sections[z].to_image, box.shift(*shift), plan.manifest.interpolation
                )
                out[channel] = measured.windows[stain].apply(counts)
            writer.write("morphology", z, box, out)
            advance()


def _shift(measured: Measured) -> tuple[int, int]:
    """The canvas's corner in the plane pixels that S takes."""
    origin, first, pixel = measured.origin_um, measured.plan.origin_um, measured.plan.pixel_size_um
    return round((origin[0] - first[0]) / pixel), round((origin[1] - first[1]) / pixel)


def _write_expression(measured: Measured, writer: BrainWriter) -> None:
    genes, dtype = len(measured.panel), writer.spec.expression_dtype
    pending = writer.pending("expression")
    with progress(len(pending), "expression", "shards") as advance:
        # Shards come row by row: the molecules of a row of shards are read once for all its columns.
        for (z, y0, y1), row in groupby(pending, key=lambda unit: (unit[0], unit[1].y0, unit[1].y1)):
            band = measured.spill.band(z, Box(y0, y1, 0, 1).refine(BIN_PX))
            for _, bins in row:
                counts = bin_counts(band.y, band.x, band.gene, genes, bins.refine(BIN_PX))
                writer.write("expression", z, bins, counts.astype(dtype))
                advance()


def _sorted_molecules(measured: Measured) -> Iterator[tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    for section in measured.plan.sections:
        for row in measured.spill.tile_rows(section.index):
            yield section.index, row.y, row.x, row.gene


def _write_labels(measured: Measured, writer: BrainWriter) -> NDArray[np.uint8]:
    """Tissue and, where given, regions; returns the tissue ``(z, y/16, x/16)``."""
    plan = measured.plan
    shape = (len(plan.sections), measured.canvas[0] // BIN_PX, measured.canvas[1] // BIN_PX)
    tissue = np.zeros(shape, np.uint8)
    brain = open_brain(writer.url, incomplete=True)
    for section in plan.sections:
        dapi = _bin_means(brain, writer, section.index) if "DAPI" in plan.stains else None
        tissue[section.index] = tissue_mask(measured.density(section.index), plan.pixel_size_um, dapi)
    _put_labels(writer, brain, "tissue", tissue, None)
    regions = _regions(measured)
    if regions is not None:
        _put_labels(writer, brain, "regions", *regions)
    return tissue


def _regions(measured: Measured) -> tuple[NDArray[np.uint16], dict[int, str]] | None:
    """The annotation ``(z, y/16, x/16)`` and its names; None where there is none."""
    plan = measured.plan
    if plan.regions is None:
        return None
    kept = tuple(i for i, entry in enumerate(plan.manifest.sections) if entry.exclude is None)
    labels = read_regions(plan.regions[0], len(plan.manifest.sections), kept, measured.canvas)
    return labels, read_names(plan.regions[1])


def _put_labels(
    writer: BrainWriter, brain: Brain, name: str, array: NDArray[Any], names: dict[int, str] | None
) -> None:
    """Write a label image; a continued run finds it declared already."""
    if name not in brain.labels:
        writer.add_labels(name, array.dtype.name, names=names, array=array)
        return
    for z, plane in enumerate(array):
        writer.write(name, z, None, plane)


def _bin_means(brain: Brain, writer: BrainWriter, section: int) -> NDArray[np.float32]:
    """Mean of DAPI in each bin, from the shards as written (so that a continued run sees the same)."""
    channel = brain.stains.index("DAPI")
    out = np.empty((brain.canvas[0] // BIN_PX, brain.canvas[1] // BIN_PX), np.float32)
    for z, box in writer.shards("morphology"):
        if z == section:
            pixels = brain.read("morphology", z, box)[channel]
            bins = box.coarsen(BIN_PX)
            out[bins.slices] = pixels.reshape(bins.height, BIN_PX, bins.width, BIN_PX).mean(axis=(1, 3))
    return out


def _sections(measured: Measured, tissue: NDArray[np.uint8]) -> tuple[Section, ...]:
    """The sections with their quality numbers."""
    out = []
    for section, spilled, qc in zip(
        measured.plan.sections, measured.spill.sections, measured.qc, strict=True
    ):
        mask = tissue[section.index].astype(bool)
        stored = int(measured.counts[section.index].sum())
        within = int(measured.density(section.index)[mask].sum())
        area = float(mask.sum() * (BIN_PX * measured.plan.pixel_size_um) ** 2)
        numbers = {
            "transcripts_in_file": spilled.count.rows,
            "transcripts_controls": spilled.count.controls,
            "transcripts_not_finite": spilled.count.not_finite,
            "transcripts": stored,
            "transcripts_left_out": spilled.placed - stored,
            "transcripts_in_tissue": within / stored if stored else 0.0,
            "tissue_um2": area,
            "density_per_um2": within / area if area else 0.0,
            **qc,
        }
        out.append(
            Section(
                section.index,
                section.name,
                section.z_um,
                section_source(section),
                section_registration(section),
                numbers,
            )
        )
    return tuple(out)


def _write_elements(measured: Measured, url: str) -> None:
    from teramind_data.elements import write_points, write_sections_table

    # An earlier run that was stopped may have left either.
    write_points(url, overwrite=True)
    excluded = provenance(measured)["excluded"]
    write_sections_table(url, measured.counts, excluded=excluded, overwrite=True)
