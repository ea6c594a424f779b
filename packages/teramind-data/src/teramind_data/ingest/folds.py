"""Whether a registration folds: where its Jacobian turns over, two places of the canvas show one piece of section."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import RegistrationError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.ingest.transforms import Affine, Inverse, Points, Sequence, ThinPlateSpline, Transform

_GRID = 96  # points along the longer edge of the first look
_WORST = 48  # places looked at more closely
_ZOOMS = 4  # each a grid of 7 x 7 over two steps of the one before: down to 1/81 of a grid step
_ZOOM_POINTS = 7
_SMALLEST = 1e-9  # of the typical determinant: below it area vanishes


def check_fold(
    transform: Transform,
    box: Box,
    *,
    inside: NDArray[np.bool_] | None = None,
    where: object | None = None,
) -> None:
    """Refuse a transform (S: canvas pixels to image pixels) that folds within a box of the canvas.

    A fold is where the Jacobian's determinant is not of the sign that the transform has as a whole (a section that was
    turned over is negative everywhere, and no fold). Looked at on a grid, at every landmark and between it and its
    nearest, and then ever closer around the places where the determinant is least.

    Args:
        transform: with derivatives.
        box: canvas pixels to look at: the canvas, or the extent of the section.
        inside: where there is tissue, one value a 16-px bin of ``box``; elsewhere folds do no harm. None: everywhere.
        where: the registration's file, for the message.

    Raises:
        RegistrationError: naming the place, in canvas pixels.
    """
    if isinstance(transform, Affine):
        return  # refused already where it has no inverse
    points = np.concatenate([_grid(box), _around_landmarks(transform, box)])
    points = points[_within(points, box, inside)]
    if not len(points):
        return
    values = _determinants(transform, points)
    sign = np.sign(np.median(values)) or 1.0
    typical = float(np.median(np.abs(values)))
    step = max(box.shape) / _GRID
    for _ in range(_ZOOMS):
        lowest = points[np.argsort(values * sign, kind="stable")[:_WORST]]
        _refuse(lowest[0], float(values.min() if sign > 0 else values.max()), sign, typical, where)
        offsets = np.linspace(-step, step, _ZOOM_POINTS)
        zoom = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)
        points = (lowest[:, None] + zoom[None]).reshape(-1, 2)
        points = points[_within(points, box, inside)]
        values = _determinants(transform, points)
        step /= (_ZOOM_POINTS - 1) / 2
    lowest = points[np.argsort(values * sign, kind="stable")[:1]]
    _refuse(lowest[0], float(values.min() if sign > 0 else values.max()), sign, typical, where)


def _refuse(point: Points, value: float, sign: float, typical: float, where: object | None) -> None:
    if value * sign > _SMALLEST * typical:
        return
    place = f"at canvas x={point[0]:.0f}, y={point[1]:.0f}"
    raise RegistrationError(
        "registration folds the section",
        where=place if where is None else f"{where}, {place}",
        expected=f"an area scale near {sign * typical:.3g}",
        found=f"{value:.3g}",
        remedy="Correct or remove the landmarks there and export the registration again",
    )


def _determinants(transform: Transform, points: Points) -> NDArray[np.float64]:
    j = transform.jacobian(points)
    out = j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] * j[:, 1, 0]
    return np.where(np.isfinite(out), out, 0.0)  # an inverse of no area


def _grid(box: Box) -> Points:
    step = max(box.shape) / _GRID
    ys = np.linspace(box.y0, box.y1 - 1, max(2, round(box.height / step)))
    xs = np.linspace(box.x0, box.x1 - 1, max(2, round(box.width / step)))
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _within(points: Points, box: Box, inside: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    x, y = points[:, 0], points[:, 1]
    found = (y >= box.y0) & (y <= box.y1 - 1) & (x >= box.x0) & (x <= box.x1 - 1)
    if inside is not None:
        row = np.clip((np.where(found, y, box.y0) - box.y0) // BIN_PX, 0, inside.shape[0] - 1).astype(int)
        column = np.clip((np.where(found, x, box.x0) - box.x0) // BIN_PX, 0, inside.shape[1] - 1).astype(int)
        found &= inside[row, column]
    return found


def _around_landmarks(transform: Transform, box: Box) -> Points:
    """Canvas points at the splines' landmarks and half-way to their nearest, where a fold that is small would be."""
    parts = transform.parts if isinstance(transform, Sequence) else (transform,)
    found: list[Points] = [np.zeros((0, 2))]
    for number, part in enumerate(parts):
        if isinstance(part, ThinPlateSpline):
            marks = part.source
        elif isinstance(part, Inverse) and isinstance(part.of, ThinPlateSpline):
            marks = part.of.target
        else:
            continue
        distance = ((marks[:, None] - marks[None]) ** 2).sum(-1)
        np.fill_diagonal(distance, np.inf)
        marks = np.concatenate([marks, (marks + marks[distance.argmin(axis=1)]) / 2])
        for before in reversed(parts[:number]):
            marks = _back(before, marks)
        found.append(marks)
    return np.concatenate(found)


def _back(part: Transform, points: Points) -> Points:
    """Points mapped back, those without a pre-image left out."""
    try:
        return part.inverse(points)
    except RegistrationError:
        kept = []
        for point in points:
            try:
                kept.append(part.inverse(point[None]))
            except RegistrationError:
                continue  # it lies beyond what the part reaches, so not on the canvas
        return np.concatenate([np.zeros((0, 2)), *kept])


__all__ = ["check_fold"]
