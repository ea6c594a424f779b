from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.imports.generated_tiles import to_bytes
from teramind_data.store import create_brain, open_brain
from tests.data.imports.conftest import (
    CELLS,
    GENES,
    SECTIONS,
    World,
    core_of,
    stem_of,
    write_zip,
    zarr_members,
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def generated(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A folder of generated tiles, and what they hold (stain, section, y, x), 0 elsewhere."""
    rng = np.random.default_rng(4)
    whole = np.zeros((2, SECTIONS, 768, 768), np.uint8)
    folder = tmp_path / "generated"
    folder.mkdir()
    for cell in CELLS:
        core = core_of(cell)
        values = rng.uniform(-1, 1, (2 * SECTIONS, 256, 256)).astype(np.float16)
        values[0, 0, 0::2], values[0, 0, 1::2] = -1, 1
        write_zip(folder / f"{stem_of(core, 0)}.zip", zarr_members(values, (2, 128, 256)))
        scaled = np.clip((values.astype(np.float64) + 1) * 127.5, 0, 255).astype(np.uint8)
        whole[(..., *core.slices)] = scaled.reshape(2, SECTIONS, 256, 256)
    return folder, whole


def test_tiles_stand_where_their_names_say(
    generated: tuple[Path, np.ndarray], tmp_path: Path, run_command: Run
) -> None:
    folder, whole = generated
    out = tmp_path / "g.zarr"
    code, text, error = run_command("import-tiles", "--generated", folder, out, "--method", "theirs")
    assert code == 0, error
    assert "generated, 3 sections of 768 x 768 px from 3 tiles" in text
    brain = open_brain(out)
    assert (brain.kind, brain.panel, brain.provenance["method"]) == ("generated", None, "theirs")
    # float32 and float64 may fall on two sides of a whole number.
    assert int(np.abs(brain.morphology[:].astype(int) - whole).max()) <= 1
    assert float((brain.morphology[:] != whole).mean()) < 1e-4
    assert brain.morphology[0, 0, 256, 512] == 0
    assert brain.morphology[0, 0, 256, 513] == 255


def test_like_lends_what_a_report_compares(
    world: World, generated: tuple[Path, np.ndarray], tmp_path: Path, run_command: Run
) -> None:
    from teramind_eval.pairs import check_comparable, open_store

    atlas, out = tmp_path / "atlas.zarr", tmp_path / "g.zarr"
    assert run_command("import-tiles", world.genes, world.tiles, atlas, "--panel", world.panel)[0] == 0
    code, _, error = run_command("import-tiles", "--generated", generated[0], out, "--like", atlas)
    assert code == 0, error
    brain = open_brain(out)
    assert brain.canvas == open_brain(atlas).canvas
    assert brain.panel is not None
    assert brain.panel.genes == GENES
    check_comparable(open_brain(atlas), open_store(str(out), "theirs", "generated"))


def test_like_of_another_number_of_sections_is_refused(
    world: World, generated: tuple[Path, np.ndarray], tmp_path: Path, run_command: Run
) -> None:
    from teramind_data.store import BrainSpec, Section

    sections = tuple(Section(i, f"s{i}", float(i)) for i in range(2))
    writer = create_brain(tmp_path / "two.zarr", BrainSpec("generated", (768, 768), 0.108, sections))
    for z in range(2):
        writer.write("morphology", z, None, np.zeros((2, 768, 768), np.uint8))
    writer.finish()
    out = tmp_path / "g.zarr"
    code, _, error = run_command(
        "import-tiles", "--generated", generated[0], out, "--like", tmp_path / "two.zarr"
    )
    assert code == 2
    assert "(expected 2 stains x 2 sections, found 6)" in error
    assert not out.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.5, 200.0])
def test_values_that_are_no_images_are_refused(value: float) -> None:
    values = np.zeros((1, 4, 4), np.float16)
    values[0, 2, 2] = value
    with pytest.raises(InputError, match=r"no image's: a.zip \(expected numbers in \[-1, 1\]"):
        to_bytes(Path("a.zip"), values)


def test_bytes_are_truncated_as_the_published_cast() -> None:
    values = np.array([-1, -0.99609375, 0, 0.99951171875, 1, 1.001], np.float16)
    assert to_bytes(Path("a.zip"), values).tolist() == [0, 0, 127, 254, 255, 255]
