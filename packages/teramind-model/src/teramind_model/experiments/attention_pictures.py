"""Maps of pairs of genes, drawn: expression, the map, and how it differs from uniform attention's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import Brain
from teramind_model.attention import map_attention
from teramind_model.experiments.figures import new_figure, png
from teramind_model.experiments.interactions import Pair
from teramind_model.network import TeraMind

__all__ = ["PairMaps", "map_picture", "pair_maps"]

_WINDOW = 2
"""Channel of the maps that the whole window made."""


@dataclass(frozen=True)
class PairMaps:
    """One section's maps of a pair in bins, all as ``log2(n * map + 1)``: by network, and uniform attention's."""

    pair: Pair
    expression: NDArray[np.float32]
    maps: dict[str, NDArray[np.float32]]
    uniform: NDArray[np.float32]


def pair_maps(
    models: Mapping[str, TeraMind],
    brain: Brain,
    channels: NDArray[np.int64],
    pair: Pair,
    genes: tuple[int, int],
    section: int,
) -> PairMaps:
    """Maps of a whole section, as ``teramind-model attention`` makes them.

    Args:
        models: networks by name.
        brain: the atlas.
        channels: its expression channels in the networks' order.
        pair: whose maps.
        genes: its channels of the networks.
        section: of the atlas.
    """
    bins = Box.from_shape((brain.canvas[0] // BIN_PX, brain.canvas[1] // BIN_PX))
    index = np.array(genes)
    counts = brain.read("expression", section)[channels[index]].astype(np.float32)
    with torch.inference_mode():
        maps = {
            name: map_attention(model, brain, channels, index, section, bins)[_WINDOW].astype(np.float32)
            for name, model in models.items()
        }
    # Uniform attention weighs each count by 2 / n: n times the map is twice the counts.
    return PairMaps(pair, counts.sum(axis=0), maps, np.log2(2 * counts.sum(axis=0) + 1))


def map_picture(found: Sequence[PairMaps]) -> bytes:
    """A row a pair: expression, then each network's map and its difference to uniform attention's."""
    names = list(found[0].maps)
    figure = new_figure(2.5 * (1 + 2 * len(names)), 2.7 * len(found))
    grid = figure.subplots(len(found), 1 + 2 * len(names), squeeze=False)
    for row, one in zip(grid, found, strict=True):
        row[0].imshow(np.log2(one.expression + 1), cmap="magma", interpolation="nearest")
        row[0].set_title(f"{one.pair.label}\n({one.pair.kind}), expression", fontsize=9)
        reach = max(0.1, *(float(np.abs(m - one.uniform).max()) for m in one.maps.values()))
        for i, (name, values) in enumerate(one.maps.items()):
            row[1 + i].imshow(values, cmap="magma", interpolation="nearest")
            row[1 + i].set_title(f"{name}: map", fontsize=9)
            panel = row[1 + len(names) + i]
            drawn = panel.imshow(
                values - one.uniform, cmap="PuOr", vmin=-reach, vmax=reach, interpolation="nearest"
            )
            panel.set_title(f"{name}: map − uniform\n(octaves)", fontsize=9)
        figure.colorbar(drawn, ax=row[-1], shrink=0.8).ax.tick_params(labelsize=7)
        for panel in row:
            panel.set_xticks([])
            panel.set_yticks([])
    return png(figure)
