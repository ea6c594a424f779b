"""ABBA's files as they are: atlas points to image space, axes permuted and tilted, the section where z is 0."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq, root

from teramind_data.errors import RegistrationError
from teramind_data.ingest.registration import Direction, canvas_to_image, read_placed, read_registration
from teramind_data.ingest.space import Depth
from teramind_data.ingest.transforms import IDENTITY, Affine

Points = np.ndarray
AT_MM = 6.4  # AP of the section where x and y of the plane are 0


def affine(rows: list[list[float]]) -> dict[str, Any]:
    return {"type": "AffineTransform3D", "affinetransform3d": [value for row in rows for value in row]}


def sequence(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "InvertibleRealTransformSequence",
        "size": len(nodes),
        **{f"realTransform_{i}": node for i, node in enumerate(nodes)},
    }


def spline(seed: int, *, bounds: tuple[float, float] = (AT_MM + 0.2, AT_MM + 1.2)) -> dict[str, Any]:
    """Some hundred um of warp over the section, in the wrappers that ABBA puts around it."""
    rng = np.random.default_rng(seed)
    source = np.stack(np.meshgrid(np.linspace(-4, 4, 4), np.linspace(-3, 3, 3)), -1).reshape(-1, 2)
    target = source + rng.normal(0, 0.15, source.shape)
    inner = {
        "type": "ThinplateSplineTransform",
        "srcPts": source.T.tolist(),
        "tgtPts": target.T.tolist(),
    }
    wrapped = {"type": "WrappedIterativeInvertibleRealTransform", "wrappedTransform": inner}
    return {
        "type": "BoundedRealTransform",
        "realTransform": {"type": "Wrapped2DTransformAs3D", "wrappedTransform": wrapped},
        "interval_min": [-6.5, -4.5, bounds[0]],
        "interval_max": [6.5, 4.5, bounds[1]],
    }


#: For each plane: rows of the affine that turns the atlas into ABBA's world (x, y on the section, z across it).
WORLDS = {
    "coronal": [[0.0, 0.0, -1.003, 5.7], [0.0, 1.01, 0.0, -4.0], [1.0, 0.02, 0.07, 0.3]],
    "horizontal": [[0.0, 0.0, 1.0, -5.7], [0.98, 0.03, 0.0, -6.6], [0.05, 1.0, -0.1, 0.3]],
    "sagittal": [[1.0, 0.0, 0.004, -6.6], [0.01, 1.0, -0.03, -4.0], [0.2, 0.1, -1.0, 0.3]],
}
ALONG = {"coronal": (2, 1, 0), "horizontal": (2, 0, 1), "sagittal": (0, 1, 2)}  # coordinates: x, y, across


def abba(plane: str = "coronal") -> dict[str, Any]:
    """What ABBA exports: world, splines, z shift, turned over and about, moved, and scaled to pixels."""
    world = WORLDS[plane]
    across = ALONG[plane][2]
    shift = -(world[2][across] * AT_MM + world[2][3])
    low, high = sorted((-shift - 0.5, -shift + 0.5))
    c, s = np.cos(0.2), np.sin(0.2)
    return sequence(
        affine(world),
        spline(1, bounds=(low, high)),
        spline(2, bounds=(low, high)),
        affine([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, shift]]),
        affine([[c, s, 1.2e-16, 0], [s, -c, 1e-17, 0], [1.2e-16, 0, -1, 0]]),
        affine([[1, 0, 0, 8.0], [0, 1, 0, 5.0], [0, 0, 1, 3.9]]),
        affine([[1538.5, 0, 0, 12.0], [0, 1538.5, 0, -7.0], [0, 0, 1, -3.9]]),
    )


@lru_cache
def solved(node: str) -> Any:
    """scikit-image's spline of an element."""
    from skimage.transform import ThinPlateSplineTransform

    marks = json.loads(node)
    return ThinPlateSplineTransform.from_estimate(
        np.transpose(marks["srcPts"]), np.transpose(marks["tgtPts"])
    )


def in_space(node: dict[str, Any], point: Points) -> Points:
    """The plain twin: one point of three coordinates through the file, element by element."""
    kind = node["type"]
    if kind == "AffineTransform3D":
        rows = np.reshape(node["affinetransform3d"], (3, 4))
        return np.array([row[:3] @ point + row[3] for row in rows])
    if kind == "InvertibleRealTransformSequence":
        for i in range(node["size"]):
            point = in_space(node[f"realTransform_{i}"], point)
        return point
    if kind == "ThinplateSplineTransform":
        return np.array([*solved(json.dumps(node))(point[None, :2])[0], point[2]])
    return in_space(node.get("realTransform") or node["wrappedTransform"], point)


def write(tmp_path: Path, node: object) -> Path:
    file = tmp_path / "ABBA-Transform-test.json"
    file.write_text(json.dumps(node))
    return file


@pytest.mark.parametrize("plane", list(WORLDS))
def test_a_section_is_where_z_of_its_image_is_0(tmp_path: Path, plane: str) -> None:
    node = abba(plane)
    found = read_placed(write(tmp_path, node))
    x, y, across = ALONG[plane]
    assert found.depth is not None
    places = np.random.default_rng(4).uniform(2, 8, (12, 2))
    for xy, got in zip(places, found.transform.forward(places), strict=True):

        def at(depth: float, xy: Points = xy) -> Points:
            point = np.zeros(3)
            point[[x, y]] = xy
            point[across] = depth
            return in_space(node, point)

        depth = brentq(lambda d: at(d)[2], -40, 40, xtol=1e-14)
        np.testing.assert_allclose(got, at(depth)[:2], atol=1e-5)
        told = found.depth
        assert told.at + told.per_x * xy[0] + told.per_y * xy[1] == pytest.approx(depth, abs=1e-9)


def test_backward_through_space(tmp_path: Path) -> None:
    """Pixels at z 0 come from the atlas points whose LR and DV the inverse gives."""
    node = abba()
    transform = read_registration(write(tmp_path, node))
    places = np.random.default_rng(5).uniform(3, 8, (6, 2))
    for pixel in transform.forward(places):
        point = root(lambda p, to=pixel: in_space(node, p) - [*to, 0.0], [6.4, 5.0, 5.0], tol=1e-12)
        assert point.success
        np.testing.assert_allclose(transform.inverse(pixel[None])[0], point.x[[2, 1]], atol=1e-8)


def test_a_permutation_alone_is_an_affine(tmp_path: Path) -> None:
    node = sequence(
        affine([[0, 0, 100.0, 3.0], [0, 100.0, 0, 4.0], [1.0, 0, 0, -6.0]]),
        affine([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 25.0, 0]]),
    )
    for file in (
        write(tmp_path, node),
        _matrix(tmp_path, [[0, 0, 100, 3.5], [0, 100, 0, 4], [25, 0, 0, -150]]),
    ):
        found = read_placed(file)
        assert isinstance(found.transform, Affine)
        np.testing.assert_allclose(found.transform.matrix, [[100, 0, 3.5], [0, 100, 4]])
        assert found.depth == Depth(6.0)


def _matrix(tmp_path: Path, rows: list[list[float]]) -> Path:
    file = tmp_path / "m.csv"
    np.savetxt(file, rows, delimiter=",")
    return file


def test_the_other_direction_is_solved_on_its_other_side(tmp_path: Path) -> None:
    """The same section from a file of image pixels to the atlas: S and the depth are the same."""
    world = np.vstack([WORLDS["coronal"], [0, 0, 0, 1]])
    scale = np.array([[50.0, 8, 0, 3], [-8, 50, 0, 4], [0, 0, 2, -13.0], [0, 0, 0, 1]])
    whole = scale @ world
    there = read_placed(_matrix(tmp_path, whole[:3].tolist()))
    back = read_placed(_matrix(tmp_path, np.linalg.inv(whole)[:3].tolist()), forward=False)
    assert there.depth is not None and back.depth is not None
    np.testing.assert_allclose(
        [back.depth.at, back.depth.per_x, back.depth.per_y],
        [there.depth.at, there.depth.per_x, there.depth.per_y],
        atol=1e-12,
    )
    ours = canvas_to_image(there.transform, Direction.ATLAS_MM_TO_IMAGE_PX, IDENTITY, 10.0)
    other = canvas_to_image(back.transform, Direction.IMAGE_PX_TO_ATLAS_MM, IDENTITY, 10.0)
    points = np.random.default_rng(0).uniform(0, 800, (20, 2))
    np.testing.assert_allclose(other.forward(points), ours.forward(points), atol=1e-9)


def test_files_in_the_plane_tell_a_depth_only_where_they_have_one(tmp_path: Path) -> None:
    plain = sequence(affine([[2, 0, 0, 1], [0, 2, 0, 1], [0, 0, 1, 0]]))
    assert read_placed(write(tmp_path, plain)).depth is None
    # Atlases whose axes are (LR, DV, AP): nothing is permuted, the slice leans.
    leaning = sequence(affine([[2, 0.1, 0, 1], [0, 2, 0, 1], [0.03, -0.2, 1, -7]]), spline(3, bounds=(-1, 1)))
    found = read_placed(write(tmp_path, leaning)).depth
    assert found is not None
    np.testing.assert_allclose([found.at, found.per_x, found.per_y], [7, -0.03, 0.2])


def changed(index: int, node: dict[str, Any]) -> dict[str, Any]:
    return {**abba(), f"realTransform_{index}": node}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            sequence(affine([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0]])),
            r"tilts the section.*at transform.realTransform_0.*no z in x and y, or the section's depth.*0.3z",
        ),
        (
            changed(4, affine([[1, 0, 0.1, 0], [0, 1, 0, 0], [0, 0, 1, 0]])),
            r"tilts the section.*at transform.realTransform_4.*after a spline",
        ),
        (
            changed(4, affine([[1, 0, 0, 0], [0, 1, 0, 0], [0.1, 0, 1, 0]])),
            r"tilts the section.*at transform.realTransform_4.*after a spline.*z 0.1x 0y 1z",
        ),
        (
            changed(0, affine([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])),
            r"tilts the section.*at transform.realTransform_0",
        ),
        (
            changed(2, spline(2, bounds=(20.0, 21.0))),
            r"outside the bounds.*realTransform_2.*20 .. 21.*found 6.7",
        ),
        (changed(0, affine([[0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 3]])), "cannot be inverted"),
    ],
    ids=["no depth", "x, y after", "z after", "flattened", "bounds", "singular"],
)
def test_refused(tmp_path: Path, node: dict[str, Any], message: str) -> None:
    file = write(tmp_path, node)
    with pytest.raises(RegistrationError, match=message) as caught:
        read_registration(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_singular_affine_cannot_be_read_backwards(tmp_path: Path) -> None:
    file = _matrix(tmp_path, [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    with pytest.raises(RegistrationError, match=r"cannot be inverted.*at matrix"):
        read_registration(file, forward=False)
