"""One small phantom on disk, written once: two brains of two sections, one with a spline each."""

from __future__ import annotations

from pathlib import Path

import pytest

from teramind_data.phantom import PhantomConfig, write_phantom

SMALL = PhantomConfig(brains=("A", "C"), panels=(1, 2), sections=2, genes=64, shared=40, blanks=4, seed=7)


@pytest.fixture(scope="session")
def config() -> PhantomConfig:
    return SMALL


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "out"
    assert write_phantom(SMALL, out)
    return out
