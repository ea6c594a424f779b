"""Plane transforms: affine, thin-plate spline, sequences and inverses of them, on arrays of ``(n, 2)`` x, y points.

A transform maps points forward and backward. Affines are exact both ways; a spline's inverse is iterated (Newton,
with the spline's own Jacobian) far below a thousandth of a pixel, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import RegistrationError

Points: TypeAlias = NDArray[np.float64]

_POINTS_AT_ONCE = 16384  # bounds the (points x landmarks) intermediates of a spline
_NEWTON_STEPS = 60
_RELATIVE_TOLERANCE = 1e-11  # of the spread of the landmarks: 1e-6 px on a canvas of 100,000 px
_ACCEPTED_TOLERANCE = 1e-9  # where rounding stalls Newton: still 1e-4 px on such a canvas


class Transform(Protocol):
    """A map of the plane. Points are ``(n, 2)`` float64 arrays, columns x then y."""

    def forward(self, xy: Points) -> Points:
        """Map points."""
        ...

    def inverse(self, xy: Points) -> Points:
        """Map points back; RegistrationError where that is not possible."""
        ...

    def jacobian(self, xy: Points) -> NDArray[np.float64]:
        """Derivatives ``(n, 2, 2)`` of ``forward``: ``[i, a, b]`` is d out_a / d in_b at point i."""
        ...


@dataclass(frozen=True)
class Affine:
    """``xy @ A.T + b``, held as a 2 x 3 matrix ``[A | b]``."""

    matrix: NDArray[np.float64]

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
            raise RegistrationError(
                "affine matrix is not a finite 2 x 3 matrix",
                found=f"shape {matrix.shape}",
                remedy="Give the matrix row by row, translation last",
            )
        if abs(np.linalg.det(matrix[:, :2])) < 1e-12 * max(float(np.abs(matrix[:, :2]).max()), 1e-300) ** 2:
            raise RegistrationError(
                "affine matrix cannot be inverted",
                found="determinant 0",
                remedy="Export the registration again",
            )
        object.__setattr__(self, "matrix", matrix)

    def forward(self, xy: Points) -> Points:
        """Map ``(n, 2)`` points."""
        return xy @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self, xy: Points) -> Points:
        """Map ``(n, 2)`` points back (exact up to rounding)."""
        return self.inverted().forward(xy)

    def jacobian(self, xy: Points) -> NDArray[np.float64]:
        """The same matrix for every point."""
        return np.broadcast_to(self.matrix[:, :2], (len(xy), 2, 2))

    def inverted(self) -> Affine:
        """The inverse as an affine."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    def after(self, first: Affine) -> Affine:
        """The affine that applies ``first`` and then this one."""
        linear = self.matrix[:, :2]
        return Affine(
            np.column_stack([linear @ first.matrix[:, :2], linear @ first.matrix[:, 2] + self.matrix[:, 2]])
        )


IDENTITY = Affine(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def scaling(scale: float, offset: tuple[float, float] = (0.0, 0.0)) -> Affine:
    """``xy * scale + offset`` (offset x, y)."""
    return Affine(np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]]))


class ThinPlateSpline:
    """The thin-plate spline through landmark pairs: affine part plus a sum of ``r^2 log r`` kernels.

    Source: Bookstein 1989, in the form of ITK's and jitk-tps's R2LogR kernel transform, which ImgLib2, BigWarp and
    ABBA use; no stiffness. ``source`` and ``target`` are ``(n, 2)``; ``forward`` takes source points to target points.
    """

    def __init__(self, source: Points, target: Points) -> None:
        source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
        if source.ndim != 2 or source.shape[1] != 2 or source.shape != target.shape or len(source) < 3:
            raise RegistrationError(
                "spline landmarks do not pair up",
                expected="two equal lists of at least 3 points of 2 coordinates",
                found=f"{source.shape} and {target.shape}",
                remedy="Export the registration again",
            )
        if not (np.isfinite(source).all() and np.isfinite(target).all()):
            raise RegistrationError("spline landmarks are not finite", remedy="Export the registration again")
        self.source, self.target = source, target
        # A similarity of the source leaves the interpolant as it is and conditions the system.
        self._centre = source.mean(axis=0)
        self._scale = float(np.sqrt(((source - self._centre) ** 2).sum(axis=1).mean())) or 1.0
        self._landmarks = (source - self._centre) / self._scale
        self._offset = target.mean(axis=0)
        self._weights, self._affine = _solve(self._landmarks, target - self._offset)
        self._spread = float(np.abs(target - self._offset).max()) or 1.0

    @property
    def affine(self) -> Affine:
        """The affine part: what the spline is where its kernels vanish."""
        linear = self._affine[1:].T / self._scale
        return Affine(np.column_stack([linear, self._affine[0] + self._offset - linear @ self._centre]))

    def forward(self, xy: Points) -> Points:
        """Map ``(n, 2)`` points exactly."""
        xy = np.asarray(xy, np.float64)
        out = np.empty_like(xy)
        for start in range(0, len(xy), _POINTS_AT_ONCE):
            part = slice(start, start + _POINTS_AT_ONCE)
            out[part] = self._evaluate((xy[part] - self._centre) / self._scale)[0] + self._offset
        return out

    def jacobian(self, xy: Points) -> NDArray[np.float64]:
        """Derivatives ``(n, 2, 2)``: ``[i, a, b]`` is d out_a / d in_b at point i."""
        xy = np.asarray(xy, np.float64)
        out = np.empty((len(xy), 2, 2))
        for start in range(0, len(xy), _POINTS_AT_ONCE):
            part = slice(start, start + _POINTS_AT_ONCE)
            out[part] = (
                self._evaluate((xy[part] - self._centre) / self._scale, derivatives=True)[1] / self._scale
            )
        return out

    def inverse(self, xy: Points) -> Points:
        """Map ``(n, 2)`` points back by Newton iteration.

        Raises RegistrationError, naming a point, where it does not converge (a fold).
        """
        xy = np.asarray(xy, np.float64)
        out = np.empty_like(xy)
        for start in range(0, len(xy), _POINTS_AT_ONCE):
            part = slice(start, start + _POINTS_AT_ONCE)
            out[part] = self._invert(xy[part])
        return out

    def _invert(self, goal: Points) -> Points:
        goal = goal - self._offset
        linear = self._affine[1:]
        u = (goal - self._affine[0]) @ np.linalg.inv(linear)
        residual = np.full(len(goal), np.inf)
        active = np.arange(len(goal))
        for _ in range(_NEWTON_STEPS):
            value, slope = self._evaluate(u[active], derivatives=True)
            error = goal[active] - value
            size = np.abs(error).max(axis=1)
            residual[active] = size
            going = size > _RELATIVE_TOLERANCE * self._spread
            if not going.any():
                return u * self._scale + self._centre
            active, error, slope = active[going], error[going], slope[going]
            step = _solve_2x2(slope, error)
            # At most one landmark spread a step: a near-singular Jacobian must not throw a point away.
            length = np.linalg.norm(step, axis=1, keepdims=True)
            u[active] += step * np.minimum(1.0, 1.0 / np.maximum(length, 1e-300))
        worst = int(residual.argmax())
        # Points far outside the landmarks stall on rounding relative to their own size, not to the spread.
        allowed = _ACCEPTED_TOLERANCE * np.maximum(self._spread, np.abs(goal).max(axis=1))
        if (residual > allowed).any():
            x, y = goal[worst] + self._offset
            raise RegistrationError(
                "spline has no inverse",
                where=f"at x={x:.6g}, y={y:.6g}",
                expected=f"residual below {allowed[worst]:.2g}",
                found=f"{residual[worst]:.2g}",
                remedy="Remove or correct the landmarks there: the registration folds",
            )
        return u * self._scale + self._centre

    def _evaluate(
        self, u: Points, derivatives: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values (n, 2) and, where asked, derivatives (n, 2, 2) at normalised points."""
        dx = u[:, None, 0] - self._landmarks[None, :, 0]
        dy = u[:, None, 1] - self._landmarks[None, :, 1]
        r2 = dx * dx + dy * dy
        log_r2 = np.log(np.where(r2 > 0, r2, 1.0))  # the kernel and its slope vanish at a landmark
        value = self._affine[0] + u @ self._affine[1:] + (0.5 * r2 * log_r2) @ self._weights
        slope = np.empty((len(u), 2, 2) if derivatives else (0, 2, 2))
        if derivatives:
            radial = log_r2 + 1.0  # d(r^2 log r)/dx = x (2 log r + 1)
            slope[:, :, 0] = self._affine[1] + (dx * radial) @ self._weights
            slope[:, :, 1] = self._affine[2] + (dy * radial) @ self._weights
        return value, slope


def _solve(landmarks: Points, target: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel weights (n, 2) and affine part (3, 2: constant, x, y) of the interpolating spline."""
    n = len(landmarks)
    r2 = ((landmarks[:, None] - landmarks[None]) ** 2).sum(axis=-1)
    kernel = 0.5 * r2 * np.log(np.where(r2 > 0, r2, 1.0))
    polynomial = np.column_stack([np.ones(n), landmarks])
    system = np.block([[kernel, polynomial], [polynomial.T, np.zeros((3, 3))]])
    right = np.vstack([target, np.zeros((3, 2))])
    try:
        solution = np.linalg.solve(system, right)
    except np.linalg.LinAlgError:
        solution = np.full_like(right, np.nan)
    if not np.isfinite(solution).all() or np.linalg.cond(system) > 1e14:
        raise RegistrationError(
            "spline landmarks are degenerate",
            expected="distinct points that are not all on a line",
            found=f"{n} points",
            remedy="Remove doubled landmarks in the registration",
        )
    return solution[:n], solution[n:]


def _solve_2x2(matrix: NDArray[np.float64], right: Points) -> Points:
    """Solve n small systems; where one is singular, a gradient step instead."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    determinant = a * d - b * c
    size = (matrix**2).sum(axis=(1, 2))
    safe = np.abs(determinant) > 1e-9 * np.maximum(size, 1e-300)
    divisor = np.where(safe, determinant, 1.0)
    newton = (
        np.column_stack([d * right[:, 0] - b * right[:, 1], a * right[:, 1] - c * right[:, 0]])
        / divisor[:, None]
    )
    gradient = np.einsum("nab,na->nb", matrix, right) / np.maximum(size, 1e-300)[:, None]
    return np.where(safe[:, None], newton, gradient)


def _inverse_2x2(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverses of n small matrices; infinite where one is singular."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1.0 / (a * d - b * c)
        return np.stack([d, -b, -c, a], axis=-1).reshape(-1, 2, 2) * scale[:, None, None]


@dataclass(frozen=True)
class Inverse:
    """A transform read backwards."""

    of: Transform

    def forward(self, xy: Points) -> Points:
        """Map points by the inverse of the wrapped transform."""
        return self.of.inverse(xy)

    def inverse(self, xy: Points) -> Points:
        """Map points by the wrapped transform."""
        return self.of.forward(xy)

    def jacobian(self, xy: Points) -> NDArray[np.float64]:
        """The inverse matrices of the wrapped transform's, where it takes its points to these."""
        return _inverse_2x2(self.of.jacobian(self.of.inverse(xy)))


@dataclass(frozen=True)
class Sequence:
    """Transforms applied in order, first to last."""

    parts: tuple[Transform, ...]

    def forward(self, xy: Points) -> Points:
        """Map points through every part in order."""
        return reduce(lambda points, part: part.forward(points), self.parts, xy)

    def inverse(self, xy: Points) -> Points:
        """Map points back through every part, last first."""
        return reduce(lambda points, part: part.inverse(points), reversed(self.parts), xy)

    def jacobian(self, xy: Points) -> NDArray[np.float64]:
        """The product of the parts' derivatives along the way (chain rule)."""
        out: NDArray[np.float64] = np.broadcast_to(np.eye(2), (len(xy), 2, 2))
        for part in self.parts:
            out = part.jacobian(xy) @ out
            xy = part.forward(xy)
        return out


def chain(*transforms: Transform) -> Transform:
    """The transforms applied in order, nested sequences opened and neighbouring affines multiplied together."""
    flat: list[Transform] = []
    for transform in transforms:
        for part in _opened(transform):
            previous = flat[-1] if flat else None
            if isinstance(part, Affine) and isinstance(previous, Affine):
                flat[-1] = part.after(previous)
            else:
                flat.append(part)
    if not flat:
        return IDENTITY
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat))


def inverted(transform: Transform) -> Transform:
    """The inverse of a transform, affines inverted in closed form."""
    parts = [
        part.inverted()
        if isinstance(part, Affine)
        else part.of
        if isinstance(part, Inverse)
        else Inverse(part)
        for part in reversed(list(_opened(transform)))
    ]
    return chain(*parts)


def _opened(transform: Transform) -> tuple[Transform, ...]:
    if isinstance(transform, Sequence):
        return tuple(part for outer in transform.parts for part in _opened(outer))
    return (transform,)
