"""Registrations: the real file, splines against scikit-image, inverses, and every way a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import MissingInputError, RegistrationError
from teramind_data.ingest.registration import (
    Direction,
    affine_from_matrix,
    canvas_to_image,
    parse_transform,
    read_registration,
)
from teramind_data.ingest.transforms import (
    IDENTITY,
    Affine,
    Sequence,
    ThinPlateSpline,
    chain,
    inverted,
    scaling,
)


def landmarks(seed: int = 0, n: int = 14, bend: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    source = rng.uniform(0, 10, (n, 2)) + [40, -70]
    target = source @ [[1.1, 0.2], [-0.15, 0.95]] + [3, 4] + rng.normal(0, bend * 10, (n, 2))
    return source, target


def spline_node(source: np.ndarray, target: np.ndarray) -> dict:
    return {
        "type": "Wrapped2DTransformAs3D",
        "wrappedTransform": {
            "type": "WrappedIterativeInvertibleRealTransform",
            "wrappedTransform": {
                "type": "ThinplateSplineTransform",
                "srcPts": source.T.tolist(),
                "tgtPts": target.T.tolist(),
            },
        },
    }


def test_spline_equals_scikit_image() -> None:
    from skimage.transform import ThinPlateSplineTransform

    source, target = landmarks()
    ours = ThinPlateSpline(source, target)
    theirs = ThinPlateSplineTransform.from_estimate(source, target)
    points = np.random.default_rng(1).uniform(-5, 15, (500, 2)) + [40, -70]
    np.testing.assert_allclose(ours.forward(points), theirs(points), atol=1e-4)
    np.testing.assert_allclose(ours.forward(source), target, atol=1e-9)


def test_spline_inverse_and_jacobian() -> None:
    spline = ThinPlateSpline(*landmarks())
    points = np.random.default_rng(2).uniform(0, 10, (2000, 2)) + [40, -70]
    np.testing.assert_allclose(spline.inverse(spline.forward(points)), points, atol=1e-8)
    h = 1e-5
    numeric = np.stack(
        [
            (spline.forward(points + [h, 0]) - spline.forward(points - [h, 0])) / (2 * h),
            (spline.forward(points + [0, h]) - spline.forward(points - [0, h])) / (2 * h),
        ],
        axis=-1,
    )
    np.testing.assert_allclose(spline.jacobian(points), numeric, atol=1e-6)


def test_spline_affine_part_is_the_whole_of_an_affine() -> None:
    source, _ = landmarks()
    affine = Affine(np.array([[1.1, 0.2, 3.0], [-0.1, 0.9, -7.0]]))
    spline = ThinPlateSpline(source, affine.forward(source))
    np.testing.assert_allclose(spline.affine.matrix, affine.matrix, atol=1e-7)


def test_a_folded_spline_says_so() -> None:
    source = np.array([[0, 0], [10, 0], [0, 10], [10, 10], [4, 5], [6, 5]], float)
    target = source.copy()
    target[4], target[5] = source[5], source[4]  # two inner landmarks change places
    spline = ThinPlateSpline(source, target)
    folded = spline.jacobian(np.array([[5.0, 5.0]]))[0]
    assert np.linalg.det(folded) < 0
    points = np.random.default_rng(3).uniform(0, 10, (300, 2))
    with pytest.raises(RegistrationError, match="no inverse.*the registration folds"):
        spline.inverse(points)


def test_no_preimage_is_refused() -> None:
    # Quadratic-like bend: x folds back on itself, so far targets on one side have no pre-image near by.
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 7), np.linspace(-3, 3, 7)), -1).reshape(-1, 2)
    spline = ThinPlateSpline(grid, np.column_stack([grid[:, 0] ** 2, grid[:, 1]]))
    with pytest.raises(RegistrationError, match="no inverse.*Remove or correct"):
        spline.inverse(np.array([[-4.0, 0.0]]))


def test_real_warpy_file_round_trips(reference_dir: Path) -> None:
    transform = read_registration(reference_dir / "registration" / "warpy_transform.json")
    assert isinstance(transform, Sequence) and len(transform.parts) == 3
    spline = transform.parts[1]
    assert isinstance(spline, ThinPlateSpline)
    first, last = transform.parts[0], transform.parts[2]
    node = json.loads((reference_dir / "registration" / "warpy_transform.json").read_text())
    wrapped = node["realTransform_1"]["wrappedTransform"]["wrappedTransform"]
    source, target = np.array(wrapped["srcPts"]).T, np.array(wrapped["tgtPts"]).T
    # Landmarks in pixels of the first image go to the landmarks in pixels of the second.
    np.testing.assert_allclose(transform.forward(first.inverse(source)), last.forward(target), atol=1e-3)
    low, high = first.inverse(source).min(0), first.inverse(source).max(0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 40).T), -1).reshape(-1, 2)
    forward = transform.forward(grid)
    assert np.abs(transform.inverse(forward) - grid).max() < 1e-3
    assert np.abs(transform.forward(transform.inverse(forward)) - forward).max() < 1e-3


def test_affines_without_type_and_every_wrapper() -> None:
    source, target = landmarks()
    bounded = {
        "type": "BoundedRealTransform",
        "realTransform": spline_node(source, target),
        "interval_min": [0, 0, 0],
        "interval_max": [1, 1, 1],
    }
    affine = {"affinetransform3d": [2, 0, 0, 1, 0, 2, 0, -1, 0, 0, 1, 0]}
    nested = {
        "type": "RealTransformSequence",
        "size": 2,
        "realTransform_0": affine,
        "realTransform_1": bounded,
    }
    outer = {
        "type": "InvertibleRealTransformSequence",
        "size": 2,
        "realTransform_0": nested,
        "realTransform_1": dict(affine, type="AffineTransform3D"),
    }
    points = np.random.default_rng(0).uniform(20, 25, (50, 2))
    expected = ThinPlateSpline(source, target).forward(points * 2 + [1, -1]) * 2 + [1, -1]
    np.testing.assert_allclose(parse_transform(outer).forward(points), expected, atol=1e-9)


def test_chain_multiplies_affines_in_order() -> None:
    a, b = scaling(2.0, (1, 0)), Affine(np.array([[0, -1, 5], [1, 0, 0]]))
    both = chain(a, chain(b, IDENTITY))
    assert isinstance(both, Affine)
    points = np.array([[1.0, 2.0], [3.0, -4.0]])
    np.testing.assert_allclose(both.forward(points), b.forward(a.forward(points)))
    np.testing.assert_allclose(inverted(both).forward(both.forward(points)), points, atol=1e-12)


@pytest.mark.parametrize("direction", list(Direction))
def test_directions_and_units(direction: Direction) -> None:
    """Each direction's file, made from one true canvas-to-image map, gives that map again."""
    pixel, origin = 0.432, (12.0, -30.0)
    mosaic = Affine(np.array([[9.2, 0.0, 40.0], [0.0, 9.2, -13.0]]))
    truth = Affine(np.array([[0.99, -0.1, 30.0], [0.1, 0.99, 12.0]]))
    plane_of = {
        "atlas_mm": scaling(pixel / 1000, (origin[1] / 1000, origin[0] / 1000)),
        "atlas_um": scaling(pixel, (origin[1], origin[0])),
        "canvas_px": IDENTITY,
    }[direction.plane]
    section_of = mosaic if direction.section == "section_um" else IDENTITY
    file = chain(inverted(plane_of), truth, inverted(section_of))
    if not direction.forward:
        file = inverted(file)
    found = canvas_to_image(file, direction, mosaic, pixel, origin)
    points = np.random.default_rng(0).uniform(0, 500, (20, 2))
    np.testing.assert_allclose(found.forward(points), truth.forward(points), atol=1e-6)


MATRIX = np.array([[1.0, 0.5, 3.0], [-0.5, 1.0, 4.0]])


@pytest.mark.parametrize("suffix", ["csv", "json", "npy", "txt"])
@pytest.mark.parametrize("shape", ["2x3", "3x3", "3x4", "4x4"])
def test_affine_files(tmp_path: Path, suffix: str, shape: str) -> None:
    space = np.eye(4)
    space[:2, [0, 1, 3]] = MATRIX
    matrix = {"2x3": MATRIX, "3x3": np.vstack([MATRIX, [0, 0, 1]]), "3x4": space[:3], "4x4": space}[shape]
    file = tmp_path / f"m.{suffix}"
    if suffix == "npy":
        np.save(file, matrix)
    elif suffix == "json":
        file.write_text(json.dumps(matrix.tolist()))
    else:
        np.savetxt(file, matrix, delimiter="," if suffix == "csv" else " ")
    found = read_registration(file)
    assert isinstance(found, Affine)
    np.testing.assert_allclose(found.matrix, MATRIX)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{not json", "not readable JSON"),
        ("a.json", "3", "not a transform"),
        ("a.json", '{"type": "Bogus"}', "unknown transform.*Bogus"),
        ("a.json", '{"affinetransform3d": [1, 2]}', "12 numbers"),
        ("a.json", '{"affinetransform3d": ["x"]}', "no number"),
        ("a.json", '{"affinetransform3d": [1,0,0,0, 2,0,0,0, 0,0,1,0]}', "cannot be inverted"),
        ("a.json", '{"affinetransform3d": [1,0,0.3,0, 0,1,0,0, 0,0,1,0]}', "tilts"),
        ("a.json", '{"type": "RealTransformSequence", "size": 1}', "incomplete.*realTransform_0"),
        ("a.json", '{"type": "RealTransformSequence", "size": "two"}', "no size"),
        (
            "a.json",
            '{"type": "ThinplateSplineTransform", "srcPts": [[1,2],[3,4]], "tgtPts": [[1],[2]]}',
            "pair up",
        ),
        (
            "a.json",
            '{"type": "ThinplateSplineTransform", "srcPts": [[0,1,2],[0,1,2]], "tgtPts": [[0,1,2],[0,1,2]]}',
            "degenerate",
        ),
        ("a.json", '{"type":"Wrapped2DTransformAs3D","wrappedTransform":' * 200 + "0" + "}" * 200, "deeply"),
        ("a.csv", "a,b,c\n1,2,3\n", "not a matrix"),
        ("a.csv", "1,2\n3,4\n", "wrong shape.*2x2"),
        ("a.csv", "1,0,0\n0,1,0\n0.1,0,1\n", "projective"),
        ("a.npy", "junk", "not a readable npy"),
        ("a.xml", "<x/>", "unknown kind"),
    ],
)
def test_bad_files_say_what_and_where(tmp_path: Path, name: str, content: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(RegistrationError, match=message) as caught:
        read_registration(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"not found.*none\.json"):
        read_registration(tmp_path / "none.json")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RegistrationError, match="npy"):
        read_registration(tmp_path / "p.npy")


def test_affine_shapes() -> None:
    with pytest.raises(RegistrationError, match="wrong shape"):
        affine_from_matrix(np.eye(5))
