"""One writer at a time: locks on a folder or a file that the system drops with the process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teramind_data.errors import OutputExistsError

__all__ = ["CANNOT_LOCK", "lock_file", "locked_folder"]

#: What filesystems answer that cannot lock (network ones, mostly).
CANNOT_LOCK = {errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of an existing folder; nothing is left in it. Filesystems without locks give none.

    Raises:
        OutputExistsError: where another run holds it; ``what`` says what that run is doing.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputExistsError(
                f"another run is {what}", where=folder, remedy="Wait for it, or stop it first"
            ) from None
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
        if not folder.exists() or folder.stat().st_ino != os.fstat(handle).st_ino:
            raise OutputExistsError(f"another run was just {what}", where=folder, remedy="Run again")
        yield
    finally:
        os.close(handle)


_MOST_VANISHED = 1000
"""Times that a folder can be made and no file in it, after which nobody believes in another run that removes it."""


def lock_file(file: Path, mode: int = fcntl.LOCK_EX | fcntl.LOCK_NB, permissions: int = 0o666) -> int | None:
    """Lock the file of this name, made with its folder where it is not there.

    Who holds it may remove it, and its folder, before letting go: one that was removed meanwhile is made anew.

    Args:
        file: what is locked.
        mode: of ``flock``.
        permissions: of a file that is made.

    Returns:
        The open file, to be closed; None where another process holds it.

    Raises:
        OSError: where nothing can be written there, or the filesystem has no locks (:data:`CANNOT_LOCK`).
    """
    vanished = 0
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, permissions)
        except FileNotFoundError:  # the folder went, with the run that held it
            vanished += 1
            if vanished == _MOST_VANISHED:  # or no file can be made in it at all, as in /proc
                raise
            continue
        try:
            fcntl.flock(handle, mode)
            if os.fstat(handle).st_ino == file.stat().st_ino:
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass  # locked, and gone meanwhile
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
