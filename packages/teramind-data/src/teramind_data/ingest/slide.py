"""One stain of one section, whatever the format: a plane or the maximum of several, of which any box can be read."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_data.ingest.images import ImageSource, ImageStack, Plane, open_stack
from teramind_data.ingest.images.protocol import CACHE_BYTES


class Slide:
    """A stain of a section as one plane of uint8 or uint16; a context manager.

    ``source`` is a file (one channel, or one plane of several chosen as ``ImageSource`` says), or an ``ImageSource``.

    Attributes
    ----------
    path: the (first) file. shape: ``(height, width)`` at full resolution. dtype: uint8 or uint16.

    Raises
    ------
    MissingInputError: no such file or plane. InputError: damaged, or of a kind not supported; names the file.
    """

    def __init__(self, source: ImageSource | str | Path, cache_bytes: int = CACHE_BYTES) -> None:
        if not isinstance(source, ImageSource):
            source = ImageSource((Path(source),))
        self.path = source.path
        self._stacks: list[ImageStack] = []
        self._planes: list[Plane] = []
        try:
            for file in source.files:
                self._add(source, file, cache_bytes // len(source.files))
        except BaseException:
            self.close()
            raise
        self.shape = self._planes[0].shape
        self.dtype: np.dtype[Any] = self._planes[0].dtype

    def _add(self, source: ImageSource, file: Path, cache_bytes: int) -> None:
        stack = open_stack(file, cache_bytes)
        self._stacks.append(stack)
        self._planes += source.planes(stack)
        first, last = self._planes[0], self._planes[-1]
        if (first.shape, first.dtype) != (last.shape, last.dtype):
            raise InputError(
                "z planes of an image differ",
                where=file,
                expected=f"{first.shape} of {first.dtype}",
                found=f"{last.shape} of {last.dtype}",
                remedy="Choose one plane in the manifest (z_plane)",
            )

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Edges (y, x) of a pixel where the file tells."""
        return self._stacks[0].pixel_size_um

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and forget decoded tiles."""
        for stack in self._stacks:
            stack.close()

    def read(self, box: Box) -> NDArray[Any]:
        """The pixels ``(h, w)`` of ``box``, which may stick out of the image (zeros there).

        Only the tiles (strips, chunks) that touch the box are read and decoded.
        """
        out = self._planes[0].read(box)
        for plane in self._planes[1:]:
            np.maximum(out, plane.read(box), out=out)
        return out

    def blank(self, box: Box) -> bool:
        """Whether the files hold nothing under a box, so that all of it is zero. Decodes nothing."""
        return all(plane.blank(box) for plane in self._planes)
