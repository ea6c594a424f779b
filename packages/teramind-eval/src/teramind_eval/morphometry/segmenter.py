"""What finds nuclei, as one interface: nobody else need know which filter or network is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from teramind_data.errors import InputError
from teramind_data.geometry import Box

ReadImage = Callable[[Box], npt.NDArray[np.uint8]]
LabelImage = npt.NDArray[np.int32]

#: What a segmenter knows of a whole section, in grey levels: a threshold, or the ends of a window.
Levels = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DapiSection:
    """The nuclear stain of one section, read box by box.

    Attributes:
        read: gives the pixels of a box inside the canvas, uint8 `(y, x)`.
        canvas: `(height, width)` of the section in pixels.
        pixel_size_um: edge of a pixel in micrometres.
    """

    read: ReadImage
    canvas: tuple[int, int]
    pixel_size_um: float

    def with_halo(self, cores: Iterable[Box], halo: int) -> Iterator[tuple[Box, Box]]:
        """Each core with the block around it, `halo` px wider on every side and cut at the canvas."""
        for core in cores:
            block = core.expand(halo).clip(self.canvas)
            if block is None:
                raise InputError(
                    "block lies outside the section", where=str(core), expected=f"inside {self.canvas}"
                )
            yield core, block


class Segmenter(Protocol):
    """Finds nuclei block by block, so that the outcome hardly depends on how a section is cut.

    `levels` is asked once a section, then `segment` for each block with its halo.
    """

    @property
    def block_px(self) -> int:
        """Edge of the blocks that are segmented at a time, without halo."""
        ...

    def halo_px(self, pixel_size_um: float) -> int:
        """Pixels around a block that decide about its nuclei."""
        ...

    def levels(self, section: DapiSection, cores: Iterable[Box]) -> Levels:
        """What holds for the whole section, from the pixels of its `cores`."""
        ...

    def segment(self, image: npt.NDArray[np.uint8], pixel_size_um: float, levels: Levels) -> LabelImage:
        """Label image `(y, x)` int32 of a block's nuclei: 0 is background, labels are consecutive from 1."""
        ...

    def describe(self) -> dict[str, Any]:
        """What provenance says of it: `segmenter`, the version of its library, model and settings; plain JSON."""
        ...
