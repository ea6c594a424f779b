"""Options of import-tiles that make no sense; what can be wrong with tiles is in the table of damages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.imports.conftest import World

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["g", "out.zarr"], "panel is missing"),
        (["g", "i", "j", "out.zarr", "--panel", "p"], "wrong number of folders"),
        (["--generated", "g", "i", "out.zarr"], "wrong number of folders"),
        (["g", "out.zarr", "--panel", "p", "--like", "x"], "--like is for generated tiles"),
        (["g", "out.zarr", "--panel", "p", "--canvas", "12"], "canvas is not a size"),
        (["g", "out.zarr", "--panel", "p", "--canvas", "512,500"], "does not fit the bins"),
        (["g", "out.zarr", "--panel", "p", "--pixel-size", "0"], "--pixel-size (expected um > 0"),
        (["g", "out.zarr", "--panel", "p", "--spacing-um", "nan"], "--spacing-um (expected um > 0"),
        (["--generated", "g", "out.zarr", "--like", "x", "--canvas", "512,512"], "canvas is given twice"),
    ],
)
def test_bad_options(words: list[str], says: str, run_command: Run) -> None:
    code, _, error = run_command("import-tiles", *words)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_a_core_outside_the_canvas(own_world: World, tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "out.zarr"
    words = ("import-tiles", own_world.genes, out, "--panel", own_world.panel, "--canvas", "512,512")
    code, _, error = run_command(*words)
    assert code == 2
    assert "tile lies outside the canvas" in error
    assert not out.exists()


def test_what_is_no_store_is_never_replaced(own_world: World, tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    words = ("import-tiles", own_world.genes, out, "--panel", own_world.panel, "--overwrite")
    code, _, error = run_command(*words)
    assert code == 2
    assert "no store of ours" in error
    assert (out / "thesis.txt").read_text() == "all of it"
