"""Small stores for the report: two sections of a drawn brain, good and bad imitations of it, and its truth."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.eval.drawn import (
    PROVENANCE,
    add_attention,
    draw_section,
    imitation,
    write_generated,
    write_real,
    write_truth,
)


@dataclass(frozen=True)
class Stores:
    """Paths of the stores of one drawn brain."""

    real: Path
    good: Path
    bad: Path
    shuffled: Path
    truth: Path


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """A real store, a good and a bad imitation, a control with nuclei elsewhere, and the truth."""
    root = tmp_path_factory.mktemp("stores")
    drawn = [draw_section(seed) for seed in (11, 12)]
    elsewhere = [draw_section(seed) for seed in (21, 22)]
    write_real(root / "C.zarr", drawn)
    good = write_generated(
        root / "G.zarr", [imitation(one.image, 4, 0) for one in drawn], provenance=PROVENANCE
    )
    bad = write_generated(root / "B.zarr", [imitation(one.image, 45, 1) for one in drawn])
    shuffled = write_generated(
        root / "S.zarr", [imitation(one.image, 4, 2) for one in elsewhere], provenance=PROVENANCE
    )
    add_attention(good, drawn)
    for index, one in enumerate(drawn):
        write_truth(root / "truth" / f"s{index}" / "cells.csv", one.truth)
    return Stores(root / "C.zarr", good, bad, shuffled, root / "truth")


@pytest.fixture(scope="session")
def reported(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of the stores, C.zarr, G.zarr and S.zarr (the control), and `report`, a report of them."""
    from teramind_eval.config import report_config
    from teramind_eval.report.build import write_report

    root = tmp_path_factory.mktemp("reported")
    for name, path in (("C", stores.real), ("G", stores.good), ("S", stores.shuffled)):
        shutil.copytree(path, root / f"{name}.zarr")
    config = report_config(
        real=str(root / "C.zarr"),
        generated=str(root / "G.zarr"),
        controls={"shuffled": str(root / "S.zarr")},
        out=str(root / "report"),
    )
    write_report(config)
    return root
