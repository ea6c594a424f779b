"""A folder for what does not outlive a run, and the lock that keeps a second run of the same output out."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teramind_data.errors import OutputExistsError


@contextmanager
def scratch_folder(out: str, given: Path | None = None) -> Iterator[Path]:
    """An empty folder, removed at the end: beside a local output (same disk), in ``given``, or a temporary one.

    What a killed run left in it is removed at the start. While it lasts no other run of this output may begin.

    Raises:
        OutputExistsError: where another run is writing this output.
    """
    if given is None and "://" in out:
        with tempfile.TemporaryDirectory(prefix="teramind-ingest-") as name:
            yield Path(name)
        return
    path = Path(out.rsplit("/", 1)[-1] if "://" in out else out).absolute()
    parent = path.parent if given is None else given.absolute()
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".{path.name}.scratch"
    handle = _lock(folder, out)
    try:
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


_LOCK = "lock"


def _lock(folder: Path, out: str) -> int:
    """Take the folder's lock; the system drops it with the process, however that ends."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another run, at its end, removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == (folder / _LOCK).stat().st_ino:
                return handle
        except BlockingIOError:
            os.close(handle)
            raise OutputExistsError(
                "another run is writing this output",
                where=out,
                found=f"{folder} in use",
                remedy="Wait for it, or choose another name",
            ) from None
        except FileNotFoundError:
            pass  # locked, but removed meanwhile
        os.close(handle)
