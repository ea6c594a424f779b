"""From an atlas and a checkpoint to attention maps in a store and the matrix of all genes in a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.console import Advance, progress
from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.store import (
    Addition,
    Brain,
    ImageSpec,
    begin_addition,
    open_brain,
    tidy_store,
)
from teramind_model.attention.config import AttentionConfig
from teramind_model.attention.estimate import (
    attention_memory,
    check_attention_memory,
    pick_batch,
    projection,
    seconds_a_patch,
    seconds_to_read,
    unit_patches,
)
from teramind_model.attention.kernel import CHANNELS, Kernel
from teramind_model.attention.maps import Matrices, unit_maps
from teramind_model.attention.sums import RegionLabels, UnitSums
from teramind_model.attention.table import (
    COLUMNS,
    Pair,
    draw_heatmap,
    strongest_pairs,
    table_groups,
    write_table,
)
from teramind_model.attention.target import (
    MatrixTarget,
    Part,
    atlas_sections,
    existing_store,
    image_spec,
    maps_store,
    up_to_date,
)
from teramind_model.attention.units import CountsReader, Unit, ahead, plan_units
from teramind_model.generate.output import atlas_identity, software_versions
from teramind_model.generate.source import Source, load_source, pick_device
from teramind_model.pathways import Pathway, check_genes, distinct, measured

if TYPE_CHECKING:
    from teramind_model.network import TeraMind

__all__ = ["AttentionResult", "write_attention"]

_PAIRS = 10
"""Strongest pairs returned."""

Say = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class AttentionResult:
    """What is there after a run, made by it or before.

    Attributes:
        brain: the store with the maps; None where only the matrix was asked for.
        images: names of the maps.
        files: the table, what says how it was made, and its picture; empty without the matrix.
        pairs: the strongest over the brain (:func:`strongest_pairs`); only of a table just made.
    """

    brain: Brain | None
    images: tuple[str, ...]
    files: tuple[Path, ...]
    pairs: tuple[Pair, ...]


def write_attention(
    config: AttentionConfig, source: Source | None = None, *, say: Say = _to_stderr
) -> AttentionResult:
    """Compute maps and add them to a store as ``images/attention_<name>`` (c z y x, float16, bins); sum the matrix.

    Stopped anywhere, the same call goes on at the first block that is not written; the results end byte-identical to
    those of an undisturbed run on the same kind of device. What is there already and was made from the same things is
    left as it is.

    Args:
        config: what is asked for.
        source: the network, where it is loaded already; ``config.checkpoint`` otherwise.
        say: takes the lines for the person at the keyboard.

    Raises:
        PanelError: where the atlas lacks genes of the checkpoint, or the checkpoint genes of a pathway.
        OutputExistsError: where there is another image or table of a name, or another run is writing here.
        InputError: where the store's canvas or sections are not the atlas's, or the job does not fit the memory.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    atlas = open_brain(config.atlas)
    source = load_source(config.checkpoint, pick_device(config.device)) if source is None else source
    job = _plan(config, source, atlas, say)
    images = _images(config, source, job, say)
    matrix = job.matrix if job.matrix and not job.matrix.up_to_date(overwrite=config.overwrite) else None
    if job.matrix and matrix is None:
        say(f"{job.matrix.path}: up to date, skipped")
    pairs: tuple[Pair, ...] = ()
    with ExitStack() as stack:
        addition = None
        if config.out is not None and images:
            store = maps_store(config.out, atlas, source)
            addition = stack.enter_context(begin_addition(store.url, images, overwrite=config.overwrite))
        if matrix is not None:
            stack.enter_context(matrix.begun())
        if addition is not None or matrix is not None:
            _compute(job, addition, matrix, say)
        if addition is not None:
            addition.finish()
        if matrix is not None:
            pairs = _finish_matrix(job, source, matrix, say)
    files = () if job.matrix is None else _files(job.matrix.path)
    names = tuple(pathway.image for pathway in job.pathways)
    if config.out is None or not names:
        return AttentionResult(None, names, files, pairs)
    # Of an addition that was killed when it was whole and its journal was not yet gone.
    tidy_store(config.out)
    return AttentionResult(open_brain(config.out), names, files, pairs)


@dataclass(frozen=True)
class _Job:
    """Everything decided before anything is written.

    ``sections`` are the atlas's sections of the store's, in its order; of the atlas itself where there is no store.
    """

    config: AttentionConfig
    atlas: Brain
    channels: NDArray[np.int64]
    pathways: tuple[Pathway, ...]
    kernel: Kernel
    part: Part
    sections: tuple[int, ...]
    units: tuple[Unit, ...]
    batch: int
    labels: RegionLabels
    matrix: MatrixTarget | None


def _plan(config: AttentionConfig, source: Source, atlas: Brain, say: Say) -> _Job:
    model = _with_gene_attention(source)
    source.check_pixel_size(atlas)
    channels = source.gene_positions(atlas)
    pathways = _pathways(config, source, say)
    part = _part(config, atlas)
    out = None if config.out is None else existing_store(config.out)
    sections = tuple(range(atlas.n_sections)) if out is None else atlas_sections(out, atlas)
    kernel = Kernel(model, [source.panel.positions(pathway.genes) for pathway in pathways], config.precision)
    layout = atlas.layout("expression").levels[0]
    shard = (atlas if out is None else out).spec.shard_px // BIN_PX
    wanted = [z for z in sections if part.first <= z < part.end]
    if not wanted:
        raise InputError(
            "none of the sections is in the store", config.out, f"some of {part.first}:{part.end}", "none"
        )
    region = part.region.coarsen(BIN_PX)
    units = plan_units(tiles(layout.box, shard), region, wanted, atlas.n_sections, model.config)
    full = config.matrix is not None
    batch = config.batch or pick_batch(model.config, len(kernel.union), kernel.device.type, full=full)
    labels = RegionLabels.of(atlas)
    groups = len(labels.values) + len(wanted) + 1 if full else 0
    width = atlas.expression.dtype.itemsize
    need = attention_memory(model.config, kernel, units, batch, (len(atlas.panel or ()), width), groups)
    check_attention_memory(need, config.memory, kernel)
    matrix = None
    if config.matrix is not None:
        request = _request(config, source, atlas, part, wanted) | {
            "shard_bins": shard,
            "labels": labels.element,
        }
        matrix = MatrixTarget(config.matrix, request, model.config.genes)
    return _Job(config, atlas, channels, pathways, kernel, part, sections, units, batch, labels, matrix)


def _with_gene_attention(source: Source) -> TeraMind:
    from teramind_model.network import TeraMind

    if not isinstance(source.model, TeraMind):
        raise InputError(
            "the method has no attention between genes",
            where=source.path,
            expected="a checkpoint of tera-mind",
            found=source.method.name,
        )
    return source.model


def _pathways(config: AttentionConfig, source: Source, say: Say) -> tuple[Pathway, ...]:
    if config.out is None:
        return ()
    if config.pathways is not None:
        asked = distinct(config.pathways)
        check_genes(asked, source.panel, source.path)
        return asked
    there, lacking = measured(source.panel)
    for name, genes in lacking.items():
        say(f"{name} is left out: the checkpoint's panel has no {' and no '.join(genes)}")
    if not there and config.matrix is None:
        raise InputError(
            "the panel has the genes of none of the paper's pathways",
            where=source.path,
            found="; ".join(f"{name} lacks {', '.join(genes)}" for name, genes in lacking.items()),
            remedy="Give --pair, --genes or --pathways-file, or --matrix",
        )
    return there


def _part(config: AttentionConfig, atlas: Brain) -> Part:
    first, end = config.sections or (0, atlas.n_sections)
    if end > atlas.n_sections:
        raise InputError(
            "sections are not in the atlas", atlas.url, f"within 0:{atlas.n_sections}", f"{first}:{end}"
        )
    whole = Box.from_shape(atlas.canvas)
    region = whole if config.roi is None else config.roi
    if not whole.contains(region):
        raise InputError("region is not on the canvas", atlas.url, f"inside {whole}", region)
    return Part(first, end, region.cover(BIN_PX))


def _images(config: AttentionConfig, source: Source, job: _Job, say: Say) -> tuple[ImageSpec, ...]:
    """The images that the store does not have yet, or that are to be replaced."""
    if config.out is None:
        return ()
    there = existing_store(config.out)
    wanted = (image_spec(p, source, job.atlas, job.part, config.precision) for p in job.pathways)
    if there is None or config.overwrite:
        return tuple(wanted)
    missing = []
    for image in wanted:
        if up_to_date(there, image):
            say(f"{config.out}: {image.name} is up to date, skipped")
        else:
            missing.append(image)
    return tuple(missing)


def _request(
    config: AttentionConfig, source: Source, atlas: Brain, part: Part, wanted: Sequence[int]
) -> dict[str, Any]:
    """All that decides the matrix."""
    return {
        "checkpoint": source.sha256,
        "atlas": atlas_identity(atlas)["fingerprint"],
        "precision": config.precision,
        "version": CHANNELS[-1],
        **part.to_dict(),
        "sections": list(wanted),
    }


def _compute(job: _Job, addition: Addition | None, matrix: MatrixTarget | None, say: Say) -> None:
    """All units that are not done: maps into the store, sums into the matrix."""
    pending = {} if addition is None else {name: set(addition.pending(name)) for name in addition.names}
    index = {z: number for number, z in enumerate(job.sections)}
    _write_zeros(job, addition, pending)
    position = len(job.units) if matrix is None else matrix.position
    todo = [
        unit
        for unit in job.units
        if unit.number >= position
        or any((index[z], unit.shard) in left for left in pending.values() for z in unit.sections)
    ]
    if len(todo) < len(job.units):
        say(f"resuming: {len(job.units) - len(todo)} of {len(job.units)} blocks are there")
    network = job.kernel.model.config
    patches = sum(unit_patches(unit, network.bins) for unit in todo)
    if not todo:
        return
    full = matrix is not None
    computing = seconds_a_patch(job.kernel, min(job.batch, patches), full=full)
    reading = seconds_to_read(job.atlas, job.channels, todo[len(todo) // 2], network)
    say(projection(network, patches, computing, reading, job.kernel.device))
    with progress(patches, "attention", "patches") as advance:
        for unit, counts, labels in ahead(_inputs(job, todo, full=full)):
            into = matrix if unit.number >= position else None
            maps = _unit(job, unit, counts, labels, into, advance)
            for number, pathway in enumerate(job.pathways):
                for z, values in zip(unit.sections, maps[:, number], strict=True):
                    if (index[z], unit.shard) in pending.get(pathway.image, ()) and addition is not None:
                        addition.write(pathway.image, index[z], unit.shard, _placed(unit, values))
            if into is not None:
                into.advance(unit.number + 1)


def _inputs(
    job: _Job, units: Sequence[Unit], *, full: bool
) -> Iterator[tuple[Unit, NDArray[Any], dict[int, NDArray[np.int64]]]]:
    """Units with their counts and, where the matrix needs them, labels."""
    reader = CountsReader(job.atlas, job.channels, job.kernel.model.config.bins)
    for unit in units:
        labels = reader.labels(job.labels.element, unit) if full else {}
        yield unit, reader.read(unit), dict(labels)


def _unit(
    job: _Job,
    unit: Unit,
    counts: NDArray[Any],
    labels: dict[int, NDArray[np.int64]],
    matrix: MatrixTarget | None,
    advance: Advance,
) -> NDArray[np.float16]:
    canvas = job.atlas.layout("expression").levels[0].box
    matrices = None if matrix is None else Matrices(UnitSums(), labels, canvas)
    maps = unit_maps(
        job.kernel,
        unit,
        counts,
        job.batch,
        tissue_only=job.config.tissue_only,
        matrices=matrices,
        advance=advance,
    )
    if matrix is not None and matrices is not None:
        matrix.sums.add(matrices.sums.groups())
    return maps


def _placed(unit: Unit, values: NDArray[np.float16]) -> NDArray[np.float16]:
    """A unit's maps ``(3, h, w)`` in their shard, zero around."""
    if unit.box == unit.shard:
        return values
    block = np.zeros((len(CHANNELS), *unit.shard.shape), np.float16)
    block[(slice(None), *unit.box.shift(-unit.shard.y0, -unit.shard.x0).slices)] = values
    return block


def _write_zeros(job: _Job, addition: Addition | None, pending: dict[str, set[tuple[int, Box]]]) -> None:
    """Write the shards that no unit touches: other sections, and outside the region."""
    if addition is None:
        return
    index = {z: number for number, z in enumerate(job.sections)}
    touched = {(index[z], unit.shard) for unit in job.units for z in unit.sections}
    for name, left in pending.items():
        for z, box in sorted(left - touched):
            addition.write(name, z, box, np.zeros((len(CHANNELS), *box.shape), np.float16))


def _files(path: Path) -> tuple[Path, ...]:
    return tuple(
        file
        for file in (path, path.with_name(f"{path.name}.json"), path.with_suffix(".png"))
        if file.is_file()
    )


def _finish_matrix(job: _Job, source: Source, matrix: MatrixTarget, say: Say) -> tuple[Pair, ...]:
    """Write the table, what is to be known of it, and its picture; the strongest pairs."""
    genes = source.panel.genes
    whole = matrix.sums.whole()
    if not whole.patches:
        raise InputError(
            "no patch holds a molecule",
            where=job.atlas.url,
            remedy="Choose other --sections or another --roi",
        )
    names = {section.index: section.name for section in job.atlas.sections}
    about = {
        "request": matrix.request,
        "columns": COLUMNS,
        "n": len(genes),
        "patches": whole.patches,
        "patch_px": source.network.patch,
        "left_out": "patches without a molecule of the panel in the section",
        "regions_from": job.labels.element,
        "checkpoint": {"path": source.path, "sha256": source.sha256},
        "atlas": atlas_identity(job.atlas),
        "software": software_versions(),
    }
    if not draw_heatmap(matrix.path.with_suffix(".png"), whole, genes):
        say("matplotlib is not installed, so no picture of the matrix was drawn")
    write_table(matrix.path, genes, table_groups(matrix.sums, job.labels, names), about)
    matrix.close()
    return strongest_pairs(whole, genes, _PAIRS)
