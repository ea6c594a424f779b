"""Zip archives that were fetched, unpacked beside themselves: as safely as strangers' archives must be.

Names and declared sizes are checked before a byte is written. A member is inflated to a temporary name, held to its
declared size and CRC, and renamed. A member that is there already is left alone if it is the same, and an error else.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from teramind_data.console import progress
from teramind_data.errors import InputError, OutputExistsError
from teramind_data.fetch.listing import PART, check_path
from teramind_data.fetch.run import check_room, plain_target

__all__ = ["extract"]

_BLOCK = 1 << 20
#: Deflate cannot do better than 1032; an archive that claims more is made to fill disks.
_MOST_RATIO = 1100
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def extract(archive: Path, members: tuple[str, ...] = ()) -> tuple[Path, list[str], int]:
    """Unpack ``NAME.zip`` into ``NAME/`` beside it; only members that match one of ``members`` where given.

    Returns the folder, the members that were written, and the number of those that were there already. Members are
    not flushed to the disk one by one: what a power cut spoils has another CRC, and is said at the next run.

    Raises:
        InputError: damaged, encrypted, unsafe or too large for the disk. OutputExistsError: another file has a
        member's name.
    """
    folder = archive.with_suffix("")
    plain_target(archive.parent, archive.name)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError("no folder to unpack into", folder, "a plain folder", remedy="Move it away")
    try:
        with zipfile.ZipFile(archive) as source:
            wanted = _checked(source, archive, members)
            todo = [member for member in wanted if not _there(member, folder)]
            folder.mkdir(exist_ok=True)
            check_room(folder, sum(member.file_size for member in todo))
            _unpack(source, todo, folder, archive.name)
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "archive is damaged",
            where=archive,
            found=str(error)[:160] or type(error).__name__,
            remedy="Check it with --verify, or fetch it again",
        ) from error
    return folder, [member.filename for member in todo], len(wanted) - len(todo)


def _checked(source: zipfile.ZipFile, archive: Path, patterns: tuple[str, ...]) -> list[zipfile.ZipInfo]:
    out: dict[str, zipfile.ZipInfo] = {}
    for info in source.infolist():
        if info.is_dir():
            continue
        name = info.filename
        check_path(name, archive)
        problem = None
        if stat.S_ISLNK(info.external_attr >> 16):
            problem = "a link"
        elif info.flag_bits & 0x1:
            problem = "encrypted"
        elif info.file_size > _MOST_RATIO * max(info.compress_size, 1):
            problem = f"{info.compress_size} bytes that claim to become {info.file_size}"
        elif name in out:
            problem = "there twice"
        if problem is not None:
            raise InputError(
                "archive member is not acceptable",
                where=f"{archive}, {name}",
                expected="a plain file",
                found=problem,
                remedy="Do not trust this archive",
            )
        out[name] = info
    wanted = [m for m in out.values() if not patterns or any(fnmatchcase(m.filename, p) for p in patterns)]
    if not wanted:
        raise InputError(
            "archive holds no such member",
            where=archive,
            expected=" or ".join(patterns) or "any file",
            found=", ".join(list(out)[:6]) or "none",
        )
    return wanted


def _there(member: zipfile.ZipInfo, folder: Path) -> bool:
    """Whether the member is there already, with its size and CRC."""
    target = plain_target(folder, member.filename)
    if not target.exists():
        return False
    size = target.stat().st_size
    if size == member.file_size:
        crc = 0
        with target.open("rb") as handle:
            while block := handle.read(_BLOCK):
                crc = zlib.crc32(block, crc)
        if crc == member.CRC:
            return True
    raise OutputExistsError(
        "a file is there that differs from the archive's",
        where=target,
        expected=f"{member.file_size} bytes, CRC {member.CRC:08x}",
        found=f"{size} bytes",
        remedy="Move it away",
    )


def _unpack(source: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, name: str) -> None:
    total = sum(member.file_size for member in members) / 1e6
    if not members:
        return
    with progress(total, f"unpack {name}", "MB") as advance:
        for member in members:
            target = plain_target(folder, member.filename)
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = target.with_name(target.name + PART)
            try:
                _inflate(source, member, scratch, lambda n: advance(n / 1e6))
                scratch.replace(target)
            finally:
                scratch.unlink(missing_ok=True)


def _inflate(
    source: zipfile.ZipFile, member: zipfile.ZipInfo, scratch: Path, advance: Callable[[int], None]
) -> None:
    declared = member.file_size
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "wb") as out, source.open(member) as data:
        size = 0
        while block := data.read(_BLOCK):  # zipfile checks the CRC at the end
            size += len(block)
            if size > declared:
                break
            out.write(block)
            advance(len(block))
        if size != declared:
            raise zipfile.BadZipFile(f"{member.filename}: {size} bytes where {declared} are declared")
