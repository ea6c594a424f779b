"""What the guides show, run on a small brain as a reader would on the demo's."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from teramind_data.store import Brain

Run = Callable[..., tuple[int, str, str]]

GUIDES = Path(__file__).parents[3] / "docs/guides"


def test_the_exports_of_the_guide_work_on_a_small_canvas(
    ingested: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    block = (GUIDES / "spatialdata.md").read_text().split("```sh\n")[1].split("```")[0]
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    assert len(commands) == 5
    for words in commands:
        code, _, err = run_command(*(ingested.url if word == "A.zarr" else word for word in words))
        assert code == 0, err
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"A1.ome.tif", "gene.ome.tif", "sections.h5ad", "bins.h5ad", "A.png"}
