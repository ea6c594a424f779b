"""Scores as tables in a store: the report's numbers, tiles as measured one by one, and the guide's own snippets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from teramind_data.errors import InputError, MissingInputError, OutputExistsError
from teramind_data.geometry import BIN_PX
from teramind_data.store import ImageSpec, append_image, open_brain
from teramind_eval.metrics.image import psnr, ssim
from teramind_eval.report.saved import read_metrics
from teramind_eval.scverse.tiles import open_pair, tile_scores
from teramind_eval.scverse.write import write_scores
from tests.eval.conftest import Stores
from tests.eval.drawn import CANVAS, PIXEL_UM, draw_section, write_generated

TILE = 32


@pytest.fixture(scope="module")
def folder(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """C.zarr, with regions, and G.zarr, with tables of their report."""
    root = tmp_path_factory.mktemp("scverse") / "all"
    shutil.copytree(reported, root)
    labels = np.ones(tuple(edge // BIN_PX for edge in CANVAS), np.uint16)
    labels[:, 8:] = 2
    labels[1::2, 1::2] = 3  # under every tile's centre, of most of none
    image = ImageSpec("regions", (), "uint16", step=BIN_PX, reduce="mode", labels=True)
    # The report says where the real store lies.
    if "regions" not in open_brain(reported / "C.zarr").labels:
        append_image(reported / "C.zarr", image, [(section, None, labels) for section in (0, 1)])
    shapes = write_scores(root / "report", str(root / "G.zarr"), tiles=True)
    assert shapes["scores"][0] == 2 * 3
    return root


def table(store: Path, name: str) -> Any:
    """A table as SpatialData reads it."""
    import spatialdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return spatialdata.read_zarr(store).tables[name]


def test_scores_are_those_of_the_report(folder: Path) -> None:
    scores = table(folder / "G.zarr", "scores")
    rows = [
        row for row in pq.read_table(folder / "report" / "metrics.parquet").to_pylist() if row["section"] >= 0
    ]
    assert scores.n_obs * scores.n_vars >= len(rows) > 60
    at = {name: index for index, name in enumerate(scores.var_names)}
    for row in rows:
        cell = scores[f"{row['name']}/{row['store']}"]
        column = at[f"{row['measure']}:{row['stain']}"]
        for part, values in (("mean", cell.X), ("sd", cell.layers["sd"]), ("n", cell.layers["n"])):
            wanted = np.nan if row[part] is None else row[part]
            np.testing.assert_equal(values[0, column], wanted)
    assert np.isnan(scores["s0/real"].X[0, at["ssim:together"]])
    assert [f"s{index}" for index in scores.obs["section_index"]] == list(scores.obs["section"])
    assert set(scores.obs["z_um"]) == {0.0, 100.0}
    told = json.loads(scores.uns["report"])
    assert told["stores"]["shuffled"]["role"] == "control"
    assert told["settings"]["tile_px"] == TILE


def test_tiles_are_those_measured_one_by_one(folder: Path, stores: Stores) -> None:
    tiles = table(folder / "G.zarr", "tile_scores")
    real, good = open_brain(stores.real), open_brain(folder / "G.zarr")
    at = {name: index for index, name in enumerate(tiles.var_names)}
    expected = 0
    for section, seed in enumerate((11, 12)):
        x, y = real.read("morphology", section), good.read("morphology", section)
        rows, columns, _ = draw_section(seed).molecules
        for top, left in sorted(
            {(int(a) // TILE * TILE, int(b) // TILE * TILE) for a, b in zip(rows, columns, strict=True)}
        ):
            cut = (slice(None), slice(top, top + TILE), slice(left, left + TILE))
            found = tiles[f"s{section}/{top}_{left}"]
            assert found.X[0, at["psnr_db:together"]] == pytest.approx(psnr(x[cut], y[cut]), rel=1e-5)
            assert found.X[0, at["psnr_db:PolyT"]] == pytest.approx(psnr(x[cut][1], y[cut][1]), rel=1e-5)
            assert found.X[0, at["ssim:DAPI"]] == pytest.approx(ssim(x[cut], y[cut])[0], rel=1e-4)
            place = (np.array([left, top]) + TILE / 2) * PIXEL_UM
            np.testing.assert_allclose(found.obsm["spatial"][0], place)
            assert found.obs["region"].iloc[0] == ("region 1" if left < 128 else "region 2")
            expected += 1
    assert tiles.n_obs == expected
    # Their mean is the report's.
    brain = next(
        row
        for row in pq.read_table(folder / "report" / "metrics.parquet").to_pylist()
        if (row["store"], row["section"], row["measure"], row["stain"])
        == ("generated", -1, "ssim", "together")
    )
    assert tiles.X[:, at["ssim:together"]].mean() == pytest.approx(brain["mean"], rel=1e-5)


def test_tiles_of_a_store_with_stains_in_another_order(folder: Path, tmp_path: Path) -> None:
    report = folder / "report"
    metrics = read_metrics(report)
    store = next(one for one in metrics.stores if one.role == "generated")
    images = [open_brain(folder / "G.zarr").read("morphology", section) for section in (0, 1)]
    more = [np.concatenate([image[::-1], image[:1] // 2]) for image in images]
    write_generated(tmp_path / "G.zarr", more, stains=("PolyT", "DAPI", "third"))
    found, wanted = (
        tile_scores(open_pair(metrics, store, str(root / "G.zarr")), metrics, report)
        for root in (tmp_path, folder)
    )
    np.testing.assert_array_equal(found.X, wanted.X)


def test_the_store_stays_what_it_was(folder: Path, stores: Stores) -> None:
    from teramind_data.validate import validate

    assert list(validate(str(folder / "G.zarr"))) == list(validate(str(stores.good)))
    assert "attention_GLUT" in open_brain(folder / "G.zarr").images


def test_tables_are_not_replaced_unasked_and_go_into_the_real_store_too(folder: Path) -> None:
    report = folder / "report"
    with pytest.raises(OutputExistsError, match=r"G\.zarr/tables/scores.*--overwrite"):
        write_scores(report, str(folder / "G.zarr"))
    assert write_scores(report, str(folder / "G.zarr"), overwrite=True)["scores"][0] == 6
    assert (
        "tile_scores" in table(folder / "G.zarr", "tile_scores").uns
        or table(folder / "G.zarr", "tile_scores").n_obs
    )
    write_scores(report, str(folder / "C.zarr"))
    np.testing.assert_equal(table(folder / "C.zarr", "scores").X, table(folder / "G.zarr", "scores").X)


def test_a_store_that_moved_is_known_and_another_is_refused(
    folder: Path, stores: Stores, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.zarr"
    shutil.copytree(stores.good, moved)
    assert list(write_scores(folder / "report", str(moved))) == ["scores"]
    with pytest.raises(InputError, match=r"report is not of this store.*found .*B\.zarr"):
        write_scores(folder / "report", str(stores.bad))
    with pytest.raises(MissingInputError, match="no such report"):
        write_scores(tmp_path, str(moved))
    with pytest.raises(InputError, match="no likeness to itself: --tiles"):
        write_scores(folder / "report", str(folder / "C.zarr"), tiles=True, overwrite=True)


def test_the_guide_s_snippets_run(folder: Path, checkout: Path, tmp_path: Path) -> None:
    guide = (checkout / "docs" / "guides" / "results-in-scverse.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL))
    assert code.count("import") >= 3
    shutil.copytree(folder / "G.zarr", tmp_path / "G.zarr")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "psnr_db:together" in done.stdout
    assert -1 <= float(done.stdout.strip().splitlines()[-1]) <= 1
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["violin_regions.png"]
    assert (tmp_path / "ssim.png").read_bytes().startswith(b"\x89PNG")
