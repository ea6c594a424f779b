"""Seams of all stores of a report as plain numbers: on which grid each was made, and its indices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from teramind_eval.metrics.seams import BrainSeams, Grid, SeamSums, SectionSeams
from teramind_eval.pairs import Compared
from teramind_eval.results import TOGETHER, SeamScores


def grids_of(
    stores: Sequence[Compared], made: Mapping[str, Mapping[str, Any]], given: Grid
) -> dict[str, Grid]:
    """The grid of each store that has one, by label: what its making says, else `given`, else the first run's.

    Args:
        stores: the real one, then the others. The real one, which has none of its own, is measured on the first
            generated one's grid, to tell what is there without seams.
        made: of each store `patch` and `z`, where known, by label.
        given: where a store does not say.
    """

    def own(label: str) -> Grid:
        said = made.get(label, {})
        return Grid(said.get("patch") or given.tile, said.get("z") or given.window)

    first = own(next(one.label for one in stores if one.role == "generated"))
    out = {}
    for one in stores:
        grid = own(one.label) if one.role != "real" else first
        out[one.label] = Grid(grid.tile or first.tile, grid.window or first.window)
    return {label: grid for label, grid in out.items() if grid != Grid()}


def seam_scores(
    stores: Sequence[Compared], grids: Mapping[str, Grid], found: Mapping[str, Sequence[SectionSeams | None]]
) -> tuple[SeamScores, ...]:
    """Seam indices of every store that has a grid.

    Args:
        stores: the real one first.
        grids: by label.
        found: by label, each section's seams in the real brain's order.
    """
    real = stores[0].brain
    scores: list[SeamScores] = []
    for label, grid in grids.items():
        brain = BrainSeams(grid.window)
        for own, section in zip(real.chosen, found[label], strict=True):
            if section is not None:
                brain.add(own, section)
        scores += _scores(label, grid, (*real.stains, TOGETHER), brain)
    return tuple(scores)


def _scores(label: str, grid: Grid, stains: Sequence[str], seams: BrainSeams) -> Iterator[SeamScores]:
    if grid.tile is not None:
        for section, sums in ((None, seams.brain), *enumerate(seams.sections)):
            for stain, one in zip(stains, _with_all(sums), strict=True):
                yield SeamScores(label, "tiles", grid.tile, section, stain, _finite(one.index), one.n_seam)
    if grid.window is not None and seams.windows:
        for stain, one in zip(stains, _with_all(seams.windows), strict=True):
            yield SeamScores(label, "windows", grid.window, None, stain, _finite(one.index), one.n_seam)


def _with_all(sums: Sequence[SeamSums]) -> tuple[SeamSums, ...]:
    total = SeamSums()
    for one in sums:
        total = total.merge(one)
    return (*sums, total)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
