"""A folder for what does not outlive a run, and the lock that keeps a second run of the same output out."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teramind_data.errors import OutputExistsError
from teramind_data.store import Location
from teramind_data.store.lock import lock_file


@contextmanager
def scratch_folder(out: str, given: Path | None = None) -> Iterator[Path]:
    """An empty folder, removed at the end: beside a local output (same disk), in ``given``, or a temporary one.

    What a killed run left in it is removed at the start, complete or not: these files are neither synced nor
    hashed, so after a power cut one of the right length may hold zeros. A continued run therefore reads its
    transcripts again; what it does not do again are the shards, which the store's journal vouches for. While it
    lasts no other run of this output may begin; where the output is remote and nothing is ``given``, no other
    run of this user on this machine.

    Raises:
        OutputExistsError: where another run is writing this output.
    """
    if "://" in out:
        # Stores of one name may lie in many buckets.
        digest = hashlib.sha256(Location(out).url.encode()).hexdigest()
        name, parent = f"{Path(out).name}-{digest[:12]}", given or _private_folder()
    else:
        name, parent = Path(out).absolute().name, given or Path(out).absolute().parent
    parent = parent.absolute()
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".{name}.scratch"
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


def _private_folder() -> Path:
    """A folder of this user's own among the temporary ones, where names can be fixed without being guessed."""
    folder = Path(tempfile.gettempdir()) / f"teramind-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise OutputExistsError(
            "folder for intermediate files is somebody else's", folder, remedy="Name another with --scratch"
        )
    return folder


_LOCK = "lock"


def _lock(folder: Path, out: str) -> int:
    """Take the folder's lock; the system drops it with the process, however that ends."""
    handle = lock_file(folder / _LOCK, permissions=0o600)
    if handle is None:
        raise OutputExistsError(
            "another run is writing this output",
            where=out,
            found=f"{folder} in use",
            remedy="Wait for it, or choose another name",
        )
    return handle
