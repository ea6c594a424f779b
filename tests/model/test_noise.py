"""Start noise is a function of place alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_model.diffusion.noise import start_noise

edges = st.integers(-300, 700)
lengths = st.integers(1, 300)


@given(
    y=edges,
    x=edges,
    h=lengths,
    w=lengths,
    grow=st.tuples(*[st.integers(0, 300)] * 4),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=25, deadline=None)
def test_any_box_is_the_crop_of_a_bigger_one(
    y: int, x: int, h: int, w: int, grow: tuple[int, int, int, int], seed: int
) -> None:
    small = Box(y, y + h, x, x + w)
    big = Box(y - grow[0], y + h + grow[1], x - grow[2], x + w + grow[3])
    inner = start_noise(seed, [7], [1], small)
    outer = start_noise(seed, [7], [1], big)
    np.testing.assert_array_equal(inner, outer[(..., *small.shift(-big.y0, -big.x0).slices)])


def test_sections_and_stains_are_keyed_by_their_number_not_their_place() -> None:
    box = Box(-20, 20, 250, 270)
    both = start_noise(5, [2, 9], [0, 1], box)
    assert both.shape == (2, 2, 40, 20)
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both[1:, 1:], start_noise(5, [9], [1], box))
    np.testing.assert_array_equal(both[::-1, ::-1], start_noise(5, [9, 2], [1, 0], box))


def test_every_key_matters() -> None:
    box = Box(0, 256, 0, 256)
    fields = [
        start_noise(0, [0], [0], box),
        start_noise(1, [0], [0], box),
        start_noise(0, [1], [0], box),
        start_noise(0, [0], [1], box),
        start_noise(0, [0], [0], box.shift(256, 0)),
        start_noise(0, [0], [0], box.shift(0, 256)),
        start_noise(0, [0], [0], box.shift(-256, 0)),
    ]
    correlation = np.corrcoef([field.ravel() for field in fields])
    # 65,536 values: independent fields correlate by 0.004 (one standard deviation).
    assert np.abs(correlation - np.eye(len(fields))).max() < 0.02


def test_it_is_standard_normal() -> None:
    values = start_noise(3, [0, 1], [0, 1], Box(0, 300, 0, 300)).ravel()
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((np.abs(values) < 1.96).mean() - 0.95) < 0.005


def test_it_stays_what_it_was() -> None:
    """Figures of the day it was written: stores made earlier can be made again."""
    values = start_noise(2026, [3], [1], Box(255, 258, -1, 1)).ravel()
    np.testing.assert_allclose(values, FROZEN, rtol=1e-6)


FROZEN = [0.38977712, 1.8874233, 0.83548379, 0.20347196, 1.3845365, -0.093219765]


@pytest.mark.parametrize(("seed", "section"), [(-1, 0), (2**64, 0), (0, -1)])
def test_keys_out_of_range_are_refused(seed: int, section: int) -> None:
    with pytest.raises(InputError):
        start_noise(seed, [section], [0], Box(0, 1, 0, 1))
