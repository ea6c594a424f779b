"""The bytes of a store by key, in parts: what the server serves. Nothing outside the store's root is ever opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from teramind_data.store.remote import filesystem, remote_errors

__all__ = ["LocalObjects", "Objects", "RemoteObjects", "StoredObject", "objects_at"]

#: Bytes held at once for one request.
BLOCK = 1 << 20
#: A request to an object store costs more than its bytes.
REMOTE_BLOCK = 8 << 20


#: What opening says of a name that no file has: absent, a folder, too long, links in a ring, a socket or pipe.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO)


class StoredObject(Protocol):
    """One object, open. ``tag`` changes with its content."""

    size: int
    tag: str

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``stop`` (exclusive) in pieces."""

    def close(self) -> None:
        """Let go of it."""


class Objects(Protocol):
    """A store's objects."""

    def open(self, key: str) -> StoredObject | None:
        """The object of this key, or None where there is none (folders are no objects).

        ``key`` is ``/``-separated without empty, ``.`` and ``..`` segments. OSError or RemoteError where it is there
        and cannot be read, or where that is unknown.
        """


def objects_at(url: str) -> Objects:
    """The objects below a local path or any URL that fsspec knows."""
    return RemoteObjects(url) if "://" in url else LocalObjects(Path(url))


@dataclass
class _LocalFile:
    handle: BinaryIO
    size: int
    tag: str

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        self.handle.seek(start)
        while start < stop:
            data = self.handle.read(min(BLOCK, stop - start))
            if not data:
                raise OSError(f"file became shorter while it was read: {self.handle.name}")
            start += len(data)
            yield data

    def close(self) -> None:
        self.handle.close()


class LocalObjects:
    """Files below a folder. Links may point within it, not out of it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))

    def open(self, key: str) -> StoredObject | None:
        """See ``Objects``."""
        path = Path(os.path.realpath(self.root.joinpath(*key.split("/"))))
        if not path.is_relative_to(self.root):
            return None
        try:
            # Not to wait for a writer, should it be a pipe.
            number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            os.close(number)
            return None
        tag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        return _LocalFile(os.fdopen(number, "rb"), status.st_size, tag)


@dataclass
class _RemoteFile:
    fs: Any
    url: str
    path: str
    size: int
    tag: str

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            end = min(start + REMOTE_BLOCK, stop)
            with remote_errors(self.url):
                data = bytes(self.fs.cat_file(self.path, start=start, end=end))
            if len(data) != end - start:
                raise OSError(f"object became shorter while it was read: {self.path}")
            yield data
            start = end

    def close(self) -> None:
        """Nothing is held between requests."""


class RemoteObjects:
    """Objects below a URL: ``s3://``, ``memory://``, ..."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, root = filesystem(url)
        self.root = root.rstrip("/")

    def open(self, key: str) -> StoredObject | None:
        """See ``Objects``."""
        path = f"{self.root}/{key}"
        try:
            with remote_errors(self.url):
                info = self.fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if info.get("type") != "file":
            return None
        tag = str(info.get("ETag") or info.get("LastModified") or info.get("created") or "").strip('"')
        return _RemoteFile(self.fs, self.url, path, int(info["size"]), f"{tag}-{info['size']:x}")
