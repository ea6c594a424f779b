"""Genes taken from other places: conserved, matched, moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box, Window
from teramind_data.store import Brain
from teramind_model.controls import (
    MeasuredCounts,
    NeighbourCounts,
    ShuffledCounts,
    TileTable,
    permute_tiles,
    shuffle_counts,
    tile_table,
)
from tests.model.tiny import ATLAS_GENES, GENES, tiny_atlas

CHANNELS = np.array([ATLAS_GENES.index(gene) for gene in GENES])
TILE = 32


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Nine tile columns of which the last is half, six rows, three sections, two regions."""
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=(192, 272))


@pytest.fixture(scope="module")
def shuffled(atlas: Brain) -> ShuffledCounts:
    return shuffle_counts(atlas, CHANNELS, tile=TILE, seed=3)


def everything(atlas: Brain) -> np.ndarray:
    return np.asarray(atlas.expression[:])[CHANNELS]


def shuffled_by_hand(shuffled: ShuffledCounts) -> np.ndarray:
    """All counts ``(n, z, by, bx)`` after the shuffle, bin by bin."""
    before = everything(shuffled.brain)
    after = np.zeros_like(before)
    _, depth, height, width = before.shape
    edge = TILE // BIN_PX
    rows, columns = -(-height // edge), -(-width // edge)
    for z, y, x in np.ndindex(depth, height, width):
        donor = shuffled.donor[(z * rows + y // edge) * columns + x // edge]
        from_z, rest = divmod(int(donor), rows * columns)
        from_row, from_column = divmod(rest, columns)
        after[:, z, y, x] = before[:, from_z, from_row * edge + y % edge, from_column * edge + x % edge]
    return after


def test_counts_are_conserved(shuffled: ShuffledCounts, atlas: Brain) -> None:
    after, before = shuffled_by_hand(shuffled), everything(atlas)
    np.testing.assert_array_equal(
        np.sort(after.reshape(len(GENES), -1)), np.sort(before.reshape(len(GENES), -1))
    )
    assert (after != before).any(axis=0).mean() > 0.8
    np.testing.assert_array_equal(np.sort(shuffled.donor), np.arange(len(shuffled.donor)))


@pytest.mark.parametrize(
    "box", [Box(0, 192, 0, 272), Box(-16, 208, -16, 288), Box(48, 80, 16, 272), Box(-64, -16, 0, 32)]
)
def test_window_counts_equal_the_shuffle_bin_by_bin(shuffled: ShuffledCounts, box: Box) -> None:
    window = Window(0, (0, 1), (-1, 0, 1, 2))
    found = shuffled.window_counts(window, box)
    after = np.pad(shuffled_by_hand(shuffled), ((0, 0), (1, 0), (8, 8), (8, 8)))
    bins = box.coarsen(BIN_PX).shift(8, 8)
    expected = np.stack([after[(slice(None), z + 1, *bins.slices)] for z in window.gene])
    np.testing.assert_array_equal(found, expected)


def test_donors_share_region_density_and_shape(shuffled: ShuffledCounts) -> None:
    table, donor = shuffled.table, shuffled.donor
    occupied = table.total > 0
    np.testing.assert_array_equal(table.region[donor], table.region)
    np.testing.assert_array_equal(table.shape[donor], table.shape)
    for region in (1, 2):
        mine = occupied & (table.region == region) & (table.shape[:, 1] == 2)
        ranks = np.argsort(np.argsort(table.total[mine], kind="stable"), kind="stable")
        stratum = np.zeros(len(donor), int)
        stratum[mine] = [
            next(k for k, part in enumerate(np.array_split(np.arange(len(ranks)), 4)) if r in part)
            for r in ranks
        ]
        np.testing.assert_array_equal(stratum[donor][mine], stratum[mine])


def test_nothing_stays_but_what_is_empty(shuffled: ShuffledCounts) -> None:
    here = np.arange(len(shuffled.donor))
    empty = shuffled.table.total == 0
    assert empty.sum() == 3, "the quiet corner of each section"
    np.testing.assert_array_equal(shuffled.donor[empty], here[empty])
    assert (shuffled.donor[~empty] != here[~empty]).all()
    told = shuffled.provenance()
    assert told["tiles"] == told["tiles_moved"] == 3 * 6 * 9 - 3
    assert told["tiles_without_molecules"] == 3
    # The half column has six tiles a section, nearly all of them near each other.
    assert told["tiles_to_near_neighbours"] <= 18


def test_seed_keys_the_shuffle(atlas: Brain, shuffled: ShuffledCounts) -> None:
    again = permute_tiles(shuffled.table, strata=4, seed=3)
    other = permute_tiles(shuffled.table, strata=4, seed=4)
    np.testing.assert_array_equal(again, shuffled.donor)
    assert (other != again).mean() > 0.5


def test_without_regions_there_is_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    brain = tiny_atlas(tmp_path_factory.mktemp("plain") / "a.zarr", regions=False)
    assert set(tile_table(brain, CHANNELS, TILE).region) == {0}


def test_table_of_a_tile(atlas: Brain, shuffled: ShuffledCounts) -> None:
    table = shuffled.table
    counts = everything(atlas)
    assert table.grid == (3, 6, 9)
    np.testing.assert_array_equal(table.total[9 + 1], counts[:, 0, 2:4, 2:4].sum())
    np.testing.assert_array_equal(table.shape[8], [2, 1])
    # 17 bins, the right half from bin 8 on: tile 3 is left, tile 4 right.
    np.testing.assert_array_equal(table.region[:9], [1, 1, 1, 1, 2, 2, 2, 2, 2])


@given(
    data=st.data(),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    strata=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_any_table_is_permuted_within_its_kinds(
    data: st.DataObject, grid: tuple[int, int, int], strata: int, seed: int
) -> None:
    size = int(np.prod(grid))
    total = np.array(data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)))
    region = np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    table = TileTable(grid, total, region, np.full((size, 2), 2))
    donor = permute_tiles(table, strata=strata, seed=seed)
    np.testing.assert_array_equal(np.sort(donor), np.arange(size))
    np.testing.assert_array_equal(region[donor], region)
    np.testing.assert_array_equal((donor == np.arange(size))[total == 0], True)
    for label in range(3):
        group = np.flatnonzero((region == label) & (total > 0))
        if len(group) > 1:
            assert (donor[group] != group).all()


def test_neighbour_takes_the_next_section(atlas: Brain) -> None:
    box = Box(-16, 64, 0, 96)
    own, control = MeasuredCounts(atlas, CHANNELS), NeighbourCounts(atlas, CHANNELS)
    found = control.window_counts(Window(0, (0, 1), (-1, 0, 1, 2)), box)
    expected = own.window_counts(Window(0, (0, 1), (-1, 1, 2, 1)), box)
    np.testing.assert_array_equal(found, expected)
    assert not found[0].any()
    assert control.provenance()["kind"] == "neighbour"


def test_one_section_has_no_neighbour(tmp_path_factory: pytest.TempPathFactory) -> None:
    brain = tiny_atlas(tmp_path_factory.mktemp("single") / "a.zarr", sections=1)
    with pytest.raises(InputError, match="no neighbouring section"):
        NeighbourCounts(brain, CHANNELS)


def test_tiles_are_whole_bins(atlas: Brain) -> None:
    with pytest.raises(InputError, match="multiple of 16"):
        shuffle_counts(atlas, CHANNELS, tile=24)
