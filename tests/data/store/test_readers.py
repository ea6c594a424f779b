"""The same bytes through other people's readers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr

from teramind_data.elements import write_points, write_sections_table
from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.store import Brain, BrainSpec, ImageSpec, append_image, create_brain, open_brain

# Their own notices (deprecations, young zarr types) are not ours to turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def full(truth: Any, tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """A store with all elements, some written before it was finished and some after."""
    writer = truth.write(tmp_path_factory.mktemp("readers") / "brain.zarr", finish=False)
    write_points(writer.url)
    made = writer.finish()
    write_sections_table(made.url, excluded=[{"name": "s9", "why": "torn"}])
    maps = np.random.default_rng(0).random((3, 4, 13, 19)).astype(np.float16)
    append_image(made.url, ImageSpec("attention_GLUT", ("a", "b", "c"), "float16", 16), _planes(maps))
    return open_brain(made.url)


def _planes(maps: np.ndarray) -> Any:
    return ((z, None, maps[:, z]) for z in range(maps.shape[1]))


@pytest.fixture(scope="module")
def spatial(full: Brain) -> Any:
    import spatialdata

    return spatialdata.read_zarr(full.url)


def test_spatialdata_opens_every_element(spatial: Any) -> None:
    assert set(spatial.images) == {"morphology", "expression", "attention_GLUT"}
    assert set(spatial.labels) == {"tissue", "regions"}
    assert set(spatial.points) == {"transcripts"}
    assert set(spatial.tables) == {"sections"}


def test_spatialdata_reads_equal_pixels_at_every_level(full: Brain, spatial: Any) -> None:
    levels = full.levels("morphology")
    assert len(levels) == 2
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(spatial["morphology"][f"scale{number}"].image.values, level[:])
    np.testing.assert_array_equal(spatial["expression"].values, full.expression[:])
    np.testing.assert_array_equal(spatial["attention_GLUT"].values, full.image("attention_GLUT")[:])
    assert full.tissue is not None
    np.testing.assert_array_equal(spatial["tissue"].values, full.tissue[:])


def test_spatialdata_knows_channels_and_axes(full: Brain, spatial: Any) -> None:
    from spatialdata.models import get_channel_names

    assert list(get_channel_names(spatial["morphology"])) == ["DAPI", "PolyT"]
    assert tuple(get_channel_names(spatial["expression"])) == full.panel.genes  # type: ignore[union-attr]
    assert spatial["expression"].dims == ("c", "z", "y", "x")


def test_every_nested_image_is_strict_ome_zarr(full: Brain) -> None:
    import ome_zarr_models
    from ome_zarr_models.v05 import Image
    from ome_zarr_models.v05.image_label import ImageLabel

    for name in full.images + full.labels:
        group = zarr.open_group(f"{full.url}/{full.layout(name).array_group}", mode="r")
        image = ome_zarr_models.open_ome_zarr(group)
        assert type(image) is (Image if name in full.images else ImageLabel)
        assert image.ome_attributes.version == "0.5"
        paths = [d.path for d in image.ome_attributes.multiscales[0].datasets]
        arrays = [group[path] for path in paths]
        assert [a.shape for a in arrays] == [a.shape for a in full.levels(name)]
        np.testing.assert_array_equal(arrays[-1][:], full.levels(name)[-1][:])


def _centre_um(full: Brain, name: str, level: int, index: tuple[int, ...]) -> np.ndarray:
    """Physical position of a pixel's centre by the strict flavour: index times scale plus translation."""
    attributes = zarr.open_group(f"{full.url}/{full.layout(name).array_group}", mode="r").attrs.asdict()
    scale, shift = attributes["ome"]["multiscales"][0]["datasets"][level]["coordinateTransformations"]
    return np.array(scale["scale"][-3:]) * index + shift["translation"][-3:]


def test_both_flavours_put_pixels_bins_levels_and_points_in_the_same_place(
    truth_maker: Any, tmp_path: Any
) -> None:
    from spatialdata import read_zarr
    from spatialdata.transformations import get_transformation

    # Large enough for a second level.
    made = truth_maker(canvas=(304, 336)).write(tmp_path / "b.zarr")
    sdata = read_zarr(made.url)
    assert len(made.levels("morphology")) == 2
    for name, level in (("morphology", 0), ("morphology", 1), ("expression", 0), ("tissue", 0)):
        element = sdata[name][f"scale{level}"].image if name == "morphology" else sdata[name]
        # Coordinates of every scale are in pixels of the first, which is what the element's transformation maps.
        to_um = get_transformation(sdata[name]).to_affine_matrix(("z", "y", "x"), ("z", "y", "x"))
        index = (1, 3, 2)
        intrinsic = [float(element.coords[axis].values[i]) for axis, i in zip("zyx", index, strict=True)]
        theirs = (to_um @ [*intrinsic, 1.0])[:3]
        np.testing.assert_allclose(_centre_um(made, name, level, index), theirs)
    # Pixel (0, 0) of section 0 is centred half a pixel and half a spacing from the corner.
    np.testing.assert_allclose(_centre_um(made, "morphology", 0, (0, 0, 0)), [50.0, 0.25, 0.25])


def test_points_are_the_molecules_in_um(truth: Any, spatial: Any) -> None:
    points = spatial["transcripts"].compute()
    assert spatial["transcripts"].attrs["spatialdata_attrs"] == {"feature_key": "gene"}
    assert list(points.columns) == ["x", "y", "z", "gene", "section"]
    assert tuple(points["gene"].cat.categories) == truth.spec.panel.genes
    for z, y, x, gene in truth.molecules:
        part = points[points["section"] == z]
        wanted = sorted(zip((y + 0.5) * 0.5, (x + 0.5) * 0.5, gene, strict=True))
        got = sorted(zip(part["y"], part["x"], part["gene"].cat.codes, strict=True))
        np.testing.assert_allclose(np.array(got), np.array(wanted))
        assert set(part["z"]) == {(z + 0.5) * 100.0}


def test_the_section_table_counts_molecules(truth: Any, spatial: Any) -> None:
    table = spatial["sections"]
    np.testing.assert_array_equal(np.asarray(table.X), truth.expression.sum(axis=(2, 3)).T)
    assert list(table.obs_names) == ["s0", "s1", "s2", "s3"]
    assert list(table.obs["z_um"]) == [0.0, 100.0, 200.0, 450.0]
    assert list(table.obs["gap_um"]) == [0.0, 100.0, 100.0, 250.0]
    assert table.obs["source"].iloc[2] == '{"file": "2.tif"}'
    assert table.uns["excluded"] == '[{"name": "s9", "why": "torn"}]'
    assert tuple(table.var_names) == truth.spec.panel.genes


def test_spatialdata_may_add_elements_of_its_own(own_brain: Brain, truth: Any) -> None:
    import spatialdata
    from spatialdata.models import ShapesModel

    sdata = spatialdata.read_zarr(own_brain.url)
    sdata["marks"] = ShapesModel.parse(np.array([[1.0, 2.0]]), geometry=0, radius=1.0)
    sdata.write_element("marks")
    assert set(spatialdata.read_zarr(own_brain.url).shapes) == {"marks"}
    np.testing.assert_array_equal(open_brain(own_brain.url).morphology[:], truth.morphology)


def test_elements_are_not_replaced_unasked(full: Brain) -> None:
    with pytest.raises(OutputExistsError, match="points/transcripts"):
        write_points(full.url)
    with pytest.raises(OutputExistsError, match="tables/sections"):
        write_sections_table(full.url)
    with pytest.raises(InputError, match=r"expected \(4, 5\), found \(1, 1\)"):
        write_sections_table(full.url, [[1]], overwrite=True)
    assert write_points(full.url, overwrite=True) == full.molecules.total


def test_a_generated_store_has_a_table_without_counts(tmp_path: Any, truth: Any) -> None:
    import spatialdata

    spec = BrainSpec("generated", (64, 64), 1.0, truth.spec.sections, truth.spec.panel)
    writer = create_brain(tmp_path / "g.zarr", spec)
    for z in range(4):
        writer.write("morphology", z, None, np.ones((2, 64, 64), np.uint8))
    write_sections_table(writer.url)
    with pytest.raises(StoreError, match="no molecules"):
        write_points(writer.url)
    writer.finish()
    table = spatialdata.read_zarr(writer.url)["sections"]
    assert table.X is None
    assert table.shape == (4, 5)
