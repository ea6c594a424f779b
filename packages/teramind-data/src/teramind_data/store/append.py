"""Add images to a complete store, and keep a complete store's metadata and journal in order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

from numpy.typing import ArrayLike

from teramind_data.errors import IncompleteStoreError, OutputExistsError, StoreError
from teramind_data.geometry import Box
from teramind_data.store.image_writer import ImageWriter
from teramind_data.store.journal import JOURNAL
from teramind_data.store.layout import ImageLayout
from teramind_data.store.location import Location
from teramind_data.store.lock import locked_folder
from teramind_data.store.metadata import consolidated, read_root, write_root
from teramind_data.store.reader import StoreBlock, open_brain, read_block
from teramind_data.store.schema import ImageSpec
from teramind_data.store.writer import label_index

__all__ = ["Addition", "append_image", "begin_addition", "refresh_metadata", "tidy_store"]


def _unlisted(location: Location, images: Iterable[ImageSpec]) -> tuple[str, ...]:
    """Images that an interrupted append left behind: they have a journal and nobody lists them."""
    listed = {image.path for image in images}
    begun = {
        f"{kind}/{name}" for kind in ("images", "labels") for name in location.children(f"{JOURNAL}/{kind}")
    }
    return tuple(sorted(begun - listed))


def tidy_store(url: str | os.PathLike[str]) -> None:
    """Remove what ``finish`` had no time to remove from a store that it had completed; else do nothing."""
    location = Location(url)
    block = read_block(location)
    if not block.complete or not location.children(JOURNAL):
        return
    for image in block.images.values():
        location.delete_tree(f"{JOURNAL}/{image.path}")
    # Journals of images that are being appended, or were to be, stay.
    if not _unlisted(location, block.images.values()):
        location.delete_tree(JOURNAL)


def refresh_metadata(url: str | os.PathLike[str]) -> None:
    """Write consolidated metadata of a complete store anew, after elements were added to it."""
    location = Location(url)
    block = read_block(location)
    root = read_root(location)
    if not block.complete or root is None:
        # Metadata is consolidated when the store is finished; before, it would only grow stale.
        return
    skip = _unlisted(location, block.images.values())
    write_root(location, root["attributes"]["teramind"], consolidated(location, skip))


class Addition:
    """Images being added to a complete store, shard by shard; see ``begin_addition``."""

    def __init__(self, location: Location, writers: Iterable[ImageWriter]) -> None:
        self._location = location
        self._writers = {writer.layout.image.name: writer for writer in writers}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images."""
        return tuple(self._writers)

    def pending(self, name: str) -> list[tuple[int, Box]]:
        """Shards of an image that are not written yet: section and box in its own pixels."""
        return self._writers[name].pending()

    def write(self, name: str, z: int, box: Box | None, values: ArrayLike) -> None:
        """Write part of an image; see ``BrainWriter.write``."""
        self._writers[name].write(z, box, values)

    def finish(self) -> None:
        """Build the coarser levels and list all the images, in one step.

        Raises:
            IncompleteStoreError: where shards are missing; nothing is listed then.
        """
        for writer in self._writers.values():
            left = len(writer.pending())
            if left:
                raise IncompleteStoreError(
                    "image cannot be added",
                    where=f"{self._location}/{writer.layout.image.path}",
                    found=f"missing {left} of {len(writer.layout.shards())} shards",
                    remedy="Give every shard",
                )
        for writer in self._writers.values():
            writer.finish()
        # Read anew: other elements may have been added since this addition began.
        block = read_block(self._location)
        block.images.update(
            (writer.layout.image.path, writer.layout.image) for writer in self._writers.values()
        )
        _list_images(self._location, block, skip=_unlisted(self._location, block.images.values()))
        for writer in self._writers.values():
            writer.journal.clear()
        self._location.prune(JOURNAL)  # of other additions, what they wrote stays
        self._location.sweep()  # what an earlier, killed addition left


@contextmanager
def begin_addition(
    url: str | os.PathLike[str], images: Iterable[ImageSpec], *, overwrite: bool = False, resume: bool = True
) -> Iterator[Addition]:
    """Add images to a complete store; they are listed, and so visible, together and only when all are whole.

    Stopped anywhere, an addition of the very same images (attributes included) goes on with what is pending; one of
    others begins anew. Two additions at once would overwrite each other's listing: in a local store the second is
    refused while the context of the first is open; object stores have no locks.

    Args:
        url: a complete store.
        images: what to add, e.g. attention maps at ``step`` 16.
        overwrite: replace appended images of these names.
        resume: go on with what an earlier attempt wrote; else write everything.

    Raises:
        OutputExistsError: where there is one of a name; morphology and expression are never replaced. Or where
            another run is adding to the store.
        IncompleteStoreError: where the store is unfinished.
    """
    location = Location(url)
    brain = open_brain(url)
    lock = locked_folder(location.path, "adding images to this store") if location.is_local else nullcontext()
    with lock:
        wanted = tuple(images)
        _make_room(location, wanted, overwrite)
        writers = [ImageWriter(location, ImageLayout(image, brain.spec)) for image in wanted]
        for writer in writers:
            _start(writer, resume=resume)
        yield Addition(location, writers)


def _make_room(location: Location, images: tuple[ImageSpec, ...], overwrite: bool) -> None:
    """Unlist and delete what is to be replaced, or raise OutputExistsError before anything is touched."""
    old = read_block(location)
    names = {image.name for image in old.images.values()}
    for image in images:
        if image.name in names:
            replaceable = image.path in old.images and image.name not in ("morphology", "expression")
            if not (replaceable and overwrite):
                raise OutputExistsError(
                    "labels exist" if image.path.startswith("labels/") else "image exists",
                    f"{location}/{image.path}",
                    remedy="Pass --overwrite to replace it" if replaceable else "Choose another name",
                )
        elif location.exists(f"{image.path}/zarr.json") and image.path not in _unlisted(
            location, old.images.values()
        ):
            raise OutputExistsError(
                "element exists and is not ours", f"{location}/{image.path}", remedy="Rename yours"
            )
    replaced = tuple(image.path for image in images if old.images.pop(image.path, None))
    if replaced:
        # From here on it is unfinished work of ours: known as such before it is unlisted, should we be stopped.
        for path in replaced:
            location.delete_tree(f"{JOURNAL}/{path}")
            location.write(f"{JOURNAL}/{path}/begun", b"{}")
        _list_images(location, old, skip=_unlisted(location, old.images.values()))
        for path in replaced:
            location.delete_tree(path)


def _start(writer: ImageWriter, *, resume: bool) -> None:
    """Declare an image that nobody lists yet, or take up an earlier attempt at the very same one."""
    begun = f"{writer.journal.prefix}/begun"
    image = writer.layout.image
    request = json.dumps({**image.to_dict(), "channels": image.channels}, sort_keys=True).encode()
    if resume and writer.location.read(begun) == request:
        return
    # The journal comes first: what an interrupted run leaves must be known for ours.
    writer.location.write(begun, b"{}")
    writer.location.delete_tree(image.path)
    writer.journal.clear()
    writer.location.write(begun, b"{}")
    writer.create()
    # Only now can an addition be taken up: before, there was nothing to write into.
    writer.location.write(begun, request)


def append_image(
    url: str | os.PathLike[str],
    image: ImageSpec,
    blocks: Iterable[tuple[int, Box | None, ArrayLike]],
    *,
    overwrite: bool = False,
) -> None:
    """Add an image to a complete store; it is listed, and so visible, only when it is whole.

    Args:
        url: a complete store.
        image: what to add, e.g. attention maps at ``step`` 16.
        blocks: ``(section, box, values)`` as for ``BrainWriter.write``, together covering every shard.
        overwrite: replace an appended image of this name.

    Raises:
        OutputExistsError: where there is one of this name; morphology and expression are never replaced. Or where
            another run is adding to the store.
        IncompleteStoreError: where the store is unfinished or the blocks do not cover the image.
    """
    with begin_addition(url, [image], overwrite=overwrite, resume=False) as addition:
        for z, box, values in blocks:
            addition.write(image.name, z, box, values)
        addition.finish()


def _list_images(location: Location, block: StoreBlock, skip: tuple[str, ...]) -> None:
    root = read_root(location)
    if root is None:
        raise StoreError("store vanished", where=location)
    label_index(location, list(block.images.values()))
    listed = {
        **root["attributes"]["teramind"],
        "images": [image.to_dict() for image in block.images.values()],
    }
    write_root(location, listed, consolidated(location, skip))
