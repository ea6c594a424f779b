"""The whole of ingest: a brain's raw sections in, an atlas store out.

The inputs are found and checked, transcripts laid out by place in a scratch folder and the intensity windows measured
before the output exists. Then the store is written shard by shard, by tasks that may run anywhere and twice, and
declared complete last. Memory is bounded by a budget, not by the canvas.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from teramind_data.brain import Brain, open_brain
from teramind_data.cell_elements import SectionCells, write_cells
from teramind_data.console import note
from teramind_data.errors import InputError, OutputExistsError, RemoteError, TeramindError
from teramind_data.ingest import tasks
from teramind_data.ingest.annotate import Annotation, WriteRegions, read_annotation
from teramind_data.ingest.cells import cell_notes, read_cells
from teramind_data.ingest.measure import Measured, collect, measure
from teramind_data.ingest.plan import IngestConfig, Plan, make_plan
from teramind_data.ingest.provenance import provenance, section_registration, section_source
from teramind_data.ingest.quality import sections_with_quality
from teramind_data.ingest.scratch import scratch_folder
from teramind_data.store import (
    BrainSpec,
    BrainWriter,
    Section,
    create_brain,
    discard_store,
    resume_brain,
    store_state,
    tidy_store,
)
from teramind_data.workers import Runner, Serial, runner

Outcome = Literal["written", "up to date"]


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
        return "up to date", _same(config, plan)
    if state == "incomplete" and not config.overwrite:
        _check_key(config, plan, "output is an unfinished store of other inputs")
    for doubt in plan.doubts:  # before the hours of reading, not after
        note(doubt)
    with (
        scratch_folder(config.out, config.scratch) as folder,
        runner(config.workers, config.scheduler) as where,
    ):
        if config.out.startswith("memory:") and not isinstance(where, Serial):
            raise InputError(
                "a store in memory belongs to one process",
                where=config.out,
                remedy="Use one worker, or write elsewhere",
            )
        run = uuid.uuid4().hex
        try:
            measured = measure(plan, folder, run, where)
            # An annotation that does not fit is refused before the store is begun.
            annotation = read_annotation(measured, folder, where)
            cells = read_cells(measured, folder, where)
            fresh = state in ("absent", "empty")
            return "written", _write(measured, _Run(run, folder, where, annotation, cells), fresh)
        finally:
            tasks.release()


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


def _same(config: IngestConfig, plan: Plan) -> Brain:
    """The complete store that is there, if it was made from these inputs."""
    _check_key(config, plan, "output exists and was made from other inputs")
    tidy_store(config.out)
    return open_brain(config.out)


def _check_key(config: IngestConfig, plan: Plan, complaint: str) -> None:
    found = open_brain(config.out, incomplete=True).provenance.get("key")
    if found != plan.key:
        raise OutputExistsError(
            complaint,
            where=config.out,
            expected=plan.key[:12],
            found=str(found)[:12],
            remedy="Choose another name or pass --overwrite",
        )


class _Run:
    """This run: its name, where it puts what does not outlive it, where its tasks run; regions and cells it read."""

    def __init__(
        self,
        name: str,
        scratch: Path,
        where: Runner,
        annotation: Annotation | None,
        cells: tuple[SectionCells, ...] | None,
    ) -> None:
        self.name = name
        self.scratch = scratch
        self.where = where
        self.annotation = annotation
        self.cells = cells


def _write(measured: Measured, run: _Run, fresh: bool) -> Brain:
    """Write the store; where this run began it, bad input found on the way leaves nothing of it."""
    writer = _begin(measured, run)
    target = tasks.Target(run.name, writer.url)
    try:
        _write_images(measured, writer, target, run.where)
        _write_expression(measured, writer, target, run.where)
        if not writer.has_molecules:
            writer.write_molecules(_sorted_molecules(measured))
        _write_labels(measured, writer, target, run)
        writer.set_sections(sections_with_quality(measured, writer.url, run.where, _known(run)))
        _write_elements(measured, run, writer.url)
        return Brain(writer.finish())
    except RemoteError:
        # The input may well be good: what is there is continued by the next run.
        raise
    except TeramindError:
        if fresh:
            tasks.release()
            discard_store(writer.url)
        raise


def _begin(measured: Measured, run: _Run) -> BrainWriter:
    plan, config = measured.plan, measured.plan.config
    names = tuple(section.name for section in plan.sections)
    notes = [] if run.annotation is None else run.annotation.notes(names)
    notes += cell_notes(plan, run.cells)
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
        provenance=provenance(measured, notes),
        expression_dtype="uint8" if measured.most_in_a_bin <= 255 else "uint16",
    )
    if store_state(config.out) == "incomplete" and not config.overwrite:
        return resume_brain(config.out, spec)
    return create_brain(config.out, spec, overwrite=config.overwrite)


def _write_images(measured: Measured, writer: BrainWriter, target: tasks.Target, where: Runner) -> None:
    plan = measured.plan
    task = tasks.WriteImages(
        target, plan.sections, measured.frame.shift, measured.windows, plan.manifest.interpolation
    )
    for _ in collect(where, task, writer.pending("morphology"), ("images", "shards")):
        pass


def _write_expression(measured: Measured, writer: BrainWriter, target: tasks.Target, where: Runner) -> None:
    task = tasks.WriteExpression(
        target,
        tuple(section.molecules for section in measured.sections),
        len(measured.panel),
        writer.spec.expression_dtype,
    )
    for _ in collect(where, task, writer.pending("expression"), ("expression", "shards")):
        pass


def _sorted_molecules(measured: Measured) -> Iterator[tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    for index, section in enumerate(measured.sections):
        for batch in section.molecules.batches():
            yield index, batch.y, batch.x, batch.gene


def _write_labels(measured: Measured, writer: BrainWriter, target: tasks.Target, run: _Run) -> None:
    """Tissue and, where given, regions."""
    plan = measured.plan
    indices = [section.index for section in plan.sections]
    if "tissue" not in writer.names:
        writer.add_labels("tissue", "uint8")
    density = tuple(section.density for section in measured.sections)
    task = tasks.WriteTissue(target, run.scratch, density, plan.pixel_size_um, measured.limits)
    for _ in collect(run.where, task, indices, ("tissue", "sections")):
        pass
    if run.annotation is not None:
        legend = run.annotation.legend
        if "regions" not in writer.names:
            writer.add_labels("regions", "uint16", names=legend.names, attrs=run.annotation.attributes())
        regions = WriteRegions(target, run.annotation)
        for _ in collect(run.where, regions, indices, ("regions", "sections")):
            pass


def _known(run: _Run) -> dict[int, dict[str, float]]:
    """What annotation and cells say of each section's quality."""
    found: dict[int, dict[str, float]] = {}
    for index, section in enumerate(run.annotation.sections if run.annotation is not None else ()):
        found.setdefault(index, {})["transcripts_in_regions"] = section.share
    for own in run.cells or ():
        found.setdefault(own.section, {}).update(own.numbers)
    return found


def _write_elements(measured: Measured, run: _Run, url: str) -> None:
    from teramind_data.elements import write_points, write_sections_table

    # An earlier run that was stopped may have left either.
    write_points(url, overwrite=True)
    excluded = provenance(measured)["excluded"]
    write_sections_table(url, measured.counts, excluded=excluded, overwrite=True)
    if run.cells is not None:
        write_cells(url, run.cells)
