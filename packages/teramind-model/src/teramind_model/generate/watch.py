"""Looking at a generation while it runs: a preview that grows, and figures against the real brain as rows finish.

Watching changes no byte of the store. Each watcher is shown every shard once it is written; where a run goes on, the
preview also looks at those that are there already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from teramind_data.console import counted, note, told
from teramind_data.errors import InputError, MissingInputError, StoreError
from teramind_data.geometry import BIN_PX, Box, tiles
from teramind_data.picture import jpeg, sheet
from teramind_data.store import Brain, BrainSpec, BrainWriter, is_url, open_brain
from teramind_data.store.location import Location
from teramind_model.generate.config import WatchOptions

__all__ = ["Likeness", "Preview", "Watcher", "Watchers", "image_likeness", "watchers"]

_TILE_PX = 256
_PREVIEW_PX = 512
_INTERVAL_S = 5.0


class Watcher(Protocol):
    """Is shown what was written."""

    def __call__(self, z: int, box: Box, block: NDArray[np.uint8]) -> None:
        """A shard of section ``z``: ``block (stains, h, w)`` at ``box``, canvas pixels."""
        ...


class Preview:
    """A JPEG of all sections, small, written anew every few seconds while shards come in.

    A pixel is the mean of a square of shard pixels. What an earlier run wrote is read from the pyramid's coarse levels.

    Args:
        file: where to; ends in ``.jpg`` or ``.jpeg``.
        spec: the store's.
        edge: longer side of a section in pixels, at most.

    Raises:
        InputError: where the name is no JPEG's, or a URL.
    """

    def __init__(self, file: Path, spec: BrainSpec, edge: int = _PREVIEW_PX) -> None:
        if is_url(file):
            raise InputError("preview is a local file", where=file, remedy="Give a path")
        if file.suffix.lower() not in (".jpg", ".jpeg"):
            raise InputError("preview is no JPEG", expected="a name that ends in .jpg", found=file.name)
        self._file, self._spec = file, spec
        # A power of two, so that pixels of a shard make whole pixels of the preview.
        self._factor = 1
        while max(spec.canvas) > edge * self._factor and self._factor < spec.shard_px:
            self._factor *= 2
        shape = tuple(-(-n // self._factor) for n in spec.canvas)
        self._planes = np.zeros((spec.n_sections, len(spec.stains), *shape), np.float32)
        self._saved = float("-inf")

    def __call__(self, z: int, box: Box, block: NDArray[np.uint8]) -> None:
        """See :class:`Watcher`."""
        self._put(z, box, block, self._factor)
        if time.monotonic() - self._saved > _INTERVAL_S:
            self.save()

    def catch_up(self, brain: Brain, done: list[tuple[int, Box]]) -> None:
        """Take in shards that were there before this run, each from the coarsest level that was written with it."""
        levels = brain.layout("morphology").levels
        level = max(lv.index for lv in levels if lv.online and self._factor % 2**lv.index == 0)
        for z, box in done:
            part = Box(*(-(-edge // 2**level) for edge in (box.y0, box.y1, box.x0, box.x1)))
            self._put(z, box, brain.read("morphology", z, part, level=level), self._factor // 2**level)

    def show(self, brain: Brain) -> None:
        """Take in and save a store that is complete, whoever made it."""
        self.catch_up(brain, brain.layout("morphology").shards())
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all; StoreError where that cannot be."""
        pixels = jpeg(sheet(self._planes, self._spec))
        try:
            Location(self._file.parent).write(self._file.name, pixels)
        except OSError as error:
            raise StoreError(
                "preview cannot be written",
                where=self._file,
                found=error.strerror,
                remedy="Choose another --preview; the same command goes on",
            ) from error
        self._saved = time.monotonic()

    def _put(self, z: int, box: Box, block: NDArray[np.uint8], factor: int) -> None:
        height, width = block.shape[-2:]
        rim = ((0, 0), (0, -height % factor), (0, -width % factor))
        padded = np.pad(block, rim, mode="edge").astype(np.float32)
        small = padded.reshape(
            len(block), padded.shape[1] // factor, factor, padded.shape[2] // factor, factor
        ).mean((2, 4))
        y, x = box.y0 // self._factor, box.x0 // self._factor
        self._planes[z, :, y : y + small.shape[1], x : x + small.shape[2]] = small


class Watchers:
    """Those of one run. One that fails looks no more; the run goes on, and :meth:`finish` raises what it was."""

    def __init__(self, preview: Preview | None = None, likeness: Likeness | None = None) -> None:
        self.preview, self.likeness = preview, likeness
        self._looking: dict[str, Watcher] = {
            name: watcher
            for name, watcher in (("preview", preview), ("comparison", likeness))
            if watcher is not None
        }
        self._failures: list[Exception] = []

    def __call__(self, z: int, box: Box, block: NDArray[np.uint8]) -> None:
        """See :class:`Watcher`."""
        for name, watcher in list(self._looking.items()):
            try:
                watcher(z, box, block)
            except Exception as error:  # noqa: BLE001  hours of work do not end for a look at them; raised at the end
                del self._looking[name]
                self._failures.append(error)
                note(f"{name} stops here; what is made goes on, and the run fails at its end: {told(error)}")

    @property
    def anybody(self) -> bool:
        """Whether anybody is looking."""
        return bool(self._looking)

    def catch_up(self, writer: BrainWriter) -> None:
        """Look at what an earlier run wrote; the picture is saved, so that a name that cannot be is told of now."""
        if self.preview is None:
            return
        pending = set(writer.pending("morphology"))
        done = [shard for shard in writer.shards("morphology") if shard not in pending]
        if done:
            self.preview.catch_up(open_brain(writer.url, incomplete=True), done)
        self.preview.save()

    def finish(self, brain: Brain) -> None:
        """Save the last picture, of what all parts made where the store is complete, and say the last figures.

        Raises:
            Exception: what a watcher failed of on the way, the first of them.
        """
        if self._failures:
            raise self._failures[0]
        if self.preview is not None:
            if brain.complete:
                self.preview.show(brain)
            else:
                self.preview.save()
        if self.likeness is not None:
            self.likeness.tell()


def watchers(options: WatchOptions, spec: BrainSpec, region: Box, say: Callable[[str], None]) -> Watchers:
    """What the options ask for, for a store of ``spec`` of which ``region`` (canvas pixels) is made.

    Raises:
        InputError, MissingInputError: see :class:`Preview` and :class:`Likeness`.
    """
    preview = None if options.preview is None else Preview(Path(options.preview), spec)
    likeness = None
    if options.compare_with is not None:
        likeness = Likeness(open_brain(options.compare_with), spec, region, say)
    return Watchers(preview, likeness)


@dataclass
class _Sums:
    tiles: int = 0
    psnr: float = 0.0
    ssim: float = 0.0

    def __str__(self) -> str:
        if not self.tiles:
            return "no tissue yet"
        tiles = counted(self.tiles, "tile")
        return f"PSNR {self.psnr / self.tiles:.2f} dB, SSIM {self.ssim / self.tiles:.3f} ({tiles})"


class Likeness:
    """PSNR and SSIM of tissue tiles against a real brain, told as rows of shards finish.

    Means of per-tile values over 256-px tiles (a shard, where that is smaller; half of it, and so on, where none lies
    whole in the region) that hold molecules in the real brain, both stains; the convention of ``teramind-eval report``.

    Args:
        real: the atlas.
        spec: of the store that is made; its sections are found in the atlas by name.
        region: what is generated, canvas pixels.
        say: takes a line a row.

    Raises:
        InputError, MissingInputError: where the atlas has no images, or other sections, sizes or stains.
    """

    def __init__(self, real: Brain, spec: BrainSpec, region: Box, say: Callable[[str], None]) -> None:
        self._real, self._region, self._say = real, region, say
        if "morphology" not in real.images or "expression" not in real.images:
            raise MissingInputError("store has no images to compare with", real.url, "morphology, expression")
        for what, expected, found in (
            ("canvas", spec.canvas, real.canvas),
            ("stains", spec.stains, real.stains),
        ):
            if expected != found:
                raise InputError(f"{what} of the brain to compare with differs", real.url, expected, found)
        names = {section.name: section.index for section in real.sections}
        missing = [section.name for section in spec.sections if section.name not in names]
        if missing:
            raise InputError(
                "brain to compare with lacks sections", real.url, missing[:3], ", ".join(list(names)[:5])
            )
        self._section = [names[section.name] for section in spec.sections]
        self._edge = min(_TILE_PX, spec.shard_px)
        while self._edge > BIN_PX and not _holds_tile(region, self._edge):
            self._edge //= 2
        self._row: tuple[int, int] | None = None
        self._in_row, self.all = _Sums(), _Sums()

    def __call__(self, z: int, box: Box, block: NDArray[np.uint8]) -> None:
        """See :class:`Watcher`."""
        row = (z, box.y0)
        if self._row not in (None, row):
            self.tell()
        self._row = row
        for tile in tiles(box, self._edge):
            if tile.shape == (self._edge, self._edge) and self._region.contains(tile):
                self._compare(z, tile, block[(..., *tile.shift(-box.y0, -box.x0).slices)])

    def tell(self) -> None:
        """Say what the last row of shards came to."""
        if self._row is not None:
            z, y = self._row
            self._say(f"section {z}, rows from {y} px: {self._in_row}; so far {self.all}")
        self._row, self._in_row = None, _Sums()

    def _compare(self, z: int, tile: Box, made: NDArray[np.uint8]) -> None:
        own = self._section[z]
        if not self._real.read("expression", own, tile.coarsen(BIN_PX)).any():
            return
        psnr, ssim = image_likeness(self._real.read("morphology", own, tile), made)
        for sums in (self._in_row, self.all):
            sums.tiles, sums.psnr, sums.ssim = sums.tiles + 1, sums.psnr + psnr, sums.ssim + ssim


def _holds_tile(region: Box, edge: int) -> bool:
    """Whether a whole tile of the canvas's grid of ``edge`` px lies in ``region``."""
    return all(
        -(-start // edge) * edge + edge <= end
        for start, end in ((region.y0, region.y1), (region.x0, region.x1))
    )


def image_likeness(real: NDArray[np.uint8], made: NDArray[np.uint8]) -> tuple[float, float]:
    """PSNR in dB over all channels together (at most 100) and mean SSIM of them, of ``(c, h, w)`` uint8 images.

    SSIM after Wang et al. 2004: Gaussian window of 11 px and sigma 1.5, data range 255, windows wholly inside. Edges
    below 11 px have no window; SSIM is NaN there.
    """
    x, y = (torch.from_numpy(np.ascontiguousarray(image)).double() for image in (real, made))
    error = float((x - y).square().mean())
    psnr = 100.0 if error == 0 else min(100.0, 10 * float(np.log10(255**2 / error)))
    if min(x.shape[-2:]) < 11:
        return psnr, float("nan")
    mean_x, mean_y = _blur(x), _blur(y)
    variance = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c_1, c_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    return psnr, float((luminance * (2 * covariance + c_2) / (variance + c_2)).mean())


def _blur(image: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    weights = weights / weights.sum()
    rows = functional.conv2d(image[:, None], weights.view(1, 1, 11, 1))
    return functional.conv2d(rows, weights.view(1, 1, 1, 11))[:, 0]
