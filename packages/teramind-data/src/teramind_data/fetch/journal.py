"""What has been verified, so that a rerun need not read terabytes again.

``OUT/.teramind-fetch.jsonl`` gets one line a verified file: path, size, time of change, checksum, source. It is only
appended to; a line that a crash cut off is ignored, which costs one file's hashing. A file that has changed since in
size or time is not believed. The open journal is also the lock that keeps a second run out of the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from teramind_data.errors import InputError
from teramind_data.fetch.checksum import Checksum
from teramind_data.fetch.listing import RESERVED

__all__ = ["Entry", "Journal"]


@dataclass(frozen=True)
class Entry:
    """A file as it was when its checksum was right. ``published`` is False where only we computed it."""

    size: int
    mtime_ns: int
    checksum: Checksum
    published: bool
    url: str


class Journal:
    """The journal of one output folder; a context manager that holds its lock.

    Raises:
        InputError: another run has the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{RESERVED}.jsonl"
        self._guard = threading.Lock()
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise InputError(
                "another download into this folder is running", where=folder, remedy="Wait for it, or stop it"
            ) from None
        self._entries = self._read()

    def _read(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        data = self.path.read_bytes()
        for line in data.splitlines():
            try:
                row = json.loads(line)
                entries[row["path"]] = Entry(
                    int(row["size"]),
                    int(row["mtime_ns"]),
                    Checksum(row["algorithm"], row["value"]),
                    bool(row["published"]),
                    row["url"],
                )
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut: its file is hashed again
        if data and not data.endswith(b"\n"):
            os.write(self._handle, b"\n")
        return entries

    def get(self, path: str, file: Path) -> Entry | None:
        """What is known of ``path``, if the file is still as it was."""
        entry = self._entries.get(path)
        if entry is None:
            return None
        now = file.stat()
        return entry if (now.st_size, now.st_mtime_ns) == (entry.size, entry.mtime_ns) else None

    def stale(self, path: str) -> Entry | None:
        """What was known of ``path``, changed since or not."""
        return self._entries.get(path)

    def put(self, path: str, file: Path, checksum: Checksum, *, published: bool, url: str) -> None:
        """Remember that the file on disk has this checksum."""
        now = file.stat()
        entry = Entry(now.st_size, now.st_mtime_ns, checksum, published, url)
        row = {
            "path": path,
            "size": entry.size,
            "mtime_ns": entry.mtime_ns,
            "algorithm": checksum.algorithm,
            "value": checksum.value,
            "published": published,
            "url": url,
        }
        with self._guard:
            os.write(self._handle, (json.dumps(row) + "\n").encode())  # one write: lines never mix
            os.fsync(self._handle)
            self._entries[path] = entry

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
