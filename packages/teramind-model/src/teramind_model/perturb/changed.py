"""What edits change of the counts that the network will see: counted before anything is generated."""

from __future__ import annotations

from collections.abc import Iterator

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.edits import EditedCounts
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.job import computed
from teramind_model.generate.setting import Setting, prepare
from teramind_model.generate.source import Source, pick_device

__all__ = ["count_changed"]

_READ_PX = 2048
"""Edge of the squares in which counts are read: of 500 genes 33 MB in float32."""


def count_changed(config: GenerateConfig, source: Source) -> int:
    """Bins, of all sections together, whose counts the edits change where the generation looks at them.

    Args:
        config: with edits. Where only tissue is generated, bins beside it count too.
        source: the network.

    Raises:
        MissingInputError, InputError, PanelError: where atlas, checkpoint and request do not fit, or no bin of the
            edited place is looked at.
    """
    sampler_steps(config.sampler, config.steps)
    device = pick_device(config.run.device)
    setting = prepare(config, device, source, home=device)  # not made ready: it does not run here
    counts = setting.counts
    assert isinstance(counts, EditedCounts)
    met, changed = False, 0
    for z, box in _seen(setting):
        if counts.edits.place.bins(z, box.coarsen(BIN_PX)).any():
            met = True
            changed += int(counts.changed(z, box).sum())
    if not met:
        raise InputError(
            "edited place is out of reach of what is generated",
            where=config.edit_region,
            expected=f"a bin in the tiles generated, or within {source.network.halo} px of them",
            remedy="Choose another --edit-region, --roi or --sections",
        )
    return changed


def _seen(setting: Setting) -> Iterator[tuple[int, Box]]:
    """Sections of the atlas and boxes of pixels of which the network sees counts: the tiles and a halo around them."""
    tiles_px = computed(setting.config, setting.source, setting.job)
    reach = tiles_px.expand(setting.source.network.halo).clip(setting.atlas.canvas)
    assert reach is not None  # the tiles are on the canvas
    seen = {z for window in setting.job.windows for z in window.gene}
    for z in sorted(seen & set(range(setting.atlas.n_sections))):
        for box in tiles(reach, _READ_PX):
            yield z, box
