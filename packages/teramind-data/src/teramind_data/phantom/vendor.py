"""One section in the vendor's files: mosaics, transcripts, cells, and its registration.

The slide is painted from the truth at the canvas coordinates of its own pixels, so it is a warped section
and not a resampled picture; transcripts and cell outlines go through the same map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from teramind_data.phantom.cells import SOMA
from teramind_data.phantom.config import PhantomConfig
from teramind_data.phantom.genes import blank_genes
from teramind_data.phantom.keys import generator
from teramind_data.phantom.registration_json import Placement
from teramind_data.phantom.render import Painter, SectionTruth

STAINS = ("DAPI", "PolyT")
GAIN = (24.0, 31.0)  # camera counts for one step of the truth's 0 .. 255 scale
OFFSET = (120.0, 150.0)
READ_NOISE = 1.2  # sd in steps of the truth's scale
SHOT_NOISE = 0.02  # variance a step
FOV_UM = 200.0
Z_PLANES = 7
LATTICE_PX = 8
STRIP_PX = 512
OUTLINE_POINTS = 24


@dataclass(frozen=True)
class Microns:
    """Slide pixels = scale * um + offset, the vendor's 3 x 3 matrix."""

    scale: float
    offset_x: float
    offset_y: float

    @classmethod
    def of(cls, config: PhantomConfig, brain: str, section: int) -> Microns:
        """The stage's origin lies outside the mosaic, as on the instrument."""
        x, y = generator(config.seed, brain, section, "microns").uniform(60.0, 400.0, 2)
        return cls(1.0 / config.pixel_size_um, round(float(x), 4), round(float(y), 4))

    def from_pixels(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slide pixels to um, (y, x)."""
        return (y - self.offset_y) / self.scale, (x - self.offset_x) / self.scale

    def text(self) -> str:
        """The file: three rows of three numbers."""
        return f"{self.scale!r} 0.0 {self.offset_x!r}\n0.0 {self.scale!r} {self.offset_y!r}\n0.0 0.0 1.0\n"


def _strips(placement: Placement) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(rows, canvas y, canvas x) of the slide, strip by strip; float32 (rows, width).

    The inverse map is found exactly on a lattice of 8 px and between by cubic splines (error below 1e-3
    px: the warp bends over hundreds of pixels).
    """
    from scipy.interpolate import RectBivariateSpline

    h, w = placement.slide
    ly = np.arange(-2, h // LATTICE_PX + 4) * float(LATTICE_PX)
    lx = np.arange(-2, w // LATTICE_PX + 4) * float(LATTICE_PX)
    grid_y, grid_x = np.meshgrid(ly, lx, indexing="ij")
    y, x = placement.to_canvas(grid_y.ravel(), grid_x.ravel())
    y_at = RectBivariateSpline(ly, lx, y.reshape(grid_y.shape))
    x_at = RectBivariateSpline(ly, lx, x.reshape(grid_y.shape))
    columns = np.arange(w, dtype=float)
    for top in range(0, h, STRIP_PX):
        rows = np.arange(top, min(top + STRIP_PX, h), dtype=float)
        yield (
            slice(top, top + len(rows)),
            y_at(rows, columns).astype(np.float32),
            x_at(rows, columns).astype(np.float32),
        )


def _illumination(rows: np.ndarray, columns: np.ndarray, config: PhantomConfig) -> np.ndarray:
    """Falloff of the light towards the corners of each field of view, float32 (rows, columns)."""
    field = FOV_UM / config.pixel_size_um
    y, x = (2 * (rows / field % 1.0) - 1)[:, None], (2 * (columns / field % 1.0) - 1)[None, :]
    return (1.0 - config.illumination * (y * y + x * x) / 2).astype(np.float32)


def slide_image(
    config: PhantomConfig, brain: str, section: int, truth: SectionTruth, placement: Placement
) -> np.ndarray:
    """The mosaics uint16 (stain, slide height, slide width), with the camera's offset, gain and noise."""
    painter = Painter(config, brain, section, truth.cells)
    image = np.empty((len(STAINS), *placement.slide), np.uint16)
    # Staining and lamp differ between brains, as on a real instrument.
    gain = np.array(GAIN) * generator(config.seed, brain, "gain").uniform(0.9, 1.1, len(STAINS))
    columns = np.arange(placement.slide[1], dtype=float)
    for rows, y, x in _strips(placement):
        light = _illumination(np.arange(rows.start, rows.stop, dtype=float), columns, config)
        for s, picture in enumerate(painter.paint(y, x)):
            picture = picture * light
            rng = generator(config.seed, brain, section, "camera", s, rows.start)
            noise = rng.standard_normal(picture.shape, np.float32)
            picture += config.noise * np.sqrt(READ_NOISE**2 + SHOT_NOISE * picture) * noise
            image[s, rows] = np.clip(np.rint(OFFSET[s] + gain[s] * picture), 0, 65535).astype(np.uint16)
    return image


def write_images(folder: Path, image: np.ndarray, microns: Microns) -> None:
    """`images/`: one tiled BigTIFF a stain, and the micron transform."""
    import tifffile

    (folder / "images").mkdir(parents=True)
    for s, stain in enumerate(STAINS):
        tifffile.imwrite(
            folder / "images" / f"mosaic_{stain}_z3.tif",
            image[s],
            bigtiff=True,
            tile=(256, 256),
            photometric="minisblack",
            metadata=None,
        )
    (folder / "images" / "micron_to_mosaic_pixel_transform.csv").write_text(microns.text())


def _fov(y_um: np.ndarray, x_um: np.ndarray, low: tuple[float, float], width_um: float) -> np.ndarray:
    """Field of view of each point, numbered row by row over the slide."""
    per_row = int(width_um // FOV_UM) + 1
    return (((y_um - low[0]) // FOV_UM) * per_row + (x_um - low[1]) // FOV_UM).astype(np.int64)


@dataclass(frozen=True)
class SectionFiles:
    """What the writers of one section share."""

    config: PhantomConfig
    brain: str
    section: int
    truth: SectionTruth
    placement: Placement
    microns: Microns

    def to_microns(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas pixels to the instrument's um, (y, x)."""
        return self.microns.from_pixels(*self.placement.to_slide(y, x))

    def fov(self, y_um: np.ndarray, x_um: np.ndarray) -> np.ndarray:
        """Field of view of points in um."""
        top, left = self.microns.from_pixels(np.zeros(1), np.zeros(1))
        return _fov(y_um, x_um, (float(top[0]), float(left[0])), self.placement.slide[1] / self.microns.scale)

    def names(self) -> tuple[str, ...]:
        """Genes and then blanks, as barcodes are numbered."""
        return self.truth.genes + blank_genes(self.config.blanks)

    def entity_ids(self) -> np.ndarray:
        """18-digit cell names int64, unlike in every section."""
        base = int(
            generator(self.config.seed, self.brain, self.section, "entities").integers(10**8, 9 * 10**8)
        )
        return base * 10**9 + self.truth.cells["cell_id"].astype(np.int64)


def write_transcripts(folder: Path, files: SectionFiles) -> None:
    """`detected_transcripts.csv`, ordered by field of view, as the instrument writes it."""
    import polars as pl

    truth, config = files.truth, files.config
    y_px = np.concatenate([truth.molecules.y, truth.blanks.y])
    x_px = np.concatenate([truth.molecules.x, truth.blanks.x])
    barcode = np.concatenate([truth.molecules.gene, truth.blanks.gene + config.genes])
    y, x = files.to_microns(y_px, x_px)
    fov = files.fov(y, x)
    rng = generator(config.seed, files.brain, files.section, "readout")
    plane = rng.integers(0, Z_PLANES, len(y)).astype(float)
    order = np.lexsort((rng.random(len(y)), fov))
    y, x, fov, barcode = y[order], x[order], fov[order], barcode[order]
    within = FOV_UM * files.microns.scale
    top, left = files.microns.from_pixels(np.zeros(1), np.zeros(1))
    names = np.array(files.names())
    transcript = np.array([f"PHANT{i:011d}" for i in range(len(names))])
    pl.DataFrame(
        {
            "": np.arange(len(y)),
            "barcode_id": barcode,
            "global_x": x,
            "global_y": y,
            "global_z": plane,
            "x": (x - left) % FOV_UM / FOV_UM * within,
            "y": (y - top) % FOV_UM / FOV_UM * within,
            "fov": fov,
            "gene": names[barcode],
            "transcript_id": transcript[barcode],
        }
    ).write_csv(folder / "detected_transcripts.csv", float_precision=5, quote_style="never")


def write_cells(folder: Path, files: SectionFiles) -> None:
    """`cell_by_gene.csv` and `cell_metadata.csv`: the cells and what was counted in each."""
    import polars as pl

    truth, names = files.truth, files.names()
    cells, n = truth.cells, len(truth.cells)
    entity = files.entity_ids()
    owned = truth.molecules.cell > 0
    flat = (truth.molecules.cell[owned].astype(np.int64) - 1) * len(names) + truth.molecules.gene[owned]
    counts = np.bincount(flat, minlength=n * len(names)).reshape(n, len(names))
    table = {"cell": entity} | {name: counts[:, i] for i, name in enumerate(names)}
    pl.DataFrame(table).write_csv(folder / "cell_by_gene.csv")

    y, x = files.to_microns(cells["y"], cells["x"])
    outline = soma_outlines(files)
    area = SOMA**2 * np.pi * cells["a"] * cells["b"] * files.config.pixel_size_um**2
    pl.DataFrame(
        {
            "EntityID": entity,
            "fov": files.fov(y, x),
            "volume": area * 1.5 * Z_PLANES,
            "center_x": x,
            "center_y": y,
            "min_x": outline[..., 0].min(1),
            "min_y": outline[..., 1].min(1),
            "max_x": outline[..., 0].max(1),
            "max_y": outline[..., 1].max(1),
            "anisotropy": cells["a"] / cells["b"],
            "transcript_count": counts.sum(1),
        }
    ).write_csv(folder / "cell_metadata.csv", float_precision=5)


def soma_outlines(files: SectionFiles) -> np.ndarray:
    """Soma outlines in um, float64 (cells, points, 2) as x, y."""
    cells = files.truth.cells
    turn = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
    u, v = SOMA * np.outer(cells["a"], np.cos(turn)), SOMA * np.outer(cells["b"], np.sin(turn))
    cos, sin = np.cos(cells["angle"])[:, None], np.sin(cells["angle"])[:, None]
    y, x = cells["y"][:, None] + u * sin + v * cos, cells["x"][:, None] + u * cos - v * sin
    y_um, x_um = files.to_microns(y.ravel(), x.ravel())
    return np.stack([x_um, y_um], -1).reshape(len(cells), OUTLINE_POINTS, 2)


def write_boundaries(folder: Path, files: SectionFiles) -> None:
    """`cell_boundaries.parquet`: a multipolygon in um for each cell and z plane, the vendor's columns."""
    import geopandas  # type: ignore[import-untyped]
    import shapely

    polygons = shapely.polygons(soma_outlines(files))
    multi = shapely.multipolygons(polygons[:, None]) if len(polygons) else np.zeros(0, object)
    n = len(multi)
    plane = np.tile(np.arange(Z_PLANES), n)
    frame = {
        "ID": np.arange(n * Z_PLANES),
        "EntityID": np.repeat(files.entity_ids(), Z_PLANES),
        "ZIndex": plane,
        "Geometry": np.repeat(multi, Z_PLANES),
        "Type": ["cell"] * (n * Z_PLANES),
        "ZLevel": 1.5 * (plane + 1),
        "Name": [None] * (n * Z_PLANES),
        "ParentID": [None] * (n * Z_PLANES),
        "ParentType": [None] * (n * Z_PLANES),
    }
    geopandas.GeoDataFrame(frame, geometry="Geometry").to_parquet(
        folder / "cell_boundaries.parquet", index=False
    )


def write_section(folder: Path, files: SectionFiles) -> None:
    """All the vendor's files of one section, and its registration, into a new folder."""
    image = slide_image(files.config, files.brain, files.section, files.truth, files.placement)
    write_images(folder, image, files.microns)
    write_transcripts(folder, files)
    write_cells(folder, files)
    write_boundaries(folder, files)
    name = f"ABBA-Transform-{files.brain}-{folder.name}.json"
    (folder / name).write_text(json.dumps(files.placement.to_json(), indent=2) + "\n")
