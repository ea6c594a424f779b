"""A real S3 server (moto) on loopback, as a process of its own, for tests of stores on ``s3://``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_START_S = 60.0


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """The endpoint of a running server; its output goes to ``log``."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            _wait(server, endpoint, log)
            yield endpoint
        finally:
            server.terminate()
            server.wait(30)


def _wait(server: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"S3 server did not start: {log.read_text()[-2000:]}")


def s3_environment(endpoint: str) -> dict[str, str]:
    """What a person sets to use this server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


def filesystem() -> Any:
    """The server of the environment, looked at without this project's code."""
    import s3fs

    return s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], use_listings_cache=False)


def objects(url: str) -> dict[str, bytes]:
    """Every object below a URL and its bytes."""
    fs = filesystem()
    root = url.removeprefix("s3://").rstrip("/") + "/"
    return {name.removeprefix(root): fs.cat_file(name) for name in sorted(fs.find(root))}
