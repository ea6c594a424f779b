"""Counts as h5ad, the summary and the picture, through the command line too."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from PIL import Image

from teramind_data.brain import Brain
from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.export import write_bins, write_table
from teramind_data.picture import montage, png
from tests.data.export.conftest import CANVAS, PIXEL_UM, write_small

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``teramind-data`` in this process: exit code, stdout, stderr."""
    from teramind_data.cli import app
    from teramind_data.console import run_cli

    def call(*words: object) -> tuple[int, str, str]:
        try:
            code = run_cli(app, [str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        done = capfd.readouterr()
        return int(code or 0), done.out, done.err

    return call


def test_table_has_a_row_a_section(small: Brain, tmp_path: Path) -> None:
    table = anndata.read_h5ad(write_table(small, tmp_path / "t.h5ad"))
    assert list(table.obs_names) == ["s0", "s1", "s2"]
    np.testing.assert_array_equal(table.X, np.asarray(small.expression[:]).sum(axis=(2, 3)).T)


@pytest.mark.parametrize("level", [0])
def test_bins_hold_all_counts_of_tissue(small: Brain, tmp_path: Path, level: int) -> None:
    table = anndata.read_h5ad(write_bins(small, tmp_path / "b.h5ad", level=level))
    tissue = np.asarray(small.tissue[:]) != 0  # type: ignore[index]
    assert table.shape == (int(tissue.sum()), 6)
    expression = np.asarray(small.expression[:])
    z = table.obs["section"].cat.codes.to_numpy()
    x, y = (np.floor(table.obsm["spatial"] / (16 * PIXEL_UM)).astype(int)).T
    np.testing.assert_array_equal(table.X.toarray(), expression[:, z, y, x].T)
    assert set(table.obs["region"]) == {"left", "right"}
    assert np.all((x < 9) == (table.obs["region"] == "left"))


def test_bins_of_one_section(small: Brain, tmp_path: Path) -> None:
    table = anndata.read_h5ad(write_bins(small, tmp_path / "b.h5ad", sections=[1]))
    assert set(table.obs["section"]) == {"s1"}
    assert set(table.obs["z_um"]) == {100.0}


def test_what_cannot_be_written_leaves_nothing(small: Brain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such level.*choose a finer one"):
        write_bins(small, tmp_path / "b.h5ad", level=7)
    (tmp_path / "there.h5ad").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_table(small, tmp_path / "there.h5ad")
    with pytest.raises(OutputExistsError):
        write_bins(small, tmp_path / "there.h5ad")
    assert (tmp_path / "there.h5ad").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["there.h5ad"]


def test_a_store_without_the_table_says_so(tmp_path: Path) -> None:
    import shutil

    from teramind_data.store import refresh_metadata

    brain = write_small(tmp_path / "s.zarr")
    shutil.rmtree(tmp_path / "s.zarr/tables")
    refresh_metadata(brain.url)
    with pytest.raises(StoreError, match="no table of sections"):
        write_table(brain, tmp_path / "t.h5ad")


def test_picture_shows_stains_in_their_colours(small: Brain) -> None:
    pixels = montage(small, edge=200, columns=2)
    assert pixels.shape[2] == 3
    middle = pixels[6 + 60 : 6 + 140, 6 + 50 : 6 + 100].reshape(-1, 3).astype(int)
    assert (middle.sum(axis=1) > 60).mean() > 0.5
    assert tuple(pixels[8, 8]) == (0, 0, 0)
    decoded = np.asarray(Image.open(io.BytesIO(png(pixels))))
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("count", [1, 2, 4, 7, 50])
def test_montage_grid_holds_every_section(count: int) -> None:
    from teramind_data.picture import _columns

    columns = _columns(count, CANVAS[0] / CANVAS[1])
    assert 1 <= columns <= count
    assert -count % columns <= columns // 2


def test_info_lists_elements_and_draws(small: Brain, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("info", small.url, "--picture", tmp_path / "p.png")
    assert code == 0
    for words in ("images/morphology", "labels/regions", "molecules", "tables/sections", "2 x 3 x 400 x 304"):
        assert words in out
    before = (tmp_path / "p.png").read_bytes()
    assert Image.open(io.BytesIO(before)).size[0] > 256
    code, _, err = run("info", small.url, "--picture", tmp_path / "p.png")
    assert code == 2 and "picture exists" in err and err.count("\n") == 1
    assert (tmp_path / "p.png").read_bytes() == before


def test_export_from_the_command_line(small: Brain, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(
        "export",
        small.url,
        "--section",
        "s1",
        "--out",
        tmp_path / "s1.ome.tif",
        "--h5ad",
        tmp_path / "t.h5ad",
    )
    assert code == 0 and "s1.ome.tif: written" in out and "t.h5ad: written, 3 sections" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "nothing to write"),
        (("--out", "x.ome.tif"), "no section given"),
        (("--section", "9", "--out", "x.ome.tif"), "no such section"),
        (("--section", "0", "--image", "nuclei", "--out", "x.ome.tif"), "no such image"),
        (
            ("--section", "0", "--image", "expression", "--channel", "no", "--out", "x.ome.tif"),
            "expected gene0, gene1, gene2, gene3, gene4, gene5, found no)",
        ),
        (("--section", "0", "--out", "x.tif"), "x.tif (expected .ome.tif or .ome.tiff"),
        (("--section", "0", "--out", "ome.tif"), "no OME-TIFF's name"),
        (("--section", "0", "--out", "nowhere/x.ome.tif"), "folder of the output does not exist"),
    ],
)
def test_bad_export_is_one_line(
    small: Brain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    words: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("export", small.url, *words)
    assert code == 2 and expected in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
