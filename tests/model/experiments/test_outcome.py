"""Tables made from reports: all that is there, and what is missing by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from teramind_data.errors import InputError
from teramind_model.experiments.ablation import ablation_plan, point_report, point_run, points
from teramind_model.experiments.budgets import find_budget
from teramind_model.experiments.outcome import write_ablation, write_experiment
from teramind_model.experiments.protocols import PROTOCOLS, Data, Settings, experiment_plan, parse_variants
from teramind_model.experiments.scores import report_rows
from tests.model.tiny import tiny_atlas

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def scores(level: float, *, real: bool = False) -> dict[str, object]:
    image = {"together": {"psnr_db": {"mean": 20 + level, "sd": 1.0}, "ssim": {"mean": level, "sd": 0.1}}}
    nuclei = {
        "count": 100,
        "per_patch": {"mean": 5.0},
        "area_um2": {"mean": 70.0, "sd": 9.0},
        "area_um2_to_real": None if real else {"wasserstein": 1 - level},
        "against_truth": {"f1": level},
        "against_real": None if real else {"f1": level},
    }
    return {"image": {} if real else image, "nuclei": nuclei}


def write_report(folder: Path, stores: dict[str, float]) -> None:
    folder.mkdir(parents=True)
    listed = [{"label": "real", "role": "real", "brain": scores(1.0, real=True)}]
    listed += [
        {"label": label, "role": "generated" if label == "generated" else "control", "brain": scores(level)}
        for label, level in stores.items()
    ]
    (folder / "metrics.json").write_text(json.dumps({"stores": listed}))


def write_run(folder: Path, *, before: int = 0) -> None:
    checkpoint = folder / "checkpoints" / "step-0000010"
    checkpoint.mkdir(parents=True)
    lineage = [{"steps": before, "batch": 8, "seconds": 1.0}] if before else []
    lineage.append({"steps": 10, "batch": 8, "seconds": 12.5})
    config = {"training": {"lineage": lineage}, "network": {"patch": 32}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "model.safetensors").touch()


def test_one_table_of_all_experiments_with_what_is_missing(tmp_path: Path) -> None:
    budget, variants = find_budget("tiny"), parse_variants("tera-mind@phantom,patch-dm")
    data, protocols = Data(tmp_path, budget, 2), [PROTOCOLS["main"], PROTOCOLS["supp-m"]]
    plan = experiment_plan(data, protocols, Settings(variants))
    assert write_experiment(data, protocols, variants, plan) == 0
    write_report(
        tmp_path / "main/tera-mind@phantom/report", {"generated": 0.8, "shuffled": 0.3, "patches-alone": 0.7}
    )
    write_run(tmp_path / "main/tera-mind@phantom/run", before=3000)
    write_report(tmp_path / "main/patch-dm/report", {"generated": 0.2})
    write_run(tmp_path / "main/patch-dm/run")
    for store in ("data/main", "main/tera-mind@phantom/generated", "main/patch-dm/generated"):
        tiny_atlas(tmp_path / f"{store}.zarr", (64, 64), 2)
    assert write_experiment(data, protocols, variants, plan) == 5
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["condition"], row["f1_truth"]) for row in rows] == [
        ("real", "real", "1.0"),
        ("tera-mind@phantom", "true genes", "0.8"),
        ("tera-mind@phantom", "shuffled", "0.3"),
        ("tera-mind@phantom", "patches alone", "0.7"),
        ("patch-dm", "no genes", "0.2"),
    ]
    assert (rows[1]["samples"], rows[1]["inherited_samples"]) == ("80", "24000")
    text = (tmp_path / "table.md").read_text()
    assert "Not measured yet: supp-m/tera-mind, supp-m/patch-dm." in text
    assert budget.note in text
    assert (tmp_path / "table.png").stat().st_size > 10_000
    assert (tmp_path / "pictures.png").stat().st_size > 10_000


def test_an_ablation_is_read_along_its_axes(tmp_path: Path) -> None:
    budget, protocol = find_budget("small"), PROTOCOLS["main"]
    data = Data(tmp_path, budget, 8)
    plan = ablation_plan(data, protocol, ("z", "steps"), Settings(()))
    for point in points(budget, "z")[:2]:
        write_report(point_report(tmp_path, protocol, point), {"generated": point.z / 10})
        write_run(point_run(tmp_path, protocol, point))
    # The default, Z = 2 and 15 steps, is on both axes.
    assert write_ablation(data, protocol, ("z", "steps"), plan) == 3
    with (tmp_path / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["axis"], row["z"], row["ddim_steps"], row["f1_truth"]) for row in rows] == [
        ("z", "1", "15", "0.1"),
        ("z", "2", "15", "0.2"),
        ("steps", "2", "15", "0.2"),
    ]
    assert "z = 4, z = 8, steps = 5" in (tmp_path / "ablation.md").read_text()
    assert (tmp_path / "ablation.png").exists()


def test_a_report_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"report cannot be read.*metrics\.json"):
        list(report_rows(tmp_path, "main", "tera-mind", {}, None))
