"""What edits change of the counts that the network will see: counted before anything is generated."""

from __future__ import annotations

from teramind_data.errors import InputError
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.reached import edited_boxes, edited_counts
from teramind_model.generate.setting import prepare
from teramind_model.generate.source import Source, pick_device

__all__ = ["count_changed"]


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
    counts = edited_counts(setting)
    changed = [int(counts.changed(z, box).sum()) for z, box in edited_boxes(setting)]
    if not changed:
        raise InputError(
            "edited place is out of reach of what is generated",
            where=config.edit_region,
            expected=f"a bin in the tiles generated, or within {source.network.halo} px of them",
            remedy="Choose another --edit-region, --roi or --sections",
        )
    return sum(changed)
