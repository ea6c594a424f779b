"""A tiny brain through the general path: what comes out is what was true."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import IncompleteStoreError, InputError, OutputExistsError
from teramind_data.ingest import build, tasks
from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.phantom import PhantomConfig, section_truth
from teramind_data.store import Brain, open_brain, store_state

Run = Callable[..., tuple[int, str, str]]


def brute_counts(y: np.ndarray, x: np.ndarray, gene: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    out = np.zeros(shape, int)
    for a, b, g in zip(y, x, gene, strict=True):
        out[g, int(np.floor(a + 0.5)) // 16, int(np.floor(b + 0.5)) // 16] += 1
    return out


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def fitted_psnr(found: np.ndarray, truth: np.ndarray) -> float:
    """PSNR after the best linear map of intensities."""
    columns = np.column_stack([found.ravel().astype(float), np.ones(found.size)])
    best, *_ = np.linalg.lstsq(columns, truth.ravel().astype(float), rcond=None)
    return psnr((columns @ best).reshape(truth.shape), truth)


def test_what_ingest_returns_has_the_views(ingested: Brain) -> None:
    import teramind_data

    assert isinstance(ingested, teramind_data.Brain)
    assert ingested.to_xarray()["morphology"].shape == ingested.morphology.shape


@pytest.mark.parametrize("section", [0, 1])
def test_expression_equals_the_truth(ingested: Brain, tiny: PhantomConfig, section: int) -> None:
    truth = section_truth(tiny, "A", section)
    assert ingested.panel is not None
    assert ingested.panel.genes == truth.genes
    molecules = truth.molecules
    expected = brute_counts(molecules.y, molecules.x, molecules.gene, (40, 16, 32))
    found = ingested.read("expression", section).astype(int)
    assert found.sum() == expected.sum() > 1000
    # Five decimals of a um and the inverted spline may carry a molecule over a bin's edge.
    assert np.abs(found - expected).sum() <= 4


@pytest.mark.parametrize("section", [0, 1])
def test_molecules_equal_expression_and_points(ingested: Brain, section: int) -> None:
    from teramind_data.geometry import Box

    counts = ingested.molecules.counts(section, Box.from_shape(ingested.canvas))
    np.testing.assert_array_equal(counts, ingested.read("expression", section))


@pytest.mark.parametrize("section", [0, 1])
def test_morphology_is_the_section_undisplaced(ingested: Brain, tiny: PhantomConfig, section: int) -> None:
    truth = section_truth(tiny, "A", section).image
    found = ingested.read("morphology", section)
    for stain in (0, 1):
        assert psnr(found[stain], truth[stain]) >= 28
        # Up to the intensity window (a linear map) the picture is the truth, and one pixel off it is far from it: the
        # half pixels of all conventions agree.
        assert fitted_psnr(found[stain], truth[stain]) >= 38
        for axis in (0, 1):
            for step in (-1, 1):
                assert fitted_psnr(np.roll(found[stain], step, axis), truth[stain]) < 34


@pytest.mark.parametrize("section", [0, 1])
def test_nuclei_stand_where_they_stood(ingested: Brain, tiny: PhantomConfig, section: int) -> None:
    from scipy import ndimage

    truth = section_truth(tiny, "A", section)
    dapi = ingested.read("morphology", section)[0].astype(float)
    labels = np.arange(1, truth.masks.max() + 1)
    height, width = truth.masks.shape
    whole = [
        i for i, where in enumerate(ndimage.find_objects(truth.masks))
        if where and where[0].start > 0 and where[1].start > 0
        and where[0].stop < height and where[1].stop < width
    ]  # fmt: skip
    found = np.array(ndimage.center_of_mass(dapi, truth.masks, labels))[whole]
    expected = np.array(ndimage.center_of_mass(truth.image[0].astype(float), truth.masks, labels))[whole]
    assert len(found) > 10
    assert np.abs(found - expected).max() < 0.15
    assert np.abs((found - expected).mean(axis=0)).max() < 0.02  # no shift of the whole


def test_tissue_covers_the_cells_and_not_the_slide(ingested: Brain, tiny: PhantomConfig) -> None:
    tissue = np.asarray(ingested.tissue)
    for section in (0, 1):
        truth = section_truth(tiny, "A", section)
        cells = tissue[section][
            truth.cells["y"].round().astype(int) // 16, truth.cells["x"].round().astype(int) // 16
        ]
        assert cells.mean() > 0.97
        outside = truth.regions.reshape(16, 16, 32, 16).max(axis=(1, 3)) == 0
        assert outside.sum() > 20
        assert tissue[section][outside].mean() < 0.6
        assert 0.5 < tissue[section].mean() < 0.98


def test_regions_are_the_annotation(ingested: Brain, raw_brain: Path) -> None:
    import tifffile

    np.testing.assert_array_equal(
        np.asarray(ingested.regions), tifffile.imread(raw_brain / "annotation" / "regions.tif")
    )
    assert ingested.region_names[0] == "outside"
    assert set(np.unique(np.asarray(ingested.regions))) <= set(ingested.region_names)


def test_provenance_and_sections(ingested: Brain, raw_brain: Path) -> None:
    block = ingested.provenance
    names = {item["path"]: item for item in block["inputs"]}
    file = "section_001/detected_transcripts.csv"
    assert names[file]["bytes"] == (raw_brain / file).stat().st_size
    assert len(names[file]["sha256"]) == 64
    assert block["intensity"]["DAPI"]["low"] < block["intensity"]["DAPI"]["high"]
    assert [section.z_um for section in ingested.sections] == [0.0, 100.0]
    assert ingested.sections[1].registration["direction"] == "atlas_mm_to_image_px"
    for section in ingested.sections:
        assert section.qc["transcripts_controls"] > 0
        assert (
            section.qc["transcripts_in_file"]
            == section.qc["transcripts"] + section.qc["transcripts_controls"]
        )
    assert str(raw_brain) not in json.dumps(block)


def test_other_readers_open_it(ingested: Brain) -> None:
    import ome_zarr_models
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        data = spatialdata.read_zarr(ingested.url)
        assert set(data.images) == {"morphology", "expression"}
        assert set(data.labels) == {"tissue", "regions"}
        points = data.points["transcripts"].compute()
        table = data.tables["sections"]
        for name in ("morphology", "expression"):
            ome_zarr_models.open_ome_zarr(zarr.open_group(f"{ingested.url}/images/{name}/ome.zarr", mode="r"))
    assert len(points) == ingested.molecules.total
    assert points["x"].max() < ingested.canvas[1] * ingested.pixel_size_um
    np.testing.assert_array_equal(
        np.asarray(table.X).sum(axis=1), [s.qc["transcripts"] for s in ingested.sections]
    )
    counts = points[points["section"] == 1].groupby("gene", observed=False).size()
    np.testing.assert_array_equal(counts[list(table.var_names)], np.asarray(table.X)[1])


def test_again_does_nothing(ingested: Brain, raw_brain: Path, run_command: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(ingested.url).rglob("*")}
    code, out, _ = run_command("ingest", raw_brain, ingested.url)
    assert code == 0
    assert out.splitlines() == [f"{ingested.url}: up to date (made from the same inputs)"]
    assert {path: path.stat().st_mtime_ns for path in Path(ingested.url).rglob("*")} == before


def test_changed_inputs_need_overwrite(
    ingested: Brain, raw_copy: Path, tmp_path: Path, run_command: Run
) -> None:
    out = shutil.copytree(ingested.url, tmp_path / "A.zarr")
    with (raw_copy / "section_000" / "detected_transcripts.csv").open("a") as handle:
        handle.write(handle_line(raw_copy))
    code, _, err = run_command("ingest", raw_copy, out)
    assert code == 2
    assert "made from other inputs" in err
    assert "--overwrite" in err
    assert open_brain(out).molecules.total == ingested.molecules.total
    code, _, _ = run_command("ingest", raw_copy, out, "--overwrite")
    assert code == 0
    assert open_brain(out).molecules.total == ingested.molecules.total + 1


def handle_line(raw: Path) -> str:
    """Once more the first transcript that is no control."""
    lines = (raw / "section_000" / "detected_transcripts.csv").read_text().splitlines()
    return next(line for line in lines[1:] if "Blank" not in line) + "\n"


def test_formats_give_the_same_store(ingested: Brain, raw_copy: Path, tmp_path: Path) -> None:
    """csv.gz and parquet transcripts, and section names and order by manifest."""
    import gzip

    import polars as pl

    first, second = raw_copy / "section_000", raw_copy / "section_001"
    text = (first / "detected_transcripts.csv").read_bytes()
    (first / "detected_transcripts.csv.gz").write_bytes(gzip.compress(text))
    (first / "detected_transcripts.csv").unlink()
    pl.read_csv(second / "detected_transcripts.csv").write_parquet(second / "detected_transcripts.parquet")
    (second / "detected_transcripts.csv").unlink()
    _, brain = ingest(IngestConfig(raw=raw_copy, out=str(tmp_path / "B.zarr")))
    for section in (0, 1):
        np.testing.assert_array_equal(brain.read("expression", section), ingested.read("expression", section))
        np.testing.assert_array_equal(brain.read("morphology", section), ingested.read("morphology", section))


def test_stopped_and_continued_gives_the_same(
    ingested: Brain, raw_brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "A.zarr"
    config = IngestConfig(raw=raw_brain, out=str(out))
    stops = ["_write_expression", "_write_elements", "sections_with_quality"]
    for name in stops:
        with monkeypatch.context() as patch:
            patch.setattr(build, name, stop)
            with pytest.raises(KeyboardInterrupt):
                ingest(config)
        assert store_state(out) == "incomplete"
        with pytest.raises(IncompleteStoreError):
            open_brain(out)
        assert os.listdir(tmp_path) == ["A.zarr"]
    outcome, brain = ingest(config)
    assert outcome == "written"
    assert same_files(Path(brain.url), Path(ingested.url))


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def same_files(a: Path, b: Path) -> bool:
    """Same files; same bytes but in shards, whose chunks parallel codecs lay in any order: those decode to the same."""
    import zarr

    files = {path.relative_to(a) for path in a.rglob("*") if path.is_file()}
    assert files == {path.relative_to(b) for path in b.rglob("*") if path.is_file()}
    plain = {path for path in files if "c" not in path.parts}
    assert not [str(path) for path in sorted(plain) if (a / path).read_bytes() != (b / path).read_bytes()]
    arrays = [path.parent for path in plain if path.name == "zarr.json" and (a / path.parent / "c").is_dir()]
    assert arrays
    for path in arrays:
        one, other = (zarr.open_array(root / path, mode="r")[...] for root in (a, b))
        np.testing.assert_array_equal(one, other, err_msg=str(path))
    return True


def test_unfinished_store_of_other_inputs_is_refused(
    raw_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IngestConfig(raw=raw_copy, out=str(tmp_path / "A.zarr"))
    with monkeypatch.context() as patch:
        patch.setattr(build, "_write_expression", stop)
        with pytest.raises(KeyboardInterrupt):
            ingest(config)
    (raw_copy / "section_000" / "cell_by_gene.csv").unlink()
    with pytest.raises(OutputExistsError, match="unfinished store of other inputs"):
        ingest(config)
    outcome, _ = ingest(IngestConfig(raw=raw_copy, out=config.out, overwrite=True))
    assert outcome == "written"


def test_bad_input_met_while_writing_leaves_nothing(
    raw_brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise InputError("image is truncated or damaged", where="tile 3")

    monkeypatch.setattr(tasks, "pull_levels", broken)
    with pytest.raises(InputError):
        ingest(IngestConfig(raw=raw_brain, out=str(tmp_path / "A.zarr")))
    assert os.listdir(tmp_path) == []


def test_panel_option(ingested: Brain, raw_brain: Path, tmp_path: Path, run_command: Run) -> None:
    assert ingested.panel is not None
    chosen = [ingested.panel.genes[i] for i in (5, 2, 11)]
    (tmp_path / "p.csv").write_text("gene\n" + "\n".join(name.upper() for name in chosen) + "\n")
    code, out, _ = run_command("ingest", raw_brain, tmp_path / "P.zarr", "--panel", tmp_path / "p.csv")
    assert code == 0, out
    brain = open_brain(tmp_path / "P.zarr")
    assert brain.panel is not None
    assert list(brain.panel) == [name.upper() for name in chosen]
    np.testing.assert_array_equal(brain.read("expression", 1), ingested.read("expression", 1)[[5, 2, 11]])
    assert len(brain.provenance["genes_left_out"]) == 37


def test_manifest_command_and_excluded_section(raw_copy: Path, tmp_path: Path, run_command: Run) -> None:
    import yaml

    file = tmp_path / "m.yaml"
    code, out, _ = run_command("manifest", raw_copy, "-o", file, "--section-spacing", 50)
    assert code == 0
    assert "section_001" in out
    data = yaml.safe_load(file.read_text())
    assert [entry["z_um"] for entry in data["sections"]] == [0.0, 50.0]
    data["sections"][0]["exclude"] = "torn"
    file.write_text(yaml.safe_dump(data))
    code, _, err = run_command("ingest", raw_copy, tmp_path / "M.zarr", "--manifest", file)
    assert code == 0, err
    brain = open_brain(tmp_path / "M.zarr")
    assert [(s.name, s.z_um) for s in brain.sections] == [("section_001", 50.0)]
    assert brain.provenance["excluded"][0]["reason"] == "torn"
    import tifffile

    regions = tifffile.imread(raw_copy / "annotation" / "regions.tif")
    np.testing.assert_array_equal(np.asarray(brain.regions)[0], regions[1])
    code, _, err = run_command("manifest", raw_copy, "-o", file)
    assert code == 2
    assert "output exists" in err


def test_affine_registration_of_another_direction(ingested: Brain, raw_copy: Path, tmp_path: Path) -> None:
    """Section 0 is affine: its matrix as CSV, backwards and in other units, gives the same pixels."""
    from teramind_data.ingest.registration import read_registration
    from teramind_data.ingest.transforms import Affine, chain, inverted, scaling

    folder = raw_copy / "section_000"
    file = next(folder.glob("ABBA*.json"))
    transform = read_registration(file)
    assert isinstance(transform, Affine)
    file.unlink()
    backwards = inverted(chain(scaling(1e-3), transform))
    assert isinstance(backwards, Affine)
    np.savetxt(folder / "affine.csv", backwards.matrix, delimiter=",", fmt="%.17g")
    manifest = (
        "version: 1\ncanvas: [256, 512]\nsections:\n"
        "- {folder: section_000, z_um: 0, registration: {file: affine.csv, direction: image_px_to_atlas_um}}\n"
        "- {folder: section_001, z_um: 9, exclude: not needed}\n"
    )
    (raw_copy / "manifest.yaml").write_text(manifest)
    _, brain = ingest(IngestConfig(raw=raw_copy, out=str(tmp_path / "A.zarr")))
    np.testing.assert_array_equal(brain.read("expression", 0), ingested.read("expression", 0))

    # The window is this section's alone here; compared in counts.
    def counts(store: Brain) -> np.ndarray:
        window = store.provenance["intensity"]["DAPI"]
        return store.read("morphology", 0)[0] / 255 * (window["high"] - window["low"]) + window["low"]

    middle = (counts(ingested) > 400) & (counts(ingested) < 4000)
    assert np.abs(counts(brain) - counts(ingested))[middle].max() < 40
