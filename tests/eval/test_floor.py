"""The noise floor: which stores are draws of one brain, and how far these lie from each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from teramind_data.geometry import Box, tiles
from teramind_data.store import open_brain
from teramind_eval.config import report_config
from teramind_eval.evaluate import Sizes, Task, section_nuclei
from teramind_eval.floor import draws_of
from teramind_eval.metrics.image import psnr, ssim
from teramind_eval.morphometry.compare import match_centroids
from teramind_eval.report.build import Evidence, gather, open_stores
from teramind_eval.report.nuclei_charts import nuclei_table
from teramind_eval.report.tables import floor_numbers, summary
from tests.eval.conftest import Stores
from tests.eval.drawn import PROVENANCE, draw_section, imitation, write_generated
from tests.eval.likeness_fakes import FakeWeights, pooled

TILE = 32


def store(label: str, role: str = "generated", images: tuple[str, ...] = (), **provenance: Any) -> Any:
    return SimpleNamespace(
        label=label, role=role, brain=SimpleNamespace(provenance=provenance, images=images)
    )


def test_draws_are_the_stores_of_one_request() -> None:
    def made(seed: int, **changes: Any) -> dict[str, Any]:
        request = {"checkpoint": "a", "steps": 15, "control": {"kind": None}, "seed": seed, **changes}
        return {"request": request, "seed": seed}

    run = store("run", **made(1))
    others = [
        store("other", **made(2)),
        store("again", **made(2)),
        store("elsewhere", **made(3, device="cuda", plan={"batch": 4}, draws=2)),
        store("folded", **made(6, device="cuda", slices="folded", compiled=True)),
        store("steps", **made(4, steps=5)),
        store("shuffled", "control", **made(5)),
        store("silent"),
    ]
    assert draws_of([store("real", "real"), run, *others]) == ("run", "other", "elsewhere", "folded")
    assert draws_of([run, *others[4:]]) == ()
    assert draws_of([store("a", seed=1), store("b", seed=2)]) == ()
    assert draws_of([store("a", checkpoint={"sha256": "0"}, seed=1), run]) == ()
    same = {"checkpoint": {"sha256": "0"}, "steps": 15}
    assert draws_of([store("a", seed=1, **same), store("b", seed=2, **same)]) == ("a", "b")
    spread = store("a", images=("morphology", "morphology_sd"), seed=1, **same)
    assert draws_of([store("real", "real"), spread]) == ("a",)
    assert draws_of([spread, store("b", seed=2, **same)]) == ("a", "b")
    assert draws_of([store("b", seed=2, **same), spread]) == ("b", "a")


@pytest.fixture(scope="module")
def evidence(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of two draws, without a page."""
    root = tmp_path_factory.mktemp("floor")
    images = [imitation(draw_section(seed).image, 4, 7) for seed in (11, 12)]
    other = write_generated(root / "H.zarr", images, provenance={**PROVENANCE, "seed": 4})
    runs = {"a": str(stores.good), "b": str(other)}
    config = report_config(real=str(stores.real), generated=runs, out=str(root / "r"))
    opened = open_stores(config)
    draws = draws_of(opened)
    task = Task(opened, Sizes(TILE, 64), config.nuclei.build(), inception=FakeWeights(), draws=draws)
    return gather(config, opened, task, root / "journal", ({}, {}))


def test_the_floor_is_that_of_the_draws_tile_by_tile(evidence: Evidence) -> None:
    floor = evidence.results.noise_floor
    assert floor is not None
    assert floor.draws == ("a", "b")
    noise, alike, matches = [], [], []
    for section, seed in enumerate((11, 12)):
        images = [
            np.asarray(open_brain(one.brain.url).read("morphology", section)) for one in evidence.stores[1:]
        ]
        y, x, _ = draw_section(seed).molecules
        held = set(zip((y // TILE).tolist(), (x // TILE).tolist(), strict=True))
        for tile in tiles(Box(0, 256, 0, 256), TILE):
            if (tile.y0 // TILE, tile.x0 // TILE) in held:
                a, b = (one[(slice(None), *tile.slices)] for one in images)
                noise.append(psnr(a, b))
                alike.append(ssim(a, b)[1])
        first, second = (
            section_nuclei(one.brain, section, evidence.config.nuclei.build()) for one in evidence.stores[1:]
        )
        matches.append(match_centroids(first.centroids, np.sqrt(first.area_px / np.pi), second.centroids))
    assert floor.image["together"].psnr_db.n == len(noise) > 50
    assert floor.image["together"].psnr_db.mean == pytest.approx(np.mean(noise))
    assert floor.image["PolyT"].ssim.mean == pytest.approx(np.mean(alike))
    assert floor.nuclei.f1 == pytest.approx(matches[0].merge(matches[1]).f1)
    assert floor.nuclei.f1 > 0.9


def test_nuclei_of_the_draws_are_compared_as_with_the_real_ones(evidence: Evidence) -> None:
    from scipy.stats import ks_2samp, wasserstein_distance

    floor = evidence.results.noise_floor
    assert floor is not None
    values = [
        evidence.measured.brain(label).morphometry.sample("solidity")[0] * 0.001 for label in ("a", "b")
    ]
    found = floor.measures["solidity"]
    assert found.wasserstein == pytest.approx(wasserstein_distance(*values))
    assert found.kolmogorov_smirnov == pytest.approx(ks_2samp(*values).statistic)
    assert found.mean_difference == pytest.approx(abs(values[0].mean() - values[1].mean()))


def test_features_of_the_draws_lie_so_far_apart(evidence: Evidence) -> None:
    """FID written out, of DAPI's tiles."""
    from scipy.linalg import sqrtm

    found: list[list[np.ndarray]] = [[], []]
    for section, seed in enumerate((11, 12)):
        y, x, _ = draw_section(seed).molecules
        held = set(zip((y // TILE).tolist(), (x // TILE).tolist(), strict=True))
        for features, one in zip(found, evidence.stores[1:], strict=True):
            dapi = np.asarray(open_brain(one.brain.url).read("morphology", section))[:1]
            features += [
                pooled(dapi[(slice(None), *tile.slices)].repeat(3, axis=0))
                for tile in tiles(Box(0, 256, 0, 256), TILE)
                if (tile.y0 // TILE, tile.x0 // TILE) in held
            ]
    a, b = (np.array(features) for features in found)
    c, d = np.cov(a.T), np.cov(b.T)
    fid = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(c + d - 2 * sqrtm(c @ d).real)
    floor = evidence.results.noise_floor
    assert floor is not None
    assert floor.distribution.keys() == {"DAPI", "PolyT", "together"}
    assert floor.distribution["DAPI"].n == len(a)
    assert floor.distribution["DAPI"].fid == pytest.approx(fid, rel=1e-3)
    far = evidence.results.store("generated")[0].brain.distribution["DAPI"].fid
    assert far is not None and 0 < fid < far


def test_the_tables_have_a_column_of_it(evidence: Evidence) -> None:
    results = evidence.results
    floor = results.noise_floor
    assert floor is not None
    rows = {row.title: row.cells for row in summary(results, ("DAPI", "PolyT"), 64)}
    assert {len(cells) for cells in rows.values()} == {4}
    assert rows["PSNR (dB)"][-1].text == f"{floor.image['together'].psnr_db.mean:.2f}"
    assert rows["Centroid F1 against the real image"][-1].text == f"{floor.nuclei.f1:.3f}"
    assert rows["sFID"][-1].text == f"{floor.distribution['together'].sfid:.2f}"
    assert rows["Nuclear area (µm²)"][-1].text == f"Δ {floor.measures['area_um2'].mean_difference:.1f}"
    nuclei = nuclei_table(results.stores, evidence.sizes, 0.432, floor)
    assert nuclei[3].cells[-1][2] == f"KS {floor.measures['solidity'].kolmogorov_smirnov:.3f}"
    numbers = {(row["measure"], row["stain"]): row["mean"] for row in floor_numbers(results)}
    assert numbers["ssim", "DAPI"] == floor.image["DAPI"].ssim.mean
    assert numbers["fid", "PolyT"] == floor.distribution["PolyT"].fid
    assert numbers["solidity_wasserstein", "DAPI"] == floor.measures["solidity"].wasserstein


def test_a_store_that_holds_the_spread_of_two_draws_has_their_psnr(
    stores: Stores, evidence: Evidence, tmp_path: Path
) -> None:
    from teramind_data.store import ImageSpec, append_image
    from teramind_eval.likeness import measure_tiles
    from teramind_eval.pairs import open_store

    images = [[np.asarray(one.brain.read("morphology", z)) for one in evidence.stores[1:]] for z in (0, 1)]
    # Kept in another order of stains than the real brain's.
    both = write_generated(tmp_path / "both.zarr", [a[::-1] for a, _ in images], stains=("PolyT", "DAPI"))
    sd = [np.std(pair, axis=0, ddof=1).astype(np.float16)[::-1] for pair in images]
    spec = ImageSpec("morphology_sd", ("PolyT", "DAPI"), "float16", attrs={"draws": 2})
    append_image(str(both), spec, [(z, None, values) for z, values in enumerate(sd)])
    real = evidence.stores[0]
    opened = open_store(str(both), "both", "generated")
    pair = (real, replace(opened, brain=opened.brain.stained(real.brain.stains)))
    assert draws_of(pair) == ("both",)
    floor = evidence.results.noise_floor
    assert floor is not None
    sums = [measure_tiles(pair, z, TILE, draws=("both",))["both"].between for z in (0, 1)]
    for stain in ("DAPI", "PolyT", "together"):
        found = sums[0].merge(sums[1])
        assert found.measures["psnr"][stain].n == floor.image[stain].psnr_db.n
        assert found.measures["psnr"][stain].mean == pytest.approx(floor.image[stain].psnr_db.mean, abs=0.01)
        assert found.measures["ssim"][stain].n == 0


def test_a_pass_on_a_device_has_the_same_numbers(evidence: Evidence) -> None:
    from teramind_eval.likeness import measure_tiles
    from teramind_eval.metrics.image_on_device import DeviceScorer

    stores, draws = evidence.stores[:3], [one.label for one in evidence.stores[1:3]]
    expected = measure_tiles(stores, 0, TILE, draws=draws)
    found = measure_tiles(stores, 0, TILE, draws=draws, score=DeviceScorer("cpu"))
    for one in stores[1:]:
        for part in ("image", "between"):
            a, b = (getattr(sums[one.label], part).measures for sums in (expected, found))
            assert a.keys() == b.keys()
            for measure, by_stain in a.items():
                for stain, moments in by_stain.items():
                    assert b[measure][stain].n == moments.n
                    assert b[measure][stain].mean == pytest.approx(moments.mean, rel=1e-9)
