"""Boxes, tiles and windows: integers in canvas pixels, no arrays, no input or output.

Pixel (y, x) covers the square [y, y + 1) x [x, x + 1) of the canvas; boxes are half-open. Expression bins are
``BIN_PX`` pixels wide: bin (i, j) covers pixels [16 i, 16 i + 16) x [16 j, 16 j + 16).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import index as as_index

from teramind_data.errors import GeometryError

__all__ = ["BIN_PX", "Box", "Window", "ceil_div", "tiles", "window_sections", "windows"]

#: Edge in pixels of the bins in which transcripts are counted, whatever the patch size (paper, section 4.1).
BIN_PX = 16


def ceil_div(a: int, b: int) -> int:
    """Smallest integer not below ``a / b`` (b > 0; a may be negative)."""
    return -(-a // b)


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open rectangle ``[y0, y1) x [x0, x1)`` in canvas pixels (or in bins, after ``coarsen``).

    May lie partly or wholly outside the canvas. Raises GeometryError where an edge is no integer or the box
    is empty.
    """

    y0: int
    y1: int
    x0: int
    x1: int

    def __post_init__(self) -> None:
        for name in ("y0", "y1", "x0", "x1"):
            value = getattr(self, name)
            if type(value) is int:  # nearly always: boxes are made by the million
                continue
            try:
                # numpy integers are welcome, floats are not: geometry never rounds silently.
                object.__setattr__(self, name, as_index(value))
            except TypeError:
                raise GeometryError(
                    "box edge is not an integer", where=name, expected="an integer", found=repr(value)
                ) from None
        if self.y1 <= self.y0 or self.x1 <= self.x0:
            raise GeometryError("box is empty", expected="y0 < y1 and x0 < x1", found=self._text())

    def _text(self) -> str:
        return f"y {self.y0}:{self.y1}, x {self.x0}:{self.x1}"

    def __str__(self) -> str:
        return self._text()

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """``(y, x)`` slices into an array whose origin is the canvas's; the box must not start below zero."""
        if self.y0 < 0 or self.x0 < 0:
            # A negative start would index from the far end.
            raise GeometryError(
                "box starts outside the array",
                expected="y0 >= 0 and x0 >= 0",
                found=self._text(),
                remedy="Clip it first (Box.intersect)",
            )
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @classmethod
    def from_shape(cls, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Box:
        """The box of ``shape = (height, width)`` at ``origin = (y, x)``."""
        return cls(origin[0], origin[0] + shape[0], origin[1], origin[1] + shape[1])

    def expand(self, px: int, px_x: int | None = None) -> Box:
        """Grown by ``px`` on every side (``px_x`` in x where given); negative shrinks."""
        dx = px if px_x is None else px_x
        return Box(self.y0 - px, self.y1 + px, self.x0 - dx, self.x1 + dx)

    def shift(self, dy: int, dx: int) -> Box:
        """Moved by (dy, dx)."""
        return Box(self.y0 + dy, self.y1 + dy, self.x0 + dx, self.x1 + dx)

    def intersect(self, other: Box) -> Box | None:
        """The common part, or None where there is none."""
        y0, y1 = max(self.y0, other.y0), min(self.y1, other.y1)
        x0, x1 = max(self.x0, other.x0), min(self.x1, other.x1)
        return Box(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None

    def clip(self, shape: tuple[int, int]) -> Box | None:
        """The part inside a canvas of ``shape = (height, width)``, or None."""
        return self.intersect(Box(0, shape[0], 0, shape[1]))

    def contains(self, other: Box) -> bool:
        """Whether ``other`` lies wholly inside."""
        return self.y0 <= other.y0 and other.y1 <= self.y1 and self.x0 <= other.x0 and other.x1 <= self.x1

    def is_aligned(self, step: int) -> bool:
        """Whether all four edges are multiples of ``step``."""
        return not (self.y0 % step or self.y1 % step or self.x0 % step or self.x1 % step)

    def coarsen(self, factor: int) -> Box:
        """The same box in units of ``factor`` pixels; GeometryError where it is not aligned."""
        if factor < 1 or not self.is_aligned(factor):
            raise GeometryError("box is not aligned", expected=f"multiples of {factor}", found=self._text())
        return Box(self.y0 // factor, self.y1 // factor, self.x0 // factor, self.x1 // factor)

    def refine(self, factor: int) -> Box:
        """The same box in units ``factor`` times finer (bins to pixels)."""
        return Box(self.y0 * factor, self.y1 * factor, self.x0 * factor, self.x1 * factor)

    def cover(self, step: int) -> Box:
        """The smallest box aligned to ``step`` that contains this one."""
        return Box(
            self.y0 // step * step,
            ceil_div(self.y1, step) * step,
            self.x0 // step * step,
            ceil_div(self.x1, step) * step,
        )


def tiles(box: Box, size: int | tuple[int, int]) -> Iterator[Box]:
    """Cut ``box`` into tiles of ``size`` (edge, or (height, width)), row-major from its corner, cut at its rim."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise GeometryError("tile size must be positive", expected=">= 1", found=size)
    for y in range(box.y0, box.y1, height):
        for x in range(box.x0, box.x1, width):
            yield Box(y, min(y + height, box.y1), x, min(x + width, box.x1))


@dataclass(frozen=True, slots=True)
class Window:
    """One run of the network: gene sections it sees and image sections it makes.

    Both are absolute section indices and may lie outside ``[0, n_sections)``: gene sections there hold zeros,
    image sections there are discarded.
    """

    index: int
    image: tuple[int, ...]
    gene: tuple[int, ...]

    @property
    def image_offset(self) -> int:
        """Position of the first image section among the gene sections."""
        return self.image[0] - self.gene[0]


def window_sections(window: int, n_sections: int, gene_slices: int, image_slices: int) -> Window:
    """Window number ``window``: image sections ``wZ .. wZ + Z - 1``, the middle Z of its S gene sections.

    Args:
        window: 0 .. ``ceil(n_sections / Z) - 1``.
        n_sections: sections of the brain.
        gene_slices: S, 1 or an even number.
        image_slices: Z, S / 2, or 1 where S = 1 (model specification, Symbols).

    Raises:
        GeometryError: where S and Z do not fit, or there is no such window.
    """
    if n_sections < 1 or image_slices < 1 or gene_slices < image_slices or (gene_slices - image_slices) % 2:
        raise GeometryError(
            "gene and image slices do not fit",
            expected="S >= Z >= 1 with S - Z even, and at least one section",
            found=f"S={gene_slices}, Z={image_slices}, sections={n_sections}",
        )
    count = ceil_div(n_sections, image_slices)
    if not 0 <= window < count:
        raise GeometryError("no such window", expected=f"0..{count - 1}", found=window)
    first = window * image_slices
    gene_first = first - (gene_slices - image_slices) // 2
    return Window(
        index=window,
        image=tuple(range(first, first + image_slices)),
        gene=tuple(range(gene_first, gene_first + gene_slices)),
    )


def windows(n_sections: int, gene_slices: int, image_slices: int) -> tuple[Window, ...]:
    """All windows of a brain, in order; together they make every section exactly once."""
    count = ceil_div(n_sections, image_slices) if image_slices > 0 else 1
    return tuple(window_sections(w, n_sections, gene_slices, image_slices) for w in range(count))
