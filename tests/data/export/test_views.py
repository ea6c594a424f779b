"""Lazy views, and SpatialData's operations on them, each against the store's own numbers."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teramind_data
from teramind_data.brain import Brain, open_brain
from teramind_data.errors import InputError, MissingShardError, StoreError
from teramind_data.views import lazy_level
from tests.data.export.conftest import CANVAS, PIXEL_UM, write_small

# Notices of other libraries are not ours to turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore")

EXTENT = (CANVAS[0] * PIXEL_UM, CANVAS[1] * PIXEL_UM)


@pytest.fixture(scope="module")
def spatial(small: Brain) -> Any:
    return small.to_spatialdata()


@pytest.fixture(scope="module")
def plane(small: Brain) -> Any:
    return small.to_spatialdata(section=1)


def test_open_brain_returns_the_one_with_views(small: Brain) -> None:
    assert type(teramind_data.open_brain(small.url)) is Brain
    again = pickle.loads(pickle.dumps(small))
    assert type(again) is Brain and again.url == small.url


def test_the_store_package_does_without_the_libraries() -> None:
    import subprocess
    import sys

    code = (
        "import sys, teramind_data; teramind_data.open_brain; "
        "print(sorted({'spatialdata', 'xarray', 'dask', 'pandas', 'anndata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_read_until_asked(small: Brain, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[Any, ...]] = []
    original = Brain.read

    def counted(self: Brain, *words: Any, **named: Any) -> Any:
        reads.append(words)
        return original(self, *words, **named)

    monkeypatch.setattr(Brain, "read", counted)
    dataset = small.to_xarray()
    data = small.to_spatialdata()
    assert not reads
    crop = dataset["morphology"][:, 1, 70:90, 70:90].values
    assert len(reads) == 1 and reads[0][:2] == ("morphology", 1)
    np.testing.assert_array_equal(crop, small.morphology[:, 1, 70:90, 70:90])
    assert data["morphology"]["scale1"]["image"].data[0, 0, 0, 0].compute() == 0


def test_xarray_knows_names_and_um(small: Brain) -> None:
    dataset = small.to_xarray()
    assert dict(dataset.sizes) == {
        "stain": 2, "section": 3, "y": 400, "x": 304, "gene": 6, "y_bin": 25, "x_bin": 19
    }  # fmt: skip
    gene = dataset["expression"].sel(gene="gene3", section="s2").values
    np.testing.assert_array_equal(gene, small.expression[3, 2])
    assert float(dataset["x"][0]) == PIXEL_UM / 2
    assert float(dataset["y_bin"][1]) == 24 * PIXEL_UM
    assert dataset["morphology"].sel(y=100.1, x=75.2, method="nearest").shape == (2, 3)
    np.testing.assert_array_equal(dataset["z_um"], [0, 100, 200])


@pytest.mark.parametrize(
    "key",
    [
        (0, 1, slice(3, 77), slice(None)),
        (slice(None), slice(0, 3, 2), slice(390, 5, -7), slice(60, 70)),
        (-1, slice(None), -1, slice(0, 0)),
        (slice(1, 2), 2, slice(63, 65), 303),
    ],
)
def test_every_slicing_equals_numpy(small: Brain, key: tuple[Any, ...]) -> None:
    np.testing.assert_array_equal(lazy_level(small, "morphology")[key].compute(), small.morphology[:][key])


def test_a_lost_shard_is_an_error_where_zarr_reads_zeros(tmp_path: Path) -> None:
    import spatialdata

    brain = write_small(tmp_path / "s.zarr")
    (tmp_path / "s.zarr/images/morphology/ome.zarr/0/c/0/2/0/0").unlink()
    assert int(spatialdata.read_zarr(brain.url)["morphology"]["scale0"]["image"][:, 2, :256, :256].max()) == 0
    for view in (brain.to_xarray()["morphology"], brain.to_spatialdata()["morphology"]["scale0"]["image"]):
        with pytest.raises(MissingShardError):
            view[:, 2, :256, :256].compute()
        assert int(view[:, 1, 100:200, 100:200].max()) > 0


def test_refusals(small: Brain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such section"):
        small.to_spatialdata(section=3)
    with pytest.raises(InputError, match="no such level"):
        lazy_level(small, "morphology", 9)
    from teramind_data.store import create_brain

    create_brain(tmp_path / "half.zarr", small.spec)
    with pytest.raises(StoreError, match="incomplete"):
        open_brain(tmp_path / "half.zarr", incomplete=True).to_spatialdata()


def test_a_section_has_the_pixels_of_the_store(small: Brain, plane: Any) -> None:
    for level in range(2):
        np.testing.assert_array_equal(
            plane["morphology"][f"scale{level}"]["image"].values, small.read("morphology", 1, level=level)
        )
    np.testing.assert_array_equal(plane["expression"].values, small.read("expression", 1))
    np.testing.assert_array_equal(plane["regions"].values, small.read("regions", 1))
    points = plane["transcripts"].compute()
    assert len(points) == 3000 and set(points["gene"].cat.categories) == set(small.panel or ())


def test_bounding_box_query(small: Brain, spatial: Any) -> None:
    crop = spatial.query.bounding_box(
        axes=("z", "y", "x"),
        min_coordinate=[100, 40, 32],
        max_coordinate=[200, 120, 96],
        target_coordinate_system="global",
        # The table has a row a section, which annotates no region; SpatialData cannot filter such tables.
        filter_table=False,
    )
    pixels = crop["morphology"]["scale0"]["image"]
    np.testing.assert_array_equal(pixels.values, small.morphology[:, 1:2, 80:240, 64:192])
    y, *_ = small.molecules.read(1, teramind_data.Box(80, 240, 64, 192))
    assert len(crop["transcripts"].compute()) == len(y) > 0


def test_bounding_box_query_without_the_sections_table(small: Brain) -> None:
    whole = small.to_spatialdata()
    table = whole.tables.pop("sections")
    assert table.n_obs == 3
    low, high = [100, 40, 32], [200, 120, 96]
    crop = whole.query.bounding_box(
        axes=("z", "y", "x"), min_coordinate=low, max_coordinate=high, target_coordinate_system="global"
    )
    assert crop["morphology"]["scale0"]["image"].shape == (2, 1, 160, 128)


def test_bounding_box_query_of_a_section(small: Brain, plane: Any) -> None:
    crop = plane.query.bounding_box(
        axes=("y", "x"), min_coordinate=[40, 32], max_coordinate=[120, 96], target_coordinate_system="global"
    )
    values = crop["morphology"]["scale0"]["image"].values
    np.testing.assert_array_equal(values, small.morphology[:, 1, 80:240, 64:192])


def test_rasterize_points_gives_the_expression_bins(small: Brain, plane: Any) -> None:
    from spatialdata import rasterize

    raster = rasterize(
        plane["transcripts"],
        ("y", "x"),
        [0, 0],
        list(EXTENT),
        "global",
        target_unit_to_pixels=1 / (16 * PIXEL_UM),
    )
    np.testing.assert_array_equal(np.squeeze(raster.values), small.read("expression", 1).sum(axis=0))


def test_rasterize_morphology(small: Brain, plane: Any) -> None:
    from spatialdata import rasterize

    raster = rasterize(
        plane["morphology"], ("y", "x"), [0, 0], list(EXTENT), "global", target_unit_to_pixels=0.5
    )
    assert raster.shape == (2, 100, 76)
    # A quarter of the resolution: like the mean of 4 x 4 pixels, up to interpolation.
    mean = small.read("morphology", 1).reshape(2, 100, 4, 76, 4).mean(axis=(2, 4))
    assert np.corrcoef(raster.values.ravel(), mean.ravel())[0, 1] > 0.95


def test_tissue_to_polygons(small: Brain, plane: Any) -> None:
    from spatialdata import get_extent, to_polygons

    shapes = to_polygons(plane["tissue"])
    assert len(shapes) == 1
    area = float(shapes.geometry.iloc[0].area)
    assert area == pytest.approx(int((small.read("tissue", 1) != 0).sum()), rel=0.02)
    extent = get_extent(shapes, coordinate_system="global")
    rows = np.nonzero(small.read("tissue", 1).any(axis=1))[0]
    # SpatialData draws the outline through centres of pixels: half a bin off on each side at most.
    assert extent["y"] == pytest.approx((rows[0] * 8, (rows[-1] + 1) * 8), abs=8)


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An axis of fixed size that spatialdata-plot draws on, and what it then shows."""
    matplotlib = pytest.importorskip("matplotlib", reason="spatialdata-plot and matplotlib are not installed")
    pytest.importorskip("spatialdata_plot", reason="spatialdata-plot is not installed")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(3, 4), dpi=100)

    def shown() -> np.ndarray:
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)

    yield axis, shown
    plt.close("all")


def test_plot_morphology(plane: Any, canvas: Any) -> None:
    axis, shown = canvas
    plane.pl.render_images("morphology", channel=["DAPI", "PolyT"], palette=["#40aaff", "#ffb030"]).pl.show(
        "global", ax=axis
    )
    middle = shown()[150:250, 120:180]
    assert middle.std() > 5 and middle.sum(axis=2).min() > 100


def test_plot_expression_of_a_gene(plane: Any, canvas: Any) -> None:
    axis, _ = canvas
    plane.pl.render_images("expression", channel="gene0", cmap="gray").pl.show(
        "global", ax=axis, colorbar=False
    )
    drawn = np.asarray(axis.get_images()[0].get_array(), float)
    drawn = drawn if drawn.ndim == 2 else drawn[..., :3].mean(axis=2)
    half = drawn.shape[1] // 2
    # gene0 lies in the left half.
    assert drawn[:, :half].sum() > 20 * drawn[:, half + 1 :].sum()


def test_plot_points(plane: Any, canvas: Any) -> None:
    axis, shown = canvas
    plane.pl.render_points(
        "transcripts", color="gene", groups=["gene1"], palette=["#ff0000"], size=2
    ).pl.show("global", ax=axis, legend_loc=None)
    red = (shown()[..., 0] > 180) & (shown()[..., 1] < 120)
    left, right = np.nonzero(red.any(axis=0))[0][[0, -1]]
    assert red.sum() > 100
    box = axis.get_window_extent()
    # gene1 lies in the right half.
    assert left > (box.x0 + box.x1) / 2 - 5
    assert right <= box.x1
