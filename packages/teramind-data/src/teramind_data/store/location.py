"""Where a store lies: a local path or any URL that fsspec knows, as bytes by key and as a zarr store."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from teramind_data.errors import InputError

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["Location", "UnconditionalError", "is_url"]


#: Unfinished files that a killed process leaves: ours, and those of zarr's local store.
_TEMPORARY = re.compile(r"^\..+\.\d+\.[0-9a-f]{8}\.tmp$|\.[0-9a-f]{32}\.partial$")


#: A scheme of more than a letter, which on some systems is a drive.
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:/")


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is a URL, misspelt with one slash or made a path, which takes one, included."""
    return _SCHEME.match(os.fspath(name)) is not None


class UnconditionalError(Exception):
    """A server writes objects whatever is there already."""


class Location:
    """A directory-like place that holds one store; keys are ``/``-separated paths below it.

    Local writes go to a temporary sibling, are synced and renamed. Object stores have no rename, but put a whole
    object or none.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        text = os.fspath(url)
        if "::" in text:
            raise InputError("chained URLs are not supported", where=text, expected="a path or a plain URL")
        if is_url(text) and not text.partition(":")[2].startswith("//"):
            # It would be a folder here, and days of work might go into it.
            raise InputError(
                "URL is misspelt",
                where=text,
                expected="two slashes, as in s3://bucket/store.zarr",
                remedy=f"Write ./{text} for a folder of that name",
            )
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        self._fs: Any = None
        if "://" in text:
            self.is_local = False
            protocol, _, rest = text.partition("://")
            self.url = f"{protocol}://{rest.rstrip('/')}"
        else:
            self.is_local = True
            self.path = Path(text).expanduser().absolute()
            self.url = str(self.path)

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fs": None}

    @contextlib.contextmanager
    def _remote(self, key: str = "") -> Iterator[tuple[Any, str]]:
        """The filesystem and a path in it; what fails inside is RemoteError, unless an object is absent."""
        from teramind_data.store.remote import filesystem, remote_errors

        if self._fs is None:
            self._fs, self._root = filesystem(self.url)
        root = str(self._root).rstrip("/")
        # Shards are written through zarr's own filesystem object, of which this one's cache knows nothing.
        self._fs.invalidate_cache()
        with remote_errors(self.url):
            yield self._fs, f"{root}/{key}" if key else root

    def zarr_store(self, *, read_only: bool) -> Store:
        """The same place as a zarr store."""
        if self.is_local:
            from zarr.storage import LocalStore

            return LocalStore(self.path, read_only=read_only)
        from teramind_data.store.remote import remote_store

        return remote_store(self.url, read_only=read_only)

    @contextlib.contextmanager
    def small_arrays(self, prefix: str) -> Iterator[Store]:
        """A zarr store in which to make arrays below ``prefix`` that together are small.

        Remote ones are made in a temporary folder and put in their place when the block ends well: of a server zarr
        asks several things an object.
        """
        if self.is_local:
            yield self.zarr_store(read_only=False)
            return
        from zarr.storage import LocalStore

        with tempfile.TemporaryDirectory(prefix="teramind-arrays-") as folder:
            yield LocalStore(folder)
            for file in sorted(Path(folder, prefix).rglob("*")):
                if file.is_file():
                    self.write(file.relative_to(folder).as_posix(), file.read_bytes())

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none."""
        if self.is_local:
            try:
                return (self.path / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        try:
            with self._remote(key) as (fs, path):
                return bytes(fs.cat_file(path))
        except (FileNotFoundError, IsADirectoryError):
            return None

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """The object as a file to read parts of; FileNotFoundError where there is none."""
        if self.is_local:
            with (self.path / key).open("rb") as file:
                yield file
            return
        with self._remote(key) as (fs, path), fs.open(path, "rb") as file:
            yield file

    def write(self, key: str, data: bytes) -> None:
        """Write one object, whole or not at all."""
        if not self.is_local:
            with self._remote(key) as (fs, path):
                fs.pipe_file(path, data)
            return
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        try:
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def put_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write a remote object on a condition, see :func:`~teramind_data.store.remote.put_if`."""
        from teramind_data.store.remote import put_if

        with self._remote(key) as (fs, path):
            return put_if(fs, path, data, tag)

    def tag(self, key: str) -> str | None:
        """What a remote object's version is called; None where there is none."""
        try:
            with self._remote(key) as (fs, path):
                return str(fs.info(path).get("ETag", ""))
        except FileNotFoundError:
            return None

    def adopt(self, file: Path, key: str) -> None:
        """Bring in a whole file from elsewhere on the same disk under ``key``, in one step. Local stores only."""
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(file)
        os.replace(file, target)
        _sync_folder(target.parent)

    def sync(self, prefix: str = "") -> None:
        """Make what lies below ``prefix`` outlive a loss of power, whoever wrote it. Object stores always do."""
        if self.is_local:
            for folder, _, names in os.walk(self.path / prefix):
                for name in names:
                    _sync(Path(folder) / name)
                _sync_folder(Path(folder))

    def sweep(self) -> None:
        """Remove what killed processes left half-written. Only where no other process is writing."""
        if self.is_local:
            for folder, _, names in os.walk(self.path):
                for name in names:
                    if _TEMPORARY.search(name):
                        (Path(folder) / name).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key (not a folder) with anything in it: zarr reads an empty one as
        background, and nothing we write is empty."""
        if self.is_local:
            file = self.path / key
            return file.is_file() and file.stat().st_size > 0
        return bool(self._size(key))

    def _size(self, key: str) -> int | None:
        """Bytes of a remote object, or None where there is none."""
        try:
            with self._remote(key) as (fs, path):
                info = fs.info(path)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def children(self, key: str = "") -> set[str]:
        """Names directly below ``key``, objects and folders; what was never finished does not count."""
        if self.is_local:
            try:
                with os.scandir(self.path / key if key else self.path) as entries:
                    return {entry.name for entry in entries if not _TEMPORARY.search(entry.name)}
            except FileNotFoundError:
                return set()
        try:
            with self._remote(key) as (fs, path):
                listed = fs.ls(path, detail=False)
        except FileNotFoundError:
            return set()
        return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in listed} - {""}

    def keys(self, prefix: str) -> set[str]:
        """All objects below ``prefix``, as keys relative to it."""
        if self.is_local:
            root = self.path / prefix
            return {
                os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
                for folder, _, names in os.walk(root)
                for name in names
                if not name.endswith((".tmp", ".partial"))
            }
        try:
            with self._remote(prefix) as (fs, path):
                found = fs.find(path)
        except FileNotFoundError:
            return set()
        # Some filesystems answer with a leading slash and some without.
        start = path.strip("/") + "/"
        return {str(name).lstrip("/").removeprefix(start) for name in found}

    def delete(self, key: str) -> None:
        """Remove one object if it is there."""
        if self.is_local:
            (self.path / key).unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError), self._remote(key) as (fs, path):
            fs.rm_file(path)

    def delete_tree(self, key: str) -> None:
        """Remove everything below ``key``. The caller has made sure that it is ours."""
        if self.is_local:
            target = self.path / key
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError), self._remote(key) as (fs, path):
            fs.rm(path, recursive=True)

    def prune(self, key: str) -> None:
        """Remove the folder ``key`` and those below it where nothing lies in them. Object stores have no folders."""
        if self.is_local:
            for folder, _, _ in os.walk(self.path / key, topdown=False):
                with contextlib.suppress(OSError):  # not empty: something is at work there
                    Path(folder).rmdir()

    def occupied(self) -> bool:
        """Whether anything lies here: an object of this very name, or anything below it."""
        if self.is_local:
            if self.path.is_dir():
                return bool(self.children())
            return self.path.exists() or self.path.is_symlink()
        return bool(self.children()) or self._size("") is not None

    def size(self, prefix: str) -> int:
        """Bytes of all objects below ``prefix``, or of the object of this very key."""
        if self.is_local:
            target = self.path / prefix
            files = [target] if target.is_file() else [file for file in target.rglob("*") if file.is_file()]
            return sum(file.stat().st_size for file in files)
        with self._remote(prefix) as (fs, path):
            return int(fs.du(path))


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the filesystem can."""
    # Some network filesystems cannot sync folders; their renames are durable, or nothing we do makes them so.
    with _folder_handle(folder) as handle, contextlib.suppress(OSError):
        os.fsync(handle)


@contextlib.contextmanager
def _folder_handle(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
