"""What `bench_ingest` measures, each run in a process of its own: `python -m tests.benchmarks.ingest_contestants NAME
FOLDER` prints one line of JSON: wall and CPU seconds, peak memory of the process in bytes, a result to check, and the
CPU seconds of loading libraries and compiled code beforehand, which are not in the others.

FOLDER holds `section_000` in the vendor's layout and takes what is written.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from teramind_data.geometry import BIN_PX, tiles
from teramind_data.ingest import merscope
from teramind_data.ingest.intensity import Window
from teramind_data.ingest.manifest import SectionEntry
from teramind_data.ingest.memory import DEFAULT, limits
from teramind_data.ingest.plan import PlannedSection
from teramind_data.ingest.slide import Slide
from teramind_data.ingest.spill import Frame
from teramind_data.ingest.tasks import MeasureSection, ReadTranscripts, Target, WriteExpression, WriteImages
from teramind_data.ingest.transforms import IDENTITY, Affine, ThinPlateSpline, Transform
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, BrainWriter, Section, create_brain

PIXEL_UM = 0.108
EDGE = 16384
WINDOW = Window(200.0, 4000.0)


def slight_affine() -> Affine:
    """A turn by 1.2 degrees and a stretch by 1 %."""
    c, s = 1.01 * np.cos(0.02), 1.01 * np.sin(0.02)
    return Affine(np.array([[c, -s, 80.0], [s, c, -80.0]]))


def spline() -> ThinPlateSpline:
    """The same, and 36 landmarks, 3,277 px apart, moved by 30 px (3 um): more bend to the pixel than ABBA's, whose
    landmarks are rarer."""
    line = np.linspace(0, EDGE, 6)
    marks = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    moved = slight_affine().forward(marks) + np.random.default_rng(7).normal(0, 30, marks.shape)
    return ThinPlateSpline(marks, moved)


def planned(folder: Path, to_image: Transform) -> PlannedSection:
    """The section as ingest plans it."""
    entry = SectionEntry(folder="section_000", z_um=0.0, registration="identity")
    found = merscope.read_folder(folder / "section_000")
    return PlannedSection(0, entry, 0.0, found, {"DAPI": found.image_source("DAPI")}, None, to_image)


def output(folder: Path, kind: str, panel: Panel) -> BrainWriter:
    """An empty store."""
    shutil.rmtree(folder / "out.zarr", ignore_errors=True)
    spec = BrainSpec(
        kind=kind,  # type: ignore[arg-type]
        canvas=(EDGE, EDGE),
        pixel_size_um=PIXEL_UM,
        sections=(Section(0, "one", 0.0),),
        panel=panel,
        stains=("DAPI",) if kind == "generated" else (),
    )
    return create_brain(folder / "out.zarr", spec)


def warp(folder: Path, to_image: Transform) -> int:
    """The stain through a registration into the store, with its pyramid: the tasks of an ingest."""
    writer = output(folder, "generated", Panel(("Gad1",)))
    task = WriteImages(
        Target("bench", writer.url), (planned(folder, to_image),), (0, 0), {"DAPI": WINDOW}, "linear"
    )
    for unit in writer.pending("morphology"):
        task(unit)
    writer.image("morphology").finish()
    return EDGE**2


def copy(folder: Path) -> int:
    """The same pixels, window, layout and pyramid, but each pixel where it is."""
    writer = output(folder, "generated", Panel(("Gad1",)))
    with Slide(folder / "section_000" / "images" / "mosaic_DAPI_z0.tif") as slide:
        for z, box in writer.pending("morphology"):
            out = np.empty((1, *box.shape), np.uint8)
            for part in tiles(box, 512):
                out[(0, *part.shift(-box.y0, -box.x0).slices)] = WINDOW.apply(slide.read(part))
            writer.write("morphology", z, box, out)
    writer.image("morphology").finish()
    return EDGE**2


def counts_teramind(folder: Path) -> int:
    """Transcripts to counts in a store, with the pyramid: the tasks of an ingest; molecules are sorted on the way."""
    scratch = folder / "scratch"
    scratch.mkdir()
    section = replace(planned(folder, IDENTITY), images={})
    laid = ReadTranscripts(scratch)(section)
    panel = Panel(tuple(sorted(laid.names.names)))
    fits = limits(DEFAULT, 0, len(panel), 1)
    measure = MeasureSection("bench", scratch, PIXEL_UM, Frame((0, 0), (EDGE, EDGE)), len(panel), fits)
    measured = measure((section, laid, laid.names.to_panel(panel)))
    writer = output(folder, "expression", panel)
    task = WriteExpression(Target("bench", writer.url), (measured.molecules,), len(panel), "uint8")
    for unit in writer.pending("expression"):
        task(unit)
    writer.image("expression").finish()
    shutil.rmtree(scratch)
    return int(measured.counts.sum())


def counts_spatialdata(folder: Path) -> int:
    """Transcripts to counts in memory: one channel a gene, one pixel a bin."""
    from spatialdata import rasterize
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity
    from spatialdata_io import merscope as read

    sdata = read(folder / "section_000", mosaic_images=False, cells_boundaries=False, cells_table=False)
    (name,) = sdata.points
    # rasterize (spatialdata 0.7.3) fails on the reader's table, which has several partitions that each count their rows
    # from 0 ("cannot reindex on an axis with duplicate labels"). So: one partition, of the columns needed; and in the
    # section's own um, which saves it the transform to pixels.
    table = sdata[name][["x", "y", "gene"]].compute().reset_index(drop=True)
    points = PointsModel.parse(table, feature_key="gene", npartitions=1, transformations={"um": Identity()})
    image = rasterize(
        points,
        ("x", "y"),
        [0, 0],
        [EDGE * PIXEL_UM, EDGE * PIXEL_UM],
        "um",
        target_unit_to_pixels=1 / (BIN_PX * PIXEL_UM),
        value_key="gene",
        return_single_channel=False,
    )
    if image.shape != (found := (len(image.c), EDGE // BIN_PX, EDGE // BIN_PX)):
        raise RuntimeError(f"rasterize made {image.shape} and not {found}")
    return int(image.data.sum().compute())


CONTESTANTS: dict[str, Callable[[Path], int]] = {
    "affine": lambda folder: warp(folder, slight_affine()),
    "spline": lambda folder: warp(folder, spline()),
    "copy": copy,
    "teramind": counts_teramind,
    "spatialdata": counts_spatialdata,
}


def load() -> None:
    """Load the libraries and the compiled code that a process loads once, whatever it does then."""
    import polars  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import zarrs  # noqa: F401

    from teramind_data.ingest.kernels import affine_levels, nodes_levels

    pixels, out = np.zeros((8, 8), np.uint16), np.zeros((4, 4), np.uint8)
    window, place = (0.0, 1.0), (0, 4, 0, 4)
    affine_levels(pixels, (0, 0), (8, 8), IDENTITY.matrix, (0, 0), window, out, place)
    nodes_levels(pixels, (0, 0), (8, 8), np.zeros((2, 3, 3)), 4, (0, 0), window, out, place)


def main() -> None:
    """Run one."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    before = time.process_time()
    if name == "spatialdata":
        import spatialdata  # noqa: F401
        import spatialdata_io  # noqa: F401
    else:
        load()
    loading = time.process_time() - before
    wall, cpu = time.perf_counter(), time.process_time()
    result = CONTESTANTS[name](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**spent, "peak": peak, "result": result, "loading": loading}))


if __name__ == "__main__":
    main()
