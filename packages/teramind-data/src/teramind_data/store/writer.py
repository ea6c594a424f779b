"""Write a store shard by shard, in any order and from many processes; it counts as written only at the end.

A store is built under its final name but says ``complete: false`` until ``finish``, so that a crash leaves something
that ``open_brain`` refuses and ``resume_brain`` continues.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from teramind_data.errors import (
    IncompleteStoreError,
    InputError,
    MissingInputError,
    OutputExistsError,
    RemoteError,
    StoreError,
)
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store.image_writer import ImageWriter
from teramind_data.store.journal import JOURNAL
from teramind_data.store.layout import ImageLayout
from teramind_data.store.location import Location
from teramind_data.store.metadata import (
    consolidated,
    group_json,
    read_root,
    write_root,
)
from teramind_data.store.molecules import Batch, write_molecules
from teramind_data.store.reader import Brain, StoreBlock, missing_parts, open_brain, read_block
from teramind_data.store.schema import SCHEMA_VERSION, BrainSpec, ImageSpec, Section

__all__ = [
    "BrainWriter",
    "create_brain",
    "discard_store",
    "label_index",
    "resume_brain",
    "store_state",
]

#: All that a store of ours ever has at its top; anything else there was put by somebody else.
_OURS = frozenset({"zarr.json", "images", "labels", "points", "shapes", "tables", "molecules", JOURNAL})

#: In the provenance of a store that is being deleted to make room.
_REPLACING = "being_replaced"

State = Literal["absent", "empty", "foreign", "incomplete", "complete"]


def store_state(url: str | os.PathLike[str]) -> State:
    """What lies at ``url``: nothing, an empty folder, something not ours, or a store of ours."""
    location = Location(url)
    if not location.occupied():
        return "empty" if location.is_local and location.path.is_dir() else "absent"
    try:
        root = read_root(location)
    except StoreError:
        return "foreign"
    block = (root or {}).get("attributes", {}).get("teramind")
    if not isinstance(block, dict) or "schema_version" not in block:
        return "foreign"
    return "complete" if block.get("complete") is True else "incomplete"


def _clear_output(location: Location, overwrite: bool) -> None:
    """Make room for a new store, or raise OutputExistsError; only what we made is ever deleted."""
    state = store_state(location.url)
    if state in ("absent", "empty"):
        return
    if state == "foreign":
        raise OutputExistsError(
            "output exists and is no store of ours",
            where=location,
            remedy="Choose another name; it is never overwritten",
        )
    if not overwrite:
        raise OutputExistsError(
            "output exists",
            where=location,
            found=f"{'a' if state == 'complete' else 'an'} {state} store",
            remedy="Choose another name, or pass --overwrite",
        )
    foreign = sorted(name for name in location.children() if name not in _OURS)
    if foreign or (location.is_local and location.path.is_symlink()):
        raise OutputExistsError(
            "output holds things that are not ours",
            where=location,
            found=", ".join(foreign[:5]) or "a symbolic link",
            remedy="Move them away or choose another name",
        )
    # A crash in between must leave something that is recognised as ours and refused as incomplete.
    # And nobody may continue it: what is deleted first would be missed too late.
    block = (read_root(location) or {})["attributes"]["teramind"]
    gone = {"complete": False, "images": [], "molecules": False, "provenance": {_REPLACING: True}}
    write_root(location, {**block, **gone})
    _empty(location)


def _empty(location: Location) -> None:
    """Delete everything, last what tells that it is ours."""
    for name in sorted(location.children() - {"zarr.json"}):
        location.delete_tree(name)
    location.delete("zarr.json")


def discard_store(url: str | os.PathLike[str]) -> None:
    """Remove an unfinished store that the caller began; what cannot be removed stays, marked as unfinished."""
    location = Location(url)
    with suppress(OSError, RemoteError):
        _empty(location)
        if location.is_local:
            location.path.rmdir()


class BrainWriter:
    """Writes a store; see ``create_brain``. Picklable: workers write different shards of the same store."""

    def __init__(self, location: Location, spec: BrainSpec) -> None:
        self._location = location
        self.spec = spec
        self._images: dict[str, ImageWriter] = {}
        self._region_names: dict[int, str] = {}
        self._has_molecules = False

    @property
    def url(self) -> str:
        """Where the store lies."""
        return self._location.url

    def _save(self) -> None:
        write_root(self._location, self._description())

    def _description(self) -> dict[str, Any]:
        """The store's block, saying that it is not complete."""
        return {
            "schema_version": SCHEMA_VERSION,
            "complete": False,
            **self.spec.to_dict(),
            "images": [image.to_dict() for image in self._specs()],
            "region_names": {str(k): v for k, v in self._region_names.items()},
            "molecules": self._has_molecules,
        }

    def _specs(self) -> list[ImageSpec]:
        return [writer.layout.image for writer in self._images.values()]

    def _attach(self, block: StoreBlock) -> None:
        self._region_names = dict(block.region_names)
        self._has_molecules = block.has_molecules
        for image in block.images.values():
            self._images[image.name] = ImageWriter(self._location, ImageLayout(image, self.spec))

    @property
    def names(self) -> tuple[str, ...]:
        """Elements declared so far."""
        return tuple(self._images)

    @property
    def has_molecules(self) -> bool:
        """Whether the molecules are written."""
        return self._has_molecules

    def image(self, name: str) -> ImageWriter:
        """The writer of one element; StoreError naming those that are declared."""
        if name not in self._images:
            raise StoreError("store has no such image", self.url, name, ", ".join(self._images))
        return self._images[name]

    def add_image(self, image: ImageSpec) -> None:
        """Declare an image before writing it.

        Raises:
            OutputExistsError: where there is one of this name.
        """
        if image.name in self._images:
            raise OutputExistsError(
                "image exists", where=f"{self.url}/{image.path}", remedy="Choose another name"
            )
        writer = ImageWriter(self._location, ImageLayout(image, self.spec))
        # Declared before it is created: an image on disk that nobody knows of could never be missed.
        self._images[image.name] = writer
        writer.journal.clear()
        writer.create()
        label_index(self._location, self._specs())
        self._save()

    def add_labels(
        self,
        name: str,
        dtype: str = "uint8",
        *,
        names: Mapping[int, str] | None = None,
        attrs: Mapping[str, Any] | None = None,
        array: ArrayLike | None = None,
    ) -> None:
        """Declare a label image at bin resolution, (z, y / 16, x / 16), and write it where ``array`` is given.

        Args:
            name: ``tissue`` or ``regions``, or another.
            dtype: unsigned integer type.
            names: what the values of ``regions`` mean.
            attrs: kept in the store beside the labels.
            array: the whole label image.
        """
        if names:
            # Before the image is declared: what is declared counts as described when writing is continued.
            self._region_names = {int(k): str(v) for k, v in names.items()}
        self.add_image(ImageSpec(name, (), dtype, BIN_PX, "mode", dict(attrs or {}), labels=True))
        if array is not None:
            values = np.asarray(array)
            expected = (self.spec.n_sections, *(n // BIN_PX for n in self.spec.canvas))
            if values.shape != expected:
                raise InputError("labels have another shape than the store", name, expected, values.shape)
            for z, plane in enumerate(
                values.astype(dtype, casting="safe") if values.dtype != bool else values
            ):
                self.write(name, z, None, plane.astype(dtype))

    def shards(self, name: str) -> list[tuple[int, Box]]:
        """Units of writing of an element: section and box in pixels of its level 0."""
        return self.image(name).layout.shards()

    def pending(self, name: str) -> list[tuple[int, Box]]:
        """Units that are not written yet, for resuming."""
        return self.image(name).pending()

    def write(self, name: str, z: int, box: Box | None, values: ArrayLike) -> None:
        """Write part of a section and its pyramid.

        Args:
            name: element.
            z: section index.
            box: union of whole shards in pixels of the element's level 0 (bins for expression and labels), cut at
                the rim; the whole section where None.
            values: (c, h, w), labels (h, w); exactly the element's type.

        Raises:
            InputError: where box, shape or type do not fit.
        """
        self.image(name).write(z, box, values)

    def write_molecules(self, batches: Iterable[Batch]) -> int:
        """Write the transcripts of the whole brain; see ``molecules.write_molecules``. Returns their number."""
        self._has_molecules = False
        self._save()
        self._location.delete_tree("molecules")
        total = write_molecules(self._location, self.spec, batches)
        self._location.sync("molecules")
        self._has_molecules = True
        self._save()
        return total

    def set_sections(self, sections: Sequence[Section]) -> None:
        """Replace the section table (QC and sources may be known late); names and z stay."""
        new = replace(self.spec, sections=tuple(sections))
        if not new.same_layout(self.spec):
            raise InputError("sections differ from those the store was made for", where=self.url)
        self._respec(new)

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Replace the provenance."""
        self._respec(replace(self.spec, provenance=dict(provenance)))

    def _respec(self, spec: BrainSpec) -> None:
        self.spec = spec
        for writer in self._images.values():
            writer.layout = ImageLayout(writer.layout.image, spec)
        self._save()

    def finish(self) -> Brain:
        """Check that everything is written, build the coarser levels and close the store.

        Raises:
            IncompleteStoreError: naming what is missing; nothing is changed then.
        """
        parts = missing_parts(self._location, read_block(self._location))
        if parts != ["the closing metadata"]:
            raise IncompleteStoreError(
                "store cannot be finished",
                where=self.url,
                found="missing " + ", ".join(parts),
                remedy="Write the missing parts first",
            )
        for writer in self._images.values():
            writer.finish()
        self._location.sweep()
        metadata = consolidated(self._location)
        self._location.sync()
        # One object, written last, makes the store whole.
        write_root(self._location, {**self._description(), "complete": True}, metadata)
        self._location.delete_tree(JOURNAL)
        return open_brain(self.url)


def label_index(location: Location, images: Sequence[ImageSpec]) -> None:
    """``images/`` and ``labels/`` group metadata; the latter lists its members as OME-Zarr wants it."""
    location.write("images/zarr.json", group_json({}))
    names = [image.name for image in images if image.labels]
    if names:
        location.write("labels/zarr.json", group_json({"ome": {"version": "0.5", "labels": names}}))


def create_brain(url: str | os.PathLike[str], spec: BrainSpec, *, overwrite: bool = False) -> BrainWriter:
    """Begin a store with the images its kind needs (``BrainSpec.required_images``).

    Args:
        url: local path or any URL that fsspec knows.
        spec: everything known before the first pixel.
        overwrite: replace a store of ours; anything else is never touched.

    Raises:
        OutputExistsError: where something is there that may not be replaced.
    """
    location = Location(url)
    _clear_output(location, overwrite)
    writer = BrainWriter(location, spec)
    writer._save()
    for image in spec.required_images():
        writer.add_image(image)
    return writer


def resume_brain(url: str | os.PathLike[str], spec: BrainSpec | None = None) -> BrainWriter:
    """Continue an unfinished store; ``BrainWriter.pending`` says what is left.

    Args:
        url: the store.
        spec: where given, what is being asked for; must agree with what the store was begun with.

    Raises:
        MissingInputError, StoreError: where there is no store of ours.
        OutputExistsError: where it is complete already.
        InputError: where it was begun with another specification.
    """
    location = Location(url)
    if not location.occupied():
        raise MissingInputError("store not found", where=location, remedy="Create it first")
    block = read_block(location)
    if block.complete:
        raise OutputExistsError(
            "store is complete already", where=location, remedy="Pass --overwrite to replace it"
        )
    if spec is not None and not spec.same_layout(block.spec):
        raise InputError(
            "unfinished store was begun with other settings",
            where=location,
            remedy="Repeat the settings it was begun with, or pass --overwrite",
        )
    if block.spec.provenance.get(_REPLACING):
        raise OutputExistsError(
            "store was being replaced", where=location, remedy="Pass --overwrite to replace it"
        )
    writer = BrainWriter(location, block.spec if spec is None else spec)
    writer._attach(block)
    if spec is not None:
        # A crash may have fallen between creating the store and declaring its second image.
        for image in spec.required_images():
            if image.name not in writer._images:
                writer.add_image(image)
        writer._save()
    return writer
