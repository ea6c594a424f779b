"""Places shown side by side: where the molecules are, the same in every store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from teramind_data.geometry import Box
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, Section, create_brain
from teramind_model.experiments.pictures import Place, busy_place, side_by_side

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def brain(path: Path, busy_bin: tuple[int, int], canvas: tuple[int, int] = (512, 512)) -> Brain:
    """Three sections; one bin of the middle one holds most molecules, a bin of the last still more."""
    sections = tuple(Section(i, f"s{i}", 100.0 * i) for i in range(3))
    spec = BrainSpec("atlas", canvas, 0.432, sections, Panel(("A", "B")), chunk=256, shard=256)
    writer = create_brain(path, spec)
    for z in range(3):
        counts = np.ones((2, canvas[0] // 16, canvas[1] // 16), np.uint8)
        counts[1][busy_bin if z == 1 else (0, 0)] = 100 * z
        writer.write("expression", z, None, counts)
        writer.write("morphology", z, None, np.full((2, *canvas), 80 * z, np.uint8))
    writer.write_molecules(())
    return writer.finish()


@pytest.mark.parametrize("busy", [(0, 0), (20, 9), (31, 31)])
def test_the_place_is_on_the_grid_and_holds_the_busiest_bin_of_the_middle_section(
    tmp_path: Path, busy: tuple[int, int]
) -> None:
    place = busy_place(brain(tmp_path / "a.zarr", busy), 128, 32)
    assert place.section == "s1"
    assert place.box.shape == (128, 128)
    assert place.box.y0 % 32 == 0
    assert place.box.x0 % 32 == 0
    assert Box(0, 512, 0, 512).contains(place.box)
    assert place.box.contains(Box(16 * busy[0], 16 * busy[0] + 16, 16 * busy[1], 16 * busy[1] + 16))


def test_a_small_brain_is_shown_whole(tmp_path: Path) -> None:
    assert busy_place(brain(tmp_path / "a.zarr", (3, 3), (256, 256)), 1000, 32).box == Box(0, 256, 0, 256)


def test_a_store_without_the_section_is_black_there_and_a_missing_one_is_left_out(tmp_path: Path) -> None:
    one = brain(tmp_path / "a.zarr", (3, 3), (256, 256))
    rows = [
        ("one", Place("s1", Box(0, 64, 0, 64)), {"real": one, "again": one}),
        ("two", Place("s9", Box(0, 64, 0, 64)), {"real": one}),
    ]
    picture = side_by_side(rows, borders=32, note="marks")
    assert picture.startswith(b"\x89PNG")
