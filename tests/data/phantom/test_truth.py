"""The canvas-plane truth: reproducible, biologically as documented, and told by its genes."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from teramind_data.phantom import PhantomConfig, SectionTruth, section_truth
from teramind_data.phantom.anatomy import MIXTURES, REGIONS, Anatomy, region_bins
from teramind_data.phantom.cells import expected_counts, place_cells
from teramind_data.phantom.genes import INTERACTING, MARKERS, TYPE_INDEX, TYPES, mean_counts

CONFIG = PhantomConfig(genes=64, shared=40, blanks=4, seed=3)
LARGE = dataclasses.replace(CONFIG, canvas=(2048, 2048))


@pytest.fixture(scope="module")
def truth() -> SectionTruth:
    return section_truth(CONFIG, "A", 1)


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return place_cells(LARGE, "A", 0)


def _same(a: SectionTruth, b: SectionTruth) -> bool:
    return (
        np.array_equal(a.cells, b.cells)
        and np.array_equal(a.image, b.image)
        and np.array_equal(a.masks, b.masks)
        and all(np.array_equal(getattr(a.molecules, n), getattr(b.molecules, n)) for n in ("y", "x", "gene"))
    )


def test_a_section_depends_on_its_own_key_only(truth: SectionTruth) -> None:
    section_truth(CONFIG, "B", 0)
    reordered = dataclasses.replace(CONFIG, brains=("Z", "A"), panels=(2, 1), sections=9)
    assert _same(truth, section_truth(reordered, "A", 1))
    for brain, section, seed in (("A", 0, 3), ("B", 1, 3), ("A", 1, 4)):
        assert not _same(truth, section_truth(dataclasses.replace(CONFIG, seed=seed), brain, section))


def test_shapes_and_ranges(truth: SectionTruth) -> None:
    assert truth.image.shape == (2, 512, 512)
    assert truth.image.dtype == np.float32
    assert truth.masks.dtype == np.int32
    assert truth.image.min() >= 0
    assert truth.image.max() <= 255
    assert truth.expression().sum() == len(truth.molecules)
    assert truth.expression().shape == (64, 32, 32)
    assert truth.molecules.gene.max() < 64
    assert truth.regions.max() < len(REGIONS)


def test_nuclei_do_not_overlap_and_are_whole(truth: SectionTruth) -> None:
    cells = truth.cells
    distance = np.hypot(cells["y"][:, None] - cells["y"], cells["x"][:, None] - cells["x"])
    np.fill_diagonal(distance, np.inf)
    assert (distance >= 1.05 * (cells["a"][:, None] + cells["a"]) - 1e-3).all()
    area = np.bincount(truth.masks.ravel(), minlength=len(cells) + 1)[1:]
    # None has lost pixels to another or to the rim of the canvas.
    np.testing.assert_allclose(area, np.pi * cells["radius"] ** 2, rtol=0.05)


def test_density_and_coverage_are_as_documented(many: np.ndarray) -> None:
    bins = region_bins(Anatomy.of(LARGE, "A", 0))
    tissue = (bins > 0).mean()
    coverage = (np.pi * many["radius"] ** 2).sum() / (2048**2 * tissue)
    assert 0.72 <= tissue <= 0.85
    assert 0.14 <= coverage <= 0.20
    assert 9 / 1.3 <= many["radius"].min() <= many["radius"].max() <= 15 * 1.2


def test_regions_hold_the_types_they_should(many: np.ndarray) -> None:
    counts = np.zeros((len(REGIONS), len(TYPES)))
    np.add.at(counts, (many["region"], many["type"]), 1)
    for region, mixture in MIXTURES.items():
        commonest = TYPES[int(counts[REGIONS.index(region)].argmax())]
        assert commonest == max(mixture, key=lambda name: mixture[name])
    assert counts[REGIONS.index("outside")].sum() == 0
    assert counts[REGIONS.index("ventricle")].sum() == 0


def test_vessels_carry_elongated_nuclei_along_them(many: np.ndarray) -> None:
    anatomy = Anatomy.of(LARGE, "A", 0)
    endothelial = many[many["type"] == TYPE_INDEX["endothelial"]]
    distance, along = anatomy.vessels(endothelial["y"].astype(float), endothelial["x"].astype(float))
    near = distance < 9
    assert near.mean() > 0.7
    assert (np.abs(np.sin(endothelial["angle"] - along))[near] < 0.35).mean() > 0.95
    assert (endothelial["a"] / endothelial["b"]).mean() > 1.7


def test_plan_is_symmetric_and_moves_smoothly_along_the_brain() -> None:
    sections = [region_bins(Anatomy.of(CONFIG, "A", z), step=4) for z in range(30)]
    steps = [(a != b).mean() for a, b in pairwise(sections)]
    assert max(steps) < 0.06
    assert (sections[0] != sections[12]).mean() > 1.5 * np.median(steps)
    assert (sections[0] != sections[0][:, ::-1]).mean() < 0.12
    other = region_bins(Anatomy.of(CONFIG, "B", 0), step=4)
    assert 0 < (sections[0] != other).mean() < 0.25


def test_transcripts_a_cell_and_background(truth: SectionTruth) -> None:
    owned = truth.molecules.cell > 0
    assert 0.002 < (~owned).mean() < 0.025
    each = np.bincount(truth.molecules.cell[owned], minlength=len(truth.cells) + 1)[1:]
    assert 120 < np.median(each) < 320
    cells = truth.cells[truth.molecules.cell[owned] - 1]
    away = np.hypot(truth.molecules.y[owned] - cells["y"], truth.molecules.x[owned] - cells["x"])
    assert (away <= 1.35 * cells["a"] + 1e-3).all()
    assert np.median(away / cells["radius"]) < 0.9


def test_bins_around_a_nucleus_tell_its_type(truth: SectionTruth) -> None:
    """A Poisson likelihood over the 3 x 3 bins around each nucleus, neighbours and all, names the type."""
    counts = np.pad(truth.expression(), ((0, 0), (1, 1), (1, 1)))
    rates = mean_counts(1, 64, 40)
    rates = np.log(rates / rates.sum(1, keepdims=True))
    rows = np.floor(truth.cells["y"] + 0.5).astype(int) // 16
    cols = np.floor(truth.cells["x"] + 0.5).astype(int) // 16
    seen = np.stack([counts[:, r : r + 3, c : c + 3].sum((1, 2)) for r, c in zip(rows, cols, strict=True)])
    said = (seen @ rates.T).argmax(1)
    assert (said == truth.cells["type"]).mean() > 0.75
    shuffled = np.random.default_rng(0).permutation(seen)
    assert ((shuffled @ rates.T).argmax(1) == truth.cells["type"]).mean() < 0.35


def test_genes_predict_brightness_size_and_polyt(truth: SectionTruth) -> None:
    """Knowing the type leaves little of the variance of what the picture shows of a nucleus."""
    cells, n = truth.cells, len(truth.cells)
    inside = truth.masks.ravel()
    area = np.bincount(inside, minlength=n + 1)[1:].astype(float)
    for values in (
        area,
        np.bincount(inside, truth.image[0].ravel(), n + 1)[1:] / area,
        np.bincount(inside, truth.image[1].ravel(), n + 1)[1:] / area,
    ):
        mean = np.bincount(cells["type"], values, len(TYPES)) / np.maximum(
            np.bincount(cells["type"], minlength=len(TYPES)), 1
        )
        left = ((values - mean[cells["type"]]) ** 2).sum() / ((values - values.mean()) ** 2).sum()
        assert left < 0.3


def test_interacting_pairs_interact_and_others_do_not() -> None:
    config = dataclasses.replace(CONFIG, canvas=(1024, 1024))
    cells = place_cells(config, "A", 0)
    means = expected_counts(config, "A", 0, cells)
    table = mean_counts(1, 64, 40)
    size = (
        cells["radius"]
        / (
            np.bincount(cells["type"], cells["radius"], len(TYPES))
            / np.maximum(np.bincount(cells["type"], minlength=len(TYPES)), 1)
        )[cells["type"]]
    ) ** 2
    relative = means / (table[cells["type"]] * (size * cells["activity"])[:, None])

    def linked(a: str, b: str, kind: str) -> float:
        mine = cells["type"] == TYPE_INDEX[kind]
        return float(np.corrcoef(*np.log(relative[mine][:, [MARKERS.index(a), MARKERS.index(b)]]).T)[0, 1])

    assert linked("Nr4a2", "Th", "dopa") > 0.4
    assert linked("Slc17a6", "Slc17a7", "glut_subcortex") > 0.4
    # Merely co-expressed: nothing is left once size and activity are taken out (both then equal 1 / the same size).
    mog, mbp = (relative[:, MARKERS.index(g)] for g in ("Mog", "Mbp"))
    np.testing.assert_allclose(mog, mbp, rtol=1e-6)
    # Aqp4 of astrocytes rises near vessels.
    astrocytes = np.flatnonzero(cells["type"] == TYPE_INDEX["astrocyte"])
    vessel = cells[cells["type"] == TYPE_INDEX["endothelial"]]
    gap = np.hypot(
        cells["y"][astrocytes, None] - vessel["y"], cells["x"][astrocytes, None] - vessel["x"]
    ).min(1)
    aqp4 = relative[astrocytes, MARKERS.index("Aqp4")]
    assert aqp4[gap < 40].mean() > 1.25 * aqp4[gap > 90].mean()
    assert len(INTERACTING) == 3
