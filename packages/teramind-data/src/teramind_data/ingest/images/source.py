"""Which pixels of which files are a section's stain: channel, z plane or their maximum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest.images.protocol import CACHE_BYTES, DTYPES, ImageStack, Plane

ZChoice: TypeAlias = int | Literal["max"] | None
_TIFF = (".tif", ".tiff", ".btf", ".tf8", ".tf2")


def is_image(path: Path) -> bool:
    """Whether a path looks like an image of a format we read: a TIFF, or an OME-Zarr folder."""
    if path.is_dir():
        return (path / "zarr.json").is_file() or (path / ".zgroup").is_file()
    return path.suffix.lower() in _TIFF


def open_stack(path: Path, cache_bytes: int = CACHE_BYTES, dtypes: tuple[str, ...] = DTYPES) -> ImageStack:
    """Open an image by its kind; of pixel types that are not listed it is refused.

    Raises MissingInputError where there is none, InputError where it is damaged or of a kind not supported.
    """
    if path.is_dir():
        from teramind_data.ingest.images.omezarr import ZarrStack

        return ZarrStack(path, cache_bytes, dtypes)
    if not path.is_file():
        raise MissingInputError(
            "image not found", where=path, remedy="Restore the file or exclude the section"
        )
    from teramind_data.ingest.images.tiff import TiffStack

    return TiffStack(path, cache_bytes, dtypes)


@dataclass(frozen=True)
class ImageSource:
    """The pixels of one stain.

    files: one file; or one a z plane, whose maximum is taken. channel: number or name; None where the file has one
    channel, or one of the name of ``stain``. z: plane number, ``max``, or None for the middle one there is.
    """

    files: tuple[Path, ...]
    channel: int | str | None = None
    z: ZChoice = None
    stain: str | None = None

    @property
    def path(self) -> Path:
        """The (first) file, for messages."""
        return self.files[0]

    def describe(self, folder: Path) -> str | dict[str, object]:
        """For provenance: the file relative to ``folder``, with channel and plane where they were chosen."""
        names = [file.relative_to(folder).as_posix() for file in self.files]
        if len(names) == 1 and self.channel is None and self.z is None:
            return names[0]
        return {"files": names, "channel": self.channel, "z": self.z}

    def planes(self, stack: ImageStack) -> list[Plane]:
        """The planes of an open stack that this source takes (several for ``max``)."""
        channel, page_is_channel = self._channel(stack)
        if stack.unnamed and page_is_channel:
            return [stack.plane(0, 0, channel)]
        count = stack.unnamed or stack.planes
        if self.z == "max":
            chosen = list(range(count))
        elif self.z is None:
            chosen = [count // 2]
        elif 0 <= self.z < count:
            chosen = [self.z]
        else:
            raise MissingInputError(
                f"image has no plane z{self.z}",
                where=stack.path,
                expected=f"0 .. {count - 1}",
                remedy="Set z_plane in the manifest to one there is",
            )
        if stack.unnamed:
            return [stack.plane(channel, 0, z) for z in chosen]
        return [stack.plane(channel, z) for z in chosen]

    def _channel(self, stack: ImageStack) -> tuple[int, bool]:
        """The channel's number; and whether it counts the unnamed pages."""
        wanted = self.channel
        if stack.unnamed and isinstance(wanted, int) and len(stack.channels) == 1 and self.z is None:
            if not 0 <= wanted < stack.unnamed:
                raise self._no_channel(stack, f"pages 0 .. {stack.unnamed - 1}")
            return wanted, True
        if stack.unnamed and self.z is None:
            raise InputError(
                "image does not say what its pages are",
                where=stack.path,
                expected="channels or z planes",
                found=f"{stack.unnamed} pages",
                remedy="Give channel or z_plane in the manifest",
            )
        names = [name.lower() for name in stack.channels]
        if wanted is None:
            if len(names) == 1:
                return 0, False
            wanted = self.stain
        if isinstance(wanted, int):
            if 0 <= wanted < len(names):
                return wanted, False
        elif wanted is not None and names.count(wanted.lower()) == 1:
            return names.index(wanted.lower()), False
        raise self._no_channel(stack, ", ".join(stack.channels))

    def _no_channel(self, stack: ImageStack, found: str) -> InputError:
        what = self.channel if self.channel is not None else self.stain
        return InputError(
            "image's channel is not known",
            where=stack.path,
            expected="one channel" if what is None else what,
            found=found,
            remedy="Name the stain's channel in the manifest (images)",
        )


def size_and_hash(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a file; of a folder (OME-Zarr) of all its files' names, sizes and hashes in order."""
    if path.is_file():
        with path.open("rb") as handle:
            return path.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest()
    total, digest = 0, hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        size, own = size_and_hash(file)
        total += size
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0{own}\n".encode())
    return total, digest.hexdigest()
