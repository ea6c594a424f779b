from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, Section, create_brain
from teramind_data.store.pyramid import halve, level_dtype, level_shapes


def slow_halve(block: np.ndarray, reduce: str, dtype: str) -> np.ndarray:
    """The obvious twin: one output pixel at a time, over the input pixels there are."""
    *lead, height, width = block.shape
    out = np.zeros((*lead, (height + 1) // 2, (width + 1) // 2), dtype)
    for index in np.ndindex(*out.shape):
        *channel, y, x = index
        values = block[(*channel, slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))].ravel().tolist()
        if reduce == "sum":
            out[index] = sum(values)
        elif reduce == "mode":
            counts = Counter(values)
            out[index] = min(v for v in counts if counts[v] == max(counts.values()))
        elif block.dtype.kind == "f":
            out[index] = sum(values) / len(values)
        else:
            out[index] = (2 * sum(values) + len(values)) // (2 * len(values))
    return out


blocks = st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7))


@settings(deadline=None, max_examples=60)
@given(blocks.flatmap(lambda s: hnp.arrays(np.uint8, s)), st.sampled_from(["mean", "sum", "mode"]))
def test_bytes_equal_the_slow_twin(block: np.ndarray, reduce: Any) -> None:
    dtype = level_dtype("uint8", 1, reduce)
    np.testing.assert_array_equal(halve(block, reduce, dtype), slow_halve(block, reduce, dtype))


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["int8", "int16", "int32"]).flatmap(lambda d: blocks.flatmap(lambda s: hnp.arrays(d, s)))
)
def test_signed_means_equal_the_slow_twin(block: np.ndarray) -> None:
    dtype = block.dtype.name
    np.testing.assert_array_equal(halve(block, "mean", dtype), slow_halve(block, "mean", dtype))


@settings(deadline=None, max_examples=60)
@given(blocks.flatmap(lambda s: hnp.arrays(np.uint16, s, elements=st.integers(0, 3))))
def test_the_mode_breaks_ties_as_the_slow_twin(block: np.ndarray) -> None:
    np.testing.assert_array_equal(halve(block, "mode", "uint16"), slow_halve(block, "mode", "uint16"))


@settings(deadline=None, max_examples=30)
@given(blocks.flatmap(lambda s: hnp.arrays(np.float16, s, elements=st.floats(0, 8, width=16))))
def test_floats_equal_the_slow_twin(block: np.ndarray) -> None:
    np.testing.assert_allclose(
        halve(block, "mean", "float16"), slow_halve(block, "mean", "float16"), rtol=2e-3
    )


def test_means_round_half_up() -> None:
    assert halve(np.array([[1, 2], [1, 2]], np.uint8), "mean", "uint8").item() == 2
    assert halve(np.full((2, 2), 255, np.uint8), "mean", "uint8").item() == 255


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_sums_can_never_overflow(dtype: str) -> None:
    top = int(np.iinfo(dtype).max)
    for level in range(12):
        assert np.iinfo(level_dtype(dtype, level, "sum")).max >= top * 4**level
    assert [level_dtype("uint8", n, "sum") for n in (0, 1, 4, 5)] == ["uint8", "uint16", "uint16", "uint32"]
    assert level_dtype("uint8", 5, "mean") == "uint8"
    full = np.full((2, 2), top, dtype)
    assert halve(full, "sum", level_dtype(dtype, 1, "sum")).item() == 4 * top


def test_levels_halve_until_they_fit_a_chunk() -> None:
    assert level_shapes((512, 700)) == ((512, 700), (256, 350), (128, 175))
    assert level_shapes((100, 256)) == ((100, 256),)


def test_stored_levels_equal_the_slow_twin_across_shards_and_the_rim(tmp_path: Any) -> None:
    """Online levels come shard by shard and coarser ones at the end; together they are one pyramid."""
    rng = np.random.default_rng(0)
    spec = BrainSpec(
        "atlas", (528, 560), 1.0, (Section(0, "a", 0.0),), Panel(tuple("abcdefghi")), chunk=64, shard=64
    )
    image = rng.integers(0, 256, (2, 528, 560)).astype(np.uint8)
    counts = rng.integers(0, 256, (9, 33, 35)).astype(np.uint8)
    writer = create_brain(tmp_path / "b.zarr", spec)
    writer.write("morphology", 0, None, image)
    writer.write("expression", 0, None, counts)
    writer.write_molecules([])
    brain = writer.finish()
    levels = brain.levels("morphology")
    assert [lv.online for lv in brain.layout("morphology").levels] == [True, False, False]
    for level in range(1, len(levels)):
        image = slow_halve(image, "mean", "uint8")
        np.testing.assert_array_equal(levels[level][:, 0], image)
        np.testing.assert_array_equal(brain.read("morphology", 0, level=level), image)


def test_expression_levels_keep_every_molecule(tmp_path: Any) -> None:
    spec = BrainSpec("atlas", (8192, 64), 1.0, (Section(0, "a", 0.0),), Panel(("a",)), chunk=256, shard=1024)
    counts = np.full((1, 512, 4), 255, np.uint8)
    writer = create_brain(tmp_path / "b.zarr", spec)
    writer.write("expression", 0, None, counts)
    for z, box in writer.shards("morphology"):
        writer.write("morphology", z, box, np.zeros((2, *box.shape), np.uint8))
    writer.write_molecules([])
    levels = writer.finish().levels("expression")
    assert [a.dtype for a in levels] == [np.uint8, np.uint16]
    assert {int(a[:].sum(dtype=np.int64)) for a in levels} == {512 * 4 * 255}
