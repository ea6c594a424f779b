"""Where a section lies on its slide, and the registration file that says so, in ABBA's form.

The map S of a section takes canvas pixels to slide pixels, in both of which pixel i has its centre at coordinate
i::

    canvas px -- x pixel_size_um / 1000 --> atlas mm -- affine --> mm -- spline (odd sections) --> mm
    mm -- affine --> slide px

The file holds the last three as ``realTransform_0 .. n`` of an InvertibleRealTransformSequence, applied in
order: atlas mm (x, y, z) to slide pixels. An ``affinetransform3d`` is a 3 x 4 matrix row by row; a
ThinplateSplineTransform takes `srcPts` to `tgtPts` ([[x...], [y...]], kernel r^2 log r with an affine
part) inside its two wrappers, as the files of ABBA and Warpy do. The canvas origin is atlas (0, 0) mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from teramind_data.errors import RegistrationError
from teramind_data.phantom.config import PhantomConfig
from teramind_data.phantom.keys import generator

MARGIN_PX = (32.0, 96.0)  # bare slide on each side of the canvas's image
WARP = 0.014  # sd of a landmark's displacement over the canvas edge, at most 24 px


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r2 = ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)
    return 0.5 * r2 * np.log(np.where(r2 > 0, r2, 1.0))


@dataclass(frozen=True)
class Spline:
    """Thin-plate spline of (n, 2) landmarks x, y: `source` to `target` (Bookstein 1989)."""

    source: np.ndarray
    target: np.ndarray
    weights: np.ndarray

    @classmethod
    def through(cls, source: np.ndarray, target: np.ndarray) -> Spline:
        """The spline that takes each source landmark to its target exactly."""
        n = len(source)
        flat = np.column_stack([np.ones(n), source])
        system = np.block([[_kernel(source, source), flat], [flat.T, np.zeros((3, 3))]])
        return cls(source, target, np.linalg.solve(system, np.vstack([target, np.zeros((3, 2))])))

    def forward(self, xy: np.ndarray) -> np.ndarray:
        """Map (n, 2) points, in parts that bound the memory."""
        out = np.empty_like(xy)
        for i in range(0, len(xy), 65536):
            part = xy[i : i + 65536]
            out[i : i + 65536] = (
                np.hstack([_kernel(part, self.source), np.ones((len(part), 1)), part]) @ self.weights
            )
        return out

    def inverse(self, xy: np.ndarray, tolerance: float) -> np.ndarray:
        """Points that `forward` takes to xy, by fixed-point steps; the warp is gentle, so they contract.

        Raises RegistrationError where they do not.
        """
        found = xy.copy()
        for _ in range(200):
            error = xy - self.forward(found)
            found += error
            if np.abs(error).max(initial=0.0) < tolerance:
                return found
        raise RegistrationError(
            "the phantom's spline folds",
            found=f"error {np.abs(error).max():.3g} mm",
            remedy="Choose another seed",
        )


@dataclass(frozen=True)
class Placement:
    """S of one section. `first` and `last` are 2 x 3 matrices in x, y; `slide` is (height, width) in px."""

    pixel_mm: float
    first: np.ndarray
    spline: Spline | None
    last: np.ndarray
    slide: tuple[int, int]

    def to_slide(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas pixels (n,) to slide pixels (y, x)."""
        points = np.column_stack([x, y]).astype(float) * self.pixel_mm
        points = points @ self.first[:, :2].T + self.first[:, 2]
        if self.spline is not None:
            points = self.spline.forward(points)
        points = points @ self.last[:, :2].T + self.last[:, 2]
        return points[:, 1], points[:, 0]

    def to_canvas(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slide pixels (n,) to canvas pixels (y, x), to 1e-6 px."""
        points = np.linalg.solve(self.last[:, :2], (np.column_stack([x, y]) - self.last[:, 2]).T).T
        if self.spline is not None:
            points = self.spline.inverse(points, 1e-6 * self.pixel_mm)
        points = np.linalg.solve(self.first[:, :2], (points - self.first[:, 2]).T).T / self.pixel_mm
        return points[:, 1], points[:, 0]

    def to_json(self) -> dict[str, Any]:
        """The registration file: atlas mm to slide pixels."""
        steps: list[dict[str, Any]] = [_affine3d(self.first)]
        if self.spline is not None:
            steps.append(
                {
                    "type": "Wrapped2DTransformAs3D",
                    "wrappedTransform": {
                        "type": "WrappedIterativeInvertibleRealTransform",
                        "wrappedTransform": {
                            "type": "ThinplateSplineTransform",
                            "srcPts": self.spline.source.T.tolist(),
                            "tgtPts": self.spline.target.T.tolist(),
                        },
                    },
                }
            )
        steps.append(_affine3d(self.last))
        head: dict[str, Any] = {"type": "InvertibleRealTransformSequence", "size": len(steps)}
        return head | {f"realTransform_{i}": step for i, step in enumerate(steps)}


def _affine3d(matrix: np.ndarray) -> dict[str, Any]:
    (a, b, c), (d, e, f) = matrix.tolist()
    return {"affinetransform3d": [a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 1.0, 0.0]}


def place_section(config: PhantomConfig, brain: str, section: int) -> Placement:
    """How a section fell on its slide: turned by 4 to 30 degrees, stretched, displaced, every second warped."""
    rng = generator(config.seed, brain, section, "placement")
    h, w = config.canvas
    pixel_mm = config.pixel_size_um / 1000.0
    turn = math.radians(rng.uniform(4.0, 30.0)) * rng.choice([-1.0, 1.0])
    stretch = rng.uniform(0.985, 1.015, 2)
    shear = rng.uniform(-0.01, 0.01)
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = rotate @ np.array([[stretch[0], shear], [0.0, stretch[1]]])
    centre = np.array([w - 1, h - 1]) / 2 * pixel_mm
    first = np.column_stack([linear, -linear @ centre])  # the canvas's middle goes to (0, 0) mm
    spline = _warp(rng, config, pixel_mm, first) if section % 2 else None

    still = Placement(pixel_mm, first, spline, np.column_stack([np.eye(2) / pixel_mm, np.zeros(2)]), (0, 0))
    along = np.linspace(0.0, 1.0, 65)
    rim_y = np.concatenate([np.zeros(65), np.ones(65), along, along]) * (h - 1)
    rim_x = np.concatenate([along, along, np.zeros(65), np.ones(65)]) * (w - 1)
    y, x = still.to_slide(rim_y, rim_x)
    before, after = rng.uniform(*MARGIN_PX, (2, 2))
    shift = np.array([before[0] - x.min(), before[1] - y.min()])
    slide = (
        math.ceil((y.max() - y.min() + before[1] + after[1]) / 16) * 16,
        math.ceil((x.max() - x.min() + before[0] + after[0]) / 16) * 16,
    )
    return Placement(pixel_mm, first, spline, np.column_stack([np.eye(2) / pixel_mm, shift]), slide)


def _warp(rng: np.random.Generator, config: PhantomConfig, pixel_mm: float, first: np.ndarray) -> Spline:
    """16 landmarks over the canvas, each moved by some pixels."""
    h, w = config.canvas
    y, x = (
        a.ravel()
        for a in np.meshgrid(np.linspace(0.05, 0.95, 4) * h, np.linspace(0.05, 0.95, 4) * w, indexing="ij")
    )
    source = np.column_stack([x, y]) * pixel_mm @ first[:, :2].T + first[:, 2]
    sd = min(WARP * min(h, w), 24.0) * pixel_mm
    moved = source + sd * np.clip(rng.standard_normal(source.shape), -1.8, 1.8)
    return Spline.through(source, moved)
