"""Small stores for the report: two sections of a drawn brain, good and bad imitations of it, and its truth."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@contextmanager
def blank_plots() -> Iterator[None]:
    """Reports made here have blank plots of the right size: each is painted once, neither laid out nor rendered.

    That is most of what a report takes. `test_report.report` has them all.
    """
    from teramind_eval.report import heatmaps, likeness_charts, plots, trend_plots

    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, heatmaps, likeness_charts, trend_plots):
            patch.setattr(module, "draw", _painted)
        yield


def _painted(size: tuple[float, float], paint: Callable[[Any, Any], None]) -> Any:
    """In place of `plots.draw`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from PIL import Image

    from teramind_eval.report import plots

    with mpl.rc_context(plots._style("light")):
        paint(Figure(figsize=size), "light")
    width, height = round(size[0] * 100), round(size[1] * 100)
    buffer = io.BytesIO()
    Image.new("L", (width, height), 255).save(buffer, format="PNG")
    return plots.Plot(buffer.getvalue(), buffer.getvalue(), width, height)


@contextmanager
def small_pictures() -> Iterator[None]:
    """Reports made here have blank plots and small micrographs, for tests of their numbers and words."""
    from teramind_eval.report import panels, places, stacks

    with blank_plots(), pytest.MonkeyPatch.context() as patch:
        for module in (panels, places):
            patch.setattr(module, "_ENLARGED", 64)
        patch.setattr(stacks, "_STILL", (48, 48))
        yield


@pytest.fixture
def small() -> Iterator[None]:
    """See `small_pictures`."""
    with small_pictures():
        yield


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
    with small_pictures():
        write_report(config)
    return root
