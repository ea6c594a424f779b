"""Blocks of bins as rows of log2 variables: expression, attention of every store, uniform attention, what is beyond it.

The unit is a block of expression bins, as large as a tile of the image scores, because attention is one number a gene
pair and patch: single bins of a patch would be counted as if they were independent. Blocks without any count of the
pathway's genes are left out: attention multiplies by expression, so they are zero by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: Name of the sum over a pathway's genes.
ALL_GENES = "together"


@dataclass(frozen=True, slots=True)
class Variables:
    """The columns of a block's row, by what they mean.

    In order: expression of the genes together, then of each gene (where there are several), `log2(counts + 1)`;
    attention of each store and channel, `log2(level + 1)`; uniform attention, the same; attention of each store and
    channel over uniform attention, `log2(level / uniform)`.
    """

    genes: tuple[str, ...]
    sources: tuple[str, ...]
    channels: tuple[str, ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        """What expression is of."""
        return (ALL_GENES, *self.genes) if len(self.genes) > 1 else (ALL_GENES,)

    def expression(self, of: str) -> int:
        """Column of an expression."""
        return self.expressions.index(of)

    def attention(self, source: str, channel: str) -> int:
        """Column of a store's attention."""
        return len(self.expressions) + self._place(source, channel)

    @property
    def uniform(self) -> int:
        """Column of uniform attention."""
        return len(self.expressions) + self._maps

    def beyond(self, source: str, channel: str) -> int:
        """Column of a store's attention over uniform attention."""
        return self.uniform + 1 + self._place(source, channel)

    @property
    def count(self) -> int:
        """Columns."""
        return self.uniform + 1 + self._maps

    @property
    def _maps(self) -> int:
        return len(self.sources) * len(self.channels)

    def _place(self, source: str, channel: str) -> int:
        return self.sources.index(source) * len(self.channels) + self.channels.index(channel)


def block_rows(counts: FloatArray, levels: FloatArray) -> FloatArray:
    """Rows `(n, variables)` of blocks.

    Uniform attention gives every gene 1 / n of every other, so n times its map is the number of the pathway's genes
    times their counts, in every channel (docs/guides/attention.md).

    Args:
        counts: `(genes, n)`, each block with at least one.
        levels: `(sources, channels, n)`, attention levels on a linear scale, above zero.
    """
    total = counts.sum(axis=0)
    uniform = len(counts) * total
    maps = levels.reshape(-1, levels.shape[-1])
    genes = np.log2(counts + 1) if len(counts) > 1 else np.zeros((0, counts.shape[-1]))
    columns = (np.log2(total + 1)[None], genes, np.log2(maps + 1), np.log2(uniform + 1)[None])
    return np.concatenate([*columns, np.log2(maps / uniform)]).T


def block_sums(values: npt.NDArray[np.generic], edge: int) -> FloatArray:
    """Sums of `edge` x `edge` blocks of `(..., y, x)`, float64; a rim that fills no block is left out."""
    rows, columns = values.shape[-2] // edge, values.shape[-1] // edge
    cut = values[..., : rows * edge, : columns * edge]
    blocks = cut.reshape(*cut.shape[:-2], rows, edge, columns, edge)
    return np.asarray(blocks.sum(axis=(-3, -1), dtype=np.float64))


def block_majority(labels: npt.NDArray[np.integer], edge: int) -> npt.NDArray[np.int64]:
    """Most frequent label of each `edge` x `edge` block of `(y, x)`, the smallest of equals; the rim is left out."""
    rows, columns = labels.shape[0] // edge, labels.shape[1] // edge
    cut = labels[: rows * edge, : columns * edge]
    values, index = np.unique(cut, return_inverse=True)
    blocks = np.arange(rows * columns).reshape(rows, 1, columns, 1)
    votes = np.bincount(
        (blocks * len(values) + index.reshape(rows, edge, columns, edge)).ravel(),
        minlength=rows * columns * len(values),
    ).reshape(rows, columns, len(values))
    return np.asarray(values[votes.argmax(axis=-1)], dtype=np.int64)
