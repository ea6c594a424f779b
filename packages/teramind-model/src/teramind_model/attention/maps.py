"""Maps of one unit: patches cut from its counts, computed in batches, laid side by side again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teramind_data.console import Advance
from teramind_data.geometry import Box, window_sections
from teramind_data.store import Brain
from teramind_model.attention.kernel import CHANNELS, Kernel
from teramind_model.attention.sums import UnitSums, majority
from teramind_model.attention.units import CountsReader, PatchGrid, Unit

if TYPE_CHECKING:
    from teramind_model.network import TeraMind

__all__ = ["Matrices", "map_attention", "unit_maps"]


@dataclass(frozen=True)
class Matrices:
    """What the whole matrix of a unit is summed into.

    Attributes:
        sums: to be added to.
        labels: section to labels of bins over the unit's patch grid, -1 outside the canvas.
        canvas: in bins; decides which unit counts a patch on the border of two.
    """

    sums: UnitSums
    labels: Mapping[int, NDArray[np.int64]]
    canvas: Box


def unit_maps(
    kernel: Kernel,
    unit: Unit,
    counts: NDArray[Any],
    batch: int,
    *,
    tissue_only: bool = True,
    matrices: Matrices | None = None,
    advance: Advance | None = None,
) -> NDArray[np.float16]:
    """Maps of a unit's box as they are stored: ``log2(n * map + 1)``, ``(sections, pathways, 3, h, w)`` float16.

    Args:
        kernel: with its pathways.
        unit: the block and window.
        counts: of :meth:`CountsReader.read`.
        batch: patches at once.
        tissue_only: skip patches without a molecule of the pathways in any of the sections: the map multiplies by
            counts, so it is zero there.
        matrices: where the whole matrix is wanted too.
        advance: told of the patches done, empty ones included.
    """
    config = kernel.model.config
    grid = PatchGrid.over(unit.box, config.bins)
    mapped = _holding(grid, counts[list(unit.slots)][:, kernel.union]).any(axis=0)
    if not tissue_only:
        mapped[:] = kernel.pathways > 0
    counted = _counted(grid, unit, counts, matrices)
    needed = np.nonzero(mapped | (counted >= 0).any(axis=0))
    shape = (len(unit.slots), kernel.pathways, len(CHANNELS), *grid.shape, config.bins, config.bins)
    out = torch.zeros(shape, dtype=torch.float32, device=kernel.device)
    patches = _patches(grid, counts, kernel.device)
    for at in _batches(needed, batch):
        taken = patches[at[0].to(kernel.device), at[1].to(kernel.device)]
        result = kernel.run(taken, unit.slots, full=matrices is not None)
        out[:, :, :, at[0], at[1]] = result.maps
        if matrices is not None:
            molecules = {
                z: taken[:, slot].sum(dim=(-1, -2), dtype=torch.float32)
                for z, slot in zip(unit.sections, unit.slots, strict=True)
            }
            rows, columns = (index.numpy() for index in at)
            labels = {z: counted[number, rows, columns] for number, z in enumerate(unit.sections)}
            matrices.sums.add(result, molecules, labels)
        if advance is not None:
            advance(len(at[0]))
    if advance is not None:
        advance(grid.shape[0] * grid.shape[1] - len(needed[0]))
    joined = out.permute(0, 1, 2, 3, 5, 4, 6).flatten(-2).flatten(-3, -2)
    inside = joined[(..., *unit.box.shift(-grid.box.y0, -grid.box.x0).slices)]
    stored: NDArray[np.float16] = torch.log2(config.genes * inside + 1).half().cpu().numpy()
    return stored


def _holding(grid: PatchGrid, counts: NDArray[Any]) -> NDArray[np.bool_]:
    """``(z, rows, columns)``: patches with any count, from ``(z, genes, h, w)``."""
    held: NDArray[np.bool_] = grid.patched(counts.any(axis=1)).any(axis=(-1, -2))
    return np.moveaxis(held, -1, 0)


def _counted(
    grid: PatchGrid, unit: Unit, counts: NDArray[Any], matrices: Matrices | None
) -> NDArray[np.int64]:
    """``(z, rows, columns)``: the label under which a patch counts for a section, -1 where it does not."""
    out = np.full((len(unit.sections), *grid.shape), -1, np.int64)
    if matrices is None:
        return out
    there = _holding(grid, counts[list(unit.slots)]) & grid.owned(unit.box, matrices.canvas)
    for number, z in enumerate(unit.sections):
        label = majority(grid.patched(matrices.labels[z]))
        out[number] = np.where(there[number], label, -1)
    return out


def _patches(grid: PatchGrid, counts: NDArray[Any], device: torch.device) -> Tensor:
    """``(rows, columns, S, n, g, g)``, a view of the counts on ``device``."""
    # torch can index few things in uint16.
    plain = counts if counts.dtype == np.uint8 else counts.astype(np.int32)
    split = torch.from_numpy(plain).to(device)
    rows, columns = grid.shape
    split = split.unflatten(-1, (columns, grid.bins)).unflatten(-3, (rows, grid.bins))
    return split.permute(2, 4, 0, 1, 3, 5)


def _batches(needed: tuple[NDArray[np.intp], ...], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows, columns = (torch.from_numpy(index.astype(np.int64)) for index in needed)
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch], columns[start : start + batch]


def map_attention(
    model: TeraMind, brain: Brain, channels: NDArray[np.int64], genes: NDArray[np.int64], z: int, bins: Box
) -> NDArray[np.float16]:
    """Maps of a box of one section, as stored: ``log2(n * map + 1)``, ``(3, h, w)`` float16.

    Args:
        model: the network.
        brain: the atlas.
        channels: its expression channels in the network's order.
        genes: the pathway's genes, as channels of the network.
        z: section of the atlas.
        bins: in bins; edges anywhere.
    """
    config = model.config
    window = window_sections(
        z // config.image_slices, brain.n_sections, config.gene_slices, config.image_slices
    )
    unit = Unit(0, bins, bins, window, (z,))
    counts = CountsReader(brain, channels, config.bins).read(unit)
    return unit_maps(Kernel(model, [genes]), unit, counts, 256)[0, 0]
