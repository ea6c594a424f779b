"""The server: ranges, CORS, what it refuses, and that nothing outside the store is ever read."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from teramind_data.store import Brain, open_brain
from teramind_data.view import StoreServer
from tests.data.view.conftest import serving
from tests.s3 import filesystem, free_port

Answer = tuple[int, dict[str, str], bytes]
SHARD = "images/morphology/ome.zarr/0/c/0/0/0/1"


def ask(server: StoreServer, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request, its path sent as it is; underscores in names of headers are dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(
        method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


@pytest.fixture
def mount(server: StoreServer) -> str:
    return "/" + quote(server.mount)


@pytest.fixture
def shard(shown: Brain) -> bytes:
    return Path(shown.url, SHARD).read_bytes()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-99", slice(10, 100)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-4", slice(-4, None)),
        ("bytes=-99999999", slice(None)),
        ("bytes=5-99999999", slice(5, None)),
    ],
)
def test_a_range_is_exactly_those_bytes(
    server: StoreServer, mount: str, shard: bytes, header: str, part: slice
) -> None:
    status, headers, body = ask(server, f"{mount}/{SHARD}", Range=header)
    assert status == 206
    assert body == shard[part]
    first, last, _ = part.indices(len(shard))
    assert headers["content-range"] == f"bytes {first}-{last - 1}/{len(shard)}"
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=99999999-100000000", "bytes=-0"])
def test_a_range_that_is_not_there_is_refused_with_the_size(
    server: StoreServer, mount: str, shard: bytes, header: str
) -> None:
    status, headers, _ = ask(server, f"{mount}/{SHARD}", Range=header)
    assert status == 416
    assert headers["content-range"] == f"bytes */{len(shard)}"


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=a-b", "bytes=-", "lines=0-5", "bytes=0-1,5-6", "bytes"]
)
def test_a_range_that_is_not_understood_is_ignored(
    server: StoreServer, mount: str, shard: bytes, header: str
) -> None:
    status, headers, body = ask(server, f"{mount}/{SHARD}", Range=header)
    assert (status, body) == (200, shard)
    assert headers["accept-ranges"] == "bytes"


def test_head_says_what_get_would_and_sends_nothing(server: StoreServer, mount: str, shard: bytes) -> None:
    for extra, status in (({}, 200), ({"Range": "bytes=-4"}, 206), ({"Range": "bytes=99999999-"}, 416)):
        got, headers, _ = ask(server, f"{mount}/{SHARD}", **extra)
        head, same, body = ask(server, f"{mount}/{SHARD}", "HEAD", **extra)
        assert got == head == status
        assert body == b""
        assert headers == same | {"date": headers["date"]}
    assert ask(server, f"{mount}/nothing", "HEAD")[::2] == (404, b"")


def test_what_has_not_changed_is_not_sent_again(server: StoreServer, mount: str) -> None:
    _, headers, _ = ask(server, f"{mount}/zarr.json")
    assert headers["content-type"] == "application/json"
    status, _, body = ask(server, f"{mount}/zarr.json", If_None_Match=headers["etag"])
    assert (status, body) == (304, b"")
    assert ask(server, f"{mount}/zarr.json", If_None_Match='"other"')[0] == 200
    assert ask(server, f"{mount}/zarr.json", Range="bytes=0-3", If_Range='"other"')[0] == 200
    assert ask(server, f"{mount}/zarr.json", Range="bytes=0-3", If_Range=headers["etag"])[0] == 206


def test_other_origins_may_ask_and_read(server: StoreServer, mount: str) -> None:
    status, headers, body = ask(
        server,
        f"{mount}/zarr.json",
        "OPTIONS",
        Origin="https://viewer.example",
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="range",
    )
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == "*"
    assert "GET" in headers["access-control-allow-methods"]
    assert "Range" in headers["access-control-allow-headers"]
    for path in (f"{mount}/zarr.json", f"{mount}/nothing"):
        _, headers, _ = ask(server, path, Origin="https://viewer.example")
        assert headers["access-control-allow-origin"] == "*", "or a viewer cannot tell 404 from a dead server"
        assert "Content-Range" in headers["access-control-expose-headers"]


def test_other_origins_can_be_kept_out(shown: Brain) -> None:
    with serving(shown, cors=None) as server:
        _, headers, _ = ask(server, "/view.json")
        assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/STORE/../secret",
        "/STORE/images/../../secret",
        "/STORE/%2e%2e/secret",
        "/STORE/..%2fsecret",
        "/STORE/%2e%2e%2fsecret",
        "/STORE/images/%2e%2e/%2e%2e/secret",
        "/STORE//etc/passwd",
        "/STORE/%2fetc/passwd",
        "/STORE/./zarr.json",
        "/STORE/link",
        "/STORE/folder/secret",
        "/STORE/loop",
        "/STORE/pipe",
        "/STORE/images",
        "/STORE/images/",
        "/STORE/",
        "/STORE",
        "/STORE/" + "x" * 5000,
        "/-/../server.py",
        "/-/%2e%2e/server.py",
        "/-/server.py",
        "/secret",
    ],
)
def test_nothing_but_objects_of_the_store_is_found(escapes: StoreServer, path: str) -> None:
    status, _, body = ask(escapes, path.replace("STORE", quote(escapes.mount)))
    assert status == 404
    assert b"keep out" not in body


@pytest.mark.parametrize("path", ["/STORE/a%00b", "/STORE/a%0ab", "/STORE/..%5csecret", "/STORE/%ff", "*"])
def test_what_is_no_address_is_refused(escapes: StoreServer, path: str) -> None:
    assert ask(escapes, path.replace("STORE", quote(escapes.mount)))[0] == 400


@pytest.fixture(scope="module")
def escapes(shown: Brain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """A server of a store that has ways out of it, next to a file that must not be read."""
    root = tmp_path_factory.mktemp("escapes")
    (root / "secret").write_text("keep out")
    store = root / "brain.zarr"
    shutil.copytree(shown.url, store)
    (store / "link").symlink_to(root / "secret")
    (store / "folder").symlink_to(root)
    (store / "loop").symlink_to(store / "loop")
    (store / "inside").symlink_to(store / "zarr.json")
    os.mkfifo(store / "pipe")
    with serving(open_brain(store)) as server:
        yield server


def test_a_link_within_the_store_is_followed(escapes: StoreServer) -> None:
    assert ask(escapes, "/brain.zarr/inside")[2] == Path(escapes.brain.url, "zarr.json").read_bytes()


def test_a_store_may_itself_be_a_link(shown: Brain, tmp_path: Path, shard: bytes) -> None:
    link = tmp_path / "named.zarr"
    link.symlink_to(shown.url)
    with serving(open_brain(link)) as server:
        assert ask(server, f"/named.zarr/{SHARD}")[2] == shard


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_only_requests_to_this_machine_by_name_are_answered(
    server: StoreServer, host: str, status: int
) -> None:
    """A page of another site that makes its name resolve to 127.0.0.1 still sends its own name."""
    assert ask(server, "/view.json", Host=host)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(server: StoreServer, mount: str, method: str) -> None:
    status, headers, _ = ask(server, f"{mount}/zarr.json", method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD, OPTIONS"


def test_nothing_in_a_store_runs_as_a_page(escapes: StoreServer) -> None:
    Path(escapes.brain.url, "page.html").write_text("<script>alert(1)</script>")
    _, headers, _ = ask(escapes, "/brain.zarr/page.html")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"


def test_the_page_and_what_it_needs(server: StoreServer) -> None:
    status, headers, body = ask(server, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    for name in ("viewer.js", "viewer.css"):
        assert f"-/{name}".encode() in body
        assert ask(server, f"/-/{name}")[0] == 200
    view = json.loads(ask(server, "/view.json")[2])
    assert [section["name"] for section in view["sections"]] == ["front", "back"]
    assert [image["name"] for image in view["images"]] == [
        "morphology",
        "expression",
        "attention_X",
        "regions",
    ]
    for image in view["images"]:
        for level in image["levels"]:
            assert ask(server, f"/{view['url']}{image['path']}/{level['path']}/zarr.json")[0] == 200


def test_one_connection_serves_many_requests(server: StoreServer, mount: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    for path in (f"{mount}/zarr.json", f"{mount}/nothing", "/view.json", f"{mount}/zarr.json"):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert not response.will_close
    connection.close()


def test_a_reader_that_goes_away_disturbs_nobody(
    server: StoreServer, mount: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(f"GET {mount}/{SHARD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ask(server, "/view.json")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_zarr_reads_the_same_pixels_through_it(server: StoreServer, shown: Brain) -> None:
    """Another reader of OME-Zarr, at the address that the command prints."""
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("aiohttp", reason="fsspec reads http through aiohttp")
    address = server.image_url(shown.layout("morphology").array_group)
    group = zarr.open_group(address, mode="r")
    assert group.attrs["ome"]["version"] == "0.5"
    np.testing.assert_array_equal(
        group["0"][:, 0, 300:500, 100:400], shown.morphology[:, 0, 300:500, 100:400]
    )


def test_a_store_in_memory_is_served_alike(shown: Brain, shard: bytes) -> None:
    """As any store that fsspec reaches: s3:// goes the same way (and does so in the soak, with a real server)."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(shown.url, "/served/brain.zarr", recursive=True)
    try:
        with serving(open_brain("memory://served/brain.zarr")) as server:
            assert ask(server, f"/brain.zarr/{SHARD}")[2] == shard
            status, headers, body = ask(server, f"/brain.zarr/{SHARD}", Range="bytes=-100")
            assert (status, body) == (206, shard[-100:])
            assert headers["content-range"].endswith(f"/{len(shard)}")
            assert ask(server, "/brain.zarr/nothing")[0] == 404
            assert ask(server, "/brain.zarr/images")[0] == 404
    finally:
        memory.rm("/served", recursive=True)


@pytest.mark.soak
def test_a_store_on_s3_is_served_alike(
    shown: Brain, shard: bytes, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a real server: ranges, what is absent, and a server that is gone is not taken for an empty store."""
    url = f"{bucket}/brain.zarr"
    filesystem().put(shown.url, url, recursive=True)
    with serving(open_brain(url)) as server:
        assert ask(server, f"/brain.zarr/{SHARD}")[2] == shard
        assert ask(server, f"/brain.zarr/{SHARD}", Range="bytes=10-99")[2] == shard[10:100]
        assert ask(server, "/brain.zarr/nothing")[0] == 404
        assert ask(server, "/brain.zarr/images")[0] == 404
    brain = open_brain(url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with serving(brain) as server:
        status, _, body = ask(server, f"/brain.zarr/{SHARD}")
    assert status == 502
    assert b"server cannot be reached" in body


def test_a_port_that_is_taken_is_one_line(
    server: StoreServer, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run_command("view", server.brain.url, "--no-open", "--port", server.server_port)
    assert code == 2
    assert err.count("\n") == 1
    assert "cannot listen" in err and "--port" in err


def test_no_store_is_one_line(tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run_command("view", tmp_path / "nothing.zarr", "--no-open")
    assert code == 2
    assert err.count("\n") == 1 and "store not found" in err


def test_the_command_prints_addresses_and_ends_with_ctrl_c(shown: Brain) -> None:
    command = [sys.executable, "-m", "teramind_data.cli", "view", shown.url, "--no-open", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None and process.stderr is not None
        lines = []
        while not lines or lines[-1] != "Ctrl-C ends":
            lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1] or process.poll() is None, process.stderr.read()
        page = next(line for line in lines if line.startswith("page: ")).removeprefix("page: ")
        port = int(page.rstrip("/").rpartition(":")[2])
        assert f"  {page}my%20brain%231.zarr/images/morphology/ome.zarr" in lines
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/my%20brain%231.zarr/images/morphology/ome.zarr/zarr.json")
        assert connection.getresponse().status == 200  # and the connection stays open while it ends
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == "\nended\n"
        assert process.stderr.read() == ""
        connection.close()
