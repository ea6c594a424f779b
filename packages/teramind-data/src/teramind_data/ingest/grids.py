"""Smooth maps of the plane, evaluated exactly at the nodes of a grid and interpolated between them.

A thin-plate spline costs microseconds a point, and its inverse ten times that; a slide has 10^9 pixels and 10^7
transcripts. The grid is made as coarse as the map allows, and checked against the map itself where the interpolation
errs most; where no grid will do, the map is evaluated at every point.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import RegistrationError
from teramind_data.geometry import Box, ceil_div
from teramind_data.ingest.transforms import Points

Map = Callable[[Points], Points]

FORWARD_TOLERANCE = 0.01  # image px: half of the 0.02 px promised, as nodes are looked at and not every pixel
INVERSE_TOLERANCE = 1e-4  # canvas px: a tenth of the 1e-3 px promised, for the same reason
#: Spacings tried in order: px between exact evaluations, and between the nodes made from them by cubics, between which
#: pixels are interpolated linearly. (Runs of 16 are what the kernel is best at.)
_SPACINGS = ((64, 32), (64, 16), (64, 8), (32, 8), (16, 8))
_CLOSE = ((8, 8), (4, 4))  # in boxes up to ``SMALL_PX`` only
SMALL_PX = 64
_TILE = 1024  # px, edge of the pieces in which an inverse is tabulated
_STEPS = (64, 32)  # px between its nodes
_CLOSE_STEPS = (16, 8)  # in pieces of ``SMALL_PX``
_TILES = 4096  # held: a table is of 6 to 20 kB


@dataclass(frozen=True)
class Nodes:
    """Where a map takes the nodes of a grid: ``values (2, ny, nx)`` are y and x; the first node is at ``first``."""

    values: NDArray[np.float64]
    step: int
    first: tuple[int, int]


def nodes_over(forward: Map, box: Box) -> Nodes | None:
    """Nodes all around the pixel centres of a box, close enough together for linear interpolation between them.

    None where there are none. A box larger than ``SMALL_PX`` is better halved then: a spline is rough about its
    landmarks only.
    """
    coarse: dict[int, Nodes] = {}
    for spacing, step in _SPACINGS if max(box.shape) > SMALL_PX else _SPACINGS[-1:] + _CLOSE:
        if spacing not in coarse:
            coarse[spacing] = _evaluated(forward, box, spacing, rim=int(step < spacing))
        nodes = coarse[spacing] if step == spacing else _refined(coarse[spacing], step)
        if _error(forward, nodes, spacing) <= FORWARD_TOLERANCE:
            return nodes
    return None


def _evaluated(forward: Map, box: Box, step: int, rim: int) -> Nodes:
    """The map at nodes on multiples of ``step`` that enclose the box, with ``rim`` more on every side."""
    first = box.y0 // step - rim, box.x0 // step - rim
    last = ceil_div(box.y1, step) + rim, ceil_div(box.x1, step) + rim
    y, x = (np.arange(a, b + 1, dtype=np.float64) * step for a, b in zip(first, last, strict=True))
    return Nodes(_at(forward, y, x), step, (first[0] * step, first[1] * step))


def _at(forward: Map, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map on a grid, ``(2, len(y), len(x))``, y then x."""
    xy = forward(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    return np.ascontiguousarray(xy.T[::-1].reshape(2, len(y), len(x)))


def _refined(coarse: Nodes, step: int) -> Nodes:
    """Nodes ``step`` apart inside all but the outermost of the coarse ones, by cubics."""
    from teramind_data.ingest.kernels import cubic_at

    ny, nx = coarse.values.shape[1:]
    first = coarse.first[0] + coarse.step, coarse.first[1] + coarse.step
    y = first[0] + np.arange(0, (ny - 3) * coarse.step + 1, step)
    x = first[1] + np.arange(0, (nx - 3) * coarse.step + 1, step)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    values = cubic_at(
        coarse.values, float(coarse.step), (float(coarse.first[0]), float(coarse.first[1])), points
    )
    return Nodes(np.ascontiguousarray(values.T.reshape(2, len(y), len(x))), step, first)


def _error(forward: Map, nodes: Nodes, spacing: int) -> float:
    """Largest error of linear interpolation at the nodes' cells next to the middles of ``spacing``-px cells."""
    per = spacing // nodes.step
    pick = slice(per // 2, None, per)
    ny, nx = nodes.values.shape[1:]
    v = nodes.values
    middle = (v[:, :-1, :-1] + v[:, 1:, :-1] + v[:, :-1, 1:] + v[:, 1:, 1:]) / 4
    y = nodes.first[0] + (np.arange(ny - 1)[pick] + 0.5) * nodes.step
    x = nodes.first[1] + (np.arange(nx - 1)[pick] + 0.5) * nodes.step
    return float(np.abs(_at(forward, y, x) - middle[:, pick, pick]).max())


@dataclass
class Tabulated:
    """A map of scattered points (an inverse, mostly), tabulated piece by piece as points need it.

    The pieces lie on fixed places, so a point's result does not depend on the points it comes with.
    """

    exact: Map
    tolerance: float = INVERSE_TOLERANCE
    _tiles: OrderedDict[tuple[int, int, int], Nodes | None] = field(default_factory=OrderedDict)

    def __call__(self, xy: Points) -> Points:
        """Map ``(n, 2)`` points; RegistrationError where the map has no value."""
        return self._mapped(xy, _TILE)

    def _mapped(self, xy: Points, edge: int) -> Points:
        """Map points by tables of pieces of this edge, and of halved ones where the map is rough."""
        from teramind_data.ingest.kernels import cubic_at

        out = np.empty_like(xy)
        for (ty, tx), part in _by_tile(xy, edge):
            nodes = self._nodes(edge, ty, tx)
            if nodes is not None:
                first = float(nodes.first[0]), float(nodes.first[1])
                out[part] = cubic_at(nodes.values, float(nodes.step), first, xy[part][:, ::-1])[:, ::-1]
            elif edge > SMALL_PX:
                out[part] = self._mapped(xy[part], edge // 2)
            else:
                out[part] = self.exact(xy[part])
        return out

    def _nodes(self, edge: int, ty: int, tx: int) -> Nodes | None:
        """The table of one piece; None where the map is too rough for one."""
        key = edge, ty, tx
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]
        nodes = self._tabulate(Box(ty * edge, (ty + 1) * edge, tx * edge, (tx + 1) * edge))
        self._tiles[key] = nodes
        if len(self._tiles) > _TILES:
            self._tiles.popitem(last=False)
        return nodes

    def _tabulate(self, box: Box) -> Nodes | None:
        for step in _STEPS if max(box.shape) > SMALL_PX else _CLOSE_STEPS:
            try:
                nodes = _evaluated(self.exact, box, step, rim=1)
                error = self._middle_error(nodes)
            except RegistrationError:  # no value at a node: the points themselves may still have one
                return None
            if error <= self.tolerance:
                return nodes
        return None

    def _middle_error(self, nodes: Nodes) -> float:
        """Largest error of the cubics in the middles of the cells inside the rim."""
        from teramind_data.ingest.kernels import cubic_at

        ny, nx = nodes.values.shape[1:]
        y = nodes.first[0] + (np.arange(1, ny - 2) + 0.5) * nodes.step
        x = nodes.first[1] + (np.arange(1, nx - 2) + 0.5) * nodes.step
        truth = _at(self.exact, y, x)
        points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        found = cubic_at(
            nodes.values, float(nodes.step), (float(nodes.first[0]), float(nodes.first[1])), points
        )
        return float(np.abs(found.T.reshape(truth.shape) - truth).max())


def _by_tile(xy: Points, edge: int) -> Iterator[tuple[tuple[int, int], NDArray[np.intp]]]:
    """Tiles ``(y, x)`` of the plane that hold points, each with the numbers of its points."""
    if not len(xy):
        return
    tile = np.clip(np.floor(xy[:, ::-1] / edge), -(1 << 30), 1 << 30).astype(np.int64)
    key = (tile[:, 0] << 32) + tile[:, 1]
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order]))
    for part in np.split(order, starts + 1):
        yield (int(tile[part[0], 0]), int(tile[part[0], 1])), part
