"""Where the regions of a phantom brain lie, and what lives in them.

Everything is a function of continuous canvas coordinates (pixel i has its centre at i), evaluated where
asked, so the same anatomy serves the canvas plane and a slide it was warped onto. Normalised coordinates
run from -1 to 1 over the canvas (v down, u across); the plan is the same on both sides of u = 0, moves
smoothly with z and a little from brain to brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from teramind_data.phantom.config import PhantomConfig
from teramind_data.phantom.genes import TYPE_INDEX, TYPES
from teramind_data.phantom.keys import generator

REGIONS = (
    "outside",
    "cortex_upper",
    "cortex_deep",
    "fibre_tract",
    "hippocampus",
    "thalamus",
    "midbrain",
    "dopa_nucleus",
    "ventricle",
)
REGION_INDEX = {name: i for i, name in enumerate(REGIONS)}

# Share of the area of a region that is nucleus.
COVERAGE = np.array([0.0, 0.195, 0.190, 0.185, 0.225, 0.195, 0.185, 0.200, 0.0])

# Share of the cells of a region, by type; endothelial cells come on top, along vessels.
MIXTURES: dict[str, dict[str, float]] = {
    "cortex_upper": {
        "glut_cortex": 52,
        "gaba_pvalb": 9,
        "gaba_sst": 10,
        "astrocyte": 16,
        "oligodendrocyte": 4,
        "opc": 4,
        "microglia": 5,
    },
    "cortex_deep": {
        "glut_cortex": 50,
        "gaba_pvalb": 11,
        "gaba_sst": 7,
        "astrocyte": 12,
        "oligodendrocyte": 10,
        "opc": 4,
        "microglia": 6,
    },
    "fibre_tract": {"oligodendrocyte": 70, "astrocyte": 14, "opc": 7, "microglia": 9},
    "hippocampus": {
        "glut_hippocampus": 70,
        "gaba_pvalb": 6,
        "gaba_sst": 5,
        "astrocyte": 11,
        "oligodendrocyte": 4,
        "microglia": 4,
    },
    "thalamus": {
        "glut_subcortex": 56,
        "gaba_pvalb": 6,
        "astrocyte": 17,
        "oligodendrocyte": 13,
        "opc": 3,
        "microglia": 5,
    },
    "midbrain": {
        "glut_subcortex": 34,
        "gaba_sst": 12,
        "gaba_pvalb": 14,
        "dopa": 3,
        "astrocyte": 16,
        "oligodendrocyte": 15,
        "microglia": 6,
    },
    "dopa_nucleus": {"dopa": 62, "gaba_sst": 10, "astrocyte": 14, "oligodendrocyte": 9, "microglia": 5},
}
VESSEL_HALF_WIDTH_PX = 8.0


def mixture_table() -> np.ndarray:
    """Probabilities (regions, types) away from vessels; rows of empty regions are zero."""
    table = np.zeros((len(REGIONS), len(TYPES)))
    for region, mixture in MIXTURES.items():
        for name, weight in mixture.items():
            table[REGION_INDEX[region], TYPE_INDEX[name]] = weight
    total = table.sum(1, keepdims=True)
    return table / np.where(total > 0, total, 1.0)


@dataclass(frozen=True)
class Anatomy:
    """The plan of one section of one brain: build it with `Anatomy.of`."""

    canvas: tuple[int, int]
    z_um: float
    offset: tuple[float, float]
    scale: float
    bend: float
    phases: np.ndarray
    waves: np.ndarray

    @classmethod
    def of(cls, config: PhantomConfig, brain: str, section: int) -> Anatomy:
        """The plan at a section. Only `z` differs between sections of a brain."""
        rng = generator(config.seed, brain, "anatomy")
        offset = tuple(rng.uniform(-0.012, 0.012, 2))
        scale = rng.uniform(0.985, 1.01)
        bend = rng.uniform(-0.02, 0.02)
        phases = rng.uniform(0, 2 * np.pi, 6)
        # Five plane waves of 190 to 330 px whose zero line is the vessel bed, the same spacing on any canvas.
        angle = rng.uniform(0, np.pi) + np.arange(5) * np.pi / 5 + rng.uniform(-0.2, 0.2, 5)
        number = 2 * np.pi / rng.uniform(190.0, 330.0, 5)
        waves = np.stack(
            [
                number * np.sin(angle),
                number * np.cos(angle),
                rng.uniform(0, 2 * np.pi, 5),
                rng.uniform(-0.004, 0.004, 5),
            ]
        )
        return cls(config.canvas, section * config.spacing_um, offset, scale, bend, phases, waves)

    def normalised(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas pixels to the brain's own (v, u)."""
        h, w = self.canvas
        v = ((2.0 * y + 1.0) / h - 1.0 - self.offset[0]) / self.scale
        u = ((2.0 * x + 1.0) / w - 1.0 - self.offset[1]) / self.scale
        return v - self.bend * np.cos(2.0 * u), u

    def _sway(self, i: int, period_um: float) -> float:
        """A number in [-1, 1] that moves slowly along the brain."""
        return float(np.sin(2 * np.pi * self.z_um / period_um + self.phases[i]))

    def radius(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """0 in the middle, 1 on the outline of the tissue (a superellipse)."""
        v, u = self.normalised(y, x)
        a = 0.945 + 0.012 * self._sway(0, 4000.0)
        b = 0.935 + 0.012 * self._sway(1, 5000.0)
        return (np.abs(u / a) ** 3 + np.abs(v / b) ** 3) ** (1.0 / 3.0)

    def regions(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Region numbers uint8 at canvas points, broadcast over y and x."""
        v, u = np.broadcast_arrays(*self.normalised(y, x))
        rho = np.broadcast_to(self.radius(y, x), v.shape)
        side = np.abs(u)
        out = np.full(v.shape, REGION_INDEX["midbrain"], np.uint8)

        def put(name: str, where: np.ndarray) -> None:
            out[where] = REGION_INDEX[name]

        border = 0.20 + 0.05 * self._sway(2, 2500.0)
        put("thalamus", v < border)
        inner = 0.60 + 0.02 * self._sway(3, 3000.0)
        roof = v < 0.34 + 0.04 * self._sway(4, 2500.0) - 0.12 * side
        bottom = -0.10 + 0.03 * self._sway(2, 3500.0) + 0.30 * side * side
        put("hippocampus", (rho < inner - 0.10) & (v < bottom) & (side > 0.06))
        put("fibre_tract", roof & (rho >= inner - 0.15) & (rho < inner))
        put("cortex_deep", roof & (rho >= inner))
        put("cortex_upper", roof & (rho >= inner + 0.19))
        dopa_v, dopa_u = 0.60 + 0.02 * self._sway(5, 2500.0), 0.36 + 0.02 * self._sway(0, 3000.0)
        put("dopa_nucleus", ((side - dopa_u) / 0.30) ** 2 + ((v - dopa_v) / 0.21) ** 2 < 1)
        put("ventricle", (u / 0.075) ** 2 + ((v - 0.10) / (0.26 + 0.04 * self._sway(3, 4000.0))) ** 2 < 1)
        put("outside", rho >= 1)
        return out

    def vessels(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance in pixels to the nearest vessel line (first order) and the line's direction in radians."""
        ky, kx, phase, drift = self.waves
        argument = np.multiply.outer(y, ky) + np.multiply.outer(x, kx) + phase + drift * self.z_um
        field, slope = np.sin(argument).sum(-1), np.cos(argument)
        gy, gx = slope @ ky, slope @ kx
        # The direction along the line is across the gradient; angle of (dx, dy) with dy down.
        return np.abs(field) / (np.hypot(gy, gx) + 1e-6), np.arctan2(-gx, gy)


def region_bins(anatomy: Anatomy, step: int = 16) -> np.ndarray:
    """Regions uint8 (h / step, w / step), each bin by its centre."""
    h, w = anatomy.canvas
    y = np.arange(h // step) * float(step) + (step - 1) / 2
    x = np.arange(w // step) * float(step) + (step - 1) / 2
    return anatomy.regions(y[:, None], x[None, :])
