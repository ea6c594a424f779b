"""Downloads against a server that breaks, changes and refuses: right bytes or one line, and never a stitched file."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.data.fetch.conftest import files_in, noise
from tests.data.fetch.server import Server, serving
from tests.signals import heed_interrupts

Fetch = Callable[..., tuple[int, str, str]]
SIZE = 700_000


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def command(*words: object) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "teramind_data.cli", "fetch", *map(str, words)]


def test_broken_connections_are_gone_on_with(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(SIZE)
    server.zenodo("1", {"tiles.zip": data})
    path = "/api/records/1/files/tiles.zip/content"
    server.resources[path].cut = [100_000, 0, 200_000, 1]
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 0, err
    assert files_in(tmp_path) == {"tiles.zip": data}
    assert server.sent(path) == SIZE, "only what was missing was asked for again"
    starts = [request.headers.get("range") for request in server.of(path)]
    assert starts == [None, "bytes=100000-", "bytes=100000-", "bytes=300000-", "bytes=300001-"]
    assert {request.headers.get("if-range") for request in server.of(path)[1:]} == {f'"{md5(data)}"'}
    assert "1 fetched, 0 there already" in out
    assert err.count("attempt") == 4


def test_a_killed_download_is_gone_on_with(tmp_path: Path) -> None:
    data = noise(3_000_000)
    halfway = threading.Event()

    def pause(sent: int) -> None:
        if sent >= 1_500_000 and not halfway.is_set():
            halfway.set()
            time.sleep(5.0)  # ends at once when the client is gone: its writes fail

    with serving() as server:
        server.zenodo("1", {"tiles.zip": data})
        path = "/api/records/1/files/tiles.zip/content"
        server.resources[path].pause = pause
        environment = os.environ | {"TERAMIND_ZENODO_URL": server.url}
        words = command("zenodo:1", tmp_path / "out", "--yes")
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            assert halfway.wait(30)
            part = tmp_path / "out" / "tiles.zip.part"
            deadline = time.monotonic() + 10
            while not (part.exists() and part.stat().st_size > 1_000_000) and time.monotonic() < deadline:
                time.sleep(0.02)
            run.send_signal(signal.SIGKILL)
        have = part.stat().st_size
        assert 1_000_000 < have < len(data)
        assert not (tmp_path / "out" / "tiles.zip").exists()
        server.resources[path].pause = None
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        last = server.of(path)[-1]
        assert (last.headers["range"], last.status, last.sent) == (f"bytes={have}-", 206, len(data) - have)
        assert files_in(tmp_path / "out") == {"tiles.zip": data}
        asked = len(server.requests)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert "0 fetched, 1 there already" in done.stdout
        assert [request.path for request in server.requests[asked:]] == ["/api/records/1"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_meanwhile_is_not_stitched(
    run_fetch: Fetch, server: Server, tmp_path: Path, ranges: bool
) -> None:
    old, new = noise(SIZE, 1), noise(SIZE, 2)
    served = server.put("/f.bin", old, cut=[400_000], ranges=ranges)
    code, _, _ = run_fetch(f"{server.url}/f.bin", tmp_path, "--yes", "--retries", 0)
    assert code == 2
    assert (tmp_path / "f.bin.part").stat().st_size == 400_000
    served.data = new
    code, _, err = run_fetch(f"{server.url}/f.bin", tmp_path, "--yes")
    assert code == 0, err
    assert files_in(tmp_path) == {"f.bin": new}
    assert "beginning anew" in err


def test_a_server_that_ignores_if_range_is_found_out(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    """206 for another version: its ETag gives it away, or the size of the whole."""
    old, same_size, longer = noise(SIZE, 1), noise(SIZE, 2), noise(SIZE + 5, 3)
    for name, new, validators in (("etag", same_size, True), ("size", longer, False)):
        served = server.put(f"/{name}", old, cut=[1000], careless=True, validators=validators)
        address = f"{server.url}/{name}" + ("" if validators else f"#md5={md5(new)}")
        run_fetch(address, tmp_path, "--yes", "--retries", 0)
        assert (tmp_path / f"{name}.part").stat().st_size == 1000
        served.data = new
        code, _, err = run_fetch(address, tmp_path, "--yes")
        assert code == 0, err
        assert [request.status for request in server.of(f"/{name}")] == [200, 206, 200]
        assert (tmp_path / name).read_bytes() == new


@pytest.mark.parametrize("checksum", [True, False])
def test_a_server_that_knows_no_if_range_is_asked_plainly(
    run_fetch: Fetch, server: Server, tmp_path: Path, checksum: bool
) -> None:
    data = noise(SIZE)
    server.put("/f", data, cut=[400_000], if_range=False)
    address = f"{server.url}/f" + (f"#md5={md5(data)}" if checksum else "")
    code, _, err = run_fetch(address, tmp_path, "--yes")
    assert code == 0, err
    assert files_in(tmp_path) == {"f": data}
    assert [(r.status, r.headers.get("range"), "if-range" in r.headers) for r in server.of("/f")] == [
        (200, None, False),
        (200, "bytes=400000-", True),
        (206, "bytes=400000-", False),
    ]


def test_a_server_that_never_resumes_is_read_anew(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(SIZE)
    server.put("/f", data, cut=[400_000], ranges=False)
    code, _, err = run_fetch(f"{server.url}/f", tmp_path, "--yes")
    assert code == 0, err
    assert files_in(tmp_path) == {"f": data}
    assert [request.status for request in server.of("/f")] == [200, 200, 200]


def test_ctrl_c_leaves_the_part_and_says_so(tmp_path: Path) -> None:
    with serving() as server:
        server.put("/f", noise(3_000_000), pause=lambda sent: time.sleep(0.05))
        words = command(f"{server.url}/f", tmp_path / "out", "--yes")
        with subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        ) as run:
            part = tmp_path / "out" / "f.part"
            deadline = time.monotonic() + 20
            while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=20)
        assert run.returncode == 130
        assert "the same command goes on where it stopped" in err
        assert "Traceback" not in err
        assert part.stat().st_size > 0


def test_without_validators_only_a_checksum_allows_to_go_on(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    data = noise(SIZE)
    server.put("/f.bin", data, cut=[300_000], validators=False)
    code, _, err = run_fetch(f"{server.url}/f.bin", tmp_path / "plain", "--yes")
    assert code == 0, err
    assert server.sent("/f.bin") == SIZE + 300_000
    assert "nothing would tell whether the file changed" in err
    assert files_in(tmp_path / "plain") == {"f.bin": data}

    server.put("/f.bin", data, cut=[300_000], validators=False)
    run_fetch(f"{server.url}/f.bin", tmp_path / "a", "--yes", "--retries", 0)
    server.requests.clear()
    run_fetch(f"{server.url}/f.bin", tmp_path / "a", "--yes")
    assert server.of("/f.bin")[0].headers.get("range") is None

    server.put("/f.bin", data, cut=[300_000], validators=False)
    address = f"{server.url}/f.bin#md5={md5(data)}"
    run_fetch(address, tmp_path / "b", "--yes", "--retries", 0)
    server.requests.clear()
    code, _, err = run_fetch(address, tmp_path / "b", "--yes")
    assert code == 0, err
    assert server.of("/f.bin")[0].headers.get("range") == "bytes=300000-"
    assert files_in(tmp_path / "b") == {"f.bin": data}


def test_a_spoilt_part_is_thrown_away_once(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(SIZE)
    server.zenodo("1", {"t.bin": data})
    path = "/api/records/1/files/t.bin/content"
    server.resources[path].cut = [300_000]
    run_fetch("zenodo:1", tmp_path, "--yes", "--retries", 0)
    part = tmp_path / "t.bin.part"
    part.write_bytes(b"\0" * part.stat().st_size)  # as a power cut may leave it
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 0, err
    assert "does not match its checksum; beginning anew" in err
    assert files_in(tmp_path) == {"t.bin": data}


def test_a_wrong_checksum_names_both_and_leaves_nothing(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    record = server.zenodo("1", {"bad.bin": noise(500), "good.bin": noise(600, 2)})
    right = record["files"][0]["checksum"]
    record["files"][0]["checksum"] = "md5:" + "0" * 32
    server.put("/api/records/1", json.dumps(record).encode(), media_type="application/json")
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: checksum does not match")
    assert f"expected md5:{'0' * 32}, found {right}" in last
    assert "1 fetched, 0 there already, 1 failed" in out
    assert files_in(tmp_path) == {"good.bin": noise(600, 2)}


def test_a_wrong_size_is_found_before_the_download(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    record = server.zenodo("1", {"bad.bin": noise(500_000)})
    record["files"][0]["size"] = 400_000
    server.put("/api/records/1", json.dumps(record).encode(), media_type="application/json")
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 2
    assert "expected 400000 bytes, found 500000" in err
    assert not (tmp_path / "bad.bin").exists()


def test_busy_servers_are_waited_for(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(1000)
    soon = formatdate(time.time() + 1, usegmt=True)
    busy = [
        (503, {}),
        (429, {"Retry-After": "0"}),
        (429, {"Retry-After": soon}),
        (502, {"Retry-After": "soon"}),
    ]
    server.put("/f", data, fail=busy)
    code, _, err = run_fetch(f"{server.url}/f", tmp_path, "--yes")
    assert code == 0, err
    assert files_in(tmp_path) == {"f": data}
    assert len(server.of("/f")) == 5
    assert "server answered 429; attempt 3 in 0 s" in err


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ([(404, {})], "not on the server"),
        ([(403, {})], "server refused"),
        ([(503, {})] * 3, "server answered 503; 3 attempts in a row"),
        ([(429, {"Retry-After": "86400"})], "asks to wait 86400 s"),
        ([(302, {"Location": "file:///etc/passwd"})], "redirect is refused"),
        ([(302, {"Location": "ftp://host/f"})], "redirect is refused"),
        ([(302, {"Location": "http://a:b@host/f"})], "user name or password"),
        ([(302, {"Location": "/f"})] * 20, "too many redirects"),
    ],
)
def test_every_refusal_is_one_line(
    run_fetch: Fetch,
    server: Server,
    tmp_path: Path,
    fail: list[tuple[int, dict[str, str]]],
    words: str,
) -> None:
    server.put("/f", b"secret", fail=list(fail))
    code, _, err = run_fetch(f"{server.url}/f", tmp_path, "--yes", "--retries", 2)
    assert code == 2
    assert words in err.strip().splitlines()[-1]
    assert files_in(tmp_path) == {}


def test_no_server_is_one_line(run_fetch: Fetch, tmp_path: Path) -> None:
    with serving() as gone:
        address = gone.url
    code, _, err = run_fetch(f"{address}/f", tmp_path, "--yes", "--retries", 1)
    assert code == 2
    assert "Connection refused); 2 attempts in a row" in err.strip().splitlines()[-1]


def test_https_is_not_left_for_http() -> None:
    from teramind_data.errors import InputError
    from teramind_data.fetch.http import _check_redirect

    with pytest.raises(InputError, match="redirect is refused"):
        _check_redirect("https://host/f", "http://host/f")
    _check_redirect("https://host/f", "https://mirror/f")


def test_several_files_at_once_and_a_rerun(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    files = {f"tile_{k:02d}.npz": noise(20_000 + k, k) for k in range(12)}
    server.zenodo("1", files)
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes", "--jobs", 4)
    assert code == 0, err
    assert files_in(tmp_path) == files
    (tmp_path / "tile_03.npz").unlink()
    server.requests.clear()
    code, out, _ = run_fetch("zenodo:1", tmp_path, "--yes")
    assert "1 fetched, 11 there already" in out
    assert [request.path for request in server.requests[1:]] == ["/api/records/1/files/tile_03.npz/content"]


def test_verified_files_are_not_read_again_unless_told(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    data = noise(5000)
    server.zenodo("1", {"f": data})
    run_fetch("zenodo:1", tmp_path, "--yes")
    target = tmp_path / "f"
    before = target.stat()
    # rot that leaves size and time as they were: only reading finds it
    target.write_bytes(b"x" + data[1:])
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, out, _ = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 0
    assert "1 there already" in out
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes", "--verify")
    assert code == 2
    assert "differs from the source's" in err
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes", "--verify", "--overwrite")
    assert code == 0, err
    assert files_in(tmp_path) == {"f": data}


def test_rot_is_found_without_a_published_checksum(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(5000)
    server.put("/f", data)
    run_fetch(f"{server.url}/f", tmp_path, "--yes")
    (tmp_path / "f").write_bytes(b"x" + data[1:])
    code, _, err = run_fetch(f"{server.url}/f", tmp_path, "--yes")
    assert code == 2
    assert hashlib.sha256(data).hexdigest() in err


def test_files_that_were_there_before(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    """Copied from elsewhere: taken if they are right, never overwritten unasked."""
    data = noise(5000)
    server.zenodo("1", {"f": data})
    (tmp_path / "f").write_bytes(data)
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 0, err
    assert "0 fetched, 1 there already" in out
    (tmp_path / "f").write_bytes(b"my own notes")
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 2
    assert "expected 5000 bytes" in err
    assert (tmp_path / "f").read_bytes() == b"my own notes"
    server.put("/g", data)
    (tmp_path / "g").write_bytes(noise(5000, 9))
    code, out, _ = run_fetch(f"{server.url}/g", tmp_path, "--yes")
    assert code == 0
    assert "1 of them known by their size only" in out


def test_a_disk_that_is_too_small_is_said_with_numbers(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    server.put("/f", b"x")
    table = tmp_path / "list.csv"
    table.write_text(f"url,size\n{server.url}/f,{10**18}\n")
    code, _, err = run_fetch(table, tmp_path / "out", "--yes")
    assert code == 2
    assert "909494.70 TiB still to download" in err
    assert "free)" in err
    assert not server.of("/f")
    assert shutil.disk_usage(tmp_path).free < 10**18


def test_a_disk_that_fills_up_keeps_the_part(server: Server, tmp_path: Path) -> None:
    data = noise(400_000)
    server.put("/f", data)
    words = command(f"{server.url}/f", tmp_path / "out", "--yes")

    def small() -> None:  # in the child: files may not grow beyond this, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=small)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "cannot write" in last
    assert "f.part" in last
    assert (tmp_path / "out" / "f.part").stat().st_size == 150_000
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path / "out") == {"f": data}
    assert server.of("/f")[-1].headers["range"] == "bytes=150000-"


@pytest.mark.parametrize("where", ["f", "f.part", "sub"])
def test_links_are_not_followed(run_fetch: Fetch, server: Server, tmp_path: Path, where: str) -> None:
    server.put("/d/f", b"evil")
    server.put("/d/sub/g", b"evil")
    server.index("/d/")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "f").write_bytes(b"mine")
    (out / where).symlink_to(elsewhere if where == "sub" else elsewhere / "f")
    code, _, err = run_fetch(f"{server.url}/d/", out, "--yes")
    assert code == 2
    assert "a link stands where a download goes" in err
    assert files_in(elsewhere) == {"f": b"mine"}


def test_two_runs_in_one_folder_do_not_meet(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    from teramind_data.fetch.journal import Journal

    server.put("/f", b"abc")
    with Journal(tmp_path):
        code, _, err = run_fetch(f"{server.url}/f", tmp_path, "--yes")
    assert code == 2
    assert "another download into this folder is running" in err


def test_a_journal_that_was_cut_off_costs_one_reading(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    files = {"a": noise(100), "b": noise(200, 2)}
    server.zenodo("1", files)
    run_fetch("zenodo:1", tmp_path, "--yes", "--jobs", 1)
    journal = tmp_path / ".teramind-fetch.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    for _ in range(2):
        code, out, err = run_fetch("zenodo:1", tmp_path, "--yes")
        assert code == 0, err
        assert "0 fetched, 2 there already" in out
    assert len(journal.read_text().splitlines()) == 3  # one whole, one cut, one written anew


def test_an_answer_without_length(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(SIZE)
    server.put("/f", data, length=False, fail_head=405)
    code, out, err = run_fetch(f"{server.url}/f", tmp_path, "--yes")
    assert code == 0, err
    assert "of unknown size" in out
    assert files_in(tmp_path) == {"f": data}
    # A listing that knows better does not take what was cut off for the whole.
    server.put("/g", data, length=False, cut=[1000])
    table = tmp_path / "list.csv"
    table.write_text(f"url,size\n{server.url}/g,{SIZE}\n")
    code, _, err = run_fetch(table, tmp_path / "out", "--yes")
    assert code == 0, err
    assert files_in(tmp_path / "out") == {"g": data}


def test_many_failures_are_counted(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    record = server.zenodo("1", {"a": b"1", "b": b"2", "c": b"3"})
    for entry in record["files"][:2]:
        entry["links"]["self"] += "-gone"
    server.put("/api/records/1", json.dumps(record).encode(), media_type="application/json")
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes")
    assert code == 2
    assert "2 of 3 files failed" in err.strip().splitlines()[-1]
    assert files_in(tmp_path) == {"c": b"3"}
