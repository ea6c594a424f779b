"""What plans are made of: the paper's protocols and ablations as commands."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from teramind_data.errors import InputError
from teramind_model.cli import app
from teramind_model.experiments.ablation import AXES, ablation_plan, equal_training, points
from teramind_model.experiments.budgets import BUDGETS, find_budget
from teramind_model.experiments.plan import Plan, Step
from teramind_model.experiments.protocols import (
    PROTOCOLS,
    Data,
    Settings,
    experiment_plan,
    parse_atlases,
    parse_variants,
)
from teramind_model.methods import registry
from tests.test_documented_commands import complaint

OUT = Path("out")
STORES = {"main": "a.zarr", "male": "b.zarr", "female": "c.zarr"}


def data(budget: str = "small", **stores: str) -> Data:
    return Data(OUT, find_budget(budget), find_budget(budget).ablation_sections, stores)


def commands(plan: Plan) -> dict[str, str]:
    return {step.name: step.shown for step in plan}


def every_plan(budget: str, **stores: str) -> list[Plan]:
    settings = Settings(parse_variants("tera-mind@phantom,tera-mind,patch-dm,patch-dm-genes,sinfusion"))
    protocols = list(PROTOCOLS.values())
    found = [experiment_plan(data(budget, **stores), protocols, settings)]
    return found + [ablation_plan(data(budget, **stores), p, AXES, Settings(())) for p in protocols]


def test_every_command_of_every_plan_exists_with_its_options() -> None:
    plans = [plan for budget in BUDGETS for plan in (*every_plan(budget), *every_plan(budget, **STORES))]
    options = {
        (*step.command[:3], *sorted({word for word in step.command if word.startswith("--")})): step
        for plan in plans
        for step in plan
    }
    wrong = {step.shown: problem for step in options.values() if (problem := complaint(list(step.command)))}
    assert not wrong
    assert {step.command[1] for step in options.values()} == {
        *("phantom", "ingest", "panel", "train", "generate", "report", "evidence"),
    }


def before(plan: Plan, step: Step) -> set[str]:
    """Names of all steps that a step stands on."""
    by_name = {one.name: one for one in plan}
    return {*step.depends, *(name for direct in step.depends for name in before(plan, by_name[direct]))}


@pytest.mark.parametrize("budget", BUDGETS)
def test_no_step_reads_what_no_step_before_it_made(budget: str) -> None:
    """Every path below the root that a command names lies in the product of a step that it stands on, or its own."""
    for plan in every_plan(budget):
        products = {step.name: step.product for step in plan}
        for step in plan:
            made = [step.product, *(products[name] for name in before(plan, step))]
            for word in re.findall(rf"{OUT}/[^ ,]+", step.shown):
                assert any(Path(word).is_relative_to(product) for product in made), (step.name, word)


def test_who_learns_from_whom() -> None:
    plan = commands(experiment_plan(data(), list(PROTOCOLS.values()), Settings(parse_variants("tera-mind"))))
    main, supp = plan["main/tera-mind/train"], plan["supp-m/tera-mind/train"]
    assert re.findall(r"--atlas (\S+)", main) == ["out/data/male.zarr", "out/data/female.zarr"]
    assert "--panel out/data/shared.csv" in main
    assert re.findall(r"--atlas (\S+)", supp) == ["out/data/female.zarr"]
    assert "--panel" not in supp
    for name, brain in (("main", "main"), ("supp-m", "male"), ("supp-f", "female")):
        assert f"--atlas out/data/{brain}.zarr" in plan[f"{name}/tera-mind/generated"]
        assert f"--truth out/data/phantom/truth/{brain}" in plan[f"{name}/tera-mind/report"]
    assert "--shuffle-genes" in plan["main/tera-mind/shuffled"]
    assert "--genes-from neighbour" in plan["main/tera-mind/neighbour"]


def test_a_method_without_genes_has_no_controls_of_genes() -> None:
    plan = experiment_plan(data(), [PROTOCOLS["main"]], Settings(parse_variants("patch-dm")))
    assert [step.name for step in plan if step.name.startswith("main")] == [
        "main/patch-dm/train",
        "main/patch-dm/generated",
        "main/patch-dm/report",
    ]


def test_a_method_is_given_the_sizes_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "toy_method" / "src"))
    toy = EntryPoint("toy", "toy_method:METHOD", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: (toy,))
    settings = Settings(parse_variants("tera-mind,patch-dm,toy"))
    plan = commands(experiment_plan(data("tiny"), [PROTOCOLS["main"]], settings))
    sizes = {
        name: re.findall(r"--(channels|time-width|gene-widths) (\S+)", plan[f"main/{name}/train"])
        for name in ("tera-mind", "patch-dm", "toy")
    }
    assert sizes["tera-mind"] == [("channels", "6"), ("time-width", "8"), ("gene-widths", "4,2,2")]
    assert sizes["patch-dm"] == sizes["tera-mind"][:2]
    assert sizes["toy"] == []
    assert "main/toy/shuffled" in plan  # a method that says nothing of genes is taken to see them
    monkeypatch.setattr("toy_method.ToyShape.gene_width", 0, raising=False)
    plan = commands(experiment_plan(data("tiny"), [PROTOCOLS["main"]], settings))
    assert "main/toy/shuffled" not in plan


def test_a_first_checkpoint_serves_where_its_genes_are_the_shared_ones() -> None:
    settings = Settings(parse_variants("tera-mind@phantom,tera-mind"))
    plan = commands(experiment_plan(data(), list(PROTOCOLS.values()), settings))
    assert "--init phantom" in plan["main/tera-mind@phantom/train"]
    assert "--init" not in plan["supp-f/tera-mind/train"]
    assert sorted(name for name in plan if name.endswith("/train")) == [
        "main/tera-mind/train",
        "main/tera-mind@phantom/train",
        "supp-f/tera-mind/train",
        "supp-m/tera-mind/train",
    ]
    with pytest.raises(InputError, match=r"no checkpoint.*nowhere"):
        experiment_plan(data(), [PROTOCOLS["main"]], Settings(parse_variants("tera-mind@nowhere")))


def test_a_first_checkpoint_is_of_the_method_that_is_named() -> None:
    with pytest.raises(
        InputError, match=r"another method.*patch-dm@phantom.*expected patch-dm, found tera-mind"
    ):
        experiment_plan(data(), [PROTOCOLS["main"]], Settings(parse_variants("patch-dm@phantom")))


def test_own_stores_need_no_phantom_and_have_no_truth() -> None:
    plan = commands(
        experiment_plan(data(**STORES), [PROTOCOLS["main"]], Settings(parse_variants("tera-mind")))
    )
    assert not any(
        "data phantom" in shown or "ingest" in shown or "--truth" in shown for shown in plan.values()
    )
    assert "--real a.zarr" in plan["main/tera-mind/report"]
    assert "main/tera-mind/interactions" not in plan  # nobody knows which of its genes interact


@pytest.mark.parametrize("axis", ["z", "patch"])
@pytest.mark.parametrize("budget", ["small", "paper"])
def test_every_network_of_an_ablation_sees_as_many_pixels(axis: str, budget: str) -> None:
    sizes = find_budget(budget)
    seen = []
    for point in points(sizes, axis):
        training = equal_training(sizes, point)
        seen.append(training.steps * training.batch * point.z * (2 * point.patch) ** 2)
    assert max(seen) / min(seen) < 1.01
    assert len(seen) == (4 if axis == "z" else 3)


def test_ddim_steps_need_no_training_of_their_own() -> None:
    names = [step.name for step in ablation_plan(data(), PROTOCOLS["main"], ("steps",), Settings(()))]
    assert [name for name in names if name.endswith("train")] == ["main/z2-p32/train"]
    assert sum("generated" in name for name in names) == 5
    everything = [step.name for step in ablation_plan(data(), PROTOCOLS["main"], AXES, Settings(()))]
    assert sum(name.endswith("train") for name in everything) == 6
    assert len(everything) == len(set(everything))


def test_plans_are_checked() -> None:
    one = Step("a", ("teramind-data", "panel"), OUT / "a")
    with pytest.raises(InputError, match="one name"):
        Plan(OUT, (one, one))
    with pytest.raises(InputError, match="none before it"):
        Plan(OUT, (Step("b", ("teramind-data",), OUT, ("a",)), one))
    with pytest.raises(InputError, match="no program of ours"):
        Step("a", ("rm", "-r"), OUT)
    with pytest.raises(InputError, match="differ"):
        Plan.merged(OUT, [[one], [Step("a", ("teramind-data", "ingest"), OUT)]])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (["main=a"], "missing"),
        (["thalamus=a"], "cannot be read"),
        (["main=a", "main=b"], "cannot be read"),
        (["main"], "read"),
    ],
)
def test_atlases_are_all_three_or_none(values: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse_atlases(values)
    assert parse_atlases([]) == {}


def test_methods_are_known_and_given_once() -> None:
    with pytest.raises(InputError, match="nonsense"):
        parse_variants("tera-mind,nonsense")
    with pytest.raises(InputError, match="twice"):
        parse_variants("patch-dm, patch-dm")


@pytest.mark.parametrize("words", [["experiment", "all"], ["ablate"]])
def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, words: list[str]) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "teramind-data phantom" in done.output
    assert "teramind-eval report" in done.output
    assert not out.exists()
