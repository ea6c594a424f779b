"""PSNR and SSIM of every tissue tile of a store beside the real one, with the tile's place: a row a tile.

Reports keep sums of tiles, not tiles, so these are measured anew, block by block; what grows with the brain is the
table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box, tiles
from teramind_eval.metrics.image import MS_SMALLEST, WINDOW, score_tiles
from teramind_eval.pairs import (
    Compared,
    check_comparable,
    open_store,
    regions_of_tiles,
    same_place,
    same_sections,
    tissue_boxes,
)
from teramind_eval.regions import has_regions, region_name
from teramind_eval.report.saved import SavedMetrics, SavedStore
from teramind_eval.results import TOGETHER
from teramind_eval.scverse.sections import described

if TYPE_CHECKING:
    import anndata

    from teramind_eval.part import Part

#: Edge in pixels of what is read at a time.
_BLOCK_PX = 2048


def open_pair(metrics: SavedMetrics, store: SavedStore, url: str) -> tuple[Compared, Compared]:
    """The report's real store and the one to score, at `url`, cut to what both have and checked as for a report."""
    real = next(one for one in metrics.stores if one.role == "real")
    measured = open_store(real.url, real.label, "real")
    other = check_comparable(measured.brain, open_store(url, store.label, "generated"))
    first, second = same_place(same_sections((measured, other)))
    return first, second


def tile_scores(
    pair: tuple[Compared, Compared],
    metrics: SavedMetrics,
    report: Path,
    done: Callable[[], object] | None = None,
) -> anndata.AnnData:
    """Scores of the tissue tiles of all sections, for a table of the second store of `pair`.

    `obs` has `section`, `section_index` (in that store), `y0`, `x0` (canvas px of the tile's corner) and, where the
    real store has regions, `region`, that of most of the tile, as in the report; `obsm["spatial"]` the centres, x, y in
    um. `X` (float32) has a column a measure and stain: `psnr_db:<stain>`, `ssim:<stain>` and, of tiles that are large
    enough, `ms_ssim:<stain>`, stains apart and together.
    """
    import anndata
    import pandas as pd

    real, other = (one.brain for one in pair)
    size = metrics.settings.tile_px
    found = []
    for section in real.sections:
        corners, values = _section(real, other, section.index, size)
        found.append((corners, values, _regions(real, section.index, corners, size)))
        if done is not None:
            done()
    corners, values, regions = (np.concatenate(parts) for parts in zip(*found, strict=True))
    which = np.repeat(np.arange(len(found)), [len(corner) for corner, *_ in found])
    names = [section.name for section in real.sections]
    obs = pd.DataFrame(
        {
            "section": pd.Categorical.from_codes(which, names),
            "section_index": np.array(other.chosen, np.int32)[which],
            "y0": corners[:, 0].astype(np.int32),
            "x0": corners[:, 1].astype(np.int32),
        },
        index=pd.Index(
            [f"{names[s]}/{y}_{x}" for s, (y, x) in zip(which, corners, strict=True)], name="tile"
        ),
    )
    if has_regions(real):
        obs["region"] = pd.Categorical([region_name(real, label) for label in regions.tolist()])
    stains = (*real.stains, TOGETHER)
    columns = [(measure, stain) for measure in _measures(size) for stain in stains]
    var = pd.DataFrame(
        {"measure": [measure for measure, _ in columns], "stain": [stain for _, stain in columns]},
        index=pd.Index([":".join(column) for column in columns], name="measure_stain"),
    )
    spatial = (corners[:, ::-1] + size / 2) * real.pixel_size_um
    uns = {**described(metrics, report), "tile_px": size, "store": pair[1].label}
    return anndata.AnnData(X=values.astype(np.float32), obs=obs, var=var, obsm={"spatial": spatial}, uns=uns)


def _measures(size: int) -> tuple[str, ...]:
    return ("psnr_db", "ssim", "ms_ssim") if size >= MS_SMALLEST else ("psnr_db", "ssim")


def _section(
    real: Part, other: Part, section: int, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Corners y, x `(t, 2)` and scores `(t, measures)` of a section's tissue tiles."""
    corners: list[tuple[int, int]] = []
    values: list[npt.NDArray[np.float64]] = []
    block_px = max(1, _BLOCK_PX // size) * size
    for block in tiles(Box(0, real.canvas[0], 0, real.canvas[1]), block_px):
        wanted = [box for box in tissue_boxes(real, section, block, size) if min(box.shape) >= WINDOW]
        if not wanted:
            continue
        local = [box.shift(-block.y0, -block.x0) for box in wanted]
        reference = np.asarray(real.read("morphology", section, block))
        scores = score_tiles(reference, np.asarray(other.read("morphology", section, block)), local)
        corners += [(box.y0, box.x0) for box in wanted]
        kinds = (scores.psnr, scores.ssim, scores.ms_ssim)[: len(_measures(size))]
        values.append(np.concatenate(kinds, axis=1))
    empty = np.zeros((0, len(_measures(size)) * (len(real.stains) + 1)))
    return np.array(corners, np.int64).reshape(-1, 2), np.concatenate([empty, *values])


def _regions(real: Part, section: int, corners: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.uint16]:
    boxes = (Box.from_shape((size, size), (y, x)).clip(real.canvas) for y, x in corners.tolist())
    return regions_of_tiles(real, section, [box for box in boxes if box is not None])
