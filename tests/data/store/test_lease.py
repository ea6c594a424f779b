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


def test_who_was_silent_too_long_is_told(place: Location) -> None:
    with hold(place, []) as held:
        place.write(KEY, json.dumps({"pid": 7, "host": "there", "what": "a whole run"}).encode())
        end = time.monotonic() + 30
        while not held._lost:
            assert time.monotonic() < end
            time.sleep(0.05)
        with pytest.raises(OutputExistsError, match=r"could not renew its lease.*found process 7 on there"):
            held.check()
    assert place.read(KEY) is not None, "it is the other's now"


def test_a_server_that_is_away_for_a_moment_is_no_loss(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, asked = Location.put_if, list[int]()

    def away(self: Location, key: str, data: bytes, tag: str | None) -> str | None:
        asked.append(1)
        if len(asked) in (2, 3):
            raise RemoteError("server cannot be reached", self.url)
        return put(self, key, data, tag)

    monkeypatch.setattr(Location, "put_if", away)
    with hold(place, []) as held:
        while len(asked) < 5:
            time.sleep(0.05)
        held.check()


def test_an_answer_that_got_lost(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks again, and then its own object is in the way."""
    put = Location.put_if

    def lost(self: Location, key: str, data: bytes, tag: str | None) -> str | None:
        put(self, key, data, tag)
        return put(self, key, data, tag)

    monkeypatch.setattr(Location, "put_if", lost)
    one = Lease(place, KEY, "g", "a whole run")
    one.take(print)
    assert one._tag == place.tag(KEY)
    one.release()
    assert place.read(KEY) is None


def test_several_are_looked_at_together(place: Location) -> None:
    assert alive(place, ["a", "b"], print) is None
    place.write("a", b"{}")
    place.write("b", b"{}")
    began = time.monotonic()
    assert alive(place, ["a", "b"], print) is None
    assert 1.5 <= time.monotonic() - began < 2.9, "one after the other takes twice as long"


def test_what_knows_no_conditions() -> None:
    with pytest.raises(UnconditionalError), hold(Location("memory://lease"), []):
        pass
