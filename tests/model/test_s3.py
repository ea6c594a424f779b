"""A brain is generated from an atlas on S3 to a store on S3 as it is locally."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from teramind_data.store import Brain, store_state
from teramind_model.generate import GenerateConfig, generate
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
