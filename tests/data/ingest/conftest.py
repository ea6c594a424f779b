"""A tiny phantom brain, raw and ingested, that the ingest tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import Brain

TINY = PhantomConfig(
    brains=("A",), panels=(1,), seed=7, sections=2, canvas=(256, 512), genes=40, shared=33, blanks=3
)


@pytest.fixture(scope="session")
def tiny() -> PhantomConfig:
    """The configuration of the tiny brain: 2 sections (the second with a spline) of 256 x 512 px, 40 genes."""
    return TINY


@pytest.fixture(scope="session")
def raw_brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny brain's raw folder; read only (``raw_copy`` is for damage)."""
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    write_phantom(TINY, out)
    return out / "raw" / "A"


@pytest.fixture(scope="session")
def ingested(raw_brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """The tiny brain's store; read only."""
    outcome, brain = ingest(
        IngestConfig(raw=raw_brain, out=str(tmp_path_factory.mktemp("stores") / "A.zarr"))
    )
    assert outcome == "written"
    return brain


@pytest.fixture
def raw_copy(raw_brain: Path, tmp_path: Path) -> Path:
    """A copy of the raw folder to change."""
    return Path(shutil.copytree(raw_brain, tmp_path / "raw"))
