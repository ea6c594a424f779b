"""Cells of a vendor's folder on the canvas: outlines and counts against the truth, and SpatialData on them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import yaml

from teramind_data.brain import open_brain
from teramind_data.cell_elements import SectionCells
from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest import cell_files
from teramind_data.ingest.build import ingest
from teramind_data.ingest.cells import cell_notes, read_cells
from teramind_data.ingest.manifest import discover
from teramind_data.ingest.measure import Measured, measure
from teramind_data.ingest.plan import IngestConfig, Plan, make_plan
from teramind_data.phantom import PhantomConfig, section_truth
from teramind_data.phantom.cells import SOMA
from teramind_data.phantom.vendor import OUTLINE_POINTS
from teramind_data.store import Brain
from teramind_data.workers import Serial
from tests.data.faults import tree

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def spatial(ingested: Brain) -> Any:
    import spatialdata

    return spatialdata.read_zarr(ingested.url)


def true_outlines(config: PhantomConfig, section: int) -> np.ndarray:
    """Corners (cells, points, 2) of the somas as x, y in um of the canvas, from the phantom's own cells."""
    cells = section_truth(config, "A", section).cells
    turn = np.arange(OUTLINE_POINTS) * 2 * np.pi / OUTLINE_POINTS
    along, across = SOMA * np.outer(cells["a"], np.cos(turn)), SOMA * np.outer(cells["b"], np.sin(turn))
    angle = cells["angle"][:, None]
    x = cells["x"][:, None] + along * np.cos(angle) - across * np.sin(angle)
    y = cells["y"][:, None] + along * np.sin(angle) + across * np.cos(angle)
    return (np.stack([x, y], axis=-1) + 0.5) * config.pixel_size_um


@pytest.mark.parametrize("section", [0, 1], ids=["affine", "spline"])
def test_outlines_lie_where_the_cells_are(spatial: Any, tiny: PhantomConfig, section: int) -> None:
    shapes = spatial[f"cells_{section:03d}"]
    wanted = true_outlines(tiny, section)
    assert len(shapes) == len(wanted) > 40
    assert (shapes["section"] == section).all() and (shapes["z_index"] == 3).all()
    for outline, corners in zip(shapes.geometry, wanted, strict=True):
        found = shapely.get_coordinates(outline)[:-1]
        # A thousandth of a pixel, as for transcripts.
        assert np.abs(found - corners).max() < 1e-3 * tiny.pixel_size_um
    table = spatial["cells"][spatial["cells"].obs["section"] == section]
    centre = np.column_stack([shapes.geometry.centroid.x, shapes.geometry.centroid.y])
    np.testing.assert_allclose(table.obsm["spatial"], centre, atol=1e-9)
    np.testing.assert_allclose(table.obs["area_um2"], shapes.geometry.area)


def test_counts_are_those_of_the_cells(spatial: Any, ingested: Brain, tiny: PhantomConfig) -> None:
    table = spatial["cells"]
    assert list(table.var_names) == list(ingested.panel or ())
    for section in (0, 1):
        truth = section_truth(tiny, "A", section)
        mine = truth.molecules.cell > 0
        wanted = np.zeros((len(truth.cells), len(truth.genes)))
        np.add.at(wanted, (truth.molecules.cell[mine] - 1, truth.molecules.gene[mine]), 1)
        rows = table[table.obs["section"] == section]
        order = [list(truth.genes).index(gene) for gene in table.var_names]
        np.testing.assert_array_equal(rows.X.toarray(), wanted[:, order])
        np.testing.assert_array_equal(rows.obs["transcript_count"], wanted.sum(axis=1))
    assert table.obs_names.is_unique and table.obs["cell_id"].str.fullmatch(r"\d{18}").all()
    assert ingested.sections[1].qc["cells"] == (table.obs["section"] == 1).sum()


def test_spatialdata_joins_outlines_and_table(spatial: Any, ingested: Brain, tiny: PhantomConfig) -> None:
    import spatialdata

    table = spatial["cells"]
    assert table.uns["spatialdata_attrs"]["region"] == ["cells_000", "cells_001"]
    spatialdata.models.TableModel().validate(table)
    own = spatialdata.match_table_to_element(spatial, "cells_001", "cells")
    ids = spatialdata.get_element_instances(spatial["cells_001"])
    assert list(own.obs["cell_id"]) == list(ids) == list(spatial["cells_001"].index)
    elements, _ = spatialdata.match_element_to_table(spatial, ["cells_000", "cells_001"], "cells")
    assert {name: len(found) for name, found in elements.items()} == {
        name: len(spatial[name]) for name in ("cells_000", "cells_001")
    }
    # A section's view has its own cells, and a box cuts outlines, rows and pixels alike.
    from teramind_data.brain import open_brain

    plane = open_brain(ingested.url).to_spatialdata(section=1)
    assert set(plane.shapes) == {"cells_001"} and set(plane.tables) == {"cells"}
    crop = plane.query.bounding_box(
        axes=("y", "x"), min_coordinate=[20, 20], max_coordinate=[90, 90], target_coordinate_system="global"
    )
    near = [shapely.Polygon(c).intersects(shapely.box(20, 20, 90, 90)) for c in true_outlines(tiny, 1)]
    assert 0 < len(crop["cells_001"]) == sum(near) < len(near)
    assert list(crop["cells"].obs["cell_id"]) == list(crop["cells_001"].index)
    values = spatialdata.get_values("Mog", sdata=plane, element_name="cells_001", table_name="cells")
    assert values["Mog"].sum() == own[:, "Mog"].X.sum() > 0


Read = Callable[..., tuple[Plan, tuple[SectionCells, ...] | None]]


@pytest.fixture(scope="module")
def raw(raw_brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(raw_brain, tmp_path_factory.mktemp("cells") / "raw"))


@pytest.fixture(scope="module")
def measured(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The tiny brain up to its cells, once for all tests."""
    plan = make_plan(IngestConfig(raw=raw, out="none.zarr"))
    return measure(plan, tmp_path_factory.mktemp("scratch"), "test", Serial())


@pytest.fixture
def read(raw: Path, raw_brain: Path, measured: Measured, tmp_path: Path) -> Any:
    """Read the cells of the tiny brain with a cells block; the files of its first section are restored after."""

    def run(cells: object = None, canvas: tuple[int, int] | None = None) -> Any:
        plain = discover(raw).to_plain()
        if cells is not None:
            plain["cells"] = cells
        file = tmp_path / "manifest.yaml"
        file.write_text(yaml.safe_dump(plain))
        plan = make_plan(IngestConfig(raw=raw, out="none.zarr", manifest=file))
        now = dataclasses.replace(measured, plan=plan)
        if canvas is not None:
            now = dataclasses.replace(now, frame=dataclasses.replace(measured.frame, canvas=canvas))
        return plan, read_cells(now, tmp_path, Serial())

    yield run
    for name in ("cell_boundaries.parquet", "cell_by_gene.csv", "cell_metadata.csv"):
        shutil.copy(raw_brain / "section_000" / name, raw / "section_000" / name)


def boundaries(raw: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(raw / "section_000" / "cell_boundaries.parquet")


def rewrite(frame: geopandas.GeoDataFrame, raw: Path) -> None:
    frame.to_parquet(raw / "section_000" / "cell_boundaries.parquet", index=False)


def test_batches_do_not_show(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = read()
    assert whole is not None
    shapes = [geopandas.read_parquet(own.shapes) for own in whole]
    columns = [{name: own.column(name) for name in own.columns} for own in whole]
    monkeypatch.setattr(cell_files, "_BATCH", 17)
    _, parts = read()
    assert parts is not None
    for k, own in enumerate(parts):
        pd.testing.assert_frame_equal(geopandas.read_parquet(own.shapes), shapes[k])
        for name, values in columns[k].items():
            np.testing.assert_array_equal(own.column(name), values)


def test_the_plane_asked_for_or_the_nearest(read: Read, raw: Path) -> None:
    frame = boundaries(raw)
    ids = frame.EntityID.unique()
    # The first cell is in planes 5 and 6 only, the second in 0 and 1, the third nowhere; rows in any order.
    frame = frame[~((frame.EntityID == ids[0]) & (frame.ZIndex < 5))]
    frame = frame[~((frame.EntityID == ids[1]) & (frame.ZIndex > 1))]
    frame.loc[frame.EntityID == ids[2], "Geometry"] = None
    rewrite(frame.sample(frac=1.0, random_state=3), raw)
    for given, wanted in ((None, (5, 1, 3)), ({"z_index": 6}, (6, 1, 6))):
        _, cells = read(given)
        assert cells is not None
        z = dict(zip(cells[0].column("cell_id").tolist(), cells[0].column("z_index").tolist(), strict=True))
        assert (z[str(ids[0])], z[str(ids[1])], z[str(ids[3])]) == wanted
        assert str(ids[2]) not in z
        assert cells[0].numbers["cells"] == len(ids) - 1


def test_what_is_left_out_or_mended_is_said(read: Read, raw: Path, tiny: PhantomConfig) -> None:
    frame = boundaries(raw)
    ids = frame.EntityID.unique()
    cross = shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 20)])
    at = frame.loc[frame.EntityID == ids[0], "Geometry"].iloc[0].centroid
    frame.loc[frame.EntityID == ids[0], "Geometry"] = shapely.affinity.translate(cross, at.x, at.y)
    frame.loc[frame.EntityID == ids[1], "Geometry"] = shapely.Point(0, 0)
    rewrite(frame, raw)
    counts = raw / "section_000" / "cell_by_gene.csv"
    table = pd.read_csv(counts, dtype={"cell": str})
    table[table["cell"] != str(ids[3])].to_csv(counts, index=False)
    canvas = (256, 256)
    plan, cells = read(canvas=canvas)
    assert cells is not None
    numbers = cells[0].numbers
    inside = [
        shapely.Polygon(corners).intersects(shapely.box(0, 0, 256 * 0.432, 256 * 0.432))
        for corners in true_outlines(tiny, 0)[2:]
    ]
    assert numbers["cells_off_canvas"] >= inside.count(False) > 0
    assert numbers["cells_no_outline"] == 1
    assert numbers["cells"] + numbers["cells_off_canvas"] + 1 == len(ids)
    notes = cell_notes(plan, cells)
    assert f"section_000: {numbers['cells_off_canvas']} cells lie off the canvas and are left out" in notes
    assert "section_000: 1 cells have no outline and are left out" in notes
    _, whole = read()
    assert whole is not None and whole[0].numbers["cells_mended"] == 1
    shapes = geopandas.read_parquet(whole[0].shapes)
    assert shapes.geometry.is_valid.all() and set(shapes.geom_type) <= {"Polygon", "MultiPolygon"}
    assert whole[0].numbers["cells_no_counts"] == 1
    row = whole[0].column("cell_id").tolist().index(str(ids[3]))
    import scipy.sparse

    assert scipy.sparse.load_npz(whole[0].counts)[row].nnz == 0


def test_long_ids_and_missing_files(read: Read, raw: Path) -> None:
    folder = raw / "section_000"
    frame = boundaries(raw)
    old = {number: f"1108834247646119244002216399{number}" for number in frame.EntityID.unique()}
    frame["EntityID"] = frame.EntityID.map(old)
    rewrite(frame, raw)
    table = pd.read_csv(folder / "cell_by_gene.csv", dtype={"cell": str})
    table["cell"] = table["cell"].map(lambda name: old[int(name)])
    table.rename(columns={"cell": "Unnamed: 0"}).to_csv(folder / "cell_by_gene.csv", index=False)
    (folder / "cell_metadata.csv").unlink()
    plan, cells = read()
    assert cells is not None
    assert cells[0].numbers["cells_no_counts"] == 0
    assert np.isnan(cells[0].column("volume")).all() and not np.isnan(cells[1].column("volume")).any()
    assert cell_notes(plan, cells) == ["section_000: no cell_metadata.csv: cells have no measures"]
    (folder / "cell_boundaries.parquet").unlink()
    (folder / "cell_boundaries").mkdir()
    plan, cells = read()
    assert cells is not None and cells[0].shapes is None
    assert cell_notes(plan, cells) == [
        "section_000: no cell_boundaries.parquet (cell_boundaries/*.hdf5 is not read), so no cells"
    ]
    (folder / "cell_boundaries").rmdir()
    plan, cells = read("none")
    assert cells is None and cell_notes(plan, cells) == []


def test_bad_files_are_one_line(read: Read, raw: Path) -> None:
    folder = raw / "section_000"

    def refused(words: str, cells: object = None) -> None:
        with pytest.raises((InputError, MissingInputError), match=words) as caught:
            read(cells)
        assert "\n" not in str(caught.value)

    whole = (folder / "cell_boundaries.parquet").read_bytes()
    (folder / "cell_boundaries.parquet").write_bytes(whole[: len(whole) // 2])
    refused(r"file of cells is not readable: .*cell_boundaries\.parquet")
    (folder / "cell_boundaries.parquet").write_bytes(whole)
    rewrite(boundaries(raw).rename(columns={"EntityID": "cell"}).drop(columns="ID"), raw)
    refused("lack a column.*expected EntityID and Geometry")
    (folder / "cell_boundaries.parquet").write_bytes(whole)
    frame = pd.read_parquet(folder / "cell_boundaries.parquet")
    frame["Geometry"] = [b"\x01" + bytes(20)] * len(frame)
    frame.to_parquet(folder / "cell_boundaries.parquet")
    refused(r"cell outlines are damaged: .*cell_boundaries\.parquet")
    (folder / "cell_boundaries.parquet").write_bytes(whole)
    text = (folder / "cell_by_gene.csv").read_text().splitlines()
    (folder / "cell_by_gene.csv").write_text("\n".join([*text[:3], text[3].replace(",", ",-1", 1)]))
    refused(r"hold what is no count: .*cell_by_gene\.csv")
    (folder / "cell_by_gene.csv").write_text("\n".join([*text[:3], text[3].replace(",", ",x", 1)]))
    refused(r"file of cells is not readable: .*cell_by_gene\.csv")
    refused("file of cells not found", {"counts": "none.csv"})
    refused("leads out", {"metadata": "../section_001/cell_metadata.csv"})


def test_a_brain_without_cells_has_none_of_it(raw_copy: Path, tmp_path: Path) -> None:
    for file in raw_copy.glob("section_*/cell_*"):
        file.unlink()
    _, brain = ingest(IngestConfig(raw=raw_copy, out=str(tmp_path / "A.zarr")))
    names = tree(Path(brain.url))
    assert not [name for name in names if name.startswith(("shapes", "tables/cells"))]
    assert not [note for note in brain.provenance["notes"] if "cell" in note]


def test_a_run_of_sections_has_their_cells_only_the_way_the_guide_says(ingested: Brain) -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/spatialdata.md").read_text()
    code = guide.split("```python\nfirst, last, step = 1, 2,")[1].split("```")[0]
    whole = open_brain(ingested.url).to_spatialdata()
    box = {"axes": ("z",), "min_coordinate": [100], "max_coordinate": [200]}
    all_cells = whole.query.bounding_box(**box, target_coordinate_system="global", filter_table=False)
    assert set(all_cells.shapes) == {"cells_000", "cells_001"}, (
        "SpatialData cuts outlines by z now: mend the guide"
    )
    names: dict[str, Any] = {"whole": whole, "brain": ingested}
    exec("first, last, step = 1, 1," + code, names)
    run = names["run"]
    assert set(run.shapes) == {"cells_001"}
    assert len(run["cells"]) == len(run["cells_001"]) == len(whole["cells_001"]) > 0
    assert set(run["transcripts"]["section"].compute()) == {1}
    assert run["expression"].sizes["z"] == 1
