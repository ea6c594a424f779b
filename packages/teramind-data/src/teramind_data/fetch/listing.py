"""What a source offers: names, addresses, sizes and checksums, and which of them are wanted.

Names come from strangers. They are checked here, once, before anything is joined to a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from teramind_data.errors import InputError
from teramind_data.fetch.checksum import Checksum

__all__ = [
    "PART",
    "RESERVED",
    "STATE",
    "Listing",
    "RemoteFile",
    "Wanted",
    "check_path",
    "check_url",
    "size_text",
]

#: Suffixes of unfinished files and of what is known of them.
PART = ".part"
STATE = ".part.json"
#: Beginning of the names of our own files in an output folder.
RESERVED = ".teramind-fetch"
_LONGEST_NAME = 240  # bytes; file systems take 255, and suffixes are added


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source.

    path: relative, with ``/``. size: bytes, None if not told. exact: whether the size is to the byte (index pages
    round).
    """

    path: str
    url: str
    size: int | None = None
    checksum: Checksum | None = None
    exact: bool = True


@dataclass(frozen=True)
class Listing:
    """All files of a source, and what it says of itself (title, DOI, licence)."""

    source: str
    files: tuple[RemoteFile, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for file in self.files:
            check_path(file.path, self.source)
            check_url(file.url)
            if file.path in seen:
                raise InputError(
                    "listing names a file twice",
                    where=self.source,
                    found=file.path,
                    remedy="Give a manifest whose paths differ",
                )
            seen.add(file.path)
        for path in seen:
            above = path
            while "/" in above:
                above = above.rpartition("/")[0]
                if above in seen:
                    raise InputError("listing has a name as file and as folder", self.source, found=above)

    @property
    def size(self) -> int:
        """Bytes of all files whose size is told."""
        return sum(file.size or 0 for file in self.files)

    def only(self, wanted: Wanted) -> Listing:
        """The files that are wanted."""
        return replace(self, files=tuple(file for file in self.files if wanted.file(file.path)))


@dataclass(frozen=True)
class Wanted:
    """Shell patterns over whole paths (``*`` crosses ``/``): one of ``include``, none of ``exclude``.

    A pattern that matches a folder stands for all that is in it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def file(self, path: str) -> bool:
        """Whether a file is wanted."""
        if self.include and not any(_matches(path, pattern) for pattern in self.include):
            return False
        return not any(_matches(path, pattern) for pattern in self.exclude)

    def folder(self, path: str) -> bool:
        """Whether a folder may hold wanted files, so that folders that cannot are not even listed."""
        inside = f"{path}/"
        if any(_matches(inside, pattern) for pattern in self.exclude):
            return False
        if not self.include:
            return True
        heads = (_literal_head(f"{pattern.rstrip('/')}/*") for pattern in self.include)
        return any(head.startswith(inside) or inside.startswith(head) for head in heads)


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern.rstrip('/')}/*")


def _literal_head(pattern: str) -> str:
    return pattern[: min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))]


def check_path(path: str, where: object) -> None:
    """InputError unless ``path`` is a plain relative name that stays inside the folder it is put into."""
    parts = path.split("/")
    bad = (
        not path
        or any(
            part in ("", ".", "..") or len(part.encode(errors="replace")) > _LONGEST_NAME for part in parts
        )
        or any(ord(sign) < 32 or sign in "\\\x7f" or 0xD800 <= ord(sign) < 0xE000 for sign in path)
        or (len(parts[0]) > 1 and parts[0][1] == ":")
    )
    if bad:
        raise InputError(
            "listing names a path that leads out of the folder, or is no name",
            where=where,
            expected="plain relative names",
            found=repr(path[:120]),
            remedy="Do not trust this source",
        )
    if path.endswith((PART, STATE)) or path.startswith(RESERVED):
        raise InputError(
            "listing names a file as unfinished downloads are named",
            where=where,
            found=path,
            remedy=f"Leave it out: --exclude '{path}'",
        )


def check_url(url: str) -> None:
    """InputError unless ``url`` is http or https, with a host and without a password in it."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = parts.username is not None or parts.password is not None
    except ValueError:
        fine = secret = False
    if secret:
        raise InputError(
            "address holds a user name or password",
            where=url.rpartition("@")[2][:200],
            remedy="Put it into ~/.netrc; addresses are kept beside the files",
        )
    if not fine:
        raise InputError(
            "address is not one to download from",
            url[:200],
            "http:// or https://",
            repr(url.partition(":")[0][:20]),
        )


def size_text(size: float) -> str:
    """Bytes for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"


def total_text(files: Iterable[RemoteFile]) -> str:
    """Number and size of files: ``3 files, 1.5 GiB``; says where sizes are rounded or missing."""
    all_files = tuple(files)
    unknown = sum(file.size is None for file in all_files)
    about = "about " if any(not file.exact for file in all_files) else ""
    text = f"{len(all_files)} file{'s' * (len(all_files) != 1)}, {about}"
    text += size_text(sum(file.size or 0 for file in all_files))
    return text + (f" and {unknown} of unknown size" if unknown else "")
