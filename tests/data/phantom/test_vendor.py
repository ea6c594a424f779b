"""The vendor's files: readable by a stranger's reader, and undone by their own registration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates

from teramind_data.phantom import PhantomConfig, section_truth
from teramind_data.phantom.registration_json import place_section

SECTIONS = [("A", 0), ("A", 1), ("C", 1)]


def _folder(phantom: Path, brain: str, section: int) -> Path:
    return phantom / "raw" / brain / f"section_{section:03d}"


def _through(step: dict, points: np.ndarray) -> np.ndarray:
    """One realTransform of a registration file on (n, 2) points x, y, by independent means."""
    if "affinetransform3d" in step:
        matrix = np.array(step["affinetransform3d"]).reshape(3, 4)
        return points @ matrix[:2, :2].T + matrix[:2, 3]
    inner = step["wrappedTransform"]["wrappedTransform"]
    assert inner["type"] == "ThinplateSplineTransform"
    spline = RBFInterpolator(
        np.array(inner["srcPts"]).T, np.array(inner["tgtPts"]).T, kernel="thin_plate_spline"
    )
    return spline(points)


def _to_slide(
    folder: Path, config: PhantomConfig, y: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    (path,) = folder.glob("ABBA-Transform-*.json")
    sequence = json.loads(path.read_text())
    assert sequence["type"] == "InvertibleRealTransformSequence"
    points = np.column_stack([x, y]) * config.pixel_size_um / 1000
    for i in range(sequence["size"]):
        points = _through(sequence[f"realTransform_{i}"], points)
    return points[:, 1], points[:, 0]


@pytest.mark.parametrize(("brain", "section"), SECTIONS)
def test_registration_undoes_the_slide(
    phantom: Path, config: PhantomConfig, brain: str, section: int
) -> None:
    folder = _folder(phantom, brain, section)
    truth = section_truth(config, brain, section)
    grid = np.mgrid[0:512, 0:512].reshape(2, -1).astype(float)
    y, x = _to_slide(folder, config, *grid)
    labels = truth.masks.ravel()
    for stain, name in enumerate(("DAPI", "PolyT")):
        slide = tifffile.imread(folder / "images" / f"mosaic_{name}_z3.tif").astype(float)
        assert min(y.min(), x.min()) > 0
        assert y.max() < slide.shape[0] - 1
        assert x.max() < slide.shape[1] - 1
        pulled = map_coordinates(slide, [y, x], order=1)
        wanted = truth.image[stain].ravel().astype(float)
        gain, offset = np.polyfit(wanted, pulled, 1)
        error = (pulled - offset) / gain - wanted
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 33
        if name == "DAPI":  # the light's own centroid stands on the truth's
            weight = np.maximum(pulled - offset, 0) * (labels > 0)
            mass = np.bincount(labels, weight)[1:]
            cy, cx = (np.bincount(labels, weight * axis)[1:] / mass for axis in grid)
            area = np.bincount(labels)[1:]
            ty, tx = (np.bincount(labels, axis)[1:] / area for axis in grid)
            assert np.hypot(cy - ty, cx - tx).max() < 1.0


def test_sections_lie_differently_and_odd_ones_are_warped(config: PhantomConfig) -> None:
    placements = [place_section(config, brain, z) for brain in ("A", "C") for z in range(4)]
    assert [p.spline is not None for p in placements] == [False, True] * 4
    turns = [np.arctan2(p.first[1, 0], p.first[0, 0]) for p in placements]
    assert np.abs(np.subtract.outer(turns, turns)[~np.eye(8, dtype=bool)]).min() > 1e-3
    y, x = np.mgrid[0:512:37, 0:512:37].reshape(2, -1).astype(float)
    for p in placements:
        back = p.to_canvas(*p.to_slide(y, x))
        np.testing.assert_allclose(back, (y, x), atol=1e-4)
    warped = placements[1]
    straight = np.column_stack([x, y]) * warped.pixel_mm @ warped.first[:, :2].T + warped.first[:, 2]
    moved = np.abs(warped.spline.forward(straight) - straight).max() / warped.pixel_mm
    assert 3 < moved < 40


def test_transcripts_go_through_the_same_map(phantom: Path, config: PhantomConfig) -> None:
    folder = _folder(phantom, "A", 1)
    table = pd.read_csv(folder / "detected_transcripts.csv")
    assert list(table.columns) == [
        "Unnamed: 0",
        "barcode_id",
        "global_x",
        "global_y",
        "global_z",
        "x",
        "y",
        "fov",
        "gene",
        "transcript_id",
    ]
    truth = section_truth(config, "A", 1)
    y, x = _to_slide(folder, config, truth.molecules.y.astype(float), truth.molecules.x.astype(float))
    matrix = np.loadtxt(folder / "images" / "micron_to_mosaic_pixel_transform.csv")
    assert matrix[0, 0] == pytest.approx(1 / config.pixel_size_um)
    assert matrix[0, 2] > 1
    real = table[~table.gene.str.startswith("Blank")]
    px = real[["global_x", "global_y"]].to_numpy() @ matrix[:2, :2].T + matrix[:2, 2]
    names = np.array(truth.genes)[truth.molecules.gene]
    assert len(real) == len(names)
    ours = np.lexsort((y.round(2), x.round(2), names))
    theirs = np.lexsort((px[:, 1].round(2), px[:, 0].round(2), real.gene.to_numpy()))
    assert (real.gene.to_numpy()[theirs] == names[ours]).all()
    assert np.median(np.hypot(px[theirs, 0] - x[ours], px[theirs, 1] - y[ours])) < 1e-3
    assert table.fov.is_monotonic_increasing
    assert table.fov.nunique() > 1
    assert set(table.global_z) == {float(z) for z in range(7)}
    limit = 200 / config.pixel_size_um
    assert table[["x", "y"]].min().min() >= 0
    assert table[["x", "y"]].max().max() <= limit


def test_images_are_tiled_bigtiff(phantom: Path) -> None:
    with tifffile.TiffFile(_folder(phantom, "A", 0) / "images" / "mosaic_PolyT_z3.tif") as tif:
        assert tif.is_bigtiff
        assert tif.pages[0].is_tiled
        assert tif.pages[0].dtype == np.uint16
        pixels = tif.pages[0].asarray()
    assert min(pixels.shape) > 512
    assert 100 < np.median(pixels[:16]) < 600  # bare slide: camera offset and a little light


@pytest.mark.filterwarnings("ignore")
def test_a_strangers_reader_reads_every_section(phantom: Path, config: PhantomConfig) -> None:
    spatialdata_io = pytest.importorskip("spatialdata_io")
    for brain in config.brains:
        for section in range(config.sections):
            folder = _folder(phantom, brain, section)
            data = spatialdata_io.merscope(folder)
            truth = section_truth(config, brain, section)
            image = next(iter(data.images.values()))["scale0"].ds["image"]
            assert set(image.coords["c"].values) == {"DAPI", "PolyT"}
            points = next(iter(data.points.values()))
            assert len(points) == len(truth.molecules) + len(truth.blanks)
            assert len(next(iter(data.shapes.values()))) == len(truth.cells)
            table = data.tables["table"]
            assert table.shape == (len(truth.cells), config.genes)
            assert list(table.var_names) == list(truth.genes)
            assert table.obsm["blank"].shape[1] == config.blanks
            assert table.X.sum() == (truth.molecules.cell > 0).sum()


def test_boundaries_hold_the_cells_they_name(phantom: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    folder = _folder(phantom, "C", 0)
    shapes = geopandas.read_parquet(folder / "cell_boundaries.parquet")
    cells = pd.read_csv(folder / "cell_metadata.csv", index_col=0)
    assert len(shapes) == 7 * len(cells)
    outline = shapes[shapes.ZIndex == 0].set_index("EntityID").geometry.loc[cells.index]
    assert outline.is_valid.all()
    centre = geopandas.points_from_xy(cells.center_x, cells.center_y)
    assert outline.contains(geopandas.GeoSeries(centre, index=cells.index)).all()
