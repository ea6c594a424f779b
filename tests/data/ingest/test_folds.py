"""Folds are found and named, turned sections and gentle warps are not; forward and inverse agree over the canvas."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import RegistrationError
from teramind_data.geometry import Box
from teramind_data.ingest.folds import check_fold
from teramind_data.ingest.registration import parse_transform, read_registration
from teramind_data.ingest.transforms import Affine, ThinPlateSpline, Transform, chain, inverted, scaling

CANVAS = Box(0, 4096, 0, 6144)
TURNED_OVER = Affine(np.array([[-1.0, 0.1, 6500.0], [0.1, 1.0, -20.0]]))


def marks(seed: int, n: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, 2)) * [6144, 4096]


def spline(seed: int = 0, bend: float = 15.0) -> ThinPlateSpline:
    source = marks(seed)
    return ThinPlateSpline(source, source + np.random.default_rng(seed + 1).normal(0, bend, source.shape))


def swapped(apart: float) -> tuple[ThinPlateSpline, np.ndarray]:
    """A spline of which two landmarks near (3000, 2000) changed places; and where."""
    grid = np.stack(np.meshgrid(np.linspace(0, 6144, 6), np.linspace(0, 4096, 5)), -1).reshape(-1, 2)
    pair = np.array([[3000.0, 2000.0], [3000.0 + apart, 2000.0]])
    return ThinPlateSpline(np.vstack([grid, pair]), np.vstack([grid, pair[::-1]])), pair.mean(axis=0)


@pytest.mark.parametrize(
    "before", [scaling(1.0), TURNED_OVER, Affine(np.array([[0, -0.9, 4000], [0.9, 0, 3]]))]
)
def test_gentle_warps_and_turned_sections_pass(before: Affine) -> None:
    for seed in range(3):
        check_fold(chain(before, spline(seed), scaling(9.3, (7, -40))), CANVAS)
        check_fold(chain(scaling(1.0), inverted(spline(seed))), CANVAS)
    check_fold(TURNED_OVER, CANVAS)


@pytest.mark.parametrize("apart", [400.0, 60.0, 8.0])
@pytest.mark.parametrize("after", [scaling(2.0), TURNED_OVER])
def test_a_fold_is_named(apart: float, after: Affine) -> None:
    folded, at = swapped(apart)
    with pytest.raises(
        RegistrationError, match=r"folds the section: s\.json, at canvas x=\d+, y=\d+"
    ) as caught:
        check_fold(chain(scaling(1.0), folded, after), CANVAS, where="s.json")
    x, y = (
        float(part.split("=")[1]) for part in str(caught.value).split("canvas ")[1].split(" (")[0].split(", ")
    )
    # The place is truly turned over there (named to the pixel; the smallest fold is some pixels wide).
    assert np.hypot(x - at[0], y - at[1]) < 3 * apart
    near = np.array([[x, y]]) + np.stack(np.meshgrid([-0.5, 0, 0.5], [-0.5, 0, 0.5]), -1).reshape(-1, 2)
    assert (np.linalg.det(folded.jacobian(near)) <= 0).any()


def test_a_fold_outside_tissue_does_no_harm() -> None:
    folded, _ = swapped(60.0)
    whole = chain(scaling(1.0), folded)
    inside = np.ones((256, 384), bool)
    with pytest.raises(RegistrationError, match="folds"):
        check_fold(whole, CANVAS, inside=inside)
    inside[60:200, 100:300] = False
    check_fold(whole, CANVAS, inside=inside)
    check_fold(whole, Box(0, 1024, 0, 1024))


def test_a_shear_without_area_is_a_fold() -> None:
    grid = np.stack(np.meshgrid(np.linspace(0, 6144, 8), np.linspace(0, 4096, 8)), -1).reshape(-1, 2)
    flat = grid.copy()
    flat[:, 0] = np.minimum(flat[:, 0], 3000.0)  # the right half all on one line
    with pytest.raises(RegistrationError, match="folds"):
        check_fold(ThinPlateSpline(grid, flat), CANVAS)


def numeric(transform: Transform, points: np.ndarray, h: float = 1e-3) -> np.ndarray:
    columns = [
        (transform.forward(points + step) - transform.forward(points - step)) / (2 * h)
        for step in ([h, 0.0], [0.0, h])
    ]
    return np.stack(columns, axis=-1)


def test_jacobians_of_chains_and_inverses() -> None:
    points = marks(5, 200)
    whole = chain(TURNED_OVER, spline(1), inverted(spline(2)), scaling(0.3))
    np.testing.assert_allclose(whole.jacobian(points), numeric(whole, points), rtol=1e-4, atol=1e-5)
    affine = chain(TURNED_OVER, scaling(2.0))
    np.testing.assert_allclose(affine.jacobian(points), numeric(affine, points), atol=1e-6)


@pytest.mark.parametrize("kind", ["spline", "inverse", "both", "affine"])
def test_forward_and_inverse_agree_over_the_canvas(kind: str) -> None:
    """To 1e-3 px on the published canvas."""
    canvas = np.array([105984.0, 73216.0])
    source = np.random.default_rng(3).uniform(0, 1, (60, 2)) * canvas
    warp = ThinPlateSpline(
        source * 1e-4, (source + np.random.default_rng(4).normal(0, 300, source.shape)) * 1e-4
    )
    turn = Affine(np.array([[0.98, -0.2, 0.3], [0.2, 0.98, -0.4]]))
    middle: dict[str, Transform] = {
        "spline": warp, "inverse": inverted(warp), "both": chain(warp, turn, inverted(warp)), "affine": turn,
    }  # fmt: skip
    whole = chain(scaling(1e-4), middle[kind], scaling(1e4))
    grid = np.stack(np.meshgrid(*(np.linspace(0, edge, 60) for edge in canvas)), -1).reshape(-1, 2)
    assert np.abs(whole.inverse(whole.forward(grid)) - grid).max() < 1e-3
    assert np.abs(whole.forward(whole.inverse(grid)) - grid).max() < 1e-3


def test_the_real_registration_does_not_fold_between_its_landmarks(reference_dir: Path) -> None:
    transform = read_registration(reference_dir / "registration" / "warpy_transform.json")
    first, warp = transform.parts[0], transform.parts[1]  # type: ignore[attr-defined]
    place = first.inverse(warp.source)
    (x0, y0), (x1, y1) = np.floor(place.min(axis=0)).astype(int), np.ceil(place.max(axis=0)).astype(int)
    check_fold(transform, Box(int(y0), int(y1), int(x0), int(x1)))


WRAPPERS = {
    "Wrapped2DTransformAs3D": "wrappedTransform",
    "InvertibleWrapped2DTransformAs3D": "wrappedTransform",
    "WrappedIterativeInvertibleRealTransform": "wrappedTransform",
    "BoundedRealTransform": "realTransform",
}


@pytest.mark.parametrize("order", list(itertools.permutations(WRAPPERS, 2)) + [tuple(WRAPPERS)], ids="-".join)
@pytest.mark.parametrize("sequence", ["RealTransformSequence", "InvertibleRealTransformSequence"])
@pytest.mark.parametrize("typed", [True, False])
def test_wrappers_nested_in_any_order(order: tuple[str, ...], sequence: str, typed: bool) -> None:
    source, target = marks(1, 10), marks(1, 10) + [5.0, -3.0] + np.random.default_rng(0).normal(0, 9, (10, 2))
    node: dict = {
        "type": "ThinplateSplineTransform",
        "srcPts": source.T.tolist(),
        "tgtPts": target.T.tolist(),
    }
    affine: dict = {"affinetransform3d": [2, 0, 0, 5, 0, 2, 0, -1, 0, 0, 1, 0]}
    if typed:
        affine["type"] = "AffineTransform3D"
    for number, wrapper in enumerate(order):
        node = {"type": wrapper, WRAPPERS[wrapper]: node}
        if wrapper == "BoundedRealTransform":
            node |= {"interval_min": [0, 0, 0], "interval_max": [10, 10, 10]}
        if number == 0:  # a sequence within the wrappers
            node = {"type": sequence, "size": 2, "realTransform_0": affine, "realTransform_1": node}
    points = marks(8, 40) / 2
    expected = ThinPlateSpline(source, target).forward(points * 2 + [5, -1])
    found = parse_transform(node)
    np.testing.assert_allclose(found.forward(points), expected, atol=1e-7)
    np.testing.assert_allclose(found.inverse(found.forward(points)), points, atol=1e-3)


@pytest.mark.parametrize("low", [[1, 0, 0], [0, 0], ["x", 0, 0]])
def test_bounds_that_make_no_interval(low: list) -> None:
    node = {
        "type": "BoundedRealTransform",
        "realTransform": {"affinetransform3d": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]},
        "interval_min": low,
        "interval_max": [0, 1, 1],
    }
    with pytest.raises(RegistrationError, match="no interval|no number"):
        parse_transform(node)
