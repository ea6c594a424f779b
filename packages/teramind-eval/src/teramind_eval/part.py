"""What a report reads of a store: the sections that all its stores have, numbered alike in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from teramind_data.errors import StoreError, TeramindError
from teramind_data.geometry import Box

if TYPE_CHECKING:
    import zarr

    from teramind_data.store import Brain

#: Image of a store of several draws: each pixel's standard deviation over them (`teramind-model generate --seeds`).
SPREAD = "morphology_sd"

#: Pixel sizes that differ by less (relative) are the same number written differently.
_PIXEL_TOLERANCE = 1e-6


def same_pixel_size(mine: float, theirs: float) -> bool:
    """Whether two pixel sizes are the same number, as far as files keep it."""
    return abs(mine - theirs) <= _PIXEL_TOLERANCE * mine


class Part:
    """Some sections of a brain as if they were all: section 0 is the first of `chosen`.

    Attributes:
        brain: the whole store.
        chosen: the store's own indices of the sections compared, in the order compared.
        stains: those compared, in the order compared; default: all, as the store has them.
        sections: those sections, `index` counting from 0.
        molecules: theirs.
        inside: the part of the canvas that is compared; default: all of it.
    """

    def __init__(
        self,
        brain: Brain,
        chosen: Sequence[int] | None = None,
        stains: Sequence[str] | None = None,
        inside: Box | None = None,
    ) -> None:
        self.brain = brain
        self.chosen = tuple(range(brain.n_sections) if chosen is None else chosen)
        self.sections = tuple(replace(brain.sections[own], index=i) for i, own in enumerate(self.chosen))
        self.url, self.kind, self.complete = brain.url, brain.kind, brain.complete
        self.canvas, self.pixel_size_um = brain.canvas, brain.pixel_size_um
        self.inside = Box(0, brain.canvas[0], 0, brain.canvas[1]) if inside is None else inside
        self.stains = brain.stains if stains is None else tuple(stains)
        self._channels = [brain.stains.index(stain) for stain in self.stains]
        self.panel, self.images = brain.panel, brain.images
        self.has_molecules, self.provenance = brain.has_molecules, brain.provenance
        self.molecules = _Molecules(self)

    @property
    def whole(self) -> bool:
        """Whether all of the canvas is compared."""
        return self.inside.shape == self.canvas

    def named(self, names: Sequence[str]) -> Part:
        """The part that has the sections of these names, in this order; all must be there."""
        own = {section.name: index for section, index in zip(self.sections, self.chosen, strict=True)}
        return Part(self.brain, [own[name] for name in names], self.stains, self.inside)

    def stained(self, names: Sequence[str]) -> Part:
        """The part that has these stains, in this order; all must be there."""
        return Part(self.brain, self.chosen, names, self.inside)

    def within(self, inside: Box) -> Part:
        """The part of which this part of the canvas is compared."""
        return Part(self.brain, self.chosen, self.stains, inside)

    def read(self, name: str, section: int, box: Box | None = None, *, level: int = 0) -> npt.NDArray[Any]:
        """Pixels of one section of an image, as `teramind_data.store.Brain.read` gives them."""
        try:
            pixels = self.brain.read(name, self.chosen[section], box, level=level)
        except TeramindError:
            raise
        except (
            ValueError,
            RuntimeError,
            OSError,
        ) as error:  # a checksum or codec says that bytes are not what was written
            raise StoreError(
                f"{name} of section {self.sections[section].name} is damaged",
                where=self.url,
                found=error,
                remedy="Restore the store from a copy, or write it again",
            ) from error
        if name in ("morphology", SPREAD) and self.stains != self.brain.stains:
            return pixels[self._channels]
        return pixels

    def levels(self, name: str) -> tuple[zarr.Array, ...]:
        """Pyramid levels of an image of the whole store, for their shapes."""
        return self.brain.levels(name)

    def image(self, name: str) -> zarr.Array:
        """Level 0 of an image of the whole store, for its shape."""
        return self.brain.image(name)

    def image_attrs(self, name: str) -> dict[str, Any]:
        """What was kept beside an image."""
        return self.brain.image_attrs(name)


class _Molecules:
    def __init__(self, part: Part) -> None:
        self._part = part

    def read(
        self, section: int, box: Box
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
        """See `teramind_data.store.molecules.Molecules.read`."""
        return self._part.brain.molecules.read(self._part.chosen[section], box)

    def counts(
        self, section: int, box: Box, genes: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.uint16]:
        """See `teramind_data.store.molecules.Molecules.counts`."""
        return self._part.brain.molecules.counts(self._part.chosen[section], box, genes)
