"""What a store says of its making, as single values that runs can be told apart by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from teramind_eval.report.build import write_report
from teramind_eval.report.provenance import making
from tests.eval.conftest import Stores
from tests.eval.drawn import PROVENANCE, draw_section, imitation, write_generated
from tests.eval.test_report import config


def test_numbers_of_a_generated_store() -> None:
    network = {"gene_slices": 4, "patch": 32, "channels": 8}
    checkpoint = {**PROVENANCE["checkpoint"], "method": "tera-mind", "network": network}
    found = making({**PROVENANCE, "checkpoint": checkpoint, "control": {"kind": "shuffled", "tile": 32}})
    assert found == {
        "method": "tera-mind",
        "control": "shuffled",
        "sampler": "ddim",
        "z": 2,
        "patch": 32,
        "channels": 8,
        "steps": 15,
        "seed": 3,
        "crops": 8 * (5000 + 60),
    }


@pytest.mark.parametrize(("gene_slices", "z"), [(1, 1), (4, 2), (8, 4), (16, 8)])
def test_image_slices_follow_from_gene_slices(gene_slices: int, z: int) -> None:
    assert making({"checkpoint": {"network": {"gene_slices": gene_slices}}}) == {"z": z}


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        {"checkpoint": "weights.pt", "steps": "fifteen", "control": []},
        {"checkpoint": {"network": None, "training": {"lineage": [{"imported_from": "x"}, 3]}}},
    ],
)
def test_what_a_store_does_not_say_is_left_out(provenance: dict[str, Any]) -> None:
    assert making(provenance) == {}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("request_", "told", "warned"),
    [
        ({"control": {"kind": "none"}}, "A brain generated from its genes, laid over", ""),
        (
            {"edits": ["Th*0"]},
            "A brain generated from edited genes (Th*0), laid over",
            "not meant to be like",
        ),
        (
            {"edits": ["Th*0"], "control": {"kind": "shuffled", "tile": 64}},
            "A brain generated from shuffled genes, edited genes (Th*0), laid over",
            "generated is a control (shuffled genes)",
        ),
    ],
)
def test_the_head_of_a_page_says_which_genes_a_run_was_shown(
    stores: Stores, tmp_path: Path, request_: dict[str, Any], told: str, warned: str
) -> None:
    images = [imitation(draw_section(seed).image, 4, 0) for seed in (11, 12)]
    run = write_generated(tmp_path / "E.zarr", images, provenance={**PROVENANCE, "request": request_})
    page, _ = write_report(config(stores, tmp_path / "out", generated=str(run), controls={}, truth=None))
    text = page.read_text()
    head = text[text.index("<header>") : text.index('<section id="summary">')]
    assert told in head and warned in head
    assert ("edited" in text) == ("edits" in request_)


@pytest.mark.usefixtures("small")
def test_of_several_runs_the_page_names_the_edited_one(stores: Stores, tmp_path: Path) -> None:
    images = [imitation(draw_section(seed).image, 4, 0) for seed in (11, 12)]
    made = {**PROVENANCE, "request": {"edits": ["Th*0"]}}
    runs = {
        "ours": str(stores.good),
        "dead": str(write_generated(tmp_path / "E.zarr", images, provenance=made)),
    }
    page, _ = write_report(config(stores, tmp_path / "out", generated=runs, controls={}, truth=None))
    found = re.search(r'<p class="lead">(.*?)</p>', page.read_text(), re.DOTALL)
    assert found is not None
    assert found[1].startswith("2 generated brains (dead from edited genes (Th*0)), laid over")
