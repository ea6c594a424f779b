"""Quality numbers against truth: sections spoilt in one known way, and whole-array twins of what is streamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from teramind_data.geometry import BIN_PX
from teramind_data.qc import QC_VERSION, measure_brain, measure_section, stored
from teramind_data.qc.bins import fold
from teramind_data.qc.neighbours import correlation, displacement
from teramind_data.qc.pixels import BLOCK_PX, BLOCKS, chosen_blocks, percentile, sharpness
from teramind_data.qc.section import fold_sizes
from teramind_data.store import Brain
from tests.data.qc.conftest import Arrays

BIN_UM = BIN_PX * 0.432


def flagged(numbers: list[dict]) -> dict[int, str]:
    return {z: "; ".join(own["flags"]) for z, own in enumerate(numbers) if own["flags"]}


@pytest.fixture(scope="module")
def clean(small_brain: Brain) -> list[dict]:
    found = stored(small_brain)
    assert found is not None
    return found


def test_ingest_keeps_what_measuring_the_store_gives(small_brain: Brain, clean: list[dict]) -> None:
    assert measure_brain(small_brain) == clean
    assert all(own["qc_version"] == QC_VERSION for own in clean)
    assert flagged(clean) == {}


def test_a_blurred_section_is_out_of_focus(arrays: Arrays, clean: list[dict], tmp_path: Path) -> None:
    spoilt = arrays.copy()
    for stain in range(2):
        spoilt.morphology[stain, 2] = ndimage.gaussian_filter(spoilt.morphology[stain, 2].astype(float), 3)
    found = measure_brain(spoilt.write(tmp_path / "b.zarr"))
    for stain in ("DAPI", "PolyT"):
        assert found[2][f"{stain}_focus"] < 0.7 * clean[2][f"{stain}_focus"]
    assert list(flagged(found)) == [2]
    assert "DAPI focus 0.5" in flagged(found)[2]
    assert "PolyT focus 0.5" in flagged(found)[2]


def test_focus_does_not_follow_exposure() -> None:
    rng = np.random.default_rng(1)
    plane = ndimage.gaussian_filter(rng.random((128, 128)) * 800, 2)
    mask = np.ones(plane.shape, bool)
    full, half = (sharpness(np.round(plane * f).astype(np.uint16), mask, 0.4) for f in (1.0, 0.5))
    assert full is not None
    assert half == pytest.approx(full, rel=0.01)


@pytest.mark.parametrize("z", [0, 2, 4])
def test_a_shifted_section_says_by_how_much(arrays: Arrays, tmp_path: Path, z: int) -> None:
    dy, dx = 48, -80
    spoilt = arrays.padded(128)
    spoilt.move(z, dy, dx)
    found = measure_brain(spoilt.write(tmp_path / "b.zarr"))
    for side in ("previous", "next"):
        if f"shift_{side}_um" in found[z]:
            assert found[z][f"shift_{side}_y_um"] == pytest.approx(dy * 0.432, abs=BIN_UM)
            assert found[z][f"shift_{side}_x_um"] == pytest.approx(dx * 0.432, abs=BIN_UM)
    assert found[z]["residue_um"] == pytest.approx(np.hypot(dy, dx) * 0.432, abs=BIN_UM)
    assert [k for k, line in flagged(found).items() if "registration residue" in line] == [z]
    # Its neighbours fit each other as before.
    assert all(found[k]["residue_um"] < BIN_UM for k in range(5) if k != z)


def test_a_saturated_section(arrays: Arrays, tmp_path: Path) -> None:
    spoilt = arrays.copy()
    spoilt.morphology[0, 3] = np.minimum(255, spoilt.morphology[0, 3].astype(int) * 8)
    found = measure_brain(spoilt.write(tmp_path / "b.zarr"))
    inside = spoilt.tissue[3].repeat(BIN_PX, 0).repeat(BIN_PX, 1) != 0
    assert found[3]["DAPI_saturated"] == pytest.approx(
        (spoilt.morphology[0, 3][inside] == 255).mean(), rel=1e-5
    )
    assert found[3]["DAPI_p99"] == 255
    assert list(flagged(found)) == [3]
    assert "DAPI saturated" in flagged(found)[3]


def test_missing_tiles_of_the_image(arrays: Arrays, tmp_path: Path) -> None:
    spoilt = arrays.copy()
    spoilt.morphology[:, 1, 128:384, 256:512] = 0
    spoilt.morphology[1, 1, :, :256] = 0
    found = measure_brain(spoilt.write(tmp_path / "b.zarr"))
    gone = np.zeros(spoilt.tissue.shape[1:], bool)
    gone[8:24, 16:32] = True
    tissue = spoilt.tissue[1] != 0
    density = spoilt.density(1)
    own = found[1]
    assert own["DAPI_coverage"] == own["image_coverage"]
    assert own["image_coverage"] == pytest.approx(1 - (gone & tissue).sum() / tissue.sum(), rel=1e-5)
    gone_polyt = gone.copy()
    gone_polyt[:, :16] = True
    assert own["PolyT_coverage"] == pytest.approx(1 - (gone_polyt & tissue).sum() / tissue.sum(), rel=1e-5)
    assert own["transcripts_without_image"] == pytest.approx(
        density[gone & tissue].sum() / density[tissue].sum(), rel=1e-5
    )
    assert own["image_canvas"] == pytest.approx(1 - gone.mean(), rel=1e-5)
    assert list(flagged(found)) == [1]
    assert "DAPI covers" in flagged(found)[1]
    assert "transcripts without image" in flagged(found)[1]


def test_streamed_equals_whole_arrays(arrays: Arrays, small_brain: Brain, clean: list[dict]) -> None:
    """The slow twin: everything from arrays in memory, with NumPy's and SciPy's own functions."""
    for z, own in enumerate(clean):
        tissue, density = arrays.tissue[z] != 0, arrays.density(z)
        area = tissue.sum() * (BIN_UM / 1000) ** 2
        genes = np.unique(arrays.molecules[z][2])
        expected = {
            "transcripts": density.sum(),
            "transcripts_in_tissue": density[tissue].sum() / density.sum(),
            "transcripts_outside": density[~tissue].sum(),
            "tissue_mm2": area,
            "tissue_canvas": tissue.mean(),
            "density_per_mm2": density[tissue].sum() / area,
            "genes_seen": len(genes),
        }
        inside = tissue.repeat(BIN_PX, 0).repeat(BIN_PX, 1)
        for stain, name in enumerate(arrays.spec.stains):
            plane = arrays.morphology[stain, z]
            expected |= {
                f"{name}_saturated": (plane[inside] == 255).mean(),
                f"{name}_focus": focus(plane, inside),
            }
            for percent in (1, 50, 99):
                low = np.percentile(plane[inside], percent, method="inverted_cdf")
                expected[f"{name}_p{percent}"] = low
        for other, name in ((z - 1, "previous"), (z + 1, "next")):
            if 0 <= other < len(clean):
                common = tissue & (arrays.tissue[other] != 0)
                expected[f"dice_{name}"] = (
                    2 * common.sum() / (tissue.sum() + (arrays.tissue[other] != 0).sum())
                )
        for key, value in expected.items():
            assert own[key] == pytest.approx(float(value), rel=1e-5), (z, key)


def focus(plane: np.ndarray, inside: np.ndarray) -> float:
    values = []
    for y in range(0, plane.shape[0], BLOCK_PX):
        for x in range(0, plane.shape[1], BLOCK_PX):
            part = plane[y : y + BLOCK_PX, x : x + BLOCK_PX].astype(float)
            mask = inside[y : y + BLOCK_PX, x : x + BLOCK_PX]
            if mask.mean() < 0.5:
                continue
            squares = (ndimage.sobel(part, 0) ** 2 + ndimage.sobel(part, 1) ** 2)[1:-1, 1:-1]
            seen = mask[1:-1, 1:-1]
            values.append(np.sqrt(squares[seen].mean()) / 8 / part[1:-1, 1:-1][seen].mean() / 0.432)
    return float(np.median(values))


def test_numbers_do_not_depend_on_how_the_work_is_cut(small_brain: Brain) -> None:
    whole = measure_section(small_brain, 1)
    for rows in (1, 7, 32):
        part = measure_section(small_brain, 1, rows=rows)
        assert part.numbers == whole.numbers
        np.testing.assert_array_equal(part.tissue, whole.tissue)
        np.testing.assert_array_equal(part.signal, whole.signal)


def test_correlation_equals_that_of_each_overlap() -> None:
    rng = np.random.default_rng(2)
    fixed, moving = rng.random((9, 12)), rng.random((9, 12))
    surface = correlation(fixed, moving)
    for dy in range(-4, 5):
        for dx in range(-6, 7):
            a = fixed[max(0, dy) : 9 + min(0, dy), max(0, dx) : 12 + min(0, dx)]
            b = moving[max(0, -dy) : 9 + min(0, -dy), max(0, -dx) : 12 + min(0, -dx)]
            assert surface[dy, dx] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-9)


def test_large_maps_are_coarse_and_find_parts_of_a_cell(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of 2 x 2 bins a cell finds shifts of a cell and a half."""
    from teramind_data.qc import section as module

    spoilt = arrays.pick([1, 1]).padded(80)
    spoilt.move(1, 48, -16)
    brain = spoilt.write(tmp_path / "b.zarr")
    monkeypatch.setattr(module, "MAP_EDGE", 40)
    fixed, moved = (measure_section(brain, z) for z in range(2))
    assert fixed.tissue.shape == (21, 29)
    assert fixed.cell_um == pytest.approx(2 * BIN_UM)
    found = displacement(moved, fixed)
    assert found == pytest.approx((48 * 0.432, -16 * 0.432), abs=0.25 * BIN_UM)
    back = displacement(fixed, moved)
    assert back is not None
    assert back == pytest.approx((-found[0], -found[1]), abs=1e-3)


def test_cells_at_the_rim_hold_fewer_bins() -> None:
    plane = np.random.default_rng(4).integers(0, 9, (11, 14))
    into = np.zeros((3, 4), np.int64)
    for y0, y1 in ((0, 3), (3, 10), (10, 11)):
        fold(plane[y0:y1], y0, 4, into)
    for i in range(3):
        for j in range(4):
            part = plane[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            assert (into[i, j], fold_sizes((11, 14), 4)[i, j]) == (part.sum(), part.size)


def test_few_blocks_are_spread_over_many() -> None:
    tissue = np.zeros((40, 50), np.int64)
    tissue[5:35, 10:45] = 3
    boxes = chosen_blocks(tissue, (40 * BLOCK_PX, 50 * BLOCK_PX - 100))
    assert len(boxes) == BLOCKS
    rows = {box.y0 // BLOCK_PX for box in boxes}
    assert rows == set(range(5, 35))
    assert all(box.shape == (BLOCK_PX, BLOCK_PX) for box in boxes)
    assert len(chosen_blocks(np.ones((2, 3), np.int64), (400, 700))) == 6


def test_percentile_of_counts() -> None:
    values = np.random.default_rng(3).integers(0, 256, 1001)
    counts = np.bincount(values, minlength=256)
    for percent in (0, 1, 50, 99, 100):
        assert percentile(counts, percent) == np.percentile(values, percent, method="inverted_cdf")
    assert percentile(np.zeros(256, np.int64), 50) is None


def test_stores_with_less_in_them(arrays: Arrays, tmp_path: Path) -> None:
    generated = arrays.copy()
    generated.spec = replace(arrays.spec, kind="generated")
    found = measure_brain(generated.write(tmp_path / "g.zarr", tissue=False))
    assert found[0]["tissue_from"] == "image"
    assert found[0]["residue_from"] == "DAPI"
    assert not {"transcripts", "DAPI_coverage"} & set(found[0])
    assert found[0]["DAPI_focus"] > 0
    assert found[0]["residue_um"] < BIN_UM

    genes = arrays.copy()
    genes.spec = replace(arrays.spec, kind="expression", stains=())
    found = measure_brain(genes.write(tmp_path / "e.zarr"))
    assert not any(key.startswith(("DAPI", "image")) for key in found[0])
    assert found[2]["density_per_mm2"] > 0

    alone = measure_brain(arrays.pick([1]).write(tmp_path / "one.zarr"))
    assert "residue_um" not in alone[0]
    assert alone[0]["flags"] == []


def test_a_section_without_anything(arrays: Arrays, tmp_path: Path) -> None:
    spoilt = arrays.copy()
    spoilt.morphology[:, 2] = 0
    spoilt.tissue[2] = 0
    spoilt.molecules[2] = spoilt.molecules[2][:, :0]
    found = measure_brain(spoilt.write(tmp_path / "b.zarr"))
    own = found[2]
    for key in (
        "transcripts_in_tissue",
        "density_per_mm2",
        "DAPI_focus",
        "DAPI_p50",
        "DAPI_coverage",
        "residue_um",
    ):
        assert own[key] is None, key
    assert own["flags"][0] == "no tissue found"
    assert found[1]["residue_um"] is not None
