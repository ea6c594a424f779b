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
from contextlib import contextmanager

from teramind_data.errors import OutputExistsError, RemoteError
from teramind_data.store.location import Location

__all__ = ["Lease", "alive", "leased"]

BEAT_S = 10.0
LAPSE_S = 60.0
"""A lease that has not changed for so long is nobody's: six beats."""

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
        lease.release()


def alive(location: Location, keys: Iterable[str], say: Say) -> str | None:
    """Who holds one of these leases, as a phrase; None where nobody does. It takes up to ``LAPSE_S`` to know."""
    found = {key: tag for key in keys if (tag := location.tag(key)) is not None}
    if not found:
        return None
    say(
        f"{location}: waiting up to {LAPSE_S:.0f} s to see whether {_holder(location, next(iter(found)))} still writes"
    )
    end = time.monotonic() + LAPSE_S
    while time.monotonic() < end:
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
        self._lost = False
        self._beats = 0
        self._tag, self._token = "", secrets.token_hex(8)

    def take(self, say: Say) -> None:
        """Take it; see :func:`leased`."""
        # The very object that is looked at is replaced, so that of two who find it dead one is too late.
        before = self.location.tag(self.key)
        holder = None if before is None else alive(self.location, [self.key], say)
        if holder is None:
            now = self.location.tag(self.key)
            tag = self._put(None if now is None else before)
            if tag is not None:
                self._tag = tag
                return
            holder = _holder(self.location, self.key)
        raise OutputExistsError(
            "another run is writing this output", where=self.output, found=holder, remedy=_REMEDY
        )

    def keep(self) -> None:
        """Put it anew until it is lost or ``ended``."""
        last = time.monotonic()
        while not self.ended.wait(BEAT_S):
            try:
                tag = self._put(self._tag)
            except RemoteError:  # it may be back for the next beat
                tag = None if time.monotonic() - last > LAPSE_S else self._tag
            else:
                last = time.monotonic()
            if tag is None:
                self._lost = True
                return
            self._tag = tag

    def check(self) -> None:
        """OutputExistsError where this process was silent for so long that another may have taken over."""
        if self._lost:
            raise OutputExistsError(
                f"this run could not renew its lease for {LAPSE_S:.0f} s, and another may write now",
                where=self.output,
                found=_holder(self.location, self.key),
                remedy="Run the same command again; it goes on where this one was",
            )

    def release(self) -> None:
        """Remove it, unless it is another's by now."""
        if self.location.tag(self.key) == self._tag:
            self.location.delete(self.key)

    def _put(self, tag: str | None) -> str | None:
        self._beats += 1
        record = {"pid": os.getpid(), "host": socket.gethostname(), "what": self.what, "beat": self._beats}
        # An object's tag is made from its bytes: no two puts have the same.
        data = json.dumps({**record, "token": self._token}).encode()
        new = self.location.put_if(self.key, data, tag)
        if new is None and self.location.read(self.key) == data:
            return self.location.tag(
                self.key
            )  # it was put, and the answer got lost: asked again, the client was late
        return new


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
