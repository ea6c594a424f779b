"""Seams of all stores of a report as plain numbers: on which grid each was made, then one pass over its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teramind_eval.metrics.seams import BrainSeams, SeamSums, section_seams
from teramind_eval.pairs import Compared
from teramind_eval.results import TOGETHER, SeamScores


@dataclass(frozen=True, slots=True)
class Grid:
    """How a store was put together: edge of its tiles in pixels, and sections of a window; None where not known."""

    tile: int | None = None
    window: int | None = None


def grids_of(
    stores: Sequence[Compared], made: Mapping[str, Mapping[str, Any]], given: Grid
) -> dict[str, Grid]:
    """The grid of each store by label: what its making says, else `given`, else the first generated one's.

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
    return out


def measure_seams(
    stores: Sequence[Compared],
    grids: Mapping[str, Grid],
    tile: int,
    done: Callable[[], object] | None = None,
) -> tuple[SeamScores, ...]:
    """Seam indices of every store that has a grid. The first store is the real one; `tile` px tissue tiles count.

    `done` is called after each section.
    """
    real = stores[0].brain
    found = {one.label: BrainSeams(grids[one.label].window) for one in stores if grids[one.label] != Grid()}
    for section in real.sections:
        for one in stores:
            if one.label in found:
                seams = section_seams(real, one.brain, section.index, grids[one.label].tile, tile)
                found[one.label].add(real.chosen[section.index], seams)
        if done is not None:
            done()
    return tuple(
        score
        for label, seams in found.items()
        for score in _scores(label, grids[label], (*real.stains, TOGETHER), seams)
    )


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
