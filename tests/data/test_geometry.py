from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teramind_data.errors import GeometryError
from teramind_data.geometry import Box, Window, ceil_div, tiles, window_sections, windows

edges = st.tuples(st.integers(-60, 60), st.integers(1, 60), st.integers(-60, 60), st.integers(1, 60))
boxes = edges.map(lambda e: Box(e[0], e[0] + e[1], e[2], e[2] + e[3]))


def pixels(box: Box | None) -> set[tuple[int, int]]:
    """The slow twin of a box: the set of its pixels."""
    return set() if box is None else {(y, x) for y in range(box.y0, box.y1) for x in range(box.x0, box.x1)}


@given(boxes, boxes)
def test_intersection_and_containment_are_those_of_pixel_sets(a: Box, b: Box) -> None:
    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)
    assert a.contains(b) == (pixels(b) <= pixels(a))


@given(boxes, st.integers(1, 25), st.integers(1, 25))
def test_tiles_cover_a_box_once_and_stay_inside(box: Box, height: int, width: int) -> None:
    parts = list(tiles(box, (height, width)))
    assert sum(part.area for part in parts) == box.area
    assert set().union(*map(pixels, parts)) == pixels(box)
    assert parts == sorted(parts, key=lambda part: (part.y0, part.x0))


@given(boxes, st.integers(1, 16))
def test_cover_is_the_smallest_aligned_box(box: Box, step: int) -> None:
    cover = box.cover(step)
    assert cover.is_aligned(step)
    assert cover.contains(box)
    assert cover.coarsen(step).refine(step) == cover
    assert cover.height - box.height <= 2 * (step - 1)
    assert box.y0 - cover.y0 < step
    assert cover.x1 - box.x1 < step


def test_shift_expand_clip_and_slices() -> None:
    box = Box(2, 6, 3, 9)
    assert box.shift(-2, 1) == Box(0, 4, 4, 10)
    assert box.expand(1) == Box(1, 7, 2, 10)
    assert box.expand(1, 0) == Box(1, 7, 3, 9)
    assert box.clip((4, 4)) == Box(2, 4, 3, 4)
    assert box.clip((2, 2)) is None
    assert np.arange(100).reshape(10, 10)[box.slices].shape == box.shape == (4, 6)
    assert Box.from_shape((3, 4), (5, 6)) == Box(5, 8, 6, 10)


@pytest.mark.parametrize("bad", [(3, 3, 0, 1), (3, 2, 0, 1), (0, 1, 5, 5)])
def test_an_empty_box_is_refused_with_its_numbers(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(
        GeometryError, match=rf"box is empty .*found y {bad[0]}:{bad[1]}, x {bad[2]}:{bad[3]}"
    ):
        Box(*bad)


def test_a_box_takes_numpy_integers_and_no_floats() -> None:
    assert type(Box(np.int64(0), 1, 0, 1).y0) is int
    with pytest.raises(GeometryError, match=r"box edge is not an integer: y1 .*found 1\.5"):
        Box(0, 1.5, 0, 1)  # type: ignore[arg-type]


def test_negative_slices_and_unaligned_boxes_are_refused() -> None:
    with pytest.raises(GeometryError, match="starts outside"):
        _ = Box(-1, 2, 0, 2).slices
    with pytest.raises(GeometryError, match="multiples of 16"):
        Box(0, 16, 8, 24).coarsen(16)


def test_the_published_window_sees_one_section_on_either_side() -> None:
    assert window_sections(0, 50, 4, 2) == Window(0, (0, 1), (-1, 0, 1, 2))
    assert window_sections(24, 50, 4, 2) == Window(24, (48, 49), (47, 48, 49, 50))
    assert window_sections(3, 50, 1, 1) == Window(3, (3,), (3,))
    assert window_sections(1, 50, 16, 8).gene == tuple(range(4, 20))


@given(st.integers(1, 70), st.sampled_from([(1, 1), (4, 2), (8, 4), (16, 8)]))
def test_windows_make_every_section_once_from_the_middle_of_their_genes(
    n: int, shape: tuple[int, int]
) -> None:
    gene_slices, image_slices = shape
    made = windows(n, gene_slices, image_slices)
    assert [z for w in made for z in w.image][:n] == list(range(n))
    assert len(made) == ceil_div(n, image_slices)
    for window in made:
        assert len(window.gene) == gene_slices
        before, after = window.image_offset, window.gene[-1] - window.image[-1]
        assert before == after == (gene_slices - image_slices) // 2


@pytest.mark.parametrize("arguments", [(0, 5, 4, 3), (0, 5, 1, 2), (0, 0, 4, 2), (3, 5, 4, 2), (-1, 5, 4, 2)])
def test_impossible_windows_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(GeometryError, match="expected"):
        window_sections(*arguments)
