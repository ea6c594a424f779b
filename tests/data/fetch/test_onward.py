"""What was fetched goes on: raw sections to ingest, tile archives to import-tiles, as the guide says."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import open_brain
from tests.data.fetch.conftest import files_in
from tests.data.fetch.server import Server
from tests.data.imports.conftest import GENES, SECTIONS, make_world

Fetch = Callable[..., tuple[int, str, str]]
Run = Callable[..., tuple[int, str, str]]
TINY = PhantomConfig(
    brains=("A",), panels=(1,), seed=7, sections=2, canvas=(256, 512), genes=40, shared=33, blanks=3
)


def test_a_folder_of_raw_sections_becomes_a_store(
    run_fetch: Fetch, run_command: Run, server: Server, tmp_path: Path
) -> None:
    write_phantom(TINY, tmp_path / "there")
    there = tmp_path / "there" / "raw" / "A"
    for path, data in files_in(there).items():
        server.put(f"/64/a7/{path}", data)
    server.index("/64/a7/", "nginx")
    raw = tmp_path / "raw"
    code, _, err = run_fetch("bil:no-such-id", raw, "--yes")
    assert code == 2
    code, _, err = run_fetch(f"{server.url}/64/a7/", raw, "--yes", "--exclude", "annotation")
    assert code == 0, err
    assert files_in(raw) == {p: d for p, d in files_in(there).items() if not p.startswith("annotation/")}
    code, _, err = run_command("manifest", raw, "-o", tmp_path / "manifest.yaml")
    assert code == 0, err
    code, _, err = run_command("ingest", raw, tmp_path / "A.zarr", "--manifest", tmp_path / "manifest.yaml")
    assert code == 0, err
    brain = open_brain(str(tmp_path / "A.zarr"))
    assert brain.complete
    assert brain.n_sections == 2
    assert brain.molecules.total > 1000
    # Nothing of the download is in the way of the next one.
    code, out, _ = run_fetch(f"{server.url}/64/a7/", raw, "--yes", "--exclude", "annotation")
    assert "0 fetched" in out


def test_an_archive_of_tiles_becomes_a_store(
    run_fetch: Fetch, run_command: Run, server: Server, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    archive = tmp_path / "gene_638850.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for tile in sorted(world.genes.iterdir()):
            out.write(tile, f"gene_638850/{tile.name}")
    server.zenodo("14745019", {"gene_638850.zip": archive.read_bytes(), "main.zip": b"not wanted"})
    here = tmp_path / "published"
    code, _, err = run_fetch("tera-mind", here, "--yes", "--include", "gene_*", "--extract")
    assert code == 0, err
    tiles = here / "gene_638850" / "gene_638850"
    code, _, err = run_command("import-tiles", tiles, tmp_path / "g.zarr", "--panel", world.panel)
    assert code == 0, err
    brain = open_brain(str(tmp_path / "g.zarr"))
    assert (brain.kind, brain.n_sections, brain.panel.genes) == ("expression", SECTIONS, GENES)
    _, y, x, name = world.molecules
    blank = np.array([known not in GENES for known in ("Aa", "Bb", "Blank-1", "Cc", "Dd")])
    assert brain.molecules.total == np.count_nonzero(world.covered()[y, x] & ~blank[name])
