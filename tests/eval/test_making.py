"""What a store says of its making, as single values that runs can be told apart by."""

from __future__ import annotations

from typing import Any

import pytest

from teramind_eval.report.provenance import making
from tests.eval.drawn import PROVENANCE


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
