"""Leases: who writes on an object store now, where there are no locks that go with a process.

A lease is one object that is put where there is none (S3's conditional writes), and put anew every few seconds while
its holder lives. No clock of another machine is read: who finds one looks whether it changes.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from teramind_data.errors import OutputExistsError, RemoteError
from teramind_data.store.location import Location, UnconditionalError

__all__ = ["Lease", "alive", "leased"]

BEAT_S = 10.0
LAPSE_S = 60.0
"""A lease that has not changed for so long is nobody's: six beats."""

_TRIES = 3
_REMEDY = "Wait for it, stop it, or choose another name"

Say = Callable[[str], None]


@contextmanager
def leased(location: Location, key: str, output: str, what: str, say: Say) -> Iterator[Lease]:
    """Hold the lease ``key`` below ``location`` while the context lasts.

    Where there is one already, this waits until it changes, or has not changed for ``LAPSE_S``.

    Args:
        location: the folder of leases, on an object store.
        key: the lease.
        output: what is leased, for people to read.
        what: what its holder does, for others to read.
        say: takes a line while this waits.

    Raises:
        OutputExistsError: where another process holds it.
        UnconditionalError: where the server knows no conditional writes.
    """
    lease = Lease(location, key, output, what)
    lease.take(say)
    beat = threading.Thread(target=lease.keep, name="lease", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        lease.ended.set()
        beat.join()
        with suppress(RemoteError):  # what was done is done; it lapses by itself
            lease.release()


def alive(location: Location, keys: Iterable[str], output: str, say: Say) -> str | None:
    """Who holds one of these leases, as a phrase; None where nobody does. It takes up to ``LAPSE_S`` to know."""
    found = {key: tag for key in keys if (tag := location.tag(key)) is not None}
    if not found:
        return None
    first = _holder(location, next(iter(found)))
    say(f"{output}: waiting up to {LAPSE_S:.0f} s to see whether {first} still writes")
    end = _now() + LAPSE_S
    while _now() < end:
        time.sleep(min(1.0, BEAT_S / 4))
        for key, tag in list(found.items()):
            now = location.tag(key)
            if now is None:
                del found[key]  # it has just ended
            elif now != tag:
                return _holder(location, key)
        if not found:
            break
    return None


class Lease:
    """One lease; see :func:`leased`."""

    def __init__(self, location: Location, key: str, output: str, what: str) -> None:
        self.location, self.key, self.output, self.what = location, key, output, what
        self.ended = threading.Event()
        self._tag, self._token = "", secrets.token_hex(8)
        self._beats = 0
        self._lost = False
        self._sent = 0.0
        """When the last put was sent that arrived: others count from then on, or later."""

    def take(self, say: Say) -> None:
        """Take it; see :func:`leased`."""
        # The very object that is looked at is replaced, so that of two who find it dead one is too late.
        before = self.location.tag(self.key)
        holder = None if before is None else alive(self.location, [self.key], self.output, say)
        if holder is None:
            now = self.location.tag(self.key)
            if self._put(None if now is None else before):
                self._probe()
                return
            holder = _holder(self.location, self.key)
        raise OutputExistsError(
            "another run is writing this output", where=self.output, found=holder, remedy=_REMEDY
        )

    def keep(self) -> None:
        """Put it anew until it is lost or ``ended``; a server that is away may be back for the next beat."""
        while not self.ended.wait(BEAT_S):
            with suppress(RemoteError):
                if not self._put(self._tag):
                    self._lost = True
                    return

    def check(self) -> None:
        """OutputExistsError where another may write now: it took over, or this process was silent for too long."""
        # A beat earlier than others think so; and whatever became of the thread.
        if self._lost or _now() - self._sent > LAPSE_S - BEAT_S:
            raise OutputExistsError(
                "this run lost its lease, and another may write now",
                where=self.output,
                expected=f"a lease renewed every {BEAT_S:.0f} s",
                found="it was taken over" if self._lost else f"nothing for {_now() - self._sent:.0f} s",
                remedy="Look whether another writes; the same command without --overwrite goes on",
            )

    def release(self) -> None:
        """Remove it, unless it is another's by now."""
        if self.location.tag(self.key) == self._tag:
            self.location.delete(self.key)

    def _put(self, tag: str | None) -> bool:
        """Put it where it is still that of ``tag``, or our own of a put whose answer got lost; whether it is."""
        for _ in range(_TRIES):
            self._beats += 1
            record = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "what": self.what,
                "beat": self._beats,
            }
            # An object's tag is made from its bytes: no two puts have the same.
            data = json.dumps({**record, "token": self._token}).encode()
            sent = _now()
            new = self.location.put_if(self.key, data, tag)
            if new is not None:
                self._tag, self._sent = new, sent
                return True
            there = self._own_tag()
            if there is None:
                return False
            tag = there
        raise RemoteError("lease cannot be renewed", where=f"{self.location}/{self.key}")

    def _own_tag(self) -> str | None:
        """The tag of what is there, where that is ours."""
        while True:
            data, tag = self.location.read(self.key), self.location.tag(self.key)
            if data == self.location.read(self.key):
                break  # so that the tag is that of the data
        return tag if data is not None and self._token.encode() in data else None

    def _probe(self) -> None:
        """UnconditionalError where the server, or the client, does as if there were no conditions."""
        for wrong in (None, '"0"'):
            if self.location.put_if(self.key, b"", wrong) is not None:
                self.location.delete(self.key)
                raise UnconditionalError


def _now() -> float:
    """A clock that also goes while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _holder(location: Location, key: str) -> str:
    """Who put a lease, as a phrase."""
    raw = location.read(key)
    if raw is None:
        return "another process"
    try:
        record = json.loads(raw)
        return f"process {int(record['pid'])} on {record['host']}: {record['what']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
