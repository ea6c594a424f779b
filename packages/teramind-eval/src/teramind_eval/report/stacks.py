"""The brain in three dimensions: stacks of the stores' tissue and attention, stills, and what the viewer needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box
from teramind_data.store import Section
from teramind_eval.attention.maps import Source, read_levels
from teramind_eval.pairs import Compared
from teramind_eval.part import Part
from teramind_eval.report.page import Panel, Space, shown
from teramind_eval.report.panels import slug
from teramind_eval.report.pictures import Stretch, composite, grey, read_view, stretch_of
from teramind_eval.report.sheets import Sheets, faded, mosaic, render, stacked

#: Longest edge of a sheet, px: fifty of them are one picture of about a megapixel.
EDGE = 192

#: Brightness below which a pixel is nothing, of the stretched 1.
_FLOOR = 0.08

#: Sides from which stills are drawn: name, turn and tilt in degrees.
SIDES = (
    ("From the front", 0.0, 0.0),
    ("From the right, a little above", -40.0, 22.0),
    ("From the left, a little above", 40.0, 22.0),
    ("From above", 20.0, 64.0),
)
_STILL = (440, 440)
_MOST_RUNS, _MOST_MAPS = 3, 3


@dataclass(frozen=True)
class Layer:
    """One thing that is shown in space."""

    name: str
    title: str
    sheets: Sheets


def layers_of(stores: Sequence[Compared], maps: Sequence[Source]) -> list[Layer]:
    """Tissue of the real brain and of the first generated ones, then their attention maps, three of each at most."""
    real = stores[0].brain
    middle = len(real.sections) // 2
    stretch = stretch_of(read_view(real, middle, Box(0, real.canvas[0], 0, real.canvas[1]), EDGE))
    runs = [one for one in stores if one.role == "generated"][:_MOST_RUNS]
    layers = [
        Layer(f"tissue_{slug(one.label)}", one.label, _tissue(one, stretch)) for one in (stores[0], *runs)
    ]
    drawn = [one for one in maps if one.store.role == "generated"][:_MOST_MAPS]
    for one in drawn:
        title = f"attention {one.which.pathway}, {one.label}"
        name = f"{one.which.element}_{slug(one.label)}"
        layers.append(Layer(name, title, _attention(stores[0].brain, one)))
    return layers


def _tissue(store: Compared, stretch: Stretch) -> Sheets:
    brain = store.brain
    whole = Box(0, brain.canvas[0], 0, brain.canvas[1])
    sheets = []
    for section in brain.sections:
        pixels = _fitted(read_view(brain, section.index, whole, EDGE))
        level = np.max([grey(pixels, index, stretch) for index in range(len(brain.stains))], axis=0)
        colours = composite(pixels, brain.stains, stretch).astype(np.float64) / 255
        # How bright a pixel is tells how much is there; its colour alone, what.
        bright = colours / np.maximum(colours.max(axis=-1, keepdims=True), 1e-6)
        sheets.append(faded(bright, np.where(level < _FLOOR, 0.0, level)))
    return _placed(store, sheets)


def _attention(real: Part, source: Source) -> Sheets:
    """The whole window's map, log2 levels, as opaque as it is strong; sections that were not mapped are empty."""
    from matplotlib import colormaps

    brain, which = source.store.brain, source.which
    shapes = [(int(level.shape[-2]), int(level.shape[-1])) for level in brain.levels(which.element)]
    level = next((index for index, shape in enumerate(shapes) if max(shape) <= EDGE), len(shapes) - 1)
    whole = Box(0, shapes[level][0], 0, shapes[level][1])
    mapped = [which.mapped(real.canvas, own) is not None for own in real.chosen]
    channel = which.channels.index("window") if "window" in which.channels else len(which.channels) - 1
    values = []
    for index, there in enumerate(mapped):
        levels = read_levels(brain, which, index, whole, level)[channel] if there else np.zeros(whole.shape)
        values.append(_fitted(np.log2(np.maximum(levels, 0) + 1)[None])[0])
    seen = np.concatenate([one[one > 0] for one in values])
    high = float(np.percentile(seen, 99.5)) if seen.size else 1.0
    shares = [np.clip(one / high, 0, 1) for one in values]
    return _placed(
        source.store, [faded(colormaps["inferno"](0.25 + 0.75 * one)[..., :3], one) for one in shares]
    )


def _placed(store: Compared, sheets: list[npt.NDArray[np.uint8]]) -> Sheets:
    brain = store.brain
    size = brain.canvas[0] * brain.pixel_size_um, brain.canvas[1] * brain.pixel_size_um
    return stacked(sheets, [section.z_um for section in brain.sections], size)


def _fitted(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`(c, y, x)` no wider than `EDGE`, by means of areas."""
    from PIL import Image

    factor = EDGE / max(pixels.shape[-2:])
    if factor >= 1:
        return pixels
    size = max(1, round(pixels.shape[-1] * factor)), max(1, round(pixels.shape[-2] * factor))
    shrunk = [
        np.asarray(Image.fromarray(one.astype(np.float32)).resize(size, Image.Resampling.BOX))
        for one in pixels
    ]
    return np.stack(shrunk).astype(pixels.dtype)


def space_of(layers: Sequence[Layer]) -> Space:
    """Stills of every layer, and the viewer's pictures and geometry."""
    stills, pictures = [], []
    described = []
    for layer in layers:
        row = [
            shown(
                render(layer.sheets, turn, tilt, _STILL),
                f"space_{layer.name}_{index + 1}",
                name,
                f"{layer.title} in three dimensions: {name.lower()}",
            )
            for index, (name, turn, tilt) in enumerate(SIDES)
        ]
        stills.append(Panel(layer.title[:1].upper() + layer.title[1:], "", tuple(row)))
        picture, across = mosaic(layer.sheets)
        pictures.append(shown(picture, f"space_{layer.name}_sheets", layer.title, ""))
        rows, columns = layer.sheets.pixels.shape[1:3]
        described.append({"title": layer.title, "rows": rows, "columns": columns, "across": across})
    first = layers[0].sheets
    geometry = {
        "layers": described,
        "z_um": first.z_um.tolist(),
        "depths": first.depths.tolist(),
        "size_um": list(first.size_um),
        "opacity": first.opacity,
    }
    return Space(tuple(stills), tuple(pictures), geometry, _note(first))


def _note(sheets: Sheets) -> str:
    said = (
        f"Every section is a sheet at its own z, {sheets.pixels.shape[2]} × {sheets.pixels.shape[1]} px, as opaque as "
        "it is bright; what lies between sections was not measured and is left empty. "
    )
    if sheets.squeeze < 1:
        return (
            said
            + f"z is drawn at {sheets.squeeze:.2g} of its scale, or the sheets would be too small to see."
        )
    return said + "All three axes have one scale."


def points(sheets: Sheets, sections: Sequence[Section]) -> dict[str, npt.NDArray[Any]]:
    """The numbers of a stack as columns: a row a pixel that shows, with its level of 255."""
    rows, columns = sheets.pixels.shape[1:3]
    index, y, x = np.nonzero(sheets.pixels[..., 3])
    return {
        "section": np.array([section.name for section in sections])[index],
        "z_um": sheets.z_um[index].astype(np.float32),
        "y_um": ((y + 0.5) * sheets.size_um[0] / rows).astype(np.float32),
        "x_um": ((x + 0.5) * sheets.size_um[1] / columns).astype(np.float32),
        "level": sheets.pixels[index, y, x, 3],
    }
