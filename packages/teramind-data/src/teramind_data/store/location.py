"""Where a store lies: a local path or any URL that fsspec knows, as bytes by key and as a zarr store."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teramind_data.errors import InputError

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["Location"]


#: Unfinished files that a killed process leaves: ours, and those of zarr's local store.
_TEMPORARY = re.compile(r"^\..+\.\d+\.[0-9a-f]{8}\.tmp$|\.[0-9a-f]{32}\.partial$")


class Location:
    """A directory-like place that holds one store; keys are ``/``-separated paths below it.

    Local writes go to a temporary sibling, are synced and renamed. Object stores have no rename, but put a whole
    object or none.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        text = os.fspath(url)
        if "::" in text:
            raise InputError("chained URLs are not supported", where=text, expected="a path or a plain URL")
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        self._fs: Any = None
        if "://" in text:
            self.is_local = False
            self.url = text.rstrip("/")
        else:
            self.is_local = True
            self.path = Path(text).expanduser().absolute()
            self.url = str(self.path)

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fs": None}

    def _remote(self, key: str = "") -> tuple[Any, str]:
        if self._fs is None:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        root = str(self._root).rstrip("/")
        return self._fs, f"{root}/{key}" if key else root

    def zarr_store(self, *, read_only: bool) -> Store:
        """The same place as a zarr store."""
        from zarr.storage import FsspecStore, LocalStore

        if self.is_local:
            return LocalStore(self.path, read_only=read_only)
        return FsspecStore.from_url(self.url, read_only=read_only)

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none."""
        if self.is_local:
            try:
                return (self.path / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        fs, path = self._remote(key)
        try:
            return bytes(fs.cat_file(path))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """Write one object, whole or not at all."""
        if not self.is_local:
            fs, path = self._remote(key)
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
        fs, path = self._remote(key)
        # Shards are written through zarr's own filesystem object, of which this one's cache knows nothing.
        fs.invalidate_cache()
        return bool(fs.isfile(path)) and int(fs.size(path)) > 0

    def children(self, key: str = "") -> set[str]:
        """Names directly below ``key``, objects and folders; what was never finished does not count."""
        if self.is_local:
            try:
                with os.scandir(self.path / key if key else self.path) as entries:
                    return {entry.name for entry in entries if not _TEMPORARY.search(entry.name)}
            except FileNotFoundError:
                return set()
        fs, path = self._remote(key)
        fs.invalidate_cache()
        try:
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
        fs, path = self._remote(prefix)
        fs.invalidate_cache()
        try:
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
        fs, path = self._remote(key)
        fs.invalidate_cache()
        if fs.exists(path):
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
        fs, path = self._remote(key)
        fs.invalidate_cache()
        if fs.exists(path):
            fs.rm(path, recursive=True)

    def occupied(self) -> bool:
        """Whether anything lies here: an object of this very name, or anything below it."""
        if self.is_local:
            if self.path.is_dir():
                return bool(self.children())
            return self.path.exists() or self.path.is_symlink()
        fs, path = self._remote()
        return bool(self.children()) or bool(fs.isfile(path))


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
