from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teramind_data.errors import GeometryError, InputError
from teramind_data.geometry import Box
from teramind_data.store import Brain, create_brain, molecules


def slow_counts(truth: Any, section: int, box: Box, genes: list[int]) -> np.ndarray:
    """The obvious twin: one molecule at a time."""
    out = np.zeros((len(genes), box.height // 16, box.width // 16), int)
    _, ys, xs, gs = truth.molecules[section]
    for y, x, gene in zip(ys.tolist(), xs.tolist(), gs.tolist(), strict=True):
        if box.y0 <= y < box.y1 and box.x0 <= x < box.x1 and gene in genes:
            out[genes.index(gene), (y - box.y0) // 16, (x - box.x0) // 16] += 1
    return out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    section=st.integers(0, 3),
    corner=st.tuples(st.integers(-150, 250), st.integers(-150, 350)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    genes=st.lists(st.integers(0, 4), unique=True),
)
def test_counts_equal_the_slow_twin_at_any_corner(
    truth: Any, brain: Brain, section: int, corner: tuple[int, int], size: tuple[int, int], genes: list[int]
) -> None:
    box = Box.from_shape((16 * size[0], 16 * size[1]), corner)
    got = brain.molecules.counts(section, box, np.array(genes, dtype=np.int64))
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, slow_counts(truth, section, box, genes))


def test_aligned_counts_equal_expression(truth: Any, brain: Brain) -> None:
    for z in range(4):
        got = brain.molecules.counts(z, Box.from_shape(truth.spec.canvas))
        np.testing.assert_array_equal(got, truth.expression[:, z])
        np.testing.assert_array_equal(brain.molecules.totals(z), truth.expression[:, z].sum(axis=(1, 2)))


def test_molecules_are_sorted_by_tile_and_all_there(truth: Any, brain: Brain) -> None:
    y, x, gene = brain.molecules.read(1, Box(-1000, 5000, -1000, 5000))
    _, ty, tx, tg = truth.molecules[1]
    assert sorted(zip(y, x, gene, strict=True)) == sorted(zip(ty, tx, tg, strict=True))
    keys = list(zip(y // 256, x // 256, y, x, gene, strict=True))
    assert keys == sorted(keys)
    assert (y.dtype, x.dtype, gene.dtype) == (np.int32, np.int32, np.uint16)
    assert brain.molecules.total == 16000


def test_outside_there_is_nothing(brain: Brain) -> None:
    assert all(not len(column) for column in brain.molecules.read(0, Box(1000, 1100, 0, 10)))
    assert not brain.molecules.counts(0, Box(-32, -16, 0, 16)).any()


def test_bad_boxes_and_sections_are_refused(brain: Brain) -> None:
    with pytest.raises(GeometryError, match="whole bins"):
        brain.molecules.counts(0, Box(0, 17, 0, 16))
    with pytest.raises(GeometryError, match=r"no such section.*0\.\.3, found 4"):
        brain.molecules.read(4, Box(0, 16, 0, 16))


def test_batches_of_tile_rows_equal_batches_of_sections(
    truth_maker: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small shards, so that several are written and the last is not full.
    monkeypatch.setattr(molecules, "_CHUNK", 512)
    monkeypatch.setattr(molecules, "_SHARD", 2048)
    truth = truth_maker(canvas=(528, 304), shard=512)

    def rows() -> Any:
        for z, y, x, gene in truth.molecules:
            for top in range(0, 528, 256):
                keep = (y >= top) & (y < top + 256)
                yield z, y[keep], x[keep], gene[keep]

    columns = []
    for name, batches in (("a", truth.molecules), ("b", rows())):
        writer = create_brain(tmp_path / name, truth.spec)
        truth.write_images(writer)
        assert writer.write_molecules(batches) == 16000
        made = writer.finish()
        columns.append([made._root[f"molecules/{c}"][:] for c in ("y", "x", "gene", "offsets")])
        np.testing.assert_array_equal(made.molecules.totals(2), truth.expression[:, 2].sum(axis=(1, 2)))
        box = Box(200, 328, 100, 228)
        np.testing.assert_array_equal(
            made.molecules.counts(3, box), slow_counts(truth, 3, box, list(range(5)))
        )
    for a, b in zip(*columns, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([(0, [208], [0], [0])], r"out of range: section 0, y \(expected 0\.\.207, found 208\.\.208\)"),
        ([(0, [0], [-1], [0])], "section 0, x"),
        ([(0, [0], [0], [5])], r"gene \(expected 0\.\.4"),
        ([(4, [0], [0], [0])], "unknown section"),
        ([(0, [0, 1], [0], [0])], "differ in length"),
        ([(0, [0.5], [0], [0])], "no integer"),
        ([(1, [0], [0], [0]), (0, [0], [0], [0])], "not in order"),
        ([(0, [0], [300], [0]), (0, [0], [0], [0])], "not in order"),
        ([(0, [0], [0], [0]), (0, [1], [0], [0])], "not in order"),
    ],
)
def test_bad_molecules_are_refused(truth: Any, tmp_path: Any, batches: Any, says: str) -> None:
    writer = create_brain(tmp_path / "b.zarr", truth.spec)
    with pytest.raises(InputError, match=says):
        writer.write_molecules(batches)
