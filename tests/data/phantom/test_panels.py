from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.phantom import PhantomConfig
from teramind_data.phantom.genes import (
    MARKERS,
    PROGRAMS,
    TOTALS,
    TYPES,
    blank_genes,
    mean_counts,
    panel_genes,
)

NAMED = ("Slc17a6", "Slc17a7", "Nr4a2", "Th", "Cldn5", "Aqp4", "Gad1", "Gad2", "Mog", "Sox10")


@pytest.mark.parametrize(("genes", "shared"), [(500, 229), (64, 40), (len(MARKERS), len(MARKERS))])
def test_panels_begin_with_the_same_shared_genes_and_share_no_other(genes: int, shared: int) -> None:
    one, two = panel_genes(1, genes, shared), panel_genes(2, genes, shared)
    assert len(set(one)) == len(set(two)) == genes
    assert one[:shared] == two[:shared]
    assert len(set(one) & set(two)) == shared
    assert set(NAMED) <= set(one[:shared])


def test_every_gene_of_a_program_is_a_marker() -> None:
    assert {gene for program in PROGRAMS.values() for gene in program} == set(MARKERS)
    assert blank_genes(3) == ("Blank-1", "Blank-2", "Blank-3")


def test_shared_genes_mean_the_same_in_both_panels() -> None:
    one, two = mean_counts(1, 100, 50), mean_counts(2, 100, 50)
    np.testing.assert_allclose(one[:, :50], two[:, :50])
    assert not np.allclose(one[:, 50:], two[:, 50:])
    np.testing.assert_allclose(one.sum(1), [TOTALS[t] for t in TYPES])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shared": 5}, "shared"),
        ({"shared": 600}, "500 (genes)"),
        ({"canvas": (500, 512)}, "multiples of 256"),
        ({"brains": ("A", "A")}, "distinct"),
        ({"brains": ("../A",), "panels": (1,)}, "plain names"),
        ({"panels": (1, 2)}, "3 numbers"),
        ({"panels": (1, 2, 3)}, "each 1 or 2"),
        ({"sections": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"noise": -0.1}, "noise"),
    ],
)
def test_bad_options_are_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        dataclasses.replace(PhantomConfig(), **change)


def test_fingerprint_follows_the_configuration() -> None:
    assert PhantomConfig().fingerprint() == PhantomConfig().fingerprint()
    assert PhantomConfig().fingerprint() != PhantomConfig(seed=1).fingerprint()
