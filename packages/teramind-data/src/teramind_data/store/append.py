"""Add an image to a complete store, and keep a complete store's metadata and journal in order."""

from __future__ import annotations

import os
from collections.abc import Iterable

from numpy.typing import ArrayLike

from teramind_data.errors import IncompleteStoreError, OutputExistsError, StoreError
from teramind_data.geometry import Box
from teramind_data.store.image_writer import ImageWriter
from teramind_data.store.journal import JOURNAL
from teramind_data.store.layout import ImageLayout
from teramind_data.store.location import Location
from teramind_data.store.metadata import consolidated, read_root, write_root
from teramind_data.store.reader import StoreBlock, open_brain, read_block
from teramind_data.store.schema import ImageSpec
from teramind_data.store.writer import label_index

__all__ = ["append_image", "refresh_metadata", "tidy_store"]


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


def append_image(
    url: str | os.PathLike[str],
    image: ImageSpec,
    blocks: Iterable[tuple[int, Box | None, ArrayLike]],
    *,
    overwrite: bool = False,
) -> None:
    """Add an image to a complete store; it is listed, and so visible, only when it is whole. One at a time: two
    additions at once would overwrite each other's listing.

    Args:
        url: a complete store.
        image: what to add, e.g. attention maps at ``step`` 16.
        blocks: ``(section, box, values)`` as for ``BrainWriter.write``, together covering every shard.
        overwrite: replace an appended image of this name.

    Raises:
        OutputExistsError: where there is one of this name; morphology and expression are never replaced.
        IncompleteStoreError: where the store is unfinished or the blocks do not cover the image.
    """
    location = Location(url)
    brain = open_brain(url)
    old = read_block(location)
    if image.name in brain.images + brain.labels:
        if image.path not in old.images or not overwrite or image.name in ("morphology", "expression"):
            raise OutputExistsError(
                "image exists", f"{location}/{image.path}", remedy="Choose another name, or pass --overwrite"
            )
        del old.images[image.path]
        _list_images(location, old, skip=(image.path,))
        location.delete_tree(image.path)
    elif location.exists(f"{image.path}/zarr.json") and image.path not in _unlisted(
        location, old.images.values()
    ):
        raise OutputExistsError(
            "element exists and is not ours", f"{location}/{image.path}", remedy="Rename yours"
        )
    writer = ImageWriter(location, ImageLayout(image, brain.spec))
    # The journal comes first: what an interrupted run leaves must be known for ours.
    location.write(f"{writer.journal.prefix}/begun", b"")
    location.delete_tree(image.path)
    writer.journal.clear()
    location.write(f"{writer.journal.prefix}/begun", b"")
    writer.create()
    for z, box, values in blocks:
        writer.write(z, box, values)
    left = len(writer.pending())
    if left:
        raise IncompleteStoreError(
            "image cannot be added",
            where=f"{location}/{image.path}",
            found=f"missing {left} of {len(writer.layout.shards())} shards",
            remedy="Give every shard",
        )
    writer.finish()
    old.images[image.path] = image
    _list_images(location, old, skip=_unlisted(location, old.images.values()))
    writer.journal.clear()
    location.sweep()  # what an earlier, killed addition left


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
