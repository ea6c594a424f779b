from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from teramind_data.geometry import Box
from teramind_data.imports.grid import read_folder
from teramind_data.imports.painting import TileImages
from teramind_data.imports.sparse_npz import read_gene_tile
from teramind_data.imports.tiles import TilesConfig, import_tiles
from teramind_data.ingest.raster import Rows
from teramind_data.ingest.tissue import FileTissue, tissue_mask
from teramind_data.store import Brain, create_brain, open_brain
from tests.data.imports.conftest import CELLS, GENES, NAMES, SECTIONS, World, core_of, stem_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def atlas(world: World, tmp_path_factory: pytest.TempPathFactory) -> Brain:
    out = tmp_path_factory.mktemp("stores") / "atlas.zarr"
    done, brain = import_tiles(
        TilesConfig(world.genes, world.tiles, str(out), str(world.panel)), FileTissue()
    )
    assert done
    return brain


def expected(world: World) -> np.ndarray:
    """Molecules of genes on covered pixels: section, y, x, index in the panel; sorted."""
    z, y, x, name = world.molecules
    index = np.array([GENES.index(n) if n in GENES else -1 for n in NAMES])[name]
    keep = world.covered()[y, x] & (index >= 0)
    return sort(np.stack([z, y, x, index])[:, keep])


def sort(columns: np.ndarray) -> np.ndarray:
    return columns[:, np.lexsort(columns)]


def test_each_molecule_is_taken_once_at_its_place(world: World, atlas: Brain) -> None:
    found = []
    for section in range(SECTIONS):
        y, x, gene = atlas.molecules.read(section, Box.from_shape(atlas.canvas))
        found.append(np.stack([np.full(len(y), section), y, x, gene]))
    np.testing.assert_array_equal(sort(np.concatenate(found, axis=1)), expected(world))


def test_expression_is_the_molecules_in_bins(world: World, atlas: Brain) -> None:
    truth = np.zeros(atlas.expression.shape, np.int64)
    z, y, x, gene = expected(world)
    np.add.at(truth, (gene, z, y // 16, x // 16), 1)
    np.testing.assert_array_equal(atlas.expression[:], truth)
    assert atlas.panel is not None
    assert atlas.panel.genes == GENES


def test_images_are_whole_over_all_that_tiles_cover(world: World, atlas: Brain) -> None:
    assert atlas.stains == ("DAPI", "PolyT")
    np.testing.assert_array_equal(atlas.morphology[:], world.images * world.covered())


def test_a_small_budget_writes_the_same_shards(world: World, atlas: Brain, tmp_path: Path) -> None:
    writer = create_brain(tmp_path / "again.zarr", atlas.spec)
    grid = read_folder(world.genes, ".npz", margins=True)
    TileImages(world.tiles, grid, "|u1", lambda _, values: values).write(writer, lambda: None, budget=1)
    assert not writer.pending("morphology")
    np.testing.assert_array_equal(open_brain(writer.url, incomplete=True).morphology[:], atlas.morphology[:])


def test_sections_table_and_provenance(world: World, atlas: Brain) -> None:
    assert [s.name for s in atlas.sections] == ["section_000", "section_001", "section_002"]
    assert [s.z_um for s in atlas.sections] == [0.0, 200.0, 400.0]
    assert atlas.pixel_size_um == 0.108
    assert atlas.provenance["tiles"] == len(CELLS)
    blanks = world.molecules[:, NAMES.index("Blank-1") == world.molecules[3]]
    assert atlas.provenance["controls_left_out"] == int(world.covered()[blanks[1], blanks[2]].sum())
    per_section = np.bincount(expected(world)[0], minlength=SECTIONS)
    assert [s.qc["transcripts"] for s in atlas.sections] == per_section.tolist()
    assert atlas.tissue is not None
    assert atlas.tissue[:].any()


def test_where_margins_meet_one_tile_owns_each_pixel(world: World) -> None:
    grid = read_folder(world.genes, ".npz", margins=True)
    times = np.zeros((1024, 1024), int)
    for tile in grid.tiles.values():
        mask = grid.owned(tile)
        assert mask is not None
        times[tile.extent.slices] += mask
        core = tile.core.shift(-tile.extent.y0, -tile.extent.x0)
        assert mask[core.slices].all()
    np.testing.assert_array_equal(times, world.covered())


def test_a_tile_among_neighbours_owns_its_core_alone(tmp_path: Path) -> None:
    for cell in np.ndindex(3, 3):
        (tmp_path / f"{stem_of(core_of((cell[0] + 1, cell[1] + 1)))}.npz").touch()
    grid = read_folder(tmp_path, ".npz", margins=True)
    assert [grid.owned(tile) is None for tile in grid.tiles.values()].count(True) == 1
    assert grid.owned(grid.tiles[2, 2]) is None


def test_genes_alone_make_an_expression_store(
    world: World, atlas: Brain, tmp_path: Path, run_command: Run
) -> None:
    out = tmp_path / "genes.zarr"
    code, text, _ = run_command("import-tiles", world.genes, out, "--panel", world.panel, "--spacing-um", 100)
    assert code == 0
    assert "expression, 3 sections" in text
    brain = open_brain(out)
    assert (brain.kind, brain.stains, brain.images) == ("expression", (), ("expression",))
    np.testing.assert_array_equal(brain.expression[:], atlas.expression[:])
    assert brain.z_spacing_um == 100


def test_again_does_nothing_and_other_settings_are_refused(
    world: World, tmp_path: Path, run_command: Run
) -> None:
    out = tmp_path / "a.zarr"
    words = ("import-tiles", world.genes, world.tiles, out, "--panel", world.panel)
    assert run_command(*words)[0] == 0
    before = (out / "zarr.json").stat().st_mtime_ns
    code, text, _ = run_command(*words)
    assert (code, "up to date" in text) == (0, True)
    assert (out / "zarr.json").stat().st_mtime_ns == before
    code, _, error = run_command(*words, "--spacing-um", 50)
    assert code == 2
    assert "made from other inputs or settings" in error
    assert run_command(*words, "--spacing-um", 50, "--overwrite")[0] == 0
    assert open_brain(out).z_spacing_um == 50


def test_an_unfinished_import_is_continued(world: World, atlas: Brain, tmp_path: Path) -> None:
    config = TilesConfig(world.genes, world.tiles, str(tmp_path / "a.zarr"), str(world.panel))

    class Stopped(Exception):
        pass

    class Stopping(FileTissue):
        def mask(self, *_: object) -> Rows:
            raise Stopped

    with pytest.raises(Stopped):
        import_tiles(config, Stopping())
    assert not open_brain(config.out, incomplete=True).complete
    done, brain = import_tiles(config, FileTissue())
    assert done
    for name in ("morphology", "expression", "tissue"):
        np.testing.assert_array_equal(brain.image(name)[:], atlas.image(name)[:])
    assert brain.molecules.total == atlas.molecules.total
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_tissue_in_files_is_tissue_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked in strips through files: the same mask as of whole planes."""
    monkeypatch.setattr("teramind_data.ingest.tissue._STRIP_BINS", 1)
    rng = np.random.default_rng(1)
    molecules = rng.poisson(3, (150, 70)) * (np.hypot(*np.mgrid[-75:75, -35:35]) < 30)
    dapi = (rng.normal(20, 2, molecules.shape) + 30 * (molecules > 0)).astype(np.float32)
    maker = FileTissue()
    planes = [
        maker.plane(tmp_path / name, (150, 70), kind) for name, kind in (("m", "int32"), ("d", "float32"))
    ]
    for plane, values in zip(planes, (molecules, dapi), strict=True):
        plane.write(0, values[:99])
        plane.write(99, values[99:])
    wanted = tissue_mask(molecules, 0.108, dapi)
    assert 0 < wanted.mean() < 1
    np.testing.assert_array_equal(maker.mask(planes[0], 0.108, planes[1], tmp_path).read(0, 150), wanted)


def test_a_canvas_that_was_asked_for_cuts_margins(world: World, tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "a.zarr"
    code, _, _ = run_command("import-tiles", world.genes, out, "--panel", world.panel, "--canvas", "768,784")
    assert code == 0
    brain = open_brain(out)
    _, y, x, _ = expected(world)
    assert brain.canvas == (768, 784)
    assert brain.molecules.total == int(((y < 768) & (x < 784)).sum())
    assert brain.provenance["off_canvas_left_out"] > 0


def test_the_published_samples(reference_dir: Path, tmp_path: Path, run_command: Run) -> None:
    root = reference_dir / "tiles"
    if not root.is_dir():
        pytest.skip(f"no sample tiles in {reference_dir}")
    truth = json.loads((root / "truth.json").read_text())
    genes, images = root / "gene_000000", root / "img_000000"
    cores = {}
    for file in sorted(genes.glob("*.npz")):
        sections, molecules = read_gene_tile(file, (512, 512), 500)
        assert sections == 50
        inner = [(axis >= 128) & (axis < 384) for axis in (molecules.row, molecules.column)]
        cores[file.stem] = int((inner[0] & inner[1]).sum())
    assert cores == truth["molecules_in_core"]
    out = tmp_path / "main.zarr"
    panel = reference_dir / "panels" / "main_500.csv"
    assert run_command("import-tiles", genes, images, out, "--panel", panel)[0] == 0
    brain = open_brain(out)
    assert brain.molecules.total == truth["molecules_total"]
    assert int(brain.expression[:].sum()) == truth["molecules_total"]
    assert brain.morphology.shape == (2, 50, 768, 1024)
    in_core = [len(brain.molecules.read(z, Box(256, 512, 256, 512))[0]) for z in range(50)]
    assert sum(in_core) == truth["molecules_in_core"]["256_512_256_512_128_640_128_640"]
    # Nothing outside what the two files cover.
    assert not brain.morphology[:, 0, :128].any()
    assert brain.morphology[0, 0, 128:640, 128:896].any(axis=0).all()
