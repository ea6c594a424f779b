"""Cells and their transcripts: who stands where, what they look like, what they express.

Cells are laid by random sequential addition: candidates (Poisson in every 256-px block, keyed by the
block) enter in random order, one that would come too near an earlier one is dropped. The candidates'
density is the one that leaves the region's coverage. Molecules follow from the cell's type, size, activity
and neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from teramind_data.phantom.anatomy import COVERAGE, VESSEL_HALF_WIDTH_PX, Anatomy, mixture_table
from teramind_data.phantom.config import PhantomConfig
from teramind_data.phantom.genes import (
    INTERACTING,
    INTERACTION_RANGE_PX,
    INTERACTION_STRENGTH,
    MARKERS,
    TYPE_INDEX,
    TYPES,
    mean_counts,
)
from teramind_data.phantom.keys import generator

BLOCK_PX = 256
GAP = 1.05  # nuclei keep this multiple of the sum of their long half-axes apart
SOMA = 1.35  # half-axes of the soma over those of the nucleus
MAX_SPOTS = 5


@dataclass(frozen=True)
class Look:
    """A type's nucleus and soma. Lengths in um, brightness on the 0 .. 255 scale of the truth image."""

    radius_um: float  # geometric mean of the half-axes
    aspect: float  # long over short half-axis
    dapi: float
    polyt: float  # soma
    spots: int  # chromocentres
    spot: float  # their contrast
    nucleolus: float  # depth of the dark centre in DAPI (bright in PolyT)


LOOKS: dict[str, Look] = {
    "glut_cortex": Look(5.60, 1.10, 132.0, 176.0, 3, 0.16, 0.28),
    "glut_hippocampus": Look(4.75, 1.06, 176.0, 128.0, 4, 0.20, 0.06),
    "glut_subcortex": Look(5.35, 1.14, 120.0, 190.0, 2, 0.14, 0.34),
    "gaba_pvalb": Look(4.95, 1.12, 148.0, 160.0, 4, 0.20, 0.20),
    "gaba_sst": Look(4.80, 1.18, 158.0, 142.0, 4, 0.20, 0.14),
    "dopa": Look(6.10, 1.12, 104.0, 226.0, 1, 0.10, 0.40),
    "astrocyte": Look(4.50, 1.16, 138.0, 84.0, 5, 0.12, 0.0),
    "endothelial": Look(4.15, 1.95, 196.0, 88.0, 0, 0.0, 0.0),
    "oligodendrocyte": Look(4.00, 1.05, 224.0, 108.0, 0, 0.0, 0.0),
    "opc": Look(4.35, 1.22, 164.0, 92.0, 2, 0.14, 0.0),
    "microglia": Look(3.95, 1.50, 206.0, 74.0, 4, 0.16, 0.0),
}

CELL_DTYPE = np.dtype(
    [
        ("cell_id", "i4"),
        ("type", "u1"),
        ("region", "u1"),
        ("y", "f4"),
        ("x", "f4"),
        ("radius", "f4"),
        ("a", "f4"),
        ("b", "f4"),
        ("angle", "f4"),  # px; a along angle (from +x towards +y)
        ("activity", "f4"),
        ("dapi", "f4"),
        ("polyt", "f4"),
        ("wobble", "f4", (4,)),  # outline: amplitude and phase of the 2nd and 3rd harmonic
        ("spots", "f4", (MAX_SPOTS, 3)),  # chromocentres: v, u in units of the half-axes, contrast
    ]
)


def type_column(name: str) -> np.ndarray:
    """One property of `LOOKS` for all types, float64 (types,)."""
    return np.array([getattr(LOOKS[t], name) for t in TYPES], float)


def addition_time(coverage: np.ndarray) -> np.ndarray:
    """Candidates an area of one disc that leave `coverage` of discs after random sequential addition.

    Integrates d(theta)/dt = 1 - 4 theta + 3.308 theta^2 + 1.407 theta^3 (Schaaf and Talbot, J. Chem. Phys.
    91, 1989), good far beyond the coverages used here.
    """
    theta = np.linspace(0.0, 0.4, 801)
    rate = 1.0 / (1 - 4 * theta + 3.308 * theta**2 + 1.407 * theta**3)
    time = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(theta))])
    return np.interp(coverage, theta, time)


def _intensity(pixel_size_um: float) -> np.ndarray:
    """Candidates a pixel by region."""
    mix = mixture_table()
    radius = type_column("radius_um") / pixel_size_um
    area = mix @ (np.pi * radius**2)
    guard = mix @ (np.pi * radius**2 * type_column("aspect") * GAP**2)
    area = np.where(area > 0, area, 1.0)
    return addition_time(COVERAGE * guard / area) / np.where(guard > 0, guard, 1.0)


def _candidates(
    config: PhantomConfig, brain: str, section: int, anatomy: Anatomy, block: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Candidate cells of one block, and the random order in which they enter."""
    rng = generator(config.seed, brain, section, "cells", *block)
    intensity = _intensity(config.pixel_size_um)
    n = int(rng.poisson(intensity.max() * BLOCK_PX**2))
    y, x = (rng.uniform(0, BLOCK_PX, (2, n)).T + np.array(block) * BLOCK_PX - 0.5).T
    keep, order, which, near = rng.uniform(size=(4, n))
    normal = np.clip(rng.standard_normal((6, n)), -2.2, 2.2)
    angle, wobble = rng.uniform(0, np.pi, n), rng.uniform(size=(n, 4))
    spots = rng.uniform(size=(n, MAX_SPOTS, 3))
    region = anatomy.regions(y, x)
    distance, along = anatomy.vessels(y, x)
    # Nuclei do not stick out of the tissue.
    alive = (keep < intensity[region] / intensity.max()) & (anatomy.radius(y, x) < 0.975)

    cumulative = mixture_table().cumsum(1)
    kind = np.minimum((which[:, None] > cumulative[region]).sum(1), len(TYPES) - 1)
    on_vessel = distance < VESSEL_HALF_WIDTH_PX
    endothelial, astrocyte = TYPE_INDEX["endothelial"], TYPE_INDEX["astrocyte"]
    kind[(on_vessel & (near < 0.65)) | (near < 0.008)] = endothelial
    kind[~on_vessel & (distance < 4 * VESSEL_HALF_WIDTH_PX) & (near > 0.85)] = astrocyte  # end-feet

    cells = np.zeros(n, CELL_DTYPE)
    cells["type"], cells["region"], cells["y"], cells["x"] = kind, region, y, x
    radius = type_column("radius_um")[kind] / config.pixel_size_um * np.exp(0.06 * normal[0])
    aspect = np.maximum(1.0, type_column("aspect")[kind] * np.exp(0.05 * normal[1]))
    cells["radius"], cells["a"], cells["b"] = radius, radius * np.sqrt(aspect), radius / np.sqrt(aspect)
    cells["angle"] = np.where(kind == endothelial, along + 0.12 * normal[5], angle)
    activity = np.exp(0.15 * normal[2])
    cells["activity"] = activity
    cells["dapi"] = type_column("dapi")[kind] * np.exp(0.04 * normal[3])
    # An active cell holds more RNA, so it is brighter in PolyT: the counts tell.
    cells["polyt"] = np.minimum(type_column("polyt")[kind] * activity**0.5 * np.exp(0.04 * normal[4]), 245.0)
    cells["wobble"] = wobble * np.array([0.04, 2 * np.pi, 0.03, 2 * np.pi])
    at, turn = 0.75 * np.sqrt(spots[..., 0]), 2 * np.pi * spots[..., 1]
    cells["spots"][..., 0], cells["spots"][..., 1] = at * np.sin(turn), at * np.cos(turn)
    present = np.arange(MAX_SPOTS) < type_column("spots")[kind][:, None]
    cells["spots"][..., 2] = np.where(
        present, type_column("spot")[kind][:, None] * (0.7 + 0.6 * spots[..., 2]), 0
    )
    return cells[alive], order[alive]


def _sequential(y: np.ndarray, x: np.ndarray, reach: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Indices of the discs that stay when discs of radius `reach` enter in `order` and may not touch."""
    if not len(y):
        return np.zeros(0, np.int64)
    edge = 2.0 * float(reach.max())
    rows, cols = (y // edge).astype(int).tolist(), (x // edge).astype(int).tolist()
    grid: dict[tuple[int, int], list[int]] = {}
    ys, xs, rs = y.tolist(), x.tolist(), reach.tolist()
    for i in np.argsort(order, kind="stable").tolist():
        r, c = rows[i], cols[i]
        rivals = (j for dr in (-1, 0, 1) for dc in (-1, 0, 1) for j in grid.get((r + dr, c + dc), ()))
        if all((ys[i] - ys[j]) ** 2 + (xs[i] - xs[j]) ** 2 >= (rs[i] + rs[j]) ** 2 for j in rivals):
            grid.setdefault((r, c), []).append(i)
    return np.array(sorted(i for members in grid.values() for i in members), np.int64)


def place_cells(config: PhantomConfig, brain: str, section: int) -> np.ndarray:
    """Cells of a section: `CELL_DTYPE` (n,), numbered from 1 in block order."""
    anatomy = Anatomy.of(config, brain, section)
    h, w = config.canvas
    parts = [
        _candidates(config, brain, section, anatomy, (r, c))
        for r in range(h // BLOCK_PX)
        for c in range(w // BLOCK_PX)
    ]
    cells, order = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    # The outline wobbles by up to 7 %, which the gap of 5 % on both sides of a pair absorbs with the soft
    # edge.
    cells = cells[_sequential(cells["y"], cells["x"], GAP * cells["a"], order)]
    cells["cell_id"] = np.arange(1, len(cells) + 1)
    return cells


def _neighbour_field(cells: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Sum over all cells of strength * exp(-d^2 / 2 range^2), at every cell; (n, k) like `strength`."""
    out = np.zeros_like(strength)
    edge = 3.0 * INTERACTION_RANGE_PX
    tile = np.stack([cells["y"] // edge, cells["x"] // edge], 1).astype(np.int64)
    members: dict[tuple[int, int], list[int]] = {}
    for i, (r, c) in enumerate(tile.tolist()):
        members.setdefault((r, c), []).append(i)
    for (r, c), own in members.items():
        near = np.array(
            sorted(j for dr in (-1, 0, 1) for dc in (-1, 0, 1) for j in members.get((r + dr, c + dc), ()))
        )
        dy = cells["y"][own][:, None].astype(float) - cells["y"][near]
        dx = cells["x"][own][:, None].astype(float) - cells["x"][near]
        out[own] = np.exp(-(dy**2 + dx**2) / (2 * INTERACTION_RANGE_PX**2)) @ strength[near]
    return out


def expected_counts(config: PhantomConfig, brain: str, section: int, cells: np.ndarray) -> np.ndarray:
    """Mean transcripts float64 (cells, genes): type program x size x activity, raised where programs
    interact.

    An interacting pair (driver, response): the driver's mean is also multiplied by a private level of the
    cell (log-normal, sd 0.35), and the response's mean by 1 + 2 s, s = f / (1 + f), where f is the
    Gaussian-weighted (35 px) sum of the driver's program over the cell and its neighbours.
    """
    table = mean_counts(config.panel_of(brain), config.genes, config.shared)
    looks = type_column("radius_um") / config.pixel_size_um
    size = (cells["radius"] / looks[cells["type"]]) ** 2
    means = table[cells["type"]] * (size * cells["activity"] * config.transcripts)[:, None]
    level = np.exp(
        0.35
        * generator(config.seed, brain, section, "levels").standard_normal((len(cells), len(INTERACTING)))
    )
    driver = [MARKERS.index(a) for a, _ in INTERACTING]
    response = [MARKERS.index(b) for _, b in INTERACTING]
    program = table[:, driver] / table[:, driver].max(0)
    strength = program[cells["type"]] * level
    field = _neighbour_field(cells, strength) if len(cells) else strength
    means[:, driver] *= level
    means[:, response] *= 1.0 + INTERACTION_STRENGTH * field / (1.0 + field)
    return means


@dataclass(frozen=True)
class Molecules:
    """Transcripts of a section: positions float32 in canvas px, gene int32, cell_id int32 (0: background)."""

    y: np.ndarray
    x: np.ndarray
    gene: np.ndarray
    cell: np.ndarray

    def __len__(self) -> int:
        return len(self.gene)


def _inside_somas(
    cells: np.ndarray, owner: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A point for each owner index: Gaussian of half the soma's half-axes, cut off at the soma's edge."""
    sigma = 0.5
    r = sigma * np.sqrt(-2 * np.log1p(-rng.random(len(owner)) * (1 - np.exp(-0.5 / sigma**2))))
    turn = rng.uniform(0, 2 * np.pi, len(owner))
    a, b, angle = (cells[name][owner].astype(float) for name in ("a", "b", "angle"))
    along, across = SOMA * a * r * np.cos(turn), SOMA * b * r * np.sin(turn)
    return (
        cells["y"][owner] + along * np.sin(angle) + across * np.cos(angle),
        cells["x"][owner] + along * np.cos(angle) - across * np.sin(angle),
    )


def _background(
    config: PhantomConfig, brain: str, section: int, n: int, genes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """About n molecules anywhere in the tissue, any of `genes` barcodes alike."""
    rng = generator(config.seed, brain, section, "background", genes)
    anatomy = Anatomy.of(config, brain, section)
    y, x = rng.uniform(size=(2, int(rng.poisson(n * 1.25))))
    y, x = y * config.canvas[0] - 0.5, x * config.canvas[1] - 0.5
    gene = rng.integers(0, max(genes, 1), len(y))
    keep = anatomy.radius(y, x) < 1.0
    return y[keep], x[keep], gene[keep]


def place_molecules(
    config: PhantomConfig, brain: str, section: int, cells: np.ndarray
) -> tuple[Molecules, Molecules]:
    """Transcripts of the panel's genes, and of the blank barcodes, of a section."""
    means = expected_counts(config, brain, section, cells)
    rng = generator(config.seed, brain, section, "molecules")
    counts = rng.poisson(means).ravel()
    pair = np.repeat(np.arange(counts.size), counts)
    owner, gene = pair // config.genes, pair % config.genes
    y, x = _inside_somas(cells, owner, rng)
    stray = config.background / (1 - config.background) * len(gene)
    by, bx, bg = _background(config, brain, section, round(stray), config.genes)
    everything = _molecules(
        np.concatenate([y, by]),
        np.concatenate([x, bx]),
        np.concatenate([gene, bg]),
        np.concatenate([cells["cell_id"][owner], np.zeros(len(bg), np.int32)]),
        config.canvas,
    )
    # A blank barcode is seen about as often as one gene is by chance.
    blank = stray / config.genes * config.blanks
    zy, zx, zg = _background(config, brain, section, round(blank), config.blanks)
    return everything, _molecules(zy, zx, zg, np.zeros(len(zg), np.int32), config.canvas)


def _molecules(
    y: np.ndarray, x: np.ndarray, gene: np.ndarray, cell: np.ndarray, canvas: tuple[int, int]
) -> Molecules:
    inside = (y >= -0.49) & (y < canvas[0] - 0.51) & (x >= -0.49) & (x < canvas[1] - 0.51)
    return Molecules(
        y[inside].astype(np.float32),
        x[inside].astype(np.float32),
        gene[inside].astype(np.int32),
        cell[inside].astype(np.int32),
    )
