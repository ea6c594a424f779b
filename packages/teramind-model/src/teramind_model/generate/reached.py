"""Where edits meet what the network will see: which boxes of which sections, and whether any count changes there."""

from __future__ import annotations

from collections.abc import Iterator

from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_model.edits import EditedCounts
from teramind_model.generate.job import computed
from teramind_model.generate.setting import Setting

__all__ = ["changes_counts", "edited_boxes", "edited_counts"]

_READ_PX = 2048
"""Edge of the squares in which counts are read: of 500 genes 33 MB in float32."""


def edited_counts(setting: Setting) -> EditedCounts:
    """The counts of a setting with edits."""
    assert isinstance(setting.counts, EditedCounts)
    return setting.counts


def edited_boxes(setting: Setting) -> Iterator[tuple[int, Box]]:
    """Sections of the atlas and boxes of pixels that the network sees, the tiles and a halo around them, where a bin
    lies in the edited place. Where only tissue is generated, what lies beside it is taken for seen too."""
    tiles_px = computed(setting.config, setting.source, setting.job)
    reach = tiles_px.expand(setting.source.network.halo).clip(setting.atlas.canvas)
    assert reach is not None  # the tiles are on the canvas
    place = edited_counts(setting).edits.place
    seen = {z for window in setting.job.windows for z in window.gene}
    for z in sorted(seen & set(range(setting.atlas.n_sections))):
        for box in tiles(reach, _READ_PX):
            if place.bins(z, box.coarsen(BIN_PX)).any():
                yield z, box


def changes_counts(setting: Setting) -> bool:
    """Whether the edits change any count that the network sees; reads counts up to the first that they do."""
    counts = edited_counts(setting)
    return any(counts.changed(z, box).any() for z, box in edited_boxes(setting))
