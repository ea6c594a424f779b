"""Leases on S3: one holder, whoever is dead is found out, whoever was silent too long is told."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
import uuid
from typing import Any

import pytest

from teramind_data.errors import OutputExistsError, RemoteError
from teramind_data.store import Location, lease
from teramind_data.store.lease import Lease, alive, leased
from teramind_data.store.location import UnconditionalError

KEY = ".g.zarr.lease"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    monkeypatch.setattr(lease, "LAPSE_S", 1.5)


@pytest.fixture
def place(bucket: str) -> Location:
    return Location(f"{bucket}/{uuid.uuid4().hex}")


def hold(place: Location, lines: list[str]) -> Any:
    return leased(place, KEY, "s3://b/g.zarr", "a whole run", lines.append)


def test_one_holds_it_and_who_comes_second_is_told_by_whom(place: Location) -> None:
    lines: list[str] = []
    with hold(place, lines) as held:
        first = json.loads(place.read(KEY) or b"")
        assert (first["pid"], first["what"]) == (os.getpid(), "a whole run")
        with (
            pytest.raises(
                OutputExistsError, match=rf"s3://b/g.zarr .*found process {os.getpid()} on .*a whole run"
            ),
            hold(place, lines),
        ):
            pass
        held.check()
    assert place.read(KEY) is None
    assert len(lines) == 1 and "waiting up to 2 s to see whether process" in lines[0]
    with hold(place, lines):
        pass
    assert len(lines) == 1, "nobody to wait for"


def test_of_several_at_once_one_has_it(place: Location) -> None:
    ready, refused, holders = threading.Barrier(4), list[str](), list[int]()
    end = threading.Event()

    def come() -> None:
        ready.wait()
        try:
            with hold(place, []):
                holders.append(1)
                end.wait(30)
        except OutputExistsError as error:
            refused.append(str(error))
            if len(refused) == 3:
                end.set()

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holders), len(refused)) == (1, 3)
    assert place.read(KEY) is None


def _hold_for_ever(url: str) -> None:
    with leased(Location(url), KEY, "g", "a whole run", print):
        time.sleep(600)


def test_what_a_killed_process_held_is_taken_when_it_lapses(place: Location) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_hold_for_ever, args=(place.url,))
    other.start()
    try:
        while place.read(KEY) is None:
            assert other.is_alive()
            time.sleep(0.05)
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
    finally:
        other.join()
    lines: list[str] = []
    began = time.monotonic()
    with hold(place, lines) as held:
        assert time.monotonic() - began >= 1.5
        assert json.loads(place.read(KEY) or b"")["pid"] == os.getpid()
        held.check()
    assert f"process {other.pid} on" in lines[0]


def test_of_two_who_find_it_dead_one_is_too_late(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(KEY, b"not even JSON")

    def overtaken(*arguments: object) -> None:
        """Another looked as long, and was quicker."""
        place.write(KEY, json.dumps({"pid": 7, "host": "there", "what": "a whole run"}).encode())

    monkeypatch.setattr(lease, "alive", overtaken)
    with pytest.raises(OutputExistsError, match="found process 7 on there"), hold(place, []):
        pass


def lost(held: Lease) -> str:
    """What who holds it is told, once it is."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            held.check()
        except OutputExistsError as error:
            return str(error)
        time.sleep(0.05)
    pytest.fail("nobody is told")


@pytest.mark.parametrize("by", ["another", "nobody"])
def test_who_lost_it_is_told(place: Location, by: str) -> None:
    with hold(place, []) as held:
        if by == "another":
            place.write(KEY, json.dumps({"pid": 7, "host": "there", "what": "a whole run"}).encode())
        else:
            place.delete(KEY)
        assert "lost its lease, and another may write now: s3://b/g.zarr" in lost(held)
        assert held._lost
    assert (place.read(KEY) is not None) == (by == "another"), "it is the other's now"


class Broken(Exception):
    """Of the client, say."""


@pytest.mark.parametrize("how", ["away", "broken", "hanging"])
def test_who_is_silent_is_told_before_others_take_over(
    place: Location, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    go, put = threading.Event(), Location.put_if
    monkeypatch.setattr(threading, "excepthook", lambda error: None)

    def silent(self: Location, key: str, data: bytes, tag: str | None) -> str | None:
        if how == "away":
            raise RemoteError("server cannot be reached", self.url)
        if how == "broken":
            raise Broken
        go.wait(30)
        return put(self, key, data, tag)

    began = time.monotonic()
    with hold(place, []) as held:
        monkeypatch.setattr(Location, "put_if", silent)
        told = lost(held)
        assert time.monotonic() - began < 1.5 + 0.5
        assert "found nothing for" in told and not held._lost
        go.set()


def test_a_server_that_is_away_for_a_moment_is_no_loss(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the put arrived, and only the answer did not."""
    put, asked = Location.put_if, list[int]()

    def away(self: Location, key: str, data: bytes, tag: str | None) -> str | None:
        asked.append(1)
        if len(asked) == 5:
            put(self, key, data, tag)
        if len(asked) in (4, 5):  # the first three are the lease and whether the server knows conditions
            raise RemoteError("server cannot be reached", self.url)
        return put(self, key, data, tag)

    monkeypatch.setattr(Location, "put_if", away)
    with hold(place, []) as held:
        while len(asked) < 8:
            time.sleep(0.05)
            held.check()
    assert place.read(KEY) is None


def test_a_client_that_asks_again_is_not_refused_by_itself(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, first = Location.put_if, list[int]()

    def twice(self: Location, key: str, data: bytes, tag: str | None) -> str | None:
        if not first:
            first.append(1)
            put(self, key, data, tag)
        return put(self, key, data, tag)

    monkeypatch.setattr(Location, "put_if", twice)
    with hold(place, []) as held:
        assert held._tag == place.tag(KEY)
        held.check()
    assert place.read(KEY) is None


@pytest.mark.parametrize("ignored", ["IfNoneMatch", "IfMatch"])
def test_a_server_that_ignores_conditions_is_found_out(
    place: Location, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    put = Location.put_if

    def whatever(self: Location, key: str, data: bytes, tag: str | None) -> str | None:
        if (tag is None) == (ignored == "IfNoneMatch"):
            self.write(key, data)
            return self.tag(key)
        return put(self, key, data, tag)

    monkeypatch.setattr(Location, "put_if", whatever)
    with pytest.raises(UnconditionalError), hold(place, []):
        pass
    assert place.read(KEY) is None


def test_what_was_done_is_not_undone_by_a_lease_that_cannot_be_given_back(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Location, key: str) -> None:
        raise RemoteError("server cannot be reached", self.url)

    monkeypatch.setattr(Location, "delete", away)
    with pytest.raises(KeyboardInterrupt), hold(place, []):
        raise KeyboardInterrupt


def test_several_are_looked_at_together(place: Location) -> None:
    assert alive(place, ["a", "b"], "g", print) is None
    place.write("a", b"{}")
    place.write("b", b"{}")
    began = time.monotonic()
    assert alive(place, ["a", "b"], "g", print) is None
    assert 1.5 <= time.monotonic() - began < 2.9, "one after the other takes twice as long"


def test_what_knows_no_conditions() -> None:
    with pytest.raises(UnconditionalError), hold(Location("memory://lease"), []):
        pass
