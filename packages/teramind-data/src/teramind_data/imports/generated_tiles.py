"""The authors' generated tiles to a generated store: 256 px each, side by side, float16 in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.console import progress
from teramind_data.errors import InputError
from teramind_data.imports.grid import TileGrid, read_folder
from teramind_data.imports.output import begun, check_output, key_of, listing, software
from teramind_data.imports.painting import TileImages
from teramind_data.imports.tiles import numbered_sections, tile_names
from teramind_data.panel import Panel, is_control
from teramind_data.store import Brain, BrainSpec, open_brain

__all__ = ["GeneratedConfig", "import_generated", "to_bytes"]

#: Beyond [-1, 1] by more than float16 rounds: the values are something else.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class GeneratedConfig:
    """What to import.

    Attributes:
        tiles: folder of ``.zip``. like: store that lends canvas, sections, panel, stains and pixel size.
        panel: CSV or store with the genes of the model that made the tiles; unknown where None.
        method: what made them.
    """

    tiles: Path
    out: str
    like: str | None = None
    panel: str | None = None
    stains: tuple[str, ...] = ("DAPI", "PolyT")
    canvas: tuple[int, int] | None = None
    pixel_size_um: float = 0.108
    spacing_um: float = 200.0
    method: str = "published tiles"
    overwrite: bool = False


def to_bytes(file: Path, values: NDArray[Any]) -> NDArray[np.uint8]:
    """``clip((x + 1) * 127.5)``, truncated as the published code's cast does; InputError on other numbers."""
    # float16 has not enough digits for the steps of 255.
    wide = values.astype(np.float32)
    if not np.isfinite(wide).all() or float(np.abs(wide).max(initial=0.0)) > 1 + _TOLERANCE:
        raise InputError(
            "generated tile holds values that are no image's",
            where=file,
            expected="numbers in [-1, 1]",
            found=f"{np.nanmin(wide)}..{np.nanmax(wide)}" if np.isfinite(wide).any() else "not a number",
            remedy="Give the final tiles, not those of a step in between",
        )
    wide += 1
    wide *= 127.5
    return np.clip(wide, 0, 255, out=wide).astype(np.uint8)


def import_generated(config: GeneratedConfig) -> tuple[bool, Brain]:
    """Build the store; whether anything was done, and the open store.

    Raises:
        TeramindError: one line naming the file and what to do; nothing is left of an output that this run began.
    """
    grid = read_folder(config.tiles, ".zip", margins=False)
    images = TileImages(config.tiles, grid, "<f2", to_bytes)
    inputs = listing(config.tiles, [images.file(tile) for tile in grid.tiles.values()])
    spec = _spec(config, grid, images)
    key = key_of("import-tiles --generated", inputs.pop("key"), spec.to_dict(), config.method)
    if check_output(config.out, key, overwrite=config.overwrite):
        return False, open_brain(config.out)
    grid.check_canvas(spec.canvas, config.tiles)
    spec.provenance.update(
        {
            "tool": "teramind-data import-tiles",
            "method": config.method,
            "key": key,
            "inputs": [inputs],
            "software": software(),
            "like": config.like,
            "tiles": len(grid),
        }
    )
    with begun(config.out, spec, overwrite=config.overwrite) as writer:
        with progress(len(writer.pending("morphology")), "images", "shards") as advance:
            images.write(writer, advance)
        return True, writer.finish()


def _spec(config: GeneratedConfig, grid: TileGrid, images: TileImages) -> BrainSpec:
    """What the tiles say, or the reference store, which they must fit."""
    first = next(iter(grid.tiles.values()))
    with images.open(first) as array:
        channels = array.shape[0]
    like = None if config.like is None else open_brain(config.like)
    stains = config.stains if like is None else like.stains
    if (
        not stains
        or channels % len(stains)
        or (like is not None and channels != len(stains) * like.n_sections)
    ):
        sections = "sections" if like is None else f"{like.n_sections} sections"
        raise InputError(
            "generated tile has another number of channels than stains and sections",
            where=images.file(first),
            expected=f"{len(stains)} stains x {sections}",
            found=channels,
            remedy="Check --stains and --like",
        )
    panel = None if like is None else like.panel
    if config.panel is not None:
        panel = Panel(tuple(name for name in tile_names(config.panel) if not is_control(name)))
    if like is not None:
        return BrainSpec(
            "generated",
            like.canvas,
            like.pixel_size_um,
            like.sections,
            panel,
            stains,
            chunk=like.spec.chunk,
            shard=like.spec.shard_px,
        )
    return BrainSpec(
        "generated",
        config.canvas or grid.extent(),
        config.pixel_size_um,
        numbered_sections(channels // len(stains), config.spacing_um),
        panel,
        stains,
    )
