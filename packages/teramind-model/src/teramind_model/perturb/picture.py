"""The place where most changed: before, after, and the difference."""

from __future__ import annotations

import numpy as np

from teramind_data.store import Brain
from teramind_model.experiments.figures import new_figure, png
from teramind_model.perturb.difference import DIFFERENCE, BusyBox

__all__ = ["perturb_picture"]


def perturb_picture(baseline: Brain, edited: Brain, busy: BusyBox, title: str) -> bytes:
    """A row a stain: baseline, edited, and edited minus baseline from blue (darker) to red (brighter); PNG."""
    stains = edited.stains
    figure = new_figure(9.2, 0.9 + 2.9 * len(stains))
    grid = figure.subplots(len(stains), 3, squeeze=False)
    before, after = (brain.read("morphology", busy.section, busy.box) for brain in (baseline, edited))
    change = np.asarray(edited.read(DIFFERENCE, busy.section, busy.box))
    # One scale for all stains, so that their changes compare; never narrower than what uint8 rounds away.
    most = max(8.0, float(np.percentile(np.abs(change), 99.5)))
    width, height = (size * edited.pixel_size_um for size in (busy.box.width, busy.box.height))
    signed = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    plain = {"cmap": "gray", "vmin": 0, "vmax": 255}
    for row, stain, *values in zip(grid, stains, before, after, change, strict=True):
        looks = (("baseline", plain), ("edited", plain), ("edited - baseline", signed))
        for panel, (name, scale), pixels in zip(row, looks, values, strict=True):
            shown = panel.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", **scale)
            panel.set_title(f"{stain}, {name}", fontsize=9)
            panel.tick_params(labelsize=7)
        row[0].set_ylabel("um", fontsize=8)
        figure.colorbar(shown, ax=row[2], label="levels of 255", shrink=0.85)
    section, box = edited.sections[busy.section], busy.box
    figure.suptitle(
        f"{title}\nwhere most changed: section {section.name}, y {box.y0}:{box.y1}, x {box.x0}:{box.x1} px",
        fontsize=10,
    )
    return png(figure)
