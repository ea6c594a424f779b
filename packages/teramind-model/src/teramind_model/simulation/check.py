"""What a simulation must have left: every shard, written once, with the pixels that follow from its start noise."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.errors import StoreError
from teramind_data.geometry import Box, Window, tiles
from teramind_data.store import Brain, Location
from teramind_data.store.layout import ImageLayout
from teramind_model.diffusion.ddim import to_uint8
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.steps import History, sampler_steps
from teramind_model.generate.job import layout_of
from teramind_model.generate.setting import Setting

__all__ = ["Expected", "check_once", "check_pixels", "file_marks"]

Marks = dict[str, tuple[int, int]]
"""Keys of files, with the inode and the time of the last change (ns) of each."""


def file_marks(out: str, layout: ImageLayout, shards: Iterable[tuple[int, Box]]) -> Marks:
    """Those of some shards, at all levels that are written with them; a shard of zeros has none."""
    found: Marks = {}
    location, edge = Location(out), layout.levels[0].shard
    for z, box in shards:
        for level in layout.levels:
            key = layout.chunk_key(level.index, z, box.y0 // edge, box.x0 // edge)
            file = location.path / key
            if level.online and file.exists():
                stat = file.stat()
                found[key] = (stat.st_ino, stat.st_mtime_ns)
    return found


def check_once(before: Marks, after: Marks) -> None:
    """StoreError where a shard that was finished when a process was killed is not the same file in the end."""
    for key, mark in before.items():
        if after.get(key) != mark:
            raise StoreError("a finished shard was written again", where=key)


class Expected:
    """What the null network's brain is: its start noise, denoised by a network that finds it to be all noise.

    Pixel by pixel and by no code of the wavefront's; ``made`` tiles apart all is black.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting, self._tissue = setting, setting.tissue
        self._layout = layout_of(setting.source, setting.atlas, setting.job)
        self._steps = sampler_steps(setting.config.sampler, setting.config.steps)

    def made(self, z: int, box: Box) -> NDArray[np.bool_]:
        """Which pixels of a box of the store's section ``z`` are made."""
        patch, region = self._layout.patch, self._layout.region
        rows, columns = np.arange(box.y0, box.y1) // patch, np.arange(box.x0, box.x1) // patch
        inside = (region.y0 <= rows) & (rows < region.y1), (region.x0 <= columns) & (columns < region.x1)
        found = np.logical_and.outer(*inside)
        if self._tissue is not None:
            found = found & self._tissue.window(self._window(z))[np.ix_(rows, columns)]
        return np.asarray(found)

    def pixels(self, z: int, box: Box) -> NDArray[np.uint8]:
        """``(stains, h, w)`` of a box of the store's section ``z``."""
        config, stains = self._setting.config, self._setting.source.network.stains
        noise = start_noise(config.seed, (self._setting.job.first + z,), range(stains), box)
        x, history = torch.from_numpy(noise[:, 0]), History()
        for step in self._steps:
            x, history = step.advance(x, x, history)
        return np.where(self.made(z, box), to_uint8(x).numpy(), np.uint8(0))

    def _window(self, z: int) -> Window:
        at = self._setting.job.first + z
        return next(window for window in self._setting.job.windows if at in window.image)


def check_pixels(brain: Brain, expected: Expected, seed: int) -> tuple[int, int]:
    """Compare one block (a chunk, drawn from ``seed``) of every shard; shards stored, and blocks compared.

    Raises:
        StoreError: naming the first block that is another, or the shard that should or should not be stored.
    """
    stored = compared = 0
    for z, shard in brain.layout("morphology").shards():
        shown = bool(expected.made(z, shard).any())
        where = f"{brain.url}, section {z}, {shard}"
        if shown == brain.blank("morphology", z, shard):
            raise StoreError("shard of background is stored, or one of tissue is not", where=where)
        stored += shown
        if shown:
            block = next(_shown(expected, z, shard, brain.spec.chunk, seed))
            if not np.array_equal(brain.read("morphology", z, block), expected.pixels(z, block)):
                raise StoreError("pixels are not those of the start noise", where=where, found=block)
            compared += 1
    return stored, compared


def _shown(expected: Expected, z: int, shard: Box, chunk: int, seed: int) -> Iterator[Box]:
    """The shard's chunks in which something is made, in an order at random."""
    blocks = list(tiles(shard, chunk))
    random.Random(f"{seed} {z} {shard}").shuffle(blocks)
    return (block for block in blocks if expected.made(z, block).any())
