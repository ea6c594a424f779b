"""Strangers' zip archives, read without unpacking: names stay inside, sizes are checked before a byte is inflated."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType

from teramind_data.errors import InputError, MissingInputError

__all__ = ["Archive", "damaged", "inside"]

_MOST_MEMBERS = 10_000
_LARGEST_MEMBER = 256 << 20

#: What zipfile and zlib raise on archives that are cut, bent or of a kind they do not know.
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


def damaged(path: object, found: object, expected: object = None) -> InputError:
    """The error for a file that is not what it should be."""
    return InputError(
        "file is truncated or damaged",
        where=path,
        expected=expected,
        found=found,
        remedy="Copy the file again from its source",
    )


def inside(root: Path, path: Path) -> Path:
    """``path`` where it lies in ``root`` once links are followed; InputError otherwise."""
    try:
        target = path.resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a zero byte, a name too long, links in a circle
        raise InputError("file's name is no path", path, found=error, remedy="Correct its name") from error
    if not target.is_relative_to(root.resolve()):
        raise InputError(
            "file lies outside its folder",
            where=path,
            expected=f"inside {root}",
            found=target,
            remedy="Move it there; links and paths that lead out are not followed",
        )
    return path


class Archive:
    """A zip file opened for reading; a context manager.

    Raises
    ------
    MissingInputError: no such file. InputError: no zip, or names, links or declared sizes that are not acceptable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise MissingInputError("file not found", where=path, remedy="Restore it from its source")
        with self._guard():
            self._zip = zipfile.ZipFile(path)
        try:
            self._members = self._checked()
        except BaseException:
            self._zip.close()
            raise

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise InputError("archive has too many members", self.path, f"<= {_MOST_MEMBERS}", len(infos))
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename
            parts = PurePosixPath(name).parts
            link = stat.S_ISLNK(info.external_attr >> 16)
            if not parts or name.startswith("/") or "\\" in name or ":" in name or ".." in parts or link:
                raise InputError(
                    "archive member leads out of the archive",
                    where=self.path,
                    expected="plain relative names",
                    found=f"{name!r}{' (a link)' if link else ''}",
                    remedy="Do not trust this file; get it from its source",
                )
            if name in members:
                raise InputError("archive holds a member twice", where=self.path, found=repr(name))
            if info.flag_bits & 0x1:
                raise InputError("archive is encrypted", self.path, remedy="Decrypt it first")
            if info.file_size > _LARGEST_MEMBER:
                raise InputError(
                    "archive member is too large",
                    where=f"{self.path}, {name}",
                    expected=f"at most {_LARGEST_MEMBER} bytes",
                    found=f"{info.file_size} declared",
                    remedy="Do not trust this file; get it from its source",
                )
            members[name] = info
        return members

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(self._members)

    def read(self, name: str, limit: int = _LARGEST_MEMBER) -> bytes:
        """One member, inflated to at most ``limit`` bytes and checked against its CRC; InputError otherwise."""
        info = self._members.get(name)
        if info is None:
            raise damaged(self.path, ", ".join(self.names[:6]) or "an empty archive", f"a member {name}")
        if info.file_size > limit:
            raise damaged(f"{self.path}, {name}", f"{info.file_size} bytes", f"at most {limit} bytes")
        with self._guard(), self._zip.open(info) as handle:
            data = handle.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise damaged(f"{self.path}, {name}", f"{len(data)} bytes", f"{info.file_size} bytes")
        return data

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            if isinstance(error, InputError):
                raise
            raise damaged(self.path, str(error)[:160] or type(error).__name__, "a whole zip file") from error

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
