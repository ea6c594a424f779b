"""Registrations in three dimensions: the plane in the atlas that a section's image shows, and the map onto it.

ABBA's files take a point of the atlas (x, y, z) to one of the image's space, where the section is z = 0. They begin
with an affine that permutes and tilts the axes (CCF's x is anterior to posterior, so coronal sections lie across x), go
on with transforms of x and y alone, splines mostly, and end with affines that keep z apart from x and y. So z of the
image is an affine function of the atlas point, its zero a plane, and the map from there to the image needs no search::

    z = row . (x, y, z, 1) = 0                     -> the coordinate across the section, from the two along it
    those three        -> leading affine, x and y  -> an affine of the two along it, and then the rest

Along the section go x = third and y = second coordinate of the file where the section lies across its first (coronal in
CCF's AP, DV, LR), x = third and y = first across its second (horizontal), and x = first and y = second across its third
(sagittal), as in the ``atlas`` module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import RegistrationError
from teramind_data.ingest.transforms import Affine, Transform, chain, inverted

_AXES = "xyz"
_ALONG = {0: (2, 1), 1: (2, 0), 2: (0, 1)}  # coordinates that are the plane's x and y, by the one across
_NOTHING = 1e-9  # of the largest number beside it: what products of rotations leave of a zero


@dataclass(frozen=True)
class Space:
    """A 3-D affine ``(3, 4)`` at a place of a file."""

    matrix: NDArray[np.float64]
    place: str

    @property
    def in_plane(self) -> bool:
        """Whether x and y do without z."""
        scale = float(np.abs(self.matrix[:2, :2]).max())
        return float(np.abs(self.matrix[:2, 2]).max()) <= _NOTHING * max(scale, 1e-300)

    @property
    def plane(self) -> Affine:
        """The x, y part."""
        return Affine(self.matrix[:2][:, [0, 1, 3]])

    def inverse(self) -> Space | None:
        """The inverse; None where there is none."""
        linear = self.matrix[:, :3]
        if abs(np.linalg.det(linear)) < 1e-12 * max(float(np.abs(linear).max()), 1e-300) ** 3:
            return None
        back = np.linalg.inv(linear)
        return Space(np.column_stack([back, -back @ self.matrix[:, 3]]), self.place)


@dataclass(frozen=True)
class Flat:
    """A transform of x and y alone, z kept."""

    transform: Transform


@dataclass(frozen=True)
class Bounds:
    """Where a file bounds a transform in z: the section must lie between."""

    low: float
    high: float
    place: str


Step = Space | Flat | Bounds


@dataclass(frozen=True)
class Depth:
    """Where a section lies across its plane: ``at + per_x * x + per_y * y``, in the unit of x and y."""

    at: float
    per_x: float = 0.0
    per_y: float = 0.0

    def scaled(self, unit: float) -> Depth:
        """In another unit, of depth, x and y alike."""
        return Depth(self.at * unit, self.per_x, self.per_y)


@dataclass(frozen=True)
class Placed:
    """What a registration file says: its transform of the plane (in the file's direction), and the section's depth.

    depth: None where the file tells none (z is carried through it untouched).
    """

    transform: Transform
    depth: Depth | None


def placed(steps: Sequence[Step], *, forward: bool = True) -> Placed:
    """The transform of the plane that 3-D steps, applied in order, make of a section.

    Args:
        steps: from a file.
        forward: whether the file maps the plane to the section, and not the section to the plane.

    Raises:
        RegistrationError: the place depends on the depth and the depth is not told, or cannot be had in closed form;
            names the element.
    """
    mixing = next((step for step in steps if isinstance(step, Space) and not step.in_plane), None)
    onward = steps if forward else _backward(steps)
    found = None if onward is None else _Sequence.of(onward)
    if mixing is None:
        parts = [
            step.plane if isinstance(step, Space) else step.transform
            for step in steps
            if not isinstance(step, Bounds)
        ]
        return Placed(chain(*parts), None if found is None else found.depth(2))
    if found is None:
        raise RegistrationError(
            "affine matrix cannot be inverted",
            where=f"at {mixing.place}",
            found="determinant 0",
            remedy="Export the registration again",
        )
    transform, depth = found.solved(mixing)
    return Placed(transform if forward else inverted(transform), depth)


def _backward(steps: Sequence[Step]) -> list[Step] | None:
    out: list[Step] = []
    for step in reversed(steps):
        back: Step | None = step
        if isinstance(step, Space):
            back = step.inverse()
        elif isinstance(step, Flat):
            back = Flat(inverted(step.transform))
        if back is None:
            return None
        out.append(back)
    return out


@dataclass(frozen=True)
class _Sequence:
    """Steps sorted: one leading affine, then steps of the plane; z as rows of the point ``(x, y, z, 1)``.

    z: row of the image's z. bounds: rows of z where a file bounds it. tilted: a later step that brings z into x and y.
    bent: one that brings warped x and y into z.
    """

    lead: NDArray[np.float64]
    rest: tuple[Transform, ...]
    z: NDArray[np.float64]
    bounds: tuple[tuple[NDArray[np.float64], Bounds], ...]
    tilted: Space | None
    bent: Space | None

    @classmethod
    def of(cls, steps: Sequence[Step]) -> _Sequence:
        point = np.eye(4)
        rest: list[Transform] = []
        bounds: list[tuple[NDArray[np.float64], Bounds]] = []
        tilted = bent = None
        z = point[2]
        for step in steps:
            if isinstance(step, Bounds):
                bounds.append((z, step))
            elif isinstance(step, Flat):
                rest.append(step.transform)
            elif not rest:
                point = np.vstack([step.matrix @ point, [0, 0, 0, 1]])
                z = point[2]
            else:
                row = step.matrix[2]
                if np.abs(row[:2]).max() > _NOTHING * max(abs(float(row[2])), 1e-300):
                    bent = bent or step
                if step.in_plane:
                    rest.append(step.plane)
                else:
                    tilted = tilted or step
                z = row[2] * z + [0, 0, 0, row[3]]
        return cls(point[:3], tuple(rest), z, tuple(bounds), tilted, bent)

    def depth(self, across: int) -> Depth | None:
        """Where z is 0, along one axis; None where the file does not tell (0 everywhere) or z is lost."""
        x, y = _ALONG[across]
        if self.bent is not None or abs(self.z[across]) <= _NOTHING * float(np.abs(self.z[:3]).max()):
            return None
        at, per_x, per_y = -self.z[[3, x, y]] / self.z[across]
        found = Depth(float(at) + 0.0, float(per_x) + 0.0, float(per_y) + 0.0)
        if found == Depth(0.0):
            return None
        self._check_bounds(across, found)
        return found

    def solved(self, mixing: Space) -> tuple[Transform, Depth]:
        """The transform of the section's plane to its image, and where that plane lies."""
        for step in (self.tilted, self.bent):
            if step is not None:
                raise RegistrationError(
                    "registration tilts the section out of its plane",
                    where=f"at {step.place}",
                    expected="x, y and z apart in an affine that comes after a spline",
                    found=f"row x {_shown(step.matrix[0])}, y {_shown(step.matrix[1])}, z {_shown(step.matrix[2])}",
                    remedy="Export it from ABBA, which tilts the atlas before it warps the section",
                )
        across = int(np.abs(self.z[:3]).argmax())
        depth = self.depth(across)
        if depth is None:
            raise RegistrationError(
                "registration tilts the section out of its plane",
                where=f"at {mixing.place}",
                expected="no z in x and y, or the section's depth in z",
                found=f"row x {_shown(mixing.matrix[0])}, y {_shown(mixing.matrix[1])}, z {_shown(mixing.matrix[2])}",
                remedy="Export it from ABBA, whose z is 0 on the section, or register it in the plane it was cut in",
            )
        lift = _lift(across, depth)
        onto = self.lead[:2, :3] @ lift
        onto[:, 2] += self.lead[:2, 3]
        return chain(Affine(onto), *self.rest), depth

    def _check_bounds(self, across: int, depth: Depth) -> None:
        for row, bounds in self.bounds:
            per_x, per_y, at = row[:3] @ _lift(across, depth)
            at += row[3]
            if max(abs(per_x), abs(per_y)) > _NOTHING * float(np.abs(row[:3]).max()):
                continue  # it leans against the section there
            if not bounds.low - 1e-6 <= at <= bounds.high + 1e-6:
                raise RegistrationError(
                    "section lies outside the bounds of its registration",
                    where=f"at {bounds.place}",
                    expected=f"z within {bounds.low:g} .. {bounds.high:g}",
                    found=f"{at:g}, where z of the image is 0",
                    remedy="Check that the file is whole, and registration.direction in the manifest",
                )


def _lift(across: int, depth: Depth) -> NDArray[np.float64]:
    """``(3, 3)``: the plane's (x, y, 1) to the file's (x, y, z)."""
    out = np.zeros((3, 3))
    x, y = _ALONG[across]
    out[x, 0] = out[y, 1] = 1.0
    out[across] = depth.per_x, depth.per_y, depth.at
    return out


def _shown(row: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.3g}{axis}" for value, axis in zip(row[:3], _AXES, strict=True))


__all__ = ["Bounds", "Depth", "Flat", "Placed", "Space", "Step", "placed"]
