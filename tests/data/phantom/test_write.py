"""Whole phantoms: complete, reproducible, and careful with what is there already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from teramind_data.commands.phantom import register
from teramind_data.errors import InputError, OutputExistsError
from teramind_data.phantom import PhantomConfig, section_truth, write_phantom
from teramind_data.phantom import write as writing
from teramind_data.phantom.anatomy import REGIONS

TINY = PhantomConfig(brains=("A",), panels=(1,), sections=1, canvas=(256, 256), genes=40, shared=36, blanks=2)


def _files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_truth_lies_beside_the_raw_data(phantom: Path, config: PhantomConfig) -> None:
    truth = section_truth(config, "C", 1)
    folder = phantom / "truth" / "C" / "section_001"
    np.testing.assert_array_equal(tifffile.imread(folder / "nuclei.tif"), truth.masks)
    cells = pd.read_csv(folder / "cells.csv")
    assert (cells.area_px.to_numpy() == np.bincount(truth.masks.ravel())[1:]).all()
    assert set(cells.columns) >= {"cell_id", "type", "region", "y", "x", "radius_px", "area_px"}
    assert not list((phantom / "raw").rglob("nuclei*"))
    regions = tifffile.imread(phantom / "raw" / "C" / "annotation" / "regions.tif")
    assert regions.shape == (2, 32, 32)
    assert regions.dtype == np.uint16
    names = pd.read_csv(phantom / "raw" / "C" / "annotation" / "regions.csv")
    assert list(names.columns) == ["id", "name"]
    assert list(names.name) == list(REGIONS)
    centres = truth.regions[7::16, 7::16]
    assert (regions[1] == centres).mean() > 0.95


def test_description_names_every_file(phantom: Path, config: PhantomConfig) -> None:
    described = json.loads((phantom / "phantom.json").read_text())
    assert described["fingerprint"] == config.fingerprint()
    assert {"phantom.json", *described["files"]} == set(_files(phantom))
    assert described["panels"]["A"][:40] == described["panels"]["C"][:40]


def test_same_options_same_bytes_whatever_else_is_written(tmp_path: Path) -> None:
    write_phantom(TINY, tmp_path / "one")
    write_phantom(dataclasses.replace(TINY, brains=("Q", "A"), panels=(2, 1)), tmp_path / "two")
    one, two = _files(tmp_path / "one"), _files(tmp_path / "two")
    mine = [name for name in one if "/A/" in name]
    assert len(mine) > 10
    assert all(one[name] == two[name] for name in mine)


def test_existing_outputs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_phantom(TINY, out) is True
    before = _files(out)
    assert write_phantom(TINY, out) is False
    other = dataclasses.replace(TINY, seed=5)
    with pytest.raises(OutputExistsError, match=r"another configuration.*--overwrite"):
        write_phantom(other, out)
    assert _files(out) == before
    assert write_phantom(other, out, overwrite=True) is True
    assert _files(out) != before
    (out / "raw/A/section_000/cell_by_gene.csv").unlink()
    with pytest.raises(OutputExistsError, match=r"not all of it.*cell_by_gene.csv.*1 missing"):
        write_phantom(other, out)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match=r"no phantom.*stranger"):
            write_phantom(TINY, stranger, overwrite=overwrite)
    assert (stranger / "thesis.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "stranger"]


def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writing, "_write_truth", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(TINY, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    run = CliRunner()
    out = tmp_path / "p"
    options = [
        "phantom",
        str(out),
        "--brains",
        "A",
        "--panels",
        "1",
        "--sections",
        "1",
        "--canvas",
        "256",
        "--genes",
        "40",
        "--shared",
        "36",
        "--blanks",
        "2",
    ]
    first = run.invoke(app, options)
    assert first.exit_code == 0, first.output
    assert "written" in first.output
    assert json.loads((out / "phantom.json").read_text())["fingerprint"] == TINY.fingerprint()
    again = run.invoke(app, options)
    assert again.output.strip().endswith("nothing to do")
    assert len(again.output.strip().splitlines()) == 1
    wrong = run.invoke(app, ["phantom", str(tmp_path / "q"), "--panels", "1,x"])
    assert isinstance(wrong.exception, InputError)
    assert "--panels" in str(wrong.exception)
    assert not (tmp_path / "q").exists()
    assert "Example" in run.invoke(app, ["phantom", "--help"]).output


def test_too_few_genes_are_said_of_the_genes() -> None:
    with pytest.raises(InputError, match=r"option genes is out of range.*at least 33"):
        PhantomConfig(genes=24, shared=16)
