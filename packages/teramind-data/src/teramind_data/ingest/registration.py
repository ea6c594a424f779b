"""Reading a section's registration and turning it into S, the map from canvas pixels to image pixels (paper, eq. S).

Kinds: the JSON that ABBA and Warpy write (ImgLib2's transforms, serialised by class name), and affine matrices as
CSV, JSON or npy. A file alone does not say what it maps to what, so the manifest gives its ``Direction``.

ABBA's files are three-dimensional: what that means for a section is in the ``space`` module.

Pixel coordinates here are ImgLib2's: whole numbers are pixel centres, for the canvas and for images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import MissingInputError, RegistrationError
from teramind_data.ingest.space import Bounds, Flat, Placed, Space, Step, placed
from teramind_data.ingest.transforms import (
    IDENTITY,
    Affine,
    Inverse,
    ThinPlateSpline,
    Transform,
    chain,
    inverted,
    scaling,
)

_Steps = tuple[Step, ...]

_MAX_BYTES = 64 << 20  # a registration of a million landmarks is smaller
_MAX_DEPTH = 64


class Direction(StrEnum):
    """What a registration file maps to what, with units."""

    ATLAS_MM_TO_IMAGE_PX = "atlas_mm_to_image_px"
    IMAGE_PX_TO_ATLAS_MM = "image_px_to_atlas_mm"
    ATLAS_UM_TO_IMAGE_PX = "atlas_um_to_image_px"
    IMAGE_PX_TO_ATLAS_UM = "image_px_to_atlas_um"
    CANVAS_PX_TO_IMAGE_PX = "canvas_px_to_image_px"
    IMAGE_PX_TO_CANVAS_PX = "image_px_to_canvas_px"
    ATLAS_UM_TO_SECTION_UM = "atlas_um_to_section_um"
    SECTION_UM_TO_ATLAS_UM = "section_um_to_atlas_um"

    @property
    def plane(self) -> str:
        """The side of the common plane: ``atlas_mm``, ``atlas_um`` or ``canvas_px``."""
        first, second = self.value.split("_to_")
        return second if first.startswith(("image", "section")) else first

    @property
    def um(self) -> float | None:
        """The plane's unit in um; None where it is pixels."""
        return {"atlas_mm": 1e3, "atlas_um": 1.0, "canvas_px": None}[self.plane]

    @property
    def forward(self) -> bool:
        """Whether the file maps the plane to the section (as S does)."""
        return not self.value.startswith(("image", "section"))

    @property
    def section(self) -> str:
        """The side of the section: ``image_px`` or ``section_um``."""
        first, second = self.value.split("_to_")
        return second if self.forward else first


def canvas_to_image(
    registration: Transform,
    direction: Direction,
    micron_to_mosaic: Affine,
    pixel_size_um: float,
    origin_um: tuple[float, float] = (0.0, 0.0),
) -> Transform:
    """S: canvas pixels (x, y) to image pixels.

    Args:
        registration: what the file holds, in its own direction and units.
        direction: which direction and units those are.
        micron_to_mosaic: section um to image pixels (the vendor's matrix).
        pixel_size_um: edge of a canvas pixel.
        origin_um: (y, x) of canvas pixel (0, 0) in the plane.
    """
    to_plane = IDENTITY
    if direction.um is not None:
        x, y = origin_um[1] / direction.um, origin_um[0] / direction.um
        to_plane = scaling(pixel_size_um / direction.um, (x, y))
    to_section = registration if direction.forward else inverted(registration)
    to_image = micron_to_mosaic if direction.section == "section_um" else IDENTITY
    return chain(to_plane, to_section, to_image)


def read_registration(path: str | Path, *, forward: bool = True) -> Transform:
    """The transform of the plane that a registration file holds, in the file's direction; see ``read_placed``."""
    return read_placed(path, forward=forward).transform


def read_placed(path: str | Path, *, forward: bool = True) -> Placed:
    """Read a registration file by its suffix: ``.json`` (ABBA, Warpy or a matrix), ``.csv``/``.txt`` or ``.npy``.

    Args:
        path: the file.
        forward: whether it maps the plane to the section (``Direction.forward``): a file that mixes z with x and y is
            solved for the section's plane, and which of its sides that is must be known.

    Raises:
        MissingInputError: no such file.
        RegistrationError: unreadable, of an unknown kind or not invertible; one line naming file and place.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingInputError(
            "registration not found",
            where=file,
            remedy="Correct the file's name in the manifest, or export it again",
        )
    if file.stat().st_size > _MAX_BYTES:
        raise RegistrationError(
            "registration is too large", where=file, expected=f"at most {_MAX_BYTES} bytes"
        )
    readers: dict[str, Callable[[Path], _Steps]] = {
        ".json": _read_json,
        ".csv": _read_text_matrix,
        ".txt": _read_text_matrix,
        ".npy": _read_npy,
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise RegistrationError(
            "registration is of an unknown kind",
            where=file,
            expected=", ".join(readers),
            found=file.suffix or "no suffix",
            remedy="Export it as ABBA/Warpy JSON or as an affine matrix",
        )
    try:
        return placed(reader(file), forward=forward)
    except RegistrationError as error:
        if error.where is not None and str(file) in str(error.where):
            raise
        where = f"{file} {error.where}" if error.where else str(file)
        raise RegistrationError(error.what, where, error.expected, error.found, error.remedy) from error


def parse_transform(node: object) -> Transform:
    """A transform of the plane from parsed ABBA/Warpy JSON.

    Kinds (ImgLib2 class names): AffineTransform3D (``type`` may be absent), ThinplateSplineTransform,
    Wrapped2DTransformAs3D, InvertibleWrapped2DTransformAs3D, WrappedIterativeInvertibleRealTransform,
    BoundedRealTransform, RealTransformSequence, InvertibleRealTransformSequence; nested in any order.
    """
    return placed(_parse(node, "transform", 0)).transform


def _parse(node: object, place: str, depth: int) -> _Steps:
    if depth > _MAX_DEPTH:
        raise RegistrationError(
            "registration is nested too deeply", where=place, expected=f"{_MAX_DEPTH} levels"
        )
    if not isinstance(node, dict):
        raise RegistrationError(
            "registration is not a transform",
            where=f"at {place}",
            expected="a JSON object",
            found=_kind(node),
        )
    kind = str(node.get("type", "AffineTransform3D" if "affinetransform3d" in node else ""))
    kind = kind.rsplit(".", 1)[-1]  # some versions write the Java class with its package
    if kind == "AffineTransform3D":
        return _parse_affine3d(node, place)
    if kind == "ThinplateSplineTransform":
        return (Flat(_parse_spline(node, place)),)
    if kind in _WRAPPERS:
        # The bounds only spare a viewer from computing what it does not show; the inverse has none. Beyond them the
        # transform goes on, so that forward and inverse agree everywhere.
        bounds = _bounds(node, place) if kind == "BoundedRealTransform" else ()
        key = _WRAPPERS[kind]
        return bounds + _parse(_member(node, key, place), f"{place}.{key}", depth + 1)
    if kind in ("RealTransformSequence", "InvertibleRealTransformSequence"):
        count = _member(node, "size", place)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 10_000:
            raise RegistrationError(
                "sequence has no size", where=f"at {place}", expected="a count", found=count
            )
        names = [f"realTransform_{i}" for i in range(count)]
        parts = (_parse(_member(node, name, place), f"{place}.{name}", depth + 1) for name in names)
        return tuple(step for part in parts for step in part)
    raise RegistrationError(
        "registration holds an unknown transform",
        where=f"at {place}",
        expected=f"AffineTransform3D, ThinplateSplineTransform, a sequence, {', '.join(_WRAPPERS)}",
        found=kind or "no type",
        remedy="Export it from ABBA or Warpy as JSON",
    )


_WRAPPERS = {
    "Wrapped2DTransformAs3D": "wrappedTransform",
    "InvertibleWrapped2DTransformAs3D": "wrappedTransform",
    "WrappedIterativeInvertibleRealTransform": "wrappedTransform",
    "BoundedRealTransform": "realTransform",
}


def _bounds(node: dict[str, Any], place: str) -> _Steps:
    low, high = (_numbers(_member(node, key, place), place) for key in ("interval_min", "interval_max"))
    if low.ndim != 1 or low.shape != high.shape or (low > high).any():
        raise RegistrationError(
            "bounds of a transform make no interval",
            where=f"at {place}",
            expected="interval_min below interval_max, of as many numbers",
            found=f"{low.tolist()} and {high.tolist()}",
        )
    return (Bounds(float(low[2]), float(high[2]), place),) if len(low) == 3 else ()


def _parse_affine3d(node: dict[str, Any], place: str) -> _Steps:
    values = _numbers(_member(node, "affinetransform3d", place), place)
    if values.shape != (12,):
        raise RegistrationError(
            "affine does not hold 12 numbers", where=f"at {place}", expected="12", found=values.size
        )
    return (_space(values.reshape(3, 4), place),)


def _space(matrix: NDArray[np.float64], place: str) -> Space:
    step = Space(matrix, place)
    if step.in_plane:
        Affine(matrix[:2][:, [0, 1, 3]])  # refused here where it has no inverse
    return step


def _parse_spline(node: dict[str, Any], place: str) -> Transform:
    source = _numbers(_member(node, "srcPts", place), place)
    target = _numbers(_member(node, "tgtPts", place), place)
    if source.ndim != 2 or source.shape[0] != 2 or source.shape != target.shape:
        raise RegistrationError(
            "spline landmarks do not pair up",
            where=f"at {place}",
            expected="srcPts and tgtPts of two equal rows",
            found=f"{source.shape} and {target.shape}",
            remedy="Export the registration again",
        )
    return ThinPlateSpline(source.T, target.T)


def _member(node: dict[str, Any], key: str, place: str) -> Any:
    if key not in node:
        raise RegistrationError(
            "registration is incomplete",
            where=f"at {place}",
            expected=key,
            found=", ".join(node) or "nothing",
        )
    return node[key]


def _numbers(value: object, place: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all() or array.ndim == 0:
        raise RegistrationError(
            "registration holds something that is no number",
            where=f"at {place}",
            expected="finite numbers in rows of equal length",
            remedy="Export the registration again",
        )
    return array


def _kind(value: object) -> str:
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), type(value).__name__)


def _read_json(file: Path) -> _Steps:
    try:
        node = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RegistrationError(
            "registration is not readable JSON",
            where=file,
            expected="an ABBA or Warpy transform",
            found=str(error) or type(error).__name__,
            remedy="Export the section's registration again",
        ) from error
    if isinstance(node, list):
        return (_from_matrix(_numbers(node, "matrix")),)
    if isinstance(node, dict) and "matrix" in node:
        return (_from_matrix(_numbers(node["matrix"], "matrix")),)
    return _parse(node, "transform", 0)


def _read_text_matrix(file: Path) -> _Steps:
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = [
            line.replace(",", " ").replace(";", " ").split() for line in text.splitlines() if line.strip()
        ]
        matrix = np.array([[float(cell) for cell in row] for row in rows if not row[0].startswith("#")])
    except (ValueError, UnicodeDecodeError) as error:
        raise RegistrationError(
            "registration is not a matrix of numbers",
            where=file,
            expected="2x3, 3x3, 3x4 or 4x4 numbers",
            found=str(error),
            remedy="Write the affine row by row, without a header",
        ) from error
    return (_from_matrix(matrix),)


def _read_npy(file: Path) -> _Steps:
    try:
        matrix = np.load(file, allow_pickle=False)  # never unpickle a stranger's file
    except (ValueError, OSError, EOFError) as error:
        raise RegistrationError(
            "registration is not a readable npy file",
            where=file,
            found=str(error),
            remedy="Save it with numpy.save",
        ) from error
    return (_from_matrix(_numbers(matrix, "matrix")),)


def affine_from_matrix(matrix: NDArray[np.float64]) -> Transform:
    """An affine from a 2x3, 3x3 (homogeneous plane), 3x4 or 4x4 (space) matrix, translation in the last column."""
    return placed((_from_matrix(matrix),)).transform


def _from_matrix(matrix: NDArray[np.float64]) -> Step:
    if matrix.shape == (2, 3):
        return Flat(Affine(matrix))
    if matrix.shape == (3, 3):
        _check_last_row(matrix)
        return Flat(Affine(matrix[:2]))
    if matrix.shape == (3, 4):
        return _space(matrix, "matrix")
    if matrix.shape == (4, 4):
        _check_last_row(matrix)
        return _space(matrix[:3], "matrix")
    raise RegistrationError(
        "affine matrix has the wrong shape",
        expected="2x3, 3x3, 3x4 or 4x4",
        found="x".join(map(str, matrix.shape)),
        remedy="Write the affine row by row, translation in the last column",
    )


def _check_last_row(matrix: NDArray[np.float64]) -> None:
    last = matrix[-1]
    if not np.allclose(last, np.eye(len(matrix))[-1], rtol=0, atol=1e-12):
        raise RegistrationError(
            "affine matrix is projective",
            where="last row",
            expected=" ".join(f"{v:g}" for v in np.eye(len(matrix))[-1]),
            found=" ".join(f"{v:g}" for v in last),
            remedy="Give an affine (translation in the last column)",
        )


def is_affine(transform: Transform) -> bool:
    """Whether a (chained) transform is one affine."""
    return isinstance(transform, Affine)


__all__ = [
    "Direction",
    "Inverse",
    "Transform",
    "affine_from_matrix",
    "canvas_to_image",
    "is_affine",
    "parse_transform",
    "read_placed",
    "read_registration",
]
