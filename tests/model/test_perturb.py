"""Baseline and edited brain, their difference as a plain subtraction makes it, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain, open_brain
from teramind_model.experiments.plan import Plan
from teramind_model.generate import GenerateConfig
from teramind_model.perturb.nuclei import count_nuclei
from teramind_model.perturb.run import PerturbConfig, perturb
from tests.model.tiny import tiny_atlas, tiny_source

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
    box = Box(*told["most_changed"]["box"])
    shards = [(y, x) for y in range(0, 112, 64) for x in range(0, 144, 64)]
    change = np.abs(after - before).sum(axis=0)
    assert change[box.slices].sum() == max(change[y : y + 64, x : x + 64].sum() for y, x in shards)


def test_picture_can_be_opened(made: Path) -> None:
    with Image.open(made / "perturb.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 200


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
