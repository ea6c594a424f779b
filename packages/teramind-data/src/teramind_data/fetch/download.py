"""One file: resumed where that is safe, verified before it gets its name.

Bytes go to ``NAME.part``; ``NAME.part.json`` says which version of which address they are of. They are gone on with
only if the server confirms, by ``If-Range`` (RFC 9110, 13.1.5), that it still has that version; without a validator
only if a published checksum will judge the whole. A server that sends the same version whole in spite of it is asked
once more without ``If-Range``, which some do not know. Else the file begins anew: two versions are never stitched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from teramind_data.errors import InputError, TeramindError, TransferError
from teramind_data.fetch.checksum import DEFAULT_ALGORITHM, Checksum, Hasher, hash_file, new_hasher
from teramind_data.fetch.http import Client, Stopped, Transient, body
from teramind_data.fetch.listing import PART, STATE, RemoteFile

if TYPE_CHECKING:
    import requests

__all__ = ["Partial", "download", "partial_size", "remove_partial"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Partial:
    """Of what the bytes of a ``.part`` file are; ``size`` of the whole file, None if the server does not tell."""

    url: str
    etag: str | None
    modified: str | None
    size: int | None

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may carry: a strong entity tag, else the date of the last change."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.modified


def _part(target: Path) -> Path:
    return target.with_name(target.name + PART)


def _state(target: Path) -> Path:
    return target.with_name(target.name + STATE)


def _read_state(target: Path) -> Partial | None:
    try:
        return Partial(**json.loads(_state(target).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # nothing, or cut off by a crash: the part is not to be trusted


def _write_state(target: Path, state: Partial) -> None:
    path = _state(target)
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(json.dumps(asdict(state)))
    scratch.replace(path)


def partial_size(file: RemoteFile, target: Path) -> int:
    """Bytes of an earlier attempt that can be gone on with."""
    state = _read_state(target)
    part = _part(target)
    if state is None or state.url != file.url or part.is_symlink() or not part.is_file():
        return 0
    if not _may_go_on(state, file):
        return 0
    have = part.stat().st_size
    return have if state.size is None or have <= state.size else 0


def _may_go_on(state: Partial | None, file: RemoteFile) -> bool:
    return state is not None and (state.validator is not None or file.checksum is not None)


def remove_partial(target: Path) -> None:
    """Forget an unfinished download."""
    for path in (_part(target), _state(target)):
        path.unlink(missing_ok=True)


class _AskPlainly(Exception):
    """The server has the same version and yet did not resume: perhaps it does without ``If-Range``."""


class _Attempt:
    """The bytes so far of one file, on disk and hashed."""

    def __init__(
        self, client: Client, file: RemoteFile, target: Path, advance: Callable[[int], None]
    ) -> None:
        self.client = client
        self.file = file
        self.target = target
        self.advance = advance
        self.algorithm = file.checksum.algorithm if file.checksum else DEFAULT_ALGORITHM
        self.have = partial_size(file, target)
        self.resumed = self.have > 0
        self.plain = False  # whether to ask without If-Range
        self.state = _read_state(target) if self.resumed else None
        # The part is ours to write; a link in its place would lead the bytes elsewhere.
        self.handle = os.open(_part(target), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        self.hasher: Hasher = new_hasher(self.algorithm)
        if self.resumed:
            self.hasher = hash_file(_part(target), self.algorithm, length=self.have)
            os.lseek(self.handle, self.have, os.SEEK_SET)
        else:
            os.ftruncate(self.handle, 0)

    def restart(self, reason: str | None = None) -> None:
        """Throw away what is there."""
        if self.have and reason:
            self.client.note(f"{self.file.path}: {reason}; beginning anew")
        self.advance(-self.have)
        os.ftruncate(self.handle, 0)
        os.lseek(self.handle, 0, os.SEEK_SET)
        self.have = 0
        self.state = None
        self.hasher = new_hasher(self.algorithm)
        self.resumed = False

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.state is not None and self.state.size == self.have

    def once(self, gained: Callable[[], None]) -> None:
        """One request, read to its end. Transient: bytes are missing still."""
        headers: dict[str, str] = {}
        if self.have and not _may_go_on(self.state, self.file):
            self.restart("nothing would tell whether the file changed meanwhile")
        if self.have and self.state is not None:
            headers["Range"] = f"bytes={self.have}-"
            if self.state.validator is not None and not self.plain:
                headers["If-Range"] = self.state.validator
        with self.client.open(self.file.url, headers) as response:
            size = self._begin(response)
            for block in body(response):
                if self.client.stop.is_set():
                    raise Stopped
                self._write(block)
                gained()
        if size is not None and self.have != size:
            raise Transient(f"connection closed at {self.have} of {size} bytes")
        if size is None:
            # The answer had no length: what its listing says is the only other judge of its end.
            if self.file.exact and self.file.size not in (None, self.have):
                raise Transient(f"answer ended at {self.have} of {self.file.size} bytes")
            self.state = Partial(self.file.url, None, None, self.have)

    def _begin(self, response: requests.Response) -> int | None:
        """Make what is there fit the answer; the size of the whole file."""
        if response.status_code == 416 or (response.status_code == 206 and not self._continues(response)):
            self.restart("what is there does not fit the file on the server")
            raise Transient("server has another version")
        told = response.headers.get("Content-Length", "")
        size = int(told) if told.isdigit() else None
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers["Content-Range"])
            size = self.state.size if self.state is not None else None
            if match is not None and match[3] != "*":
                size = int(match[3])
        else:
            if self.have and not self.plain and self._same(response, size):
                self.plain = True
                raise _AskPlainly
            self.restart("the file changed on the server, or the server does not resume")
        self._check_size(size)
        if response.status_code == 200:
            headers = response.headers
            self.state = Partial(self.file.url, headers.get("ETag"), headers.get("Last-Modified"), size)
            _write_state(self.target, self.state)
        return size

    def _continues(self, response: requests.Response) -> bool:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or self.state is None or int(match[1]) != self.have:
            return False
        if match[3] != "*" and self.state.size is not None and int(match[3]) != self.state.size:
            return False
        etag = response.headers.get("ETag")
        if self.plain and self.file.checksum is None and etag is None:
            return False
        return etag is None or self.state.etag is None or etag == self.state.etag

    def _same(self, response: requests.Response, size: int | None) -> bool:
        """Whether a whole answer is of the version whose beginning is there."""
        etag = response.headers.get("ETag")
        if self.state is None or size is None or size != self.state.size:
            return False
        if self.file.checksum is not None and etag is None:
            return (
                self.state.modified is not None
                and response.headers.get("Last-Modified") == self.state.modified
            )
        return etag is not None and etag == self.state.etag

    def _check_size(self, size: int | None) -> None:
        told = self.file.size
        if told is not None and self.file.exact and size is not None and size != told:
            self.restart()
            raise TransferError(
                "file has another size than its listing says",
                where=self.file.url,
                expected=f"{told} bytes",
                found=size,
                remedy="List the source again; it may have been changed",
            )

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            done = os.write(self.handle, view)
            self.hasher.update(bytes(view[:done]))
            self.have += done
            self.advance(done)
            view = view[done:]

    def close(self) -> None:
        """Close the part, and remove it if nothing was got."""
        os.close(self.handle)
        if not self.have and not self.complete:
            remove_partial(self.target)


def download(client: Client, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> Checksum:
    """Fetch ``file`` to ``target``, whose folder exists; the checksum of what is there then.

    ``advance(n)`` is told of n more bytes, negative where bytes were thrown away. An unfinished part stays for the
    next time.

    Raises:
        MissingInputError, TransferError: as `Client.open` says; wrong size or checksum. InputError: the disk does
        not take it. Stopped: the run ended.
    """
    try:
        attempt = _Attempt(client, file, target, advance)
    except OSError as error:
        raise _disk_error(error, target) from error
    try:
        while True:
            _complete(client, attempt)
            found = Checksum(attempt.algorithm, attempt.hasher.hexdigest())
            if file.checksum is None or found == file.checksum:
                break
            # Earlier bytes may be to blame: of another day, or of a crash. Those of one answer may not.
            if not attempt.resumed:
                attempt.restart()
                raise TransferError(
                    "checksum does not match",
                    where=file.url,
                    expected=file.checksum,
                    found=found,
                    remedy="The bytes were thrown away; try again, and tell the source if it stays",
                )
            attempt.restart("the whole does not match its checksum")
        os.fsync(attempt.handle)
    except TeramindError:
        raise
    except OSError as error:
        raise _disk_error(error, target) from error
    finally:
        attempt.close()
    _part(target).replace(target)
    _state(target).unlink(missing_ok=True)
    return found


def _complete(client: Client, attempt: _Attempt) -> None:
    retries = client.retries()
    while not attempt.complete:
        try:
            attempt.once(retries.gained)
        except _AskPlainly:
            continue
        except Transient as trouble:
            retries.wait(trouble, attempt.file.url)
            attempt.resumed = attempt.have > 0


def _disk_error(error: OSError, target: Path) -> InputError:
    return InputError(
        "cannot write",
        where=_part(target),
        found=error.strerror or error,
        remedy="Make room or give another folder, and run the same command again; it goes on where it stopped",
    )
