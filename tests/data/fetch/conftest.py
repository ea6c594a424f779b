"""A server and a way to run ``teramind-data fetch`` against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.fetch.server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own."""
    with serving() as found:
        yield found


@pytest.fixture
def run_fetch(
    run_command: Callable[..., tuple[int, str, str]], server: Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``teramind-data fetch`` with the archives at the local server, and without long waits."""
    monkeypatch.setenv("TERAMIND_ZENODO_URL", server.url)
    monkeypatch.setenv("TERAMIND_BIL_URL", server.url)

    def run(*words: object) -> tuple[int, str, str]:
        return run_command("fetch", *words, "--retry-wait", "0.01")

    return run


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no accident reproduces."""
    return np.random.Generator(np.random.Philox(key=[seed, size])).bytes(size)


def files_in(folder: Path) -> dict[str, bytes]:
    """Relative path to content of all files, our own records left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".teramind-fetch")
    }
