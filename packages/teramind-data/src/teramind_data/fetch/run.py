"""A whole listing into a folder: what is there already, what is missing, room for it, and the downloads."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from teramind_data.console import progress
from teramind_data.errors import (
    InputError,
    MissingInputError,
    OutputExistsError,
    TeramindError,
    TransferError,
)
from teramind_data.fetch.checksum import DEFAULT_ALGORITHM, Checksum, hash_file
from teramind_data.fetch.download import download, partial_size
from teramind_data.fetch.http import Client, Stopped
from teramind_data.fetch.journal import Journal
from teramind_data.fetch.listing import PART, Listing, RemoteFile, size_text

__all__ = ["FetchOptions", "Outcome", "fetch", "plain_target"]

_MB = 1e6
#: Left free on the disk beyond what the files need.
_SPARE = 64 << 20


@dataclass(frozen=True)
class FetchOptions:
    """How a listing is fetched.

    jobs: files at once. verify: hash all files that are there, also those verified before. overwrite: files that
    are there and differ are fetched again.
    """

    jobs: int = 2
    verify: bool = False
    overwrite: bool = False


@dataclass
class Outcome:
    """What a run did; ``failed`` holds the error of each file that is not there."""

    fetched: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    failed: dict[str, TeramindError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    file: RemoteFile
    target: Path
    left: int | None


def plain_target(out: Path, path: str) -> Path:
    """``out/path``; neither it nor a folder on the way may be a link.

    Raises:
        InputError: one is, or a file is where a folder should be.
    """
    at = out
    parts = path.split("/")
    for depth, part in enumerate(parts):
        at = at / part
        for candidate in (at, at.with_name(at.name + PART)) if depth == len(parts) - 1 else (at,):
            if candidate.is_symlink():
                raise InputError(
                    "a link stands where a download goes",
                    where=candidate,
                    expected="a plain file or folder",
                    found=f"link to {candidate.readlink()}",
                    remedy="Remove it, or give another folder",
                )
        if at.exists() and at.is_dir() == (depth == len(parts) - 1):
            raise InputError("a file and a folder have one name", at, remedy="Give another folder")
    return at


def fetch(listing: Listing, out: Path, options: FetchOptions, client: Client) -> Outcome:
    """Bring all files of ``listing`` to ``out`` and verify them; files that are there and right are left alone.

    A file that fails does not keep the others from being fetched; a disk that is full does.

    Raises:
        InputError: no room, links in the way, or another run in the folder. OutputExistsError: a file is there that
        differs from the source's.
    """
    targets = {file.path: plain_target(out, file.path) for file in listing.files}
    out.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    with Journal(out) as journal:
        missing = _missing(listing, targets, journal, options, outcome)
        tasks = [_task(file, targets[file.path]) for file in missing]
        check_room(out, sum(task.left or 0 for task in tasks))
        if tasks:
            _Run(client, journal, outcome, options).all(tasks)
    return outcome


def _task(file: RemoteFile, target: Path) -> _Task:
    return _Task(file, target, None if file.size is None else file.size - partial_size(file, target))


def check_room(out: Path, needed: int) -> None:
    """InputError, with the numbers, where ``needed`` more bytes would not fit on the disk of ``out``."""
    free = shutil.disk_usage(out).free
    if needed + _SPARE > free:
        raise InputError(
            "not enough room on the disk",
            where=out,
            expected=f"{size_text(needed)} still to download, and {size_text(_SPARE)} to spare",
            found=f"{size_text(free)} free",
            remedy="Make room, give another folder, or choose fewer files with --include",
        )


def _missing(
    listing: Listing, targets: dict[str, Path], journal: Journal, options: FetchOptions, outcome: Outcome
) -> list[RemoteFile]:
    """The files still to fetch; the others are counted as present."""
    to_hash: list[RemoteFile] = []
    missing: list[RemoteFile] = []
    for file in listing.files:
        target = targets[file.path]
        if not target.exists():
            missing.append(file)
        elif _differs_in_size(file, target):
            missing.append(_replaceable(file, target, target.stat().st_size, options))
        elif not options.verify and _known(file, target, journal):
            outcome.present.append(file.path)
        else:
            to_hash.append(file)
    total = sum(targets[file.path].stat().st_size for file in to_hash)
    if to_hash:
        with progress(total / _MB, "verify", "MB") as advance:
            for file in to_hash:
                if not _verified(file, targets[file.path], journal, outcome, lambda n: advance(n / _MB)):
                    found = _found(file, targets[file.path], journal)
                    missing.append(_replaceable(file, targets[file.path], found, options))
    return missing


def _differs_in_size(file: RemoteFile, target: Path) -> bool:
    return file.size is not None and file.exact and target.stat().st_size != file.size


def _known(file: RemoteFile, target: Path, journal: Journal) -> bool:
    """Whether the file was verified before, against this checksum or, where there is none, from this address."""
    entry = journal.get(file.path, target)
    if entry is None:
        return False
    return entry.checksum == file.checksum if file.checksum else entry.url == file.url


def _verified(
    file: RemoteFile, target: Path, journal: Journal, outcome: Outcome, advance: Callable[[int], None]
) -> bool:
    """Hash a file that is there. Without a published checksum, one that we computed before stands in for it."""
    before = journal.stale(file.path)
    expected = file.checksum
    if expected is None and before is not None and before.url == file.url:
        expected = before.checksum
    algorithm = expected.algorithm if expected else DEFAULT_ALGORITHM
    found = Checksum(algorithm, hash_file(target, algorithm, advance).hexdigest())
    if expected is not None and found != expected:
        return False
    if expected is None and file.size is None:
        return False  # nothing at all says that this is the source's file
    if expected is None:
        outcome.unverified.append(file.path)
    journal.put(file.path, target, found, published=file.checksum is not None, url=file.url)
    outcome.present.append(file.path)
    return True


def _found(file: RemoteFile, target: Path, journal: Journal) -> str:
    before = journal.stale(file.path)
    expected = file.checksum or (before.checksum if before else None)
    return f"a file that is not {expected}" if expected else "a file that nothing vouches for"


def _replaceable(file: RemoteFile, target: Path, found: object, options: FetchOptions) -> RemoteFile:
    """``file``, to be fetched again, if that is allowed."""
    if not options.overwrite:
        expected = [f"{file.size} bytes"] if file.size is not None and file.exact else []
        expected += [str(file.checksum)] if file.checksum else []
        raise OutputExistsError(
            "a file is there that differs from the source's",
            where=target,
            expected=", ".join(expected) or f"what {file.url} gives",
            found=f"{found} bytes" if isinstance(found, int) else found,
            remedy="Move it away, or give --overwrite",
        )
    return file


class _Run:
    """The downloads of one run."""

    def __init__(self, client: Client, journal: Journal, outcome: Outcome, options: FetchOptions) -> None:
        self.client = client
        self.journal = journal
        self.outcome = outcome
        self.jobs = max(1, options.jobs)
        self._guard = threading.Lock()

    def all(self, tasks: list[_Task]) -> None:
        """Fetch all; results and errors go into the outcome."""
        known = all(task.left is not None for task in tasks)
        total = sum(task.left or 0 for task in tasks) / _MB if known else None
        with progress(total, "fetch", "MB") as advance, ThreadPoolExecutor(self.jobs) as pool:

            def gained(n: int) -> None:
                with self._guard:  # threads share one display
                    advance(n / _MB)

            futures = {pool.submit(self._one, task, gained): task for task in tasks}
            try:
                self._gather(futures)
            finally:
                # Also on Ctrl-C: unfinished parts stay, nothing new is begun.
                self.client.stop.set()
                for future in futures:
                    future.cancel()

    def _gather(self, futures: dict[Future[Checksum], _Task]) -> None:
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                path = futures[future].file.path
                try:
                    future.result()
                except (TransferError, MissingInputError) as error:
                    self.outcome.failed[path] = error
                    self.client.note(f"{path} failed: {error}")
                else:
                    self.outcome.fetched.append(path)

    def _one(self, task: _Task, gained: Callable[[int], None]) -> Checksum:
        if self.client.stop.is_set():
            raise Stopped
        task.target.parent.mkdir(parents=True, exist_ok=True)
        found = download(self.client, task.file, task.target, gained)
        published = task.file.checksum is not None
        self.journal.put(task.file.path, task.target, found, published=published, url=task.file.url)
        return found
