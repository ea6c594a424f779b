"""Baseline and edited brain, their difference as a plain subtraction makes it, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from teramind_data.console import run_cli
from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, open_brain
from teramind_model.cli import app
from teramind_model.experiments.plan import Plan
from teramind_model.generate import GenerateConfig, generate
from teramind_model.perturb.changed import count_changed
from teramind_model.perturb.nuclei import count_nuclei
from teramind_model.perturb.run import PerturbConfig, lines, perturb
from tests.model.test_generate import checkpoint
from tests.model.tiny import ATLAS_GENES, tiny_atlas, tiny_source

CANVAS = (112, 144)
"""No multiple of the shard (64), nor of the patch (32)."""

SOURCE = tiny_source()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", CANVAS, 3)


def config(atlas: Brain, folder: Path, edit: str = "Th*0", **more: object) -> PerturbConfig:
    edited = GenerateConfig(
        atlas.url, "tiny", "unused", steps=2, sections=(1, 2), edits=(edit,), edit_region="right", **more
    )  # type: ignore[arg-type]
    return PerturbConfig(edited, folder, nuclei=False)


@pytest.fixture(scope="module")
def made(atlas: Brain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("perturb") / "out"
    perturb(config(atlas, folder), SOURCE, say=lambda line: None)
    return folder


def images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Baseline and edited, ``(c, h, w)``, of the one section."""
    before, after = (open_brain(folder / name).morphology[:, 0] for name in ("baseline.zarr", "edited.zarr"))
    return before.astype(int), after.astype(int)


def test_difference_is_edited_minus_baseline(made: Path) -> None:
    before, after = images(made)
    brain = open_brain(made / "edited.zarr")
    assert (before != after).any()
    np.testing.assert_array_equal(brain.image("difference")[:, 0], after - before)
    assert brain.image_attrs("difference")["edits"] == ["Th*0"]


def test_summary_equals_sums_over_whole_images(atlas: Brain, made: Path) -> None:
    before, after = images(made)
    bins = Box.from_shape(CANVAS).coarsen(BIN_PX)
    right = np.kron(atlas.read("regions", 1, bins) == 2, np.ones((BIN_PX, BIN_PX), bool))
    told = json.loads((made / "summary.json").read_text())
    assert told["edits"] == ["Th*0"]
    for where, mask in (("edited", right), ("elsewhere", ~right)):
        for c, stain in enumerate(("DAPI", "PolyT")):
            change = (after - before)[c][mask]
            assert told["intensity"][where][stain] == pytest.approx(
                {
                    "pixels": mask.sum(),
                    "baseline": before[c][mask].mean(),
                    "edited": after[c][mask].mean(),
                    "change": change.mean(),
                    "absolute_change": np.abs(change).mean(),
                    "rms_change": np.sqrt((change**2).mean()),
                }
            )
    assert told["most_changed"]["section"] == "s01", "its name: it is the store's first"
    box = Box(*told["most_changed"]["box"])
    shards = [(y, x) for y in range(0, 112, 64) for x in range(0, 144, 64)]
    change = np.abs(after - before).sum(axis=0)
    assert change[box.slices].sum() == max(change[y : y + 64, x : x + 64].sum() for y, x in shards)


def test_picture_can_be_opened(made: Path) -> None:
    with Image.open(made / "perturb.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 200


def test_bins_are_those_whose_counts_change_where_the_network_looks(atlas: Brain, made: Path) -> None:
    told = json.loads((made / "summary.json").read_text())
    # One section is made, the first window's second; its genes are those of all three, on all of the canvas.
    counts = np.stack([atlas.read("expression", z)[ATLAS_GENES.index("Th")] for z in range(3)])
    regions = np.stack([atlas.read("regions", z) for z in range(3)])
    assert told["bins_changed"] == ((counts > 0) & (regions == 2)).sum() > 0


def test_an_edit_that_changes_nothing_is_no_finding(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teramind_model.perturb.run.count_nuclei", lambda *stores: pytest.fail("counted"))
    folder, said = tmp_path / "out", list[str]()
    folder.mkdir()
    (folder / "perturb.png").write_bytes(b"of another edit")
    asked = config(atlas, folder, roi=Box(0, 32, 64, 96))
    asked = replace(asked, edited=replace(asked.edited, edits=("Th+1", "Th+-1")), nuclei=True)
    summary = perturb(asked, SOURCE, say=said.append)
    assert (summary["bins_changed"], summary["most_changed"], summary["nuclei"]) == (0, None, None)
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert "both brains will be the same" in said[0]
    assert said[-1].startswith("the edits changed no pixel, as they changed the counts of no bin")
    assert not any("mean" in line for line in said)
    assert not (folder / "perturb.png").exists()


def test_the_command_promises_no_picture_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["perturb", "--atlas", "A", "--checkpoint", "C", "--edit", "Th*0", "--out", str(tmp_path)]
    for most, said in ((None, "no picture, as no pixel changed"), ({}, "perturb.png: the place where most")):
        monkeypatch.setattr(
            "teramind_model.perturb.run.perturb", lambda config, most=most: {"most_changed": most}
        )
        with pytest.raises(SystemExit) as stopped:
            run_cli(app, asked)
        assert not stopped.value.code
        assert said in capsys.readouterr().out


def test_stores_made_by_generate_are_taken_for_made(atlas: Brain, tmp_path: Path) -> None:
    """As the guide has it for large brains: with other hands than this process's, which no store's request names."""
    asked = config(atlas, tmp_path, roi=Box(0, 32, 64, 96))
    for name, edits in (("edited", asked.edited.edits), ("baseline", ())):
        region = asked.edited.edit_region if edits else None
        one = replace(asked.edited, edits=edits, edit_region=region, out=str(tmp_path / f"{name}.zarr"))
        generate(one, SOURCE, say=lambda line: None)
    said: list[str] = []
    perturb(asked, SOURCE, say=said.append)
    assert sum("up to date" in line for line in said) == 2


def test_by_several_processes(
    atlas: Brain, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def noting(one: GenerateConfig, *rest: Any, **more: Any) -> Brain:
        asked.append(one.hands.workers)
        return generate(one, *rest, **more)

    monkeypatch.setattr("teramind_model.perturb.run.generate", noting)
    words = ["perturb", "--atlas", atlas.url, "--checkpoint", str(checkpoint(tmp_path / "run", SOURCE))]
    words += ["--edit", "Th*0", "--edit-region", "right", "--roi", "0:112,64:128", "--sections", "1:2"]
    words += ["--steps", "1", "--threads", "1", "--device", "cpu", "--no-nuclei"]
    for folder, workers in (("one", "1"), ("two", "2")):
        with pytest.raises(SystemExit) as stopped:
            run_cli(app, [*words, "--workers", workers, "--out", str(tmp_path / folder)])
        assert not stopped.value.code, capsys.readouterr().err
    assert asked == [1, 1, 2, 2]
    for one, two in zip(images(tmp_path / "one"), images(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one, two)
    told = [(tmp_path / folder / "summary.json").read_text() for folder in ("one", "two")]
    assert told[0] == told[1]


def test_counts_that_changed_and_pixels_that_did_not() -> None:
    (line,) = lines({"most_changed": None, "bins_changed": 1200})
    assert line == (
        "the edits changed no pixel, though they changed the counts of 1,200 bins that the network sees"
    )


def test_a_place_out_of_reach_is_refused_before_anything_is_made(atlas: Brain, tmp_path: Path) -> None:
    """The right half begins at 64 px; tiles are 32 px wide and see 16 px further, computed ones around them too."""
    near, far = Box(0, 32, 32, 64), Box(0, 32, 0, 32)
    for roi, exact, met in ((near, False, True), (far, False, False), (far, True, True)):
        edited = config(atlas, tmp_path / "out", roi=roi, roi_exact=exact).edited
        if met:
            assert count_changed(edited, SOURCE) > 0
            continue
        with pytest.raises(InputError, match=r"out of reach .*: right .*within 16 px"):
            perturb(PerturbConfig(edited, tmp_path / "out"), SOURCE)
    assert list(tmp_path.iterdir()) == []


def test_nuclei_are_said_to_be_of_all_that_was_generated(
    atlas: Brain, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {name: {"nuclei": 3, "area_um2": 40.0, "area_sd": 1.0} for name in ("baseline", "edited")}
    monkeypatch.setattr("teramind_model.perturb.run.can_count", lambda: True)
    monkeypatch.setattr("teramind_model.perturb.run.count_nuclei", lambda *stores: counted)
    before = (made / "summary.json").read_bytes()
    said: list[str] = []
    summary = perturb(replace(config(atlas, made), nuclei=True), SOURCE, say=said.append)
    assert summary["nuclei"] == {"of": "all that was generated", **counted}
    assert said[-1] == "nuclei, of all that was generated: 3 -> 3, mean area 40.0 -> 40.0 um2"
    (made / "summary.json").write_bytes(before)  # the other tests'


def test_again_does_nothing_and_others_are_refused(atlas: Brain, made: Path) -> None:
    said: list[str] = []
    before = (made / "summary.json").read_bytes()
    perturb(config(atlas, made), SOURCE, say=said.append)
    assert sum("up to date" in line for line in said) == 2
    assert (made / "summary.json").read_bytes() == before
    with pytest.raises(OutputExistsError, match="another edit"):
        perturb(config(atlas, made, "Th*2"), SOURCE, say=said.append)
    assert (made / "summary.json").read_bytes() == before


def test_without_an_edit_there_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to perturb.*--edit"):
        PerturbConfig(GenerateConfig("a", "c", "o"), tmp_path)


def test_nuclei_are_counted_by_the_report(atlas: Brain, made: Path, tmp_path: Path) -> None:
    baseline, edited = (str(made / name) for name in ("baseline.zarr", "edited.zarr"))
    found = count_nuclei(tmp_path, atlas.url, baseline, edited)
    (report,) = tmp_path.glob("report-*/metrics.json")
    told = json.loads(report.read_text())
    stores = {store["label"]: store["brain"]["nuclei"]["count"] for store in told["stores"]}
    assert {name: one["nuclei"] for name, one in found.items()} == {
        "baseline": stores["baseline"],
        "edited": stores["edited"],
    }


def test_nuclei_of_other_stores_at_the_same_place_are_counted_anew(
    atlas: Brain, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``--overwrite`` with another edit: the commands' words are the same."""
    plans: list[Plan] = []

    def note(plan: Plan, options: object) -> None:
        plans.append(plan)
        (step,) = plan
        step.product.parent.mkdir(exist_ok=True)

    monkeypatch.setattr("teramind_model.perturb.nuclei.run_plan", note)
    scores = dict.fromkeys(("nuclei", "area_um2", "area_sd"), 1)
    rows = [SimpleNamespace(condition=name, scores=scores) for name in ("baseline", "edited")]
    monkeypatch.setattr("teramind_model.perturb.nuclei.report_rows", lambda *arguments: rows)
    baseline, edited = (str(made / name) for name in ("baseline.zarr", "edited.zarr"))
    for pair in ((baseline, edited), (baseline, edited), (baseline, baseline)):
        count_nuclei(tmp_path, atlas.url, *pair)
    same, again, other = (next(iter(plan)) for plan in plans)
    assert (same.name, same.product) == (again.name, again.product)
    assert same.name != other.name and same.product != other.product
