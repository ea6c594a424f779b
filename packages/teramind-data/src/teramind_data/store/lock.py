"""One writer at a time: a lock on a folder that the system drops with the process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teramind_data.errors import OutputExistsError

__all__ = ["locked_folder"]

#: What filesystems answer that cannot lock a folder (network ones, mostly).
_CANNOT = {errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


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
            if error.errno not in _CANNOT:
                raise
        if not folder.exists() or folder.stat().st_ino != os.fstat(handle).st_ino:
            raise OutputExistsError(f"another run was just {what}", where=folder, remedy="Run again")
        yield
    finally:
        os.close(handle)
