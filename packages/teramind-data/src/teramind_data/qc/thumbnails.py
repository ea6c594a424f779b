"""Small pictures of sections: the first stain (else the tissue) in grey, and the tissue's mask for its outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teramind_data.store import Brain

__all__ = ["Thumbnail", "thumbnails"]


@dataclass(frozen=True)
class Thumbnail:
    """``grey`` in 0..1 ``(h, w)``, 1 is bright; ``tissue`` 0..1 ``(h', w')``, None where the store has no mask."""

    grey: NDArray[np.float32] | None
    tissue: NDArray[np.float32] | None


def thumbnails(brain: Brain, edge: int) -> list[Thumbnail]:
    """One a section, of the coarsest level that is at least ``edge`` on its longer side; one contrast for all."""
    greys = [_plane(brain, "morphology", z, edge) for z in range(brain.n_sections)]
    known = [grey for grey in greys if grey is not None]
    if known:
        inside = np.concatenate([grey[grey > 0] for grey in known])
        high = float(np.percentile(inside, 99.5)) if inside.size else 1.0
        # The square root shows dim sections beside bright ones.
        greys = [None if g is None else np.sqrt(np.clip(g / max(high, 1.0), 0, 1)) for g in greys]
    return [Thumbnail(grey, _plane(brain, "tissue", z, edge)) for z, grey in enumerate(greys)]


def _plane(brain: Brain, name: str, z: int, edge: int) -> NDArray[np.float32] | None:
    if name not in brain.images + brain.labels:
        return None
    levels = brain.layout(name).levels
    if not brain.complete:
        levels = tuple(level for level in levels if level.online)
    level = next((lv for lv in reversed(levels) if max(lv.shape) >= edge), levels[0])
    values = brain.read(name, z, level=level.index)
    plane = values if values.ndim == 2 else values[0]
    factor = max(1, max(plane.shape) // edge)
    # A level may be twice as fine as is needed: every other pixel does for a picture of this size.
    plane = plane[::factor, ::factor]
    return (plane != 0).astype(np.float32) if name == "tissue" else plane.astype(np.float32)
