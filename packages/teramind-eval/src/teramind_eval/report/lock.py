"""One run an output: a second one is refused, and what a killed one left half written is removed.

The lock is an `flock` on a hidden file beside the output; the system drops it with the process, however that ends, so
what a killed run left blocks nobody.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from teramind_data.console import note
from teramind_data.errors import OutputExistsError
from teramind_data.store.lock import CANNOT_LOCK, lock_file
from teramind_eval.report.output import State, unwritable


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the right to write `folder` while the block lasts; drafts that killed runs left beside it go first.

    Where the file system has no locks that is noted, and nothing is kept out or removed.

    Raises
    ------
    OutputExistsError
        where another run holds it, saying which.
    StoreError
        where nothing can be written there.
    """
    file = folder.with_name(f".{folder.name}.lock")
    try:
        handle = _locked(file, folder)
    except OutputExistsError:  # is an OSError, too
        raise
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        if handle is not None:
            _sign(handle)
            remove_stale(folder)
        yield
    finally:
        # Gone before it is free, so that nobody who locks it then takes it for the one that is beside the output.
        file.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def claimed(folder: Path, state: Callable[[], State]) -> Iterator[bool]:
    """As :func:`held`, of a folder that may be there already; yields whether it is to be written.

    `state`, as of `output.state_of`, is asked before, so that what is current needs no lock, and again by who holds it:
    another run may have finished meanwhile.
    """
    if state() == "current":
        yield False
        return
    with held(folder):
        yield state() != "current"


def remove_stale(folder: Path) -> None:
    """Remove drafts of `folder` that were never finished; only for who holds it.

    A report that was being replaced is left where nothing took its place.
    """
    endings = "partial|old" if folder.exists() else "partial"
    draft = re.compile(rf"\.{re.escape(folder.name)}\.[a-z0-9_]+\.({endings})")
    for path in folder.parent.iterdir():
        if draft.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _locked(file: Path, folder: Path) -> int | None:
    """The locked file; None where the file system cannot lock."""
    try:
        handle = lock_file(file)
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        note(f"{folder}: this file system has no locks; see to it yourself that no other run writes here")
        return None
    if handle is None:
        raise OutputExistsError(
            "another run is writing this output",
            where=folder,
            found=_holder(file) or "another process",
            remedy="Wait for it, stop it, or give another --out",
        )
    return handle


def _holder(file: Path) -> str:
    """What the run that holds a file wrote into it; nothing where it has gone meanwhile."""
    try:
        return file.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _sign(handle: int) -> None:
    os.truncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
