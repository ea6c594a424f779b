"""A brain is generated from an atlas on S3 to a store on S3 as it is locally."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.store import Brain, store_state
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.parts import Hands, Part
from tests.model.tiny import tiny_atlas, tiny_source
from tests.s3 import objects


def generated(atlas: Brain, out: str) -> Brain:
    return generate(GenerateConfig(atlas.url, "tiny", out, steps=2), tiny_source(), say=lambda line: None)


@pytest.mark.filterwarnings("ignore")
def test_generated_on_s3_as_locally(bucket: str, tmp_path: Path) -> None:
    local = generated(tiny_atlas(tmp_path / "atlas.zarr"), str(tmp_path / "out.zarr"))
    atlas = tiny_atlas(f"{bucket}/atlas.zarr")  # type: ignore[arg-type]
    out = f"{bucket}/out.zarr"
    remote = generated(atlas, out)
    assert store_state(out) == "complete"
    for z in range(local.n_sections):
        np.testing.assert_array_equal(remote.read("morphology", z), local.read("morphology", z))
    before = objects(out)
    # Complete: nothing to do.
    generated(atlas, out)
    assert objects(out) == before


@pytest.mark.filterwarnings("ignore")
def test_parts_on_s3(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No locks: the first part begins the store and others wait for it; the command without --units completes it."""
    from teramind_model.generate import run

    monkeypatch.setattr(run, "_GLANCE_S", 0.05)
    atlas = tiny_atlas(tmp_path / "atlas.zarr", sections=3)
    source = tiny_source()  # once: it is drawn from a random generator that threads share
    out = f"{bucket}/parts.zarr"

    def made(part: Part | None, url: str) -> Brain:
        config = GenerateConfig(
            atlas.url, "tiny", url, steps=1, run=RunOptions(batch=4), hands=Hands(part=part)
        )
        return generate(config, source, say=lambda line: None)

    monkeypatch.setattr(run, "_PATIENCE_S", 0.1)
    with pytest.raises(InputError, match="no part has begun this store.* Run --units 1/2"):
        made(Part(2, 2), out)
    assert store_state(out) == "absent"
    monkeypatch.setattr(run, "_PATIENCE_S", 60.0)
    second: list[bool] = []
    waiting = threading.Thread(target=lambda: second.append(made(Part(2, 2), out).complete))
    waiting.start()
    assert not made(Part(1, 2), out).complete
    waiting.join()
    assert second == [False], "no part knows that it is the last"
    remote = made(None, out)
    assert remote.complete
    assert remote.provenance["run"]["shards_written"] == 0
    local = made(None, str(tmp_path / "local.zarr"))
    for z in range(local.n_sections):
        np.testing.assert_array_equal(remote.read("morphology", z), local.read("morphology", z))
