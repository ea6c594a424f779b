"""The pass over all sections: equal to tile by tile, whatever the workers and wherever it was interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from typing_extensions import TypeAliasType

from teramind_data.errors import InputError, StoreError
from teramind_data.geometry import Box
from teramind_data.store import Brain, create_brain, open_brain
from teramind_eval import sections
from teramind_eval.cautions import warn_about
from teramind_eval.config import report_config
from teramind_eval.evaluate import Measured, Raw, Sizes, Task, store_results
from teramind_eval.journal import Arrays, Journal, pack, unpack
from teramind_eval.metrics.distribution import (
    FeatureMoments,
    FeatureSums,
    Sample,
    frechet_distance,
    kernel_distance,
    tile_keys,
)
from teramind_eval.metrics.image import ms_ssim, psnr, ssim
from teramind_eval.metrics.seams import Grid
from teramind_eval.morphometry.watershed import Watershed
from teramind_eval.pairs import open_store, regions_of_tiles, same_place
from teramind_eval.report import build
from teramind_eval.report.charts import curve_charts
from teramind_eval.report.likeness_charts import likeness_charts
from teramind_eval.results import Statistic
from teramind_eval.sections import measure_brains
from teramind_eval.walk import Walk, Workers
from tests.eval import likeness_fakes
from tests.eval.conftest import Stores, blank_plots
from tests.eval.drawn import CANVAS, draw_section, spec_of, write_generated, write_real
from tests.eval.likeness_fakes import FakeWeights

TILE = 32
BINS = tuple(edge // 16 for edge in CANVAS)


def _annotation() -> np.ndarray:
    """Two regions in quarters of the canvas, most of it none."""
    labels = np.zeros((2, *BINS), np.uint16)
    labels[:, :8, :8] = 5
    labels[1, 8:, 9:] = 300
    return labels


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real store of the drawn brain with regions."""
    path = tmp_path_factory.mktemp("annotated") / "C.zarr"
    writer = create_brain(str(path), spec_of("atlas"))
    writer.add_labels("regions", "uint16", names={5: "CTX", 300: "TH"}, array=_annotation())
    drawn = [draw_section(seed) for seed in (11, 12)]
    for index, one in enumerate(drawn):
        writer.write("morphology", index, None, one.image)
        writer.write("expression", index, None, np.ones((3, *BINS), np.uint8))
    writer.write_molecules((index, *one.molecules) for index, one in enumerate(drawn))
    writer.finish()
    return path


def _task(stores: Stores, real: Path, **changes: Any) -> Task:
    compared = (
        open_store(str(real), "real", "real"),
        open_store(str(stores.good), "generated", "generated"),
        open_store(str(stores.shuffled), "shuffled", "control"),
    )
    values: dict[str, Any] = {"truth": stores.truth, "inception": FakeWeights(), **changes}
    return Task(compared, Sizes(TILE, 64), Watershed(), **values)


@pytest.fixture(scope="module")
def measured(stores: Stores, annotated: Path) -> Measured:
    """All of it, undisturbed."""
    return measure_brains(_task(stores, annotated))


def _all(value: Any) -> tuple[str, dict[str, bytes]]:
    """Every number of a value, to compare bit by bit."""
    arrays: Arrays = {}
    tree = json.dumps(pack(value, arrays))
    return tree, {name: array.tobytes() for name, array in arrays.items()}


def _tissue(section: int) -> list[Box]:
    y, x, _ = draw_section((11, 12)[section]).molecules
    held = sorted(set(zip((y // TILE).tolist(), (x // TILE).tolist(), strict=True)))
    return [Box(r * TILE, (r + 1) * TILE, c * TILE, (c + 1) * TILE) for r, c in held]


def _cuts(path: Path, section: int) -> list[np.ndarray]:
    image = np.asarray(open_brain(str(path)).read("morphology", section))
    return [image[(slice(None), *tile.slices)] for tile in _tissue(section)]


def test_scores_are_those_of_the_tiles_one_by_one(
    stores: Stores, annotated: Path, measured: Measured
) -> None:
    for section, raw in enumerate(measured.by_store["generated"]):
        pairs = list(zip(_cuts(annotated, section), _cuts(stores.good, section), strict=True))
        similar = np.array([ssim(x, y) for x, y in pairs])
        assert raw.image.measures["ssim"]["DAPI"].n == len(pairs)
        assert raw.image.measures["ssim"]["DAPI"].mean == pytest.approx(similar[:, 0].mean())
        assert raw.image.measures["ssim"]["together"].sd == pytest.approx(similar.mean(axis=1).std(ddof=1))
        noise = [psnr(x, y) for x, y in pairs]
        assert raw.image.measures["psnr"]["together"].mean == pytest.approx(np.mean(noise))
        assert raw.image.measures["ms_ssim"]["together"].n == 0
        assert measured.by_store["real"][section].image.measures == {}


def test_large_tiles_have_an_ms_ssim(stores: Stores, annotated: Path) -> None:
    task = _task(stores, annotated, truth=None, inception=None)
    found = measure_brains(Task(task.stores, Sizes(256, 256), Watershed()))
    results = store_results(task.stores, found)
    value = results[1].brain.image["PolyT"].ms_ssim
    expected = [
        ms_ssim(
            *(
                np.asarray(open_brain(str(path)).read("morphology", section))
                for path in (annotated, stores.good)
            )
        )
        for section in (0, 1)
    ]
    assert value.n == 2
    assert value.mean == pytest.approx(np.mean(expected, axis=0)[1])
    assert results[1].brain.distribution == {}


def test_a_section_without_molecules_has_no_numbers(stores: Stores, tmp_path: Path) -> None:
    drawn = [draw_section(11), draw_section(12)]
    none = tuple(np.zeros(0, np.int64) for _ in range(3))
    real = write_real(tmp_path / "R.zarr", [drawn[0], replace(drawn[1], molecules=none)])
    task = _task(stores, real)
    scores = store_results(task.stores, measure_brains(task))
    full, empty = (section.scores for section in scores[1].sections)
    assert empty.image["together"].psnr_db == Statistic(None, None, 0)
    assert empty.nuclei.count == 0
    assert empty.distribution == {}
    assert full.image == scores[1].brain.image
    with blank_plots():
        assert curve_charts(scores, task.sizes) and likeness_charts(scores)


def test_regions_are_those_that_most_of_a_tile_has(
    stores: Stores, annotated: Path, measured: Measured
) -> None:
    values: dict[str, list[float]] = {"CTX": [], "TH": []}
    for section in (0, 1):
        cuts = zip(_tissue(section), _cuts(annotated, section), _cuts(stores.good, section), strict=True)
        for tile, x, y in cuts:
            bins = _annotation()[
                section, tile.y0 // 16 : tile.y1 // 16, tile.x0 // 16 : tile.x1 // 16
            ].ravel()
            held = bins[bins > 0].tolist()
            if held:
                values[{5: "CTX", 300: "TH"}[max(held, key=held.count)]].append(float(ssim(x, y)[0]))
    results = store_results(_task(stores, annotated).stores, measured)
    found = results[1].brain.regions
    assert list(found) == ["CTX", "TH"]
    for name, expected in values.items():
        assert found[name]["DAPI"].ssim.n == len(expected) > 5
        assert found[name]["DAPI"].ssim.mean == pytest.approx(np.mean(expected))
    assert results[0].brain.regions == results[1].sections[0].scores.regions == {}


def test_regions_of_one_name_are_pooled(
    stores: Stores, annotated: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = _task(stores, annotated).stores
    apart = store_results(compared, measured)[1].brain.regions
    monkeypatch.setattr(Brain, "region_names", {5: "layer", 300: "layer"})
    together = store_results(compared, measured)[1].brain.regions
    assert list(together) == ["layer"]
    one, parts = together["layer"]["DAPI"].ssim, [region["DAPI"].ssim for region in apart.values()]
    assert one.n == sum(part.n for part in parts)
    assert one.mean == pytest.approx(sum(part.mean * part.n for part in parts) / one.n)  # type: ignore[operator]


def test_a_part_of_the_canvas_is_scored_as_if_there_were_nothing_else(
    stores: Stores, annotated: Path, tmp_path: Path
) -> None:
    images = np.stack([open_brain(str(stores.good)).read("morphology", section) for section in (0, 1)])
    images[:, :, :, :80], images[:, :, 210:] = 0, 0
    provenance = {"request": {"region": [0, 210, 80, 256]}}
    roi = write_generated(tmp_path / "R.zarr", list(images), provenance=provenance)
    whole = _task(stores, annotated, inception=None).stores
    compared = same_place((*whole, open_store(str(roi), "roi", "generated")))
    grids = {one.label: Grid(64, None) for one in compared}
    task = Task(compared, Sizes(TILE, 64), Watershed(), stores.truth, grids=grids)
    measured = measure_brains(task)
    ours, inside = measured.by_store["generated"], measured.by_store["roi"]
    # The other one's pixels outside make no difference to anything, though it has them.
    for one, other in zip(ours, inside, strict=True):
        assert _all(one) == _all(other)
    for section, raw in enumerate(inside):
        boxes = [box for box in _tissue(section) if box.y1 <= 210 and box.x0 >= 80]
        assert raw.image.measures["psnr"]["DAPI"].n == len(boxes) > 5
        assert raw.morphometry.patches.keys[raw.morphometry.patches.tissue][:, 1:].max(axis=0)[0] <= 128
    f1 = store_results(compared, measured)[-1].brain.nuclei.against_truth
    assert f1 is not None
    assert f1.f1 > 0.9
    warnings = warn_about(compared[0].brain, compared[1:])
    assert any("wholly inside are scored" in one for one in warnings)
    elsewhere = write_generated(
        tmp_path / "E.zarr", list(images), provenance={"request": {"region": [210, 256, 0, 256]}}
    )
    with pytest.raises(InputError, match=r"other was generated in another part of the canvas.*E\.zarr"):
        same_place((*compared, open_store(str(elsewhere), "other", "generated")))


def test_nuclei_are_measured_by_region(stores: Stores, annotated: Path, measured: Measured) -> None:
    results = store_results(_task(stores, annotated).stores, measured)
    for store in results:
        nuclei = store.brain.nuclei
        assert set(nuclei.regions) == {"CTX", "TH"}
        for name, one in nuclei.measures.items():
            parts = [region[name].value.n for region in nuclei.regions.values()]
            assert min(parts) > 0
            assert sum(parts) <= one.value.n
    assert results[0].brain.nuclei.regions["TH"]["solidity"].to_real is None
    assert results[1].brain.nuclei.regions["TH"]["solidity"].to_real is not None


def test_a_region_without_a_name_has_its_number(
    stores: Stores, annotated: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Brain, "region_names", {300: "TH"})
    brain = store_results(_task(stores, annotated).stores, measured)[1].brain
    assert set(brain.regions) == set(brain.nuclei.regions) == {"region 5", "TH"}


def test_a_tile_that_cuts_bins_takes_them_whole(annotated: Path) -> None:
    real = open_store(str(annotated), "real", "real").brain
    boxes = [Box(0, 10, 120, 150), Box(0, 10, 129, 150), Box(120, 250, 120, 250), Box(120, 250, 150, 250)]
    assert regions_of_tiles(real, 1, boxes).tolist() == [5, 0, 300, 300]


def test_a_brain_without_annotation_has_no_regions(stores: Stores) -> None:
    real = open_store(str(stores.real), "real", "real").brain
    assert regions_of_tiles(real, 0, [Box(0, 32, 0, 32)]).tolist() == [0]


def _coloured(tile: np.ndarray, grouping: str) -> np.ndarray:
    dapi, polyt = tile
    return np.stack(
        {"DAPI": [dapi] * 3, "PolyT": [polyt] * 3, "together": [np.zeros_like(dapi), dapi, polyt]}[grouping]
    )


@pytest.mark.parametrize("grouping", ["DAPI", "PolyT", "together"])
def test_distances_are_those_of_all_features(
    stores: Stores, annotated: Path, measured: Measured, grouping: str
) -> None:
    rows: dict[str, list[FeatureMoments]] = {}
    for name, make in (("pooled", likeness_fakes.pooled), ("spatial", likeness_fakes.spatial)):
        for path in (annotated, stores.good):
            cuts = [cut for section in (0, 1) for cut in _cuts(path, section)]
            features = np.array([make(_coloured(cut, grouping)) for cut in cuts], np.float32)
            rows.setdefault(name, []).append(FeatureMoments.of(features))
    far = measured.distribution["generated"][grouping]
    assert far.fid == pytest.approx(frechet_distance(*rows["pooled"]), rel=1e-6)
    assert far.sfid == pytest.approx(frechet_distance(*rows["spatial"]), rel=1e-6)
    assert far.n == rows["pooled"][0].n == len(_tissue(0)) + len(_tissue(1))
    keys = np.concatenate([tile_keys(section, _tissue(section)) for section in (0, 1)])
    samples = []
    for path in (annotated, stores.good):
        cuts = [cut for section in (0, 1) for cut in _cuts(path, section)]
        features = np.array([likeness_fakes.pooled(_coloured(cut, grouping)) for cut in cuts], np.float32)
        samples.append(Sample.of(keys, features))
    assert far.kid == kernel_distance(*samples)
    one = measured.by_store["generated"][1].distribution[grouping]
    assert one.n == len(_tissue(1))
    assert one.fid is not None
    assert measured.by_store["real"][1].distribution == {}


def test_any_number_of_workers_gives_the_same_numbers(
    stores: Stores, annotated: Path, measured: Measured
) -> None:
    assert _all(measure_brains(_task(stores, annotated), Walk(workers=Workers(2)))) == _all(measured)


class _Stopped(Exception):
    pass


def _stop_at(monkeypatch: pytest.MonkeyPatch, section: int) -> list[int]:
    """Measure no further than a section; returns the sections that were asked for."""
    asked: list[int] = []
    plain = sections.measure_section

    def measure(task: Task, index: int, extractor: Any, score: Any) -> Any:
        asked.append(index)
        if index == section:
            raise _Stopped
        return plain(task, index, extractor, score)

    monkeypatch.setattr(sections, "measure_section", measure)
    return asked


@pytest.mark.parametrize("features", [True, False])
def test_an_interrupted_pass_goes_on(
    stores: Stores,
    annotated: Path,
    measured: Measured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    features: bool,
) -> None:
    task = _task(stores, annotated, **({} if features else {"inception": None}))
    with monkeypatch.context() as patch:
        _stop_at(patch, 1)
        with pytest.raises(_Stopped):
            measure_brains(task, Walk(tmp_path))
    assert Journal(tmp_path).names() == (["folded_0001"] if features else []) + ["section_0000"]
    asked = _stop_at(monkeypatch, 99)
    told: list[int] = []
    again = measure_brains(task, Walk(tmp_path, done=lambda: told.append(1)))
    assert asked == [1]
    assert len(told) == 2
    if features:
        assert _all(again) == _all(measured)
    else:
        assert [one.image for one in again.by_store["generated"]] == [
            one.image for one in measured.by_store["generated"]
        ]
    # Whole: nothing is measured again.
    assert _all(measure_brains(task, Walk(tmp_path))) == _all(again)
    assert asked == [1]


@pytest.mark.parametrize("lost", ["section_0000", "folded_0002"])
def test_what_is_damaged_is_measured_again(
    stores: Stores,
    annotated: Path,
    measured: Measured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    task = _task(stores, annotated)
    measure_brains(task, Walk(tmp_path))
    path = tmp_path / f"{lost}.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    asked = _stop_at(monkeypatch, 99)
    assert _all(measure_brains(task, Walk(tmp_path))) == _all(measured)
    assert asked == ([0] if lost == "section_0000" else [0, 1])


def test_features_that_go_before_they_are_merged_are_missed(
    stores: Stores, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Journal.write

    def lossy(self: Journal, name: str, value: Any, *, compressed: bool = False) -> None:
        if name != "features_0001":
            write(self, name, value, compressed=compressed)

    monkeypatch.setattr(Journal, "write", lossy)
    with pytest.raises(StoreError, match=r"measured section has gone.*found no 1.*same command again"):
        measure_brains(_task(stores, annotated), Walk(tmp_path))


def test_a_journal_sees_through_names_for_types(tmp_path: Path) -> None:
    """As `numpy.typing.NDArray` is one since numpy 2.5, on Python 3.12."""
    item = TypeVar("item", bound=np.generic)
    named = TypeAliasType("named", np.ndarray[tuple[int, ...], np.dtype[item]], type_params=(item,))
    whole = TypeAliasType("whole", npt.NDArray[np.int64])
    held: Arrays = {}
    packed = pack((np.arange(3), np.arange(2)), held)
    for kind in (tuple[named[np.int64], ...], tuple[whole, ...]):  # type: ignore[valid-type]
        first, second = unpack(kind, packed, held)
        assert first.tolist() == [0, 1, 2]
        assert second.tolist() == [0, 1]


def test_a_journal_gives_back_what_it_was_given(measured: Measured, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep")
    raws = {label: raws[0] for label, raws in measured.by_store.items()}
    journal.write("raws", raws)
    back = journal.read("raws", dict[str, Raw])
    assert _all(back) == _all(raws)
    moments = FeatureMoments.of(np.random.default_rng(1).normal(size=(7, 3)) / 3)
    sample = Sample.of(tile_keys(1, [Box(0, 1, 0, 1)]), np.ones((1, 3), np.float32))
    journal.write("sums", {"a": FeatureSums(moments, moments, sample)})
    sums = journal.read("sums", dict[str, FeatureSums])["a"]
    assert np.array_equal(sums.pooled.m2, moments.m2)
    assert (sums.sample.keys.dtype, sums.sample.rows.dtype) == (np.uint64, np.float32)
    assert journal.names() == ["raws", "sums"]
    assert journal.read("sums", dict[str, Raw]) is None
    assert journal.read("nothing", dict[str, Raw]) is None
    with pytest.raises(TypeError, match="no set"):
        journal.write("set", {1, 2})


def _report(stores: Stores, annotated: Path, out: Path, **changes: Any) -> Any:
    values = {"real": str(annotated), "generated": str(stores.good), "out": str(out), "tile_px": TILE}
    return report_config(**{**values, "controls": {"shuffled": str(stores.shuffled)}, **changes})


@pytest.mark.usefixtures("small")
def test_an_interrupted_report_goes_on_and_leaves_nothing_else(
    stores: Stores, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_weights", lambda given, accepted: FakeWeights())
    out = tmp_path / "report"
    config = _report(stores, annotated, out, inception="given.pth")
    with monkeypatch.context() as patch:
        _stop_at(patch, 1)
        with pytest.raises(_Stopped):
            build.write_report(_report(stores, annotated, out, seed=7))
        kept = list((tmp_path / ".report.journal").iterdir())
        with pytest.raises(_Stopped):
            build.write_report(config)
    # That of the other settings has gone.
    now = list((tmp_path / ".report.journal").iterdir())
    assert len(kept) == len(now) == 1
    assert now != kept
    assert [path.name for path in tmp_path.iterdir()] == [".report.journal"]
    asked = _stop_at(monkeypatch, 99)
    page, made = build.write_report(config)
    assert made
    assert asked == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    _check_written(page)


def _check_written(page: Path) -> None:
    import pandas as pd

    found = json.loads((page.parent / "metrics.json").read_text())
    brain = found["stores"][1]["brain"]
    assert found["inputs"]["inception"] == {"sha256": "f" * 64, "published": False}
    assert any("FID and sFID rest on" in one for one in found["warnings"])
    assert set(brain["distribution"]) == {"DAPI", "PolyT", "together"}
    table = pd.read_parquet(page.parent / "metrics.parquet")
    rows = table.set_index(["store", "section", "measure", "stain", "region"])
    assert (
        rows.loc[("generated", -1, "fid", "together", ""), "mean"] == brain["distribution"]["together"]["fid"]
    )
    assert rows.loc[("generated", 1, "kid", "DAPI", ""), "n"] == 1
    assert (
        rows.loc[("shuffled", -1, "ssim", "PolyT", "CTX"), "n"]
        == brain["regions"]["CTX"]["PolyT"]["ssim"]["n"]
    )
    assert "ms_ssim" not in set(table["measure"])
    text = page.read_text()
    assert "NOT the published ones" in text
    assert "Likeness by region" in text
    for measure in ("sFID", "FID", "KID"):
        assert f'<th scope="row">{measure}<small>' in text
    assert "--inception given.pth" in text
