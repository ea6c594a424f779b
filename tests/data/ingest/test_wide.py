"""A canvas wider than a shard: shards, rows of tiles and blocks meet without a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.phantom import PhantomConfig, section_truth, write_phantom


def test_two_shards(tmp_path: Path) -> None:
    config = PhantomConfig(
        brains=("W",),
        panels=(1,),
        sections=1,
        canvas=(512, 4352),
        genes=34,
        shared=33,
        blanks=1,
        transcripts=0.3,
        noise=0.0,
        illumination=0.0,
    )
    write_phantom(config, tmp_path / "phantom")
    raw = tmp_path / "phantom" / "raw" / "W"
    _, brain = ingest(IngestConfig(raw=raw, out=str(tmp_path / "W.zarr")))
    assert brain.canvas == (512, 4352)
    assert brain.spec.shard_px == 4096
    truth = section_truth(config, "W", 0)
    found = brain.read("expression", 0).astype(int)
    assert np.abs(found - truth.expression()).sum() <= 4
    assert found[:, :, 256:].sum() > 0  # the second shard
    window = brain.provenance["intensity"]["DAPI"]
    counts = brain.read("morphology", 0)[0] / 255 * (window["high"] - window["low"]) + window["low"]
    columns = np.column_stack([truth.image[0].ravel(), np.ones(counts.size)])
    best, *_ = np.linalg.lstsq(columns, counts.ravel(), rcond=None)
    error = np.abs(counts - (columns @ best).reshape(counts.shape))
    border = error[:, 4090:4102].mean()
    assert border < 3 * error.mean() + 1
