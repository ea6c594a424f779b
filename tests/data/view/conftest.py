"""A store with a picture that can be recognised, and a running server for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, ImageSpec, Section, append_image, create_brain, open_brain
from teramind_data.view import StoreServer
from tests.data.view.chromium import Chromium, find_chromium

EDGE = 1024
GENES = tuple(f"Gene{number}" for number in range(12))


def write_store(url: Path, *, finish: bool = True) -> Brain:
    """Two sections. DAPI is a disc on the left, PolyT one on the right; section 1 has its top half empty."""
    sections = (Section(0, "front", 0.0), Section(1, "back", 120.0))
    spec = BrainSpec("atlas", (EDGE, EDGE), 0.5, sections, Panel(GENES), chunk=64, shard=256)
    writer = create_brain(url, spec)
    y, x = np.mgrid[:EDGE, :EDGE]
    noise = np.random.default_rng(0).integers(0, 20, (EDGE, EDGE))  # as badly compressed as a real picture
    discs = [(np.hypot(y - EDGE // 2, x - at) < 200) * 200 for at in (256, 768)]
    for z in range(2):
        picture = np.stack([disc + noise for disc in discs]).astype(np.uint8)
        picture[:, : z * EDGE // 2] = 0
        writer.write("morphology", z, None, picture)
        counts = np.zeros((len(GENES), EDGE // 16, EDGE // 16), np.uint8)
        counts[3, 10:20, 40:50] = 9
        counts[5, 30:40, 10:20] = 4
        writer.write("expression", z, None, counts)
    if not finish:
        return open_brain(url, incomplete=True)
    labels = np.zeros((2, EDGE // 16, EDGE // 16), np.uint16)
    labels[:, :, :32] = 7
    writer.add_labels("regions", "uint16", array=labels, names={7: "left half"})
    writer.write_molecules([(0, np.array([5]), np.array([5]), np.array([3]))])
    brain = writer.finish()
    channels = ("previous-current", "current-next", "window")
    maps = np.full((3, EDGE // 16, EDGE // 16), 0.25, np.float16)
    append_image(url, ImageSpec("attention_X", channels, "float16", 16), [(z, None, maps) for z in range(2)])
    return open_brain(brain.url)


@contextlib.contextmanager
def serving(brain: Brain, cors: str | None = "*") -> Iterator[StoreServer]:
    """A server in a thread of this process."""
    with StoreServer(brain, cors=cors) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Read-only: shared by all tests. Its name needs encoding in an address."""
    return write_store(tmp_path_factory.mktemp("view") / "my brain#1.zarr")


@pytest.fixture(scope="session")
def server(shown: Brain) -> Iterator[StoreServer]:
    with serving(shown) as running:
        yield running


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless browser for all tests. Skips where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine")
    with Chromium(program, tmp_path_factory.mktemp("chromium"), (1000, 700)) as running:
        yield running
