"""Open a store and read from it, never mistaking what is missing for background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from teramind_data.errors import (
    GeometryError,
    IncompleteStoreError,
    MissingInputError,
    MissingShardError,
    StoreError,
)
from teramind_data.geometry import BIN_PX, Box, Window
from teramind_data.panel import Panel
from teramind_data.store.journal import Journal, Ranges, empty_shards, in_ranges, to_ranges
from teramind_data.store.layout import ImageLayout
from teramind_data.store.location import Location
from teramind_data.store.metadata import read_root
from teramind_data.store.molecules import Molecules
from teramind_data.store.schema import SCHEMA_VERSION, BrainSpec, ImageSpec, Section

__all__ = ["Brain", "StoreBlock", "missing_parts", "open_brain", "read_block"]


class StoreBlock:
    """The parsed ``teramind`` block of a root."""

    def __init__(self, data: dict[str, Any], attributes_of: Any, where: str) -> None:
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                "store has another schema version",
                where=where,
                expected=SCHEMA_VERSION,
                found=version,
                remedy="Open it with the teramind that wrote it",
            )
        self.spec = BrainSpec.from_dict(data, where)
        self.complete = data.get("complete") is True
        self.has_molecules = bool(data.get("molecules"))
        self.region_names = {int(k): str(v) for k, v in data.get("region_names", {}).items()}
        self.images: dict[str, ImageSpec] = {}
        for item in data.get("images", []):
            labels = bool(item["labels"])
            path = f"{'labels' if labels else 'images'}/{item['name']}"
            channels = () if labels else _channels(attributes_of(path), where, path)
            self.images[path] = ImageSpec(channels=channels, **item)


def _channels(attributes: dict[str, Any], where: str, path: str) -> tuple[str, ...]:
    try:
        return tuple(channel["label"] for channel in attributes["ome"]["omero"]["channels"])
    except (KeyError, TypeError):
        raise StoreError("image metadata is damaged", f"{where}/{path}", "channel labels") from None


def read_block(location: Location) -> StoreBlock:
    """The store's own description; MissingInputError or StoreError where there is none."""
    root = read_root(location)
    if root is None:
        if not location.occupied():
            raise MissingInputError("store not found", where=location, remedy="Check the path")
        raise StoreError("not a teramind store", where=location, expected="a zarr.json", found="none")
    data = root.get("attributes", {}).get("teramind")
    if not isinstance(data, dict) or "schema_version" not in data:
        raise StoreError(
            "not a teramind store",
            where=location,
            expected="a 'teramind' block in zarr.json",
            found="none",
            remedy="Make one with teramind-data ingest",
        )
    known = root.get("consolidated_metadata") or {}

    def attributes_of(path: str) -> dict[str, Any]:
        node = known.get("metadata", {}).get(path)
        if node is None:
            import json

            node = json.loads(location.read(f"{path}/zarr.json") or b"{}")
        attributes: dict[str, Any] = node.get("attributes", {})
        return attributes

    return StoreBlock(data, attributes_of, str(location))


def missing_parts(location: Location, block: StoreBlock) -> list[str]:
    """What an unfinished store lacks, one phrase an element."""
    out = []
    for image in block.images.values():
        layout = ImageLayout(image, block.spec)
        total, done = len(layout.shards()), len(Journal(location, layout).done())
        if done < total:
            out.append(f"{total - done} of {total} shards of {image.name}")
    if block.spec.measured and not block.has_molecules:
        out.append("molecules")
    return out or ["the closing metadata"]


def open_brain(url: str | os.PathLike[str], *, incomplete: bool = False) -> Brain:
    """Open a store for reading.

    Args:
        url: local path or any URL that fsspec knows (``s3://``, ``memory://``).
        incomplete: also open a store whose writing has not finished.

    Raises:
        MissingInputError: where there is nothing.
        StoreError: where what is there is no store of ours.
        IncompleteStoreError: where it is unfinished and ``incomplete`` is not set; says what is missing.
    """
    location = Location(url)
    block = read_block(location)
    if not block.complete and not incomplete:
        raise IncompleteStoreError(
            "store is incomplete",
            where=location,
            expected="complete: true",
            found="missing " + ", ".join(missing_parts(location, block)),
            remedy="Resume or repeat the command that writes it",
        )
    return Brain(location, block)


class Brain:
    """A store opened for reading; see ``open_brain``.

    Arrays (``morphology``, ``expression``, ...) are plain ``zarr.Array``, which reads a lost shard as zeros. ``read``,
    ``window_counts`` and ``molecules`` check first and raise MissingShardError.
    """

    def __init__(self, location: Location, block: StoreBlock) -> None:
        self._location = location
        self._block = block
        self._present: set[str] = set()
        self._empty: dict[tuple[str, int], Ranges] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._location.url,)

    def __repr__(self) -> str:
        height, width = self.canvas
        return f"Brain({self.url!r}, {self.kind}, {self.n_sections} sections of {height} x {width} px)"

    @cached_property
    def _root(self) -> zarr.Group:
        store = self._location.zarr_store(read_only=True)
        # Consolidated metadata is written at the end only; while a store grows it does not exist.
        return zarr.open_group(store=store, mode="r", use_consolidated=None if self.complete else False)

    @property
    def url(self) -> str:
        """Where the store lies."""
        return self._location.url

    @property
    def spec(self) -> BrainSpec:
        """The specification that the store was made from."""
        return self._block.spec

    @property
    def kind(self) -> str:
        """``atlas``, ``expression`` or ``generated``."""
        return self.spec.kind

    @property
    def panel(self) -> Panel | None:
        """Genes of ``expression``, or those the generating model used."""
        return self.spec.panel

    @property
    def stains(self) -> tuple[str, ...]:
        """Channels of ``morphology``."""
        return self.spec.stains

    @property
    def sections(self) -> tuple[Section, ...]:
        """Sections in order of z."""
        return self.spec.sections

    @property
    def n_sections(self) -> int:
        """Number of sections."""
        return self.spec.n_sections

    @property
    def pixel_size_um(self) -> float:
        """Edge of a pixel in um."""
        return self.spec.pixel_size_um

    @property
    def z_spacing_um(self) -> float:
        """Median distance of sections in um."""
        return self.spec.z_spacing_um

    @property
    def canvas(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.spec.canvas

    @property
    def complete(self) -> bool:
        """Whether writing has finished."""
        return self._block.complete

    @property
    def provenance(self) -> dict[str, Any]:
        """What the store was made from and by."""
        return self.spec.provenance

    @property
    def region_names(self) -> dict[int, str]:
        """Names of the values of ``regions``."""
        return self._block.region_names

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images."""
        return tuple(image.name for image in self._block.images.values() if not image.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label images."""
        return tuple(image.name for image in self._block.images.values() if image.labels)

    def layout(self, name: str) -> ImageLayout:
        """How an image or label image lies in the store; StoreError naming what there is instead."""
        for path in (f"images/{name}", f"labels/{name}"):
            if path in self._block.images:
                return ImageLayout(self._block.images[path], self.spec)
        raise StoreError(
            "store has no such image",
            where=self.url,
            expected=name,
            found=", ".join(self.images + self.labels),
        )

    def array(self, path: str) -> zarr.Array:
        """An array by its path in the store; StoreError where there is none."""
        found = self._root.get(path)
        if not isinstance(found, zarr.Array):
            raise StoreError("array is missing from the store", f"{self.url}/{path}")
        return found

    def _array(self, layout: ImageLayout, level: int) -> zarr.Array:
        return self.array(layout.array_path(level))

    def levels(self, name: str) -> tuple[zarr.Array, ...]:
        """All pyramid levels of an image or label image, finest first."""
        layout = self.layout(name)
        return tuple(self._array(layout, level.index) for level in layout.levels)

    def image(self, name: str) -> zarr.Array:
        """Level 0 of an image, ``(c, z, y, x)``."""
        return self._array(self.layout(name), 0)

    def label(self, name: str) -> zarr.Array | None:
        """Level 0 of a label image, ``(z, y / 16, x / 16)``, or None where the store has none of this name."""
        return self.image(name) if name in self.labels else None

    def image_attrs(self, name: str) -> dict[str, Any]:
        """What was kept beside an image, and its ``channels``."""
        image = self.layout(name).image
        return {**image.attrs, "channels": list(image.channels)}

    @property
    def morphology(self) -> zarr.Array:
        """Stains, uint8 ``(c, z, y, x)``."""
        return self.image("morphology")

    @property
    def expression(self) -> zarr.Array:
        """Counts in 16-px bins, ``(gene, z, y / 16, x / 16)``; StoreError where a store has none."""
        return self.image("expression")

    @property
    def tissue(self) -> zarr.Array | None:
        """Tissue mask, uint8 ``(z, y / 16, x / 16)``, nonzero inside."""
        return self.label("tissue")

    @property
    def regions(self) -> zarr.Array | None:
        """Annotation, uint16 ``(z, y / 16, x / 16)``; names in ``region_names``."""
        return self.label("regions")

    @property
    def has_molecules(self) -> bool:
        """Whether the store holds the transcripts themselves."""
        return self._block.has_molecules

    @cached_property
    def molecules(self) -> Molecules:
        """The transcripts; StoreError where the store has none."""
        if not self.has_molecules:
            raise StoreError("store has no molecules", where=self.url, expected="an atlas", found=self.kind)
        return Molecules(self._location, self.spec, self._root)

    def check_box(self, layout: ImageLayout, sections: Sequence[int], box: Box, *, level: int = 0) -> None:
        """GeometryError unless sections and box are inside an image, MissingShardError unless all is there under it."""
        where, plane = f"{self.url}, {layout.image.name}", layout.levels[level].box
        for z in sections:
            if not 0 <= z < self.n_sections:
                raise GeometryError("no such section", where, f"0..{self.n_sections - 1}", z)
        if not plane.contains(box):
            raise GeometryError("box sticks out of the image", where, f"inside {plane}", box)
        for z in sections:
            self._check_shards(layout, level, z, box)

    def _check_shards(self, layout: ImageLayout, level: int, z: int, box: Box) -> None:
        """MissingShardError unless every shard under ``box`` is stored or listed as empty."""
        for iy, ix in layout.levels[level].shards(box):
            key = layout.chunk_key(level, z, iy, ix)
            if key in self._present:
                continue
            listed = in_ranges(self._empty_ranges(layout, level), layout.linear(level, z, iy, ix))
            if not listed and not self._location.exists(key):
                raise MissingShardError(
                    "shard is missing and not listed as empty",
                    where=f"{self.url}/{key}",
                    remedy="Restore the object or write the store again"
                    if self.complete
                    else "It is not written yet",
                )
            self._present.add(key)

    def blank(self, name: str, z: int, box: Box) -> bool:
        """Whether a box of a section is known, without reading it, to be all zeros: its shards are listed as empty."""
        layout = self.layout(name)
        empty = self._empty_ranges(layout, 0)
        return all(in_ranges(empty, layout.linear(0, z, iy, ix)) for iy, ix in layout.levels[0].shards(box))

    def _empty_ranges(self, layout: ImageLayout, level: int) -> Ranges:
        name = (layout.image.path, level)
        if name not in self._empty:
            if self.complete:
                self._empty[name] = empty_shards(dict(self._array(layout, level).attrs))
            else:
                self._empty[name] = to_ranges(Journal(self._location, layout).empties().get(level, ()))
        return self._empty[name]

    def read(self, name: str, z: int, box: Box | None = None, *, level: int = 0) -> NDArray[Any]:
        """Pixels of one section, ``(c, h, w)`` (labels ``(h, w)``), checked for missing shards.

        Args:
            name: image or label image.
            z: section index.
            box: in pixels of that image's level, inside it; the whole section where None.
            level: pyramid level, 0 the finest.

        Raises:
            GeometryError: where section, level or box do not exist.
            MissingShardError: where a shard under the box is neither stored nor listed as empty.
        """
        layout = self.layout(name)
        if not 0 <= level < len(layout.levels):
            raise GeometryError("no such level", f"{self.url}, {name}", f"0..{len(layout.levels) - 1}", level)
        box = layout.levels[level].box if box is None else box
        self.check_box(layout, (z,), box, level=level)
        values: NDArray[Any] = np.asarray(self._array(layout, level)[(..., z, *box.slices)])
        return values

    def window_counts(self, window: Window, box: Box, genes: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Raw counts a window of the network sees: (S, genes, height / 16, width / 16), expression's type.

        Args:
            window: its gene sections may lie outside the brain, where counts are zero.
            box: canvas pixels, edges multiples of 16; outside the canvas counts are zero.
            genes: panel indices in the order wanted; all where None.

        Raises:
            GeometryError: where the box is not aligned to bins.
            MissingShardError: where expression is missing.
        """
        layout = self.layout("expression")
        bins = box.coarsen(BIN_PX)
        n_genes = len(layout.image.channels) if genes is None else len(genes)
        out = np.zeros((len(window.gene), n_genes, *bins.shape), layout.image.dtype)
        inside = bins.intersect(layout.levels[0].box)
        if inside is None:
            return out
        into = inside.shift(-bins.y0, -bins.x0).slices
        for slot, z in enumerate(window.gene):
            if 0 <= z < self.n_sections:
                block = self.read("expression", z, inside)
                out[(slot, slice(None), *into)] = block if genes is None else block[genes]
        return out


def _reopen(url: str) -> Brain:
    return open_brain(url, incomplete=True)
