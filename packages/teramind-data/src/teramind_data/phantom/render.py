"""Stains and masks: what a microscope would see of the cells, evaluated analytically at any points.

A picture is asked for at the canvas coordinates of its pixels: the canvas itself asks at the integers, a slide
asks at the coordinates its registration gives. Both see the same brain; nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from teramind_data.phantom.anatomy import REGION_INDEX, REGIONS, Anatomy
from teramind_data.phantom.cells import SOMA, Molecules, place_cells, place_molecules, type_column
from teramind_data.phantom.config import PhantomConfig
from teramind_data.phantom.genes import panel_genes

EDGE_PX = 0.9  # half-width of a nucleus's soft edge
SOMA_EDGE_PX = 2.6
BACKGROUND_STEP = 4
# Intensity of the tissue between cells, by region: (DAPI, PolyT) on the 0 .. 255 scale.
NEUROPIL: dict[str, tuple[float, float]] = {
    "outside": (4.0, 4.0),
    "cortex_upper": (11.0, 34.0),
    "cortex_deep": (11.0, 38.0),
    "fibre_tract": (13.0, 22.0),
    "hippocampus": (12.0, 36.0),
    "thalamus": (11.0, 34.0),
    "midbrain": (11.0, 30.0),
    "dopa_nucleus": (10.0, 44.0),
    "ventricle": (5.0, 7.0),
}


@dataclass(frozen=True)
class SectionTruth:
    """Everything that is true of a section, in the canvas plane.

    cells: `cells.CELL_DTYPE` (n,). image: float32 (2, h, w), DAPI and PolyT on a scale of 0 .. 255, no noise.
    masks: int32 (h, w), the cell_id whose nucleus covers the pixel's centre, else 0.
    molecules: of the genes (gene indexes `genes`); blanks: of the blank barcodes. regions: uint8 (h, w).
    """

    genes: tuple[str, ...]
    cells: np.ndarray
    image: np.ndarray
    masks: np.ndarray
    molecules: Molecules
    blanks: Molecules
    regions: np.ndarray

    def expression(self, step: int = 16) -> np.ndarray:
        """Counts uint16 (genes, h / step, w / step); a molecule belongs to the pixel nearest to it."""
        h, w = self.masks.shape
        rows = np.floor(self.molecules.y + 0.5).astype(np.int64) // step
        cols = np.floor(self.molecules.x + 0.5).astype(np.int64) // step
        flat = (self.molecules.gene * (h // step) + rows) * (w // step) + cols
        shape = (len(self.genes), h // step, w // step)
        return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(np.uint16)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (k, h, w) along y and x, edges repeated."""
    reach = int(3 * sigma + 1)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        padded = np.pad(image, pad, mode="edge")
        n = image.shape[axis]
        shifted = [k * np.take(padded, range(i, i + n), axis) for i, k in enumerate(kernel)]
        image = np.sum(shifted, axis=0)
    return image


class Painter:
    """Paints a section's stains at given canvas coordinates; holds its cells and its smooth background."""

    def __init__(self, config: PhantomConfig, brain: str, section: int, cells: np.ndarray) -> None:
        self.cells = cells
        anatomy = Anatomy.of(config, brain, section)
        h, w = config.canvas
        # The background is smooth: a lattice of 4 px, one cell wider than the canvas, sampled bilinearly.
        y = np.arange(-1, h // BACKGROUND_STEP + 2) * float(BACKGROUND_STEP)
        x = np.arange(-1, w // BACKGROUND_STEP + 2) * float(BACKGROUND_STEP)
        levels = np.array([NEUROPIL[name] for name in REGIONS], np.float32)
        lattice = levels[anatomy.regions(y[:, None], x[None, :])]
        self.lattice = _blur(np.moveaxis(lattice, 2, 0), 1.0).astype(np.float32)
        self.nucleolus = type_column("nucleolus")

    def background(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Tissue without cells, float32 (2, ...)."""
        _, rows, width = self.lattice.shape
        fy = np.clip(y / BACKGROUND_STEP + 1.0, 0, rows - 1.001).astype(np.float32)
        fx = np.clip(x / BACKGROUND_STEP + 1.0, 0, width - 1.001).astype(np.float32)
        iy, ix = fy.astype(np.int32), fx.astype(np.int32)
        ty, tx = fy - iy, fx - ix
        corner = iy * width + ix
        out = np.empty((2, *np.shape(y)), np.float32)
        for stain, level in enumerate(self.lattice.reshape(2, -1)):
            left = level.take(corner)
            upper = left + (level.take(corner + 1) - left) * tx
            left = level.take(corner + width)
            lower = left + (level.take(corner + width + 1) - left) * tx
            out[stain] = upper + (lower - upper) * ty
        return out

    def _cell(self, cell: np.void, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One cell at points: DAPI, PolyT, distance from its centre (1 on the nucleus's outline)."""
        dy, dx = y - cell["y"], x - cell["x"]
        cos, sin = np.cos(cell["angle"]), np.sin(cell["angle"])
        u, v = (dx * cos + dy * sin) / cell["a"], (dy * cos - dx * sin) / cell["b"]
        r = np.hypot(u, v) + np.float32(1e-6)
        c1, s1 = u / r, v / r
        c2, s2 = c1 * c1 - s1 * s1, 2 * c1 * s1
        c3, s3 = c1 * c2 - s1 * s2, s1 * c2 + c1 * s2
        a2, p2, a3, p3 = (float(value) for value in cell["wobble"])
        outline = 1 + a2 * (c2 * np.cos(p2) - s2 * np.sin(p2)) + a3 * (c3 * np.cos(p3) - s3 * np.sin(p3))
        r = r / outline
        depth = (1 - r) * cell["radius"]
        nucleus = 0.5 + 0.5 * np.tanh(depth / EDGE_PX)
        body = 0.5 + 0.5 * np.tanh((SOMA - r) * cell["radius"] / SOMA_EDGE_PX)
        centre = np.exp(-(r * r) / (2 * 0.24**2)) * self.nucleolus[cell["type"]]
        texture = 0.90 + 0.14 * np.clip(1 - r * r, 0, 1) - centre
        for spot in cell["spots"]:
            if spot[2]:
                texture = texture + spot[2] * np.exp(
                    -((v - spot[0]) ** 2 + (u - spot[1]) ** 2) / (2 * 0.17**2)
                )
        dapi = cell["dapi"] * nucleus * texture
        # RNA fills the soma, is thinner in the nucleus, and gathers in the nucleolus.
        polyt = cell["polyt"] * body * (1.0 - 0.22 * nucleus + 0.7 * centre)
        return dapi, polyt, r

    def paint(self, y: np.ndarray, x: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Stains float32 (2, h, w) at canvas coordinates y, x (h, w); fills int32 `masks` (h, w) where given.

        y and x must be a gentle warp of a pixel grid (about one canvas pixel a pixel).
        """
        y, x = np.asarray(y, np.float32), np.asarray(x, np.float32)
        image = self.background(y, x)
        for cell, where in self._windows(y, x):
            dapi, polyt, r = self._cell(cell, y[where], x[where])
            image[0][where] += dapi * (1 - image[0][where] / 255)
            np.maximum(image[1][where], polyt, out=image[1][where])
            if masks is not None:
                masks[where][r <= 1] = cell["cell_id"]
        return np.minimum(image, 255.0, out=image)

    def _windows(self, y: np.ndarray, x: np.ndarray) -> Iterator[tuple[np.void, tuple[slice, slice]]]:
        """(cell, slices of the picture around it) for the cells that touch the picture.

        A cell's place on the picture is found from the picture's own coordinates: Newton steps on a grid
        that is nearly affine.
        """
        h, w = y.shape
        if h < 2 or w < 2:
            return
        iy, ix = np.full(len(self.cells), h / 2.0), np.full(len(self.cells), w / 2.0)
        for _ in range(12):
            r = np.clip(iy.round().astype(int), 0, h - 2)
            c = np.clip(ix.round().astype(int), 0, w - 2)
            yy, yx = y[r + 1, c] - y[r, c], y[r, c + 1] - y[r, c]
            xy, xx = x[r + 1, c] - x[r, c], x[r, c + 1] - x[r, c]
            ey, ex = self.cells["y"] - y[r, c], self.cells["x"] - x[r, c]
            det = yy * xx - yx * xy
            iy, ix = r + (ey * xx - ex * yx) / det, c + (ex * yy - ey * xy) / det
        reach = np.ceil(1.2 * SOMA * self.cells["a"] + 3 * SOMA_EDGE_PX + 2).astype(int)
        for i, cell in enumerate(self.cells):
            r0, r1 = int(iy[i]) - reach[i], int(iy[i]) + reach[i] + 1
            c0, c1 = int(ix[i]) - reach[i], int(ix[i]) + reach[i] + 1
            if r1 > 0 and c1 > 0 and r0 < h and c0 < w:
                yield cell, (slice(max(r0, 0), min(r1, h)), slice(max(c0, 0), min(c1, w)))


def section_truth(config: PhantomConfig, brain: str, section: int) -> SectionTruth:
    """Cells, noiseless stains, masks, molecules and regions of one section, in the canvas plane.

    Keyed by (config.seed, brain, section): the order of calls does not matter, and any section index and
    brain name is allowed, listed in the configuration or not.
    """
    cells = place_cells(config, brain, section)
    painter = Painter(config, brain, section, cells)
    h, w = config.canvas
    masks = np.zeros((h, w), np.int32)
    image = np.empty((2, h, w), np.float32)
    regions = np.empty((h, w), np.uint8)
    anatomy = Anatomy.of(config, brain, section)
    x = np.arange(w, dtype=np.float32)[None, :]
    for top in range(0, h, 512):
        rows = slice(top, min(top + 512, h))
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        down, across = np.broadcast_to(y, (len(y), w)), np.broadcast_to(x, (len(y), w))
        image[:, rows] = painter.paint(down, across, masks[rows])
        regions[rows] = anatomy.regions(y, x)
    molecules, blanks = place_molecules(config, brain, section, cells)
    genes = panel_genes(config.panel_of(brain), config.genes, config.shared)
    return SectionTruth(genes, cells, image, masks, molecules, blanks, regions)


def tissue_region(regions: np.ndarray) -> np.ndarray:
    """Where there is tissue with cells: neither outside nor ventricle."""
    return (regions != REGION_INDEX["outside"]) & (regions != REGION_INDEX["ventricle"])
