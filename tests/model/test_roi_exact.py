"""A region computed with what lies around it equals that part of the whole brain; without, it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import Box
from teramind_data.store import Brain
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.config import Engine
from tests.model.tiny import tiny_atlas, tiny_source

STEPS = 2
CANVAS = (144, 176)
"""No multiple of the shard (64), nor of the patch (32)."""

SOURCE = tiny_source()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", CANVAS, 2)


def made(
    atlas: Brain, out: Path, roi: Box | None, engine: Engine = "wavefront", **options: bool
) -> np.ndarray:
    config = GenerateConfig(
        atlas.url, "tiny", str(out), steps=STEPS, roi=roi, run=RunOptions(engine=engine, overwrite=True), **options
    )  # fmt: skip
    return generate(config, SOURCE, say=lambda line: None).morphology[:]


@pytest.fixture(scope="module")
def brain(atlas: Brain, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return made(atlas, tmp_path_factory.mktemp("whole") / "g.zarr", None)


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@st.composite
def regions(draw: st.DrawFn) -> Box:
    y0, x0 = draw(st.integers(0, CANVAS[0] - 1)), draw(st.integers(0, CANVAS[1] - 1))
    return Box(y0, draw(st.integers(y0 + 1, CANVAS[0])), x0, draw(st.integers(x0 + 1, CANVAS[1])))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(roi=regions(), engine=st.sampled_from(["wavefront", "straightforward"]))
def test_any_region_equals_that_part_of_the_whole(
    atlas: Brain, brain: np.ndarray, tmp_path: Path, roi: Box, engine: Engine
) -> None:
    part = made(atlas, tmp_path / "p.zarr", roi, engine, roi_exact=True)
    whole_tiles = roi.cover(32).clip(CANVAS)
    assert whole_tiles is not None
    inside = (..., *whole_tiles.slices)
    # Batches are composed otherwise, so floats round otherwise: a level at most, where a value lies on its edge.
    assert levels_apart(part[inside], brain[inside]) <= 1
    assert np.mean(part[inside] != brain[inside]) < 1e-3
    part[inside] = 0
    assert not part.any()


def test_without_it_the_rim_differs(atlas: Brain, brain: np.ndarray, tmp_path: Path) -> None:
    roi = Box(64, 128, 64, 160)
    inside = (..., *roi.slices)
    assert levels_apart(made(atlas, tmp_path / "p.zarr", roi)[inside], brain[inside]) > 10


def test_it_is_for_a_region_and_part_of_what_was_asked_for(atlas: Brain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--roi-exact is for a region. Give --roi too"):
        GenerateConfig("a", "c", "o", roi_exact=True)
    roi = Box(64, 128, 64, 160)
    exact, plain = (
        GenerateConfig(atlas.url, "tiny", str(tmp_path / "g.zarr"), steps=1, roi=roi, roi_exact=flag)
        for flag in (True, False)
    )
    assert generate(exact, SOURCE, say=lambda line: None).provenance["request"]["roi_exact"] is True
    with pytest.raises(OutputExistsError, match="store with another roi exact"):
        generate(plain, SOURCE, say=lambda line: None)
