"""Who may write an output now: one whole run, or parts side by side, of which the last to end completes the store.

Locks are ``flock``s on files in a hidden folder beside a local output; the system drops them with the process, however
that ends, so what a killed run left blocks nobody. ``all`` is held by every writer, shared among parts; each part holds
a file of its own, too; ``begin`` is held while the store's metadata is written. S3 has no locks: there a whole run and
each part hold a lease (:mod:`teramind_data.store.lease`), and no part knows whether it is the last.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from teramind_data.errors import AccessDeniedError, OutputExistsError
from teramind_data.store import Location
from teramind_data.store.lease import Lease, alive, leased
from teramind_data.store.location import UnconditionalError
from teramind_data.store.lock import CANNOT_LOCK, lock_file
from teramind_model.generate.parts import Part

__all__ = ["Hold", "hold_output"]

_ALL, _BEGIN = "all", "begin"
_COMPLETING = "completes the store"
_GLANCE_S = 0.2

Say = Callable[[str], None]


class Hold(Protocol):
    """The right to write an output while its context lasts; ``certain`` where others are kept out."""

    certain: bool

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """A scope in which no other run writes the store's metadata; waits for one that does."""
        ...

    def become_last(self) -> bool:
        """Whether this run is the only writer now, and from here on; a whole run always is."""
        ...

    def check(self) -> None:
        """OutputExistsError where this run does not hold it any longer."""
        ...


@contextmanager
def hold_output(out: str, part: Part | None, say: Say) -> Iterator[Hold]:
    """Hold the right to write ``out``: alone, or beside other parts where this run is one.

    A part waits for another that is completing the store.

    Raises:
        OutputExistsError: where another run holds it, saying which.
    """
    location = Location(out)
    if not location.is_local:
        with _leased(location, part, say) as hold:
            yield hold
        return
    folder = location.path.with_name(f".{location.path.name}.lock")
    what = "a whole run" if part is None else f"part {part}"
    lock = _Lock(folder, out, what, shared=part is not None)
    try:
        lock.take(say)
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        say(f"{out}: this filesystem has no locks; see to it yourself that no other run writes here")
        lock.leave()
        yield _Unlocked(part)
        return
    try:
        if part is not None:
            lock.take_own(part)
        yield lock
    finally:
        lock.leave()


@dataclass
class _Unlocked:
    part: Part | None
    lease: Lease | None = None
    certain: bool = False

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """See :class:`Hold`; nothing is kept out."""
        yield

    def become_last(self) -> bool:
        """See :class:`Hold`; parts cannot know."""
        return self.part is None

    def check(self) -> None:
        """See :class:`Hold`; nobody knows."""
        if self.lease is not None:
            self.lease.check()


@contextmanager
def _leased(location: Location, part: Part | None, say: Say) -> Iterator[_Unlocked]:
    """A lease beside an output on S3, or a line where none can be had."""
    hold = _Unlocked(part)
    with ExitStack() as stack:
        try:
            hold = _Unlocked(part, _take_lease(stack, location, part, say))
        except UnconditionalError:
            if not location.url.startswith("memory:"):
                say(
                    f"{location}: no conditional writes there; see to it yourself that no other run writes here"
                )
        except AccessDeniedError as error:
            stack.close()
            say(
                f"{location}: no lease beside it, {error.what}; see to it yourself that no other run writes here"
            )
        yield hold


def _take_lease(stack: ExitStack, location: Location, part: Part | None, say: Say) -> Lease:
    """The lease of this run or part, held by the stack; a whole run and parts keep each other out."""
    parent, _, name = location.url.rpartition("/")
    if parent.endswith("/"):
        raise UnconditionalError  # the output is a whole bucket, with nothing beside it
    beside, whole = Location(parent), f".{name}.lease"
    mine, what = whole, "a whole run"
    if part is not None:
        mine, what = f"{whole}-{part.index}-of-{part.of}", f"part {part}"
    lease = stack.enter_context(leased(beside, mine, location.url, what, say))
    # After one's own is there: a whole run and a part that come at once see each other, and both are refused.
    others = {key for key in beside.children() if key.startswith(f"{whole}-")}
    if part is not None:
        others = {whole} | {key for key in others if not key.endswith(f"-of-{part.of}")}
    holder = alive(beside, others, location.url, say)
    if holder is not None:
        raise _refusal(location.url, holder)
    for key in others:  # of who was killed; or is silent, and will find out
        beside.delete(key)
    return lease


@dataclass
class _Lock:
    folder: Path
    out: str
    what: str
    shared: bool
    alone: bool = False
    certain: bool = True
    handles: dict[str, int] = field(default_factory=dict)

    def take(self, say: Say) -> None:
        """Lock ``all``; see :func:`hold_output`."""
        mode = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        waiting = False
        while not self._lock(_ALL, mode | fcntl.LOCK_NB):
            holder = _holder(self.folder)
            if not (self.shared and holder.endswith(_COMPLETING)):
                raise _refusal(self.out, holder)
            if not waiting:
                say(f"{self.out}: waiting for {holder}")
            waiting = True
            time.sleep(_GLANCE_S)
        self.alone = not self.shared
        if self.alone:
            self._sign(_ALL, self.what)

    def take_own(self, part: Part) -> None:
        """Lock this part's own file, so that it is not made twice; parts of another number would have its units too."""
        name = f"{part.index}-of-{part.of}"
        if not self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise _refusal(self.out, _signed(self.folder / name) or "another process")
        self._sign(name, self.what)
        # After one's own is there: parts of two numbers that come at once see each other, and both are refused.
        for file in sorted(self.folder.glob("*-of-*")):
            if file.name.endswith(f"-of-{part.of}"):
                continue
            if (handle := lock_file(file)) is None:
                raise _refusal(self.out, _signed(file) or "another process", of=part.of)
            file.unlink(missing_ok=True)  # of a part that was killed
            os.close(handle)

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """See :class:`Hold`."""
        if self.alone:
            yield
            return
        self._lock(_BEGIN, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(self.handles.pop(_BEGIN))

    def become_last(self) -> bool:
        """See :class:`Hold`. Of parts that try at once one succeeds, or one is still at work and tries later."""
        if not self.alone:
            os.close(self.handles.pop(_ALL))
            # Where the last one has been and is gone, this makes the folder anew, and removes it at the end.
            self.alone = self._lock(_ALL, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.alone:
                self._sign(_ALL, f"{self.what}, which {_COMPLETING}")
        return self.alone

    def check(self) -> None:
        """See :class:`Hold`; the system keeps what it gave."""

    def leave(self) -> None:
        """Drop the locks; the files go as far as nobody else can hold them."""
        try:
            self._tidy()
        finally:
            for handle in self.handles.values():
                os.close(handle)
            self.handles.clear()

    def _tidy(self) -> None:
        for name in self.handles:
            if name not in (_ALL, _BEGIN):
                (self.folder / name).unlink(missing_ok=True)
        if self.alone:
            for file in self.folder.glob("*-of-*"):  # of parts that were killed
                file.unlink(missing_ok=True)
            for name in (_BEGIN, _ALL):
                (self.folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # where one that has just come waits in it
                self.folder.rmdir()

    def _lock(self, name: str, mode: int) -> bool:
        """Lock a file of the folder, made where it is not there; whether that was possible at once."""
        handle = lock_file(self.folder / name, mode)
        if handle is None:
            return False
        self.handles[name] = handle
        return True

    def _sign(self, name: str, what: str) -> None:
        """Write into a file whose lock is held who holds it."""
        record = {"pid": os.getpid(), "host": socket.gethostname(), "what": what}
        os.truncate(self.handles[name], 0)
        os.pwrite(self.handles[name], json.dumps(record).encode(), 0)


def _refusal(out: str, holder: str, of: int | None = None) -> OutputExistsError:
    """``of``: the number of parts asked for, where that is what is wrong."""
    return OutputExistsError(
        "another run is writing this output",
        where=out,
        expected=None if of is None else f"parts I/{of}",
        found=holder,
        remedy="Wait for it, stop it, or choose another name",
    )


def _holder(folder: Path) -> str:
    """Who holds ``all``, as a phrase: who signed it, or a part that did."""
    for file in (folder / _ALL, *sorted(folder.glob("*-of-*"))):
        holder = _signed(file)
        if holder is not None:
            return holder
    return "another process"


def _signed(file: Path) -> str | None:
    """Who signed a file, as far as that process may still be there."""
    try:
        record = json.loads(file.read_bytes())
        pid, host, what = int(record["pid"]), str(record["host"]), str(record["what"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of this very moment, or of a process that was killed before it had signed
    if host == socket.gethostname():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # somebody else's
    return f"process {pid} on {host}: {what}"
