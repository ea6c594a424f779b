"""Nuclei of a store written into it: labels of every pixel, and a table of cells and genes that annotates them.

In three passes, each kept in the labels' journal, so that a run that was stopped goes on: segment blocks; number the
nuclei through the brain and paint them shard by shard, counting the molecules in each; write the table, and list labels
and table in one step. At most a shard's labels and one block are in memory, besides the table of nuclei.

Two blocks may disagree by a pixel where a nucleus of one touches a nucleus of the other: the earlier block keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.geometry import Box, tiles
from teramind_data.nuclei_elements import (
    NUCLEI,
    NUCLEI_TABLE,
    SectionNuclei,
    nuclei_labels,
    write_nuclei_table,
)
from teramind_data.store import (
    Addition,
    Brain,
    Location,
    begin_addition,
    open_brain,
    refresh_metadata,
    tidy_store,
)
from teramind_data.store.journal import JOURNAL
from teramind_eval.morphometry.annotation import regions_of_nuclei
from teramind_eval.morphometry.patches import neighbour_distance
from teramind_eval.morphometry.record import Found, Records
from teramind_eval.morphometry.segment import Nuclei, blocks_of_nuclei
from teramind_eval.morphometry.segmenter import DapiSection, Segmenter
from teramind_eval.pairs import Compared, check_comparable, read_stain, tissue_blocks
from teramind_eval.part import Part
from teramind_eval.regions import region_name

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_STAIN = "DAPI"
_TABLE = f"tables/{NUCLEI_TABLE}"


@dataclass(frozen=True)
class NucleiRequest:
    """What to write.

    Attributes:
        store: URL of a complete store with a nuclear stain.
        segmenter: what finds nuclei.
        sections: indices of the sections to look in; None for all. The others stay background.
        atlas: store that holds the molecules, where not `store` itself: sections of the same names, the same canvas.
        counted: whether molecules are counted, where there are any.
        expand_um: a nucleus also counts molecules up to so far around it, where no other is nearer.
    """

    store: str
    segmenter: Segmenter
    sections: tuple[int, ...] | None = None
    atlas: str | None = None
    counted: bool = True
    expand_um: float = 0.0


@dataclass(frozen=True)
class NucleiWritten:
    """What was written: nuclei, sections looked in, genes counted, and molecules inside nuclei (None: not counted)."""

    nuclei: int
    sections: int
    genes: int
    molecules: int | None


def write_nuclei(
    request: NucleiRequest, *, overwrite: bool = False, done: Callable[[], object] | None = None
) -> NucleiWritten:
    """Write `labels/nuclei` and `tables/nuclei_table` into the store; `done` is called after each block and shard.

    Raises
    ------
    OutputExistsError
        where the store has one of them and `overwrite` is not set, or another run is adding to the store.
    InputError, StoreError
        where it has no nuclear stain, or the atlas does not fit.
    """
    job = _Job(request)
    location = Location(request.store)
    begun = location.exists(f"{JOURNAL}/labels/{NUCLEI}/begun")
    if (
        location.exists(f"{_TABLE}/zarr.json")
        and NUCLEI not in job.part.brain.labels
        and not (begun or overwrite)
    ):
        raise OutputExistsError("table exists and is not ours", f"{location}/{_TABLE}", remedy="Rename yours")
    with begin_addition(request.store, [nuclei_labels(job.attrs())], overwrite=overwrite) as addition:
        if location.exists(f"{_TABLE}/zarr.json"):
            location.delete_tree(_TABLE)
            refresh_metadata(request.store)
        records = Records(location, f"{JOURNAL}/labels/{NUCLEI}")
        job.segment(records, done)
        job.paint(records, addition, done)
        table = job.table(records)
        write_nuclei_table(request.store, table, job.genes, {"made": json.dumps(job.attrs(), sort_keys=True)})
        addition.finish()
    tidy_store(request.store)
    counts = [one.counts.sum() for one in table if one.counts is not None]
    return NucleiWritten(
        sum(map(len, table)), len(job.sections), len(job.genes), int(sum(counts)) if counts else None
    )


def sections_named(brain: Brain, names: Sequence[str]) -> tuple[int, ...]:
    """Indices of the sections of these names, in the store's order; InputError names one that it lacks."""
    known = [section.name for section in brain.sections]
    lacking = [name for name in names if name not in known]
    if lacking:
        raise InputError("no such section", brain.url, ", ".join(known[:8]), ", ".join(lacking))
    return tuple(index for index, name in enumerate(known) if name in names)


def work_of(request: NucleiRequest) -> int:
    """Blocks and shards, for a progress bar."""
    job = _Job(request)
    shards = len(tiles_of(job.part, job.part.brain.spec.shard_px))
    return sum(len(job.cores(z)) for z in job.sections) + shards * job.part.brain.n_sections


def tiles_of(part: Part, edge: int) -> list[Box]:
    """A canvas in tiles."""
    return list(tiles(Box(0, part.canvas[0], 0, part.canvas[1]), edge))


class _Job:
    """A request with its stores open."""

    def __init__(self, request: NucleiRequest) -> None:
        self.request, self.segmenter = request, request.segmenter
        self.part = Part(open_brain(request.store))
        if _STAIN not in self.part.stains:
            found = ", ".join(self.part.stains) or "none"
            raise StoreError("store has no nuclear stain", request.store, _STAIN, found)
        count = self.part.brain.n_sections
        self.sections = tuple(range(count)) if request.sections is None else request.sections
        if not self.sections or not all(0 <= z < count for z in self.sections):
            raise InputError("no such section", request.store, f"0..{count - 1}", self.sections)
        self.atlas = self._atlas()
        self._cores: dict[int, list[Box]] = {}

    def _atlas(self) -> Part | None:
        """What has the molecules: the atlas, the store itself, or nothing."""
        if self.request.atlas is None:
            return self.part if self.part.has_molecules else None
        brain = open_brain(self.request.atlas)
        if not brain.has_molecules:
            raise InputError("atlas holds no molecules", self.request.atlas, "an atlas store", brain.kind)
        real = Part(brain)
        check_comparable(real, Compared("the store", "generated", self.part))
        names = [section.name for section in self.part.sections]
        known = {section.name for section in real.sections}
        lacking = [names[z] for z in self.sections if names[z] not in known]
        if lacking:
            found = f"no {', '.join(lacking[:5])}"
            raise InputError("atlas lacks sections of the store", self.request.atlas, found=found)
        # A section that nobody asked for may be missing: its place is taken by any, and never read.
        return Part(brain, [real.chosen[_index(real, name) if name in known else 0] for name in names])

    @property
    def counted(self) -> bool:
        """Whether molecules are counted."""
        return self.request.counted and self.atlas is not None

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Columns of the counts; none without."""
        if not self.counted or self.atlas is None or self.atlas.panel is None:
            return ()
        return tuple(self.atlas.panel)

    def attrs(self) -> dict[str, object]:
        """How the labels are made: an unfinished run of the very same goes on, one of another begins anew."""
        source = None
        if self.counted and self.atlas is not None:
            panel = self.atlas.panel
            where = "itself" if self.atlas is self.part else str(self.atlas.url)
            source = {"store": where, "panel_fingerprint": panel.fingerprint if panel else None}
        return {
            "made_by": "teramind-eval nuclei",
            **self.segmenter.describe(),
            "sections": list(self.sections),
            "molecules": source,
            "expand_um": self.request.expand_um,
        }

    def cores(self, z: int) -> list[Box]:
        """Blocks to look in: those with molecules, where any are known; else those whose image is not blank."""
        if z not in self._cores:
            if self.atlas is not None:
                found = tissue_blocks(self.atlas, z, self.segmenter.block_px)
            else:
                brain = self.part.brain
                found = [
                    b
                    for b in tiles_of(self.part, self.segmenter.block_px)
                    if not brain.blank("morphology", z, b)
                ]
            self._cores[z] = found
        return self._cores[z]

    def segment(self, records: Records, done: Callable[[], object] | None) -> None:
        """First pass: the nuclei of every block."""
        for z in self.sections:
            cores = self.cores(z)
            pending = [core for core in cores if not records.has("blocks", z, core)]
            _tell(done, len(cores) - len(pending))
            section = self._dapi(z)
            if not pending:
                continue
            levels = self.segmenter.levels(section, cores)
            for found in blocks_of_nuclei(section, self.segmenter, pending, levels):
                records.put_block(z, found.core, Found.of(found))
                _tell(done, 1)

    def _dapi(self, z: int) -> DapiSection:
        part = self.part
        return DapiSection(lambda box: read_stain(part, z, box, _STAIN), part.canvas, part.pixel_size_um)

    def paint(self, records: Records, addition: Addition, done: Callable[[], object] | None) -> None:
        """Second pass: numbers through the brain, pixels and counts shard by shard."""
        first = self.numbers(records)
        pending = addition.pending(NUCLEI)
        _tell(
            done,
            len(tiles_of(self.part, self.part.brain.spec.shard_px)) * self.part.brain.n_sections
            - len(pending),
        )
        margin = int(np.ceil(self.request.expand_um / self.part.pixel_size_um))
        for z, shard in pending:
            around = shard.expand(margin).clip(self.part.canvas) or shard
            labels = self._painted(records, z, around, first)
            inner = shard.shift(-around.y0, -around.x0).slices
            if self.counted and z in self.sections:
                records.put_counts(z, shard, self._counts(z, shard, self._expanded(labels)[inner]))
            addition.write(NUCLEI, z, shard, labels[inner])
            _tell(done, 1)

    def numbers(self, records: Records) -> dict[tuple[int, Box], int]:
        """Number of the first nucleus of each block; 1 is the brain's first."""
        out, number = {}, 1
        for z in self.sections:
            for core in self.cores(z):
                out[z, core] = number
                number += len(records.nuclei(z, core))
        return out

    def _painted(
        self, records: Records, z: int, box: Box, first: dict[tuple[int, Box], int]
    ) -> npt.NDArray[np.uint32]:
        out = np.zeros(box.shape, np.uint32)
        reach = box.expand(self.segmenter.halo_px(self.part.pixel_size_um))
        for core in self.cores(z) if z in self.sections else ():
            if reach.intersect(core) is None:
                continue
            labels, place = records.pixels(z, core)
            common = None if place is None else box.intersect(place)
            if place is None or common is None:
                continue
            source = labels[common.shift(-place.y0, -place.x0).slices]
            target = out[common.shift(-box.y0, -box.x0).slices]
            free = (source > 0) & (target == 0)
            target[free] = source[free].astype(np.uint32) + np.uint32(first[z, core] - 1)
        return out

    def _expanded(self, labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        if not self.request.expand_um:
            return labels
        from skimage.segmentation import expand_labels

        grown = expand_labels(labels, self.request.expand_um / self.part.pixel_size_um)
        return np.asarray(grown, dtype=np.uint32)

    def _counts(self, z: int, shard: Box, labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """`(k, 3)` nucleus, gene, molecules in a shard."""
        assert self.atlas is not None
        y, x, gene = self.atlas.molecules.read(z, shard)
        nucleus = labels[y - shard.y0, x - shard.x0].astype(np.int64)
        inside = nucleus > 0
        pairs, numbers = np.unique(
            np.stack([nucleus[inside], gene[inside].astype(np.int64)]), axis=1, return_counts=True
        )
        return np.concatenate([pairs, numbers[None]]).T.astype(np.int64)

    def table(self, records: Records) -> list[SectionNuclei]:
        """Third pass: the rows, a section at a time."""
        return [self._rows(records, z, first) for z, first in self._firsts(records)]

    def _firsts(self, records: Records) -> Iterator[tuple[int, int]]:
        number = 1
        for z in self.sections:
            yield z, number
            number += sum(len(records.nuclei(z, core)) for core in self.cores(z))

    def _rows(self, records: Records, z: int, first: int) -> SectionNuclei:
        nuclei = Nuclei.concatenate(records.nuclei(z, core) for core in self.cores(z))
        place, um = self.part.sections[z], self.part.pixel_size_um
        source = self.atlas or self.part
        labels = regions_of_nuclei(source, z, nuclei).tolist()
        regions = [region_name(source, label) if label else "" for label in labels]
        n = len(nuclei)
        columns = {
            "section": np.full(n, place.index, np.int32),
            "section_name": np.array([place.name] * n, dtype=object),
            "z_um": np.full(n, place.z_um),
            "region": np.array(regions, dtype=object),
            "area_um2": nuclei.area_px * um**2,
            "eccentricity": nuclei.eccentricity,
            "solidity": nuclei.solidity,
            "mean_intensity": nuclei.intensity,
            "neighbour_um": neighbour_distance(nuclei) * um,
        }
        # Pixel i covers [i, i + 1) sizes; a centroid of i is its middle.
        spatial = (np.stack([nuclei.x, nuclei.y], axis=1) + 0.5) * um
        return SectionNuclei(first, spatial, columns, self._section_counts(records, z, first, n))

    def _section_counts(self, records: Records, z: int, first: int, n: int) -> csr_matrix | None:
        from scipy.sparse import coo_matrix

        if not self.counted:
            return None
        shards: Sequence[Box] = tiles_of(self.part, self.part.brain.spec.shard_px)
        nucleus, gene, molecules = np.concatenate([records.counts(z, shard) for shard in shards]).T
        return coo_matrix((molecules, (nucleus - first, gene)), shape=(n, len(self.genes))).tocsr()


def _index(part: Part, name: str) -> int:
    return next(i for i, section in enumerate(part.sections) if section.name == name)


def _tell(done: Callable[[], object] | None, times: int) -> None:
    for _ in range(times if done is not None else 0):
        assert done is not None
        done()
