"""Gene-gene attention of named pairs: how strong it is, and what of it is more than expression.

Every measure is taken of the trained network, of untrained ones (same shape, other random weights) and of uniform
attention, 1 / n from every gene to every gene. *Relative attention* of a pair on a patch is
``n (Attn[a, b] + Attn[b, a]) / 2``: 1 where attention is uniform. A map multiplies attention by expression, so it
follows expression whatever the attention is; three numbers tell what is left:

- the standard deviation of ``log2(map / uniform attention's map)`` over patches, in octaves: 0 where attention adds
  nothing;
- how far the pair lies above the line that tells the logarithm of a trained network's mean attention from that of
  untrained ones over all pairs of genes, in standard deviations of that line's residuals: queries and keys are one
  projection, so genes of like expression attend to each other before anything is learnt;
- the partial correlation of relative attention with the pair's co-expression (the product of the two genes' log counts)
  given each gene's log counts and the patch's total: positive where attention answers to both genes being there
  together, beyond what each one says alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box, Window, tiles, windows
from teramind_data.store import Brain
from teramind_model.attention_matrix import gene_gene_attention
from teramind_model.network import TeraMind
from teramind_model.network.config import NetworkConfig

__all__ = [
    "NETWORKS",
    "Pair",
    "PairScore",
    "PatchAttention",
    "beyond_untrained",
    "measure",
    "partial_correlation",
    "tissue_patches",
    "untrained",
]

NETWORKS = ("trained", "untrained", "uniform")

_PIECE_PATCHES = 64
"""Patches read at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two genes, and what joins them (as the phantom says)."""

    kind: str
    genes: tuple[str, str]

    @property
    def label(self) -> str:
        """For tables."""
        return "–".join(self.genes)


@dataclass(frozen=True)
class PatchAttention:
    """One network on all patches.

    Attributes:
        relative: relative attention of each pair ``(pairs, patches)``.
        matrix: mean over patches of relative attention ``(n, n)``, symmetric.
        maps: each pair's map summed over a patch ``(pairs, patches)``, times n.
    """

    relative: Floats
    matrix: Floats
    maps: Floats


@dataclass(frozen=True)
class PairScore:
    """A pair under one network.

    ``rank``: share of all pairs of genes that attend to each other less. ``beyond_untrained``: see above; NaN but for
    trained networks.
    """

    pair: Pair
    network: str
    patches: int
    relative: float
    relative_sd: float
    rank: float
    map_correlation: float
    map_beyond_sd: float
    partial: float
    beyond_untrained: float = float("nan")


def untrained(config: NetworkConfig, seed: int) -> TeraMind:
    """A network of this shape with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TeraMind(config).eval()


def tissue_patches(
    brain: Brain, config: NetworkConfig, channels: NDArray[np.int64], most: int, seed: int = 0
) -> NDArray[np.float32]:
    """Raw counts of patches that hold molecules, ``(b, S, n, g, g)``.

    Patches are those of the tile grid, windows those of generation. Pieces of rows of patches are read in random order,
    about as many patches from each, until there are ``most``; of a small brain all are taken.

    Raises InputError where there is none.
    """
    pieces = list(_pieces(brain, config))
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 0x70617463])))
    share = max(1, -(-most // max(1, len(pieces))))
    found: list[NDArray[np.float32]] = []
    for number in rng.permutation(len(pieces)):
        if len(found) >= most:
            break
        window, box = pieces[number]
        row = brain.window_counts(window, box, channels)
        patches = [p for p in np.split(row, row.shape[-1] // config.bins, axis=-1) if p.any()]
        chosen = rng.permutation(len(patches))[: min(share, most - len(found))]
        found += [patches[i].astype(np.float32) for i in chosen]
    if not found:
        raise InputError("brain has no patch with molecules", where=brain.url)
    return np.stack(found)


def _pieces(brain: Brain, config: NetworkConfig) -> Iterator[tuple[Window, Box]]:
    """Windows and pieces of rows of whole patches that cover the brain."""
    height, width = (size - size % config.patch for size in brain.canvas)
    for window in windows(brain.n_sections, config.gene_slices, config.image_slices):
        for box in tiles(Box(0, height, 0, width), (config.patch, _PIECE_PATCHES * config.patch)):
            yield window, box


def measure(
    models: Mapping[str, Sequence[TeraMind]],
    counts: NDArray[np.float32],
    pairs: Sequence[Pair],
    genes: Sequence[tuple[int, int]],
    *,
    batch: int = 64,
) -> tuple[list[PairScore], dict[str, PatchAttention]]:
    """Scores of every pair under every network, uniform attention last; and what they were made from.

    Args:
        models: networks by name; several of one name are averaged, score by score.
        counts: patches ``(b, S, n, g, g)``.
        pairs: named.
        genes: their channels.
        batch: patches at a time.
    """
    expression = counts.sum(axis=(1, 3, 4), dtype=np.float64)
    uniform = uniform_attention(expression, genes)
    found: dict[str, PatchAttention] = {}
    scores: list[PairScore] = []
    for name, several in models.items():
        runs = [_attention(model, counts, genes, batch) for model in several]
        found[name] = replace(runs[0], matrix=np.mean([run.matrix for run in runs], axis=0))
        each = [_scores(name, run, uniform, expression, pairs, genes) for run in runs]
        scores += [_mean(of_one) for of_one in zip(*each, strict=True)]
    found["uniform"] = uniform
    if {"trained", "untrained"} <= set(found):
        beyond = beyond_untrained(found["trained"].matrix, found["untrained"].matrix)
        where = dict(zip(pairs, genes, strict=True))
        scores = [
            replace(score, beyond_untrained=float(beyond[where[score.pair]]))
            if score.network == "trained"
            else score
            for score in scores
        ]
    return scores + _scores("uniform", uniform, uniform, expression, pairs, genes), found


def uniform_attention(expression: Floats, genes: Sequence[tuple[int, int]]) -> PatchAttention:
    """Attention 1 / n of every gene to every gene, on patches of ``expression (b, n)``."""
    n = expression.shape[1]
    maps = np.stack([2 * (expression[:, a] + expression[:, b]) for a, b in genes])
    return PatchAttention(np.ones((len(genes), len(expression))), np.ones((n, n)), maps)


def beyond_untrained(trained: Floats, blank: Floats) -> Floats:
    """Residuals of ``log(trained)`` fitted linearly by ``log(blank)`` over all pairs of genes, in their SD.

    Args:
        trained: mean relative attention ``(n, n)``, symmetric.
        blank: that of untrained networks.

    Returns:
        ``(n, n)``; NaN on the diagonal, which takes no part, and everywhere where the fit leaves nothing.
    """
    upper = np.triu_indices(len(trained), k=1)
    x, y = np.log(blank[upper]), np.log(trained[upper])
    design = np.column_stack([np.ones(len(x)), x])
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    out = np.full(trained.shape, np.nan)
    spread = float(left.std())
    if spread > 1e-12:
        out[upper] = left / spread
        out.T[upper] = left / spread
    return out


def _attention(
    model: TeraMind, counts: NDArray[np.float32], genes: Sequence[tuple[int, int]], batch: int
) -> PatchAttention:
    n = counts.shape[2]
    first, second = (np.array([pair[i] for pair in genes]) for i in (0, 1))
    total = np.zeros((n, n))
    relative, maps = [], []
    for part in torch.from_numpy(counts).split(batch):
        attention = gene_gene_attention(model, part).double().numpy()
        expressed = part.double().numpy().sum(axis=(1, 3, 4))
        total += attention.sum(axis=0)
        relative.append(n * (attention[:, first, second] + attention[:, second, first]) / 2)
        # Summed over the attending genes: what each of the pair's genes is weighed with in its map.
        to_first = attention[:, first, first] + attention[:, second, first]
        to_second = attention[:, first, second] + attention[:, second, second]
        maps.append(n * (to_first * expressed[:, first] + to_second * expressed[:, second]))
    mean = n * total / len(counts)
    return PatchAttention(np.concatenate(relative).T, (mean + mean.T) / 2, np.concatenate(maps).T)


def _scores(
    name: str,
    found: PatchAttention,
    uniform: PatchAttention,
    expression: Floats,
    pairs: Sequence[Pair],
    genes: Sequence[tuple[int, int]],
) -> list[PairScore]:
    logs = np.log1p(expression)
    total = np.log1p(expression.sum(axis=1))
    others = found.matrix[np.triu_indices(len(found.matrix), k=1)]
    scores = []
    for i, (pair, (a, b)) in enumerate(zip(pairs, genes, strict=True)):
        there = uniform.maps[i] > 0
        beyond = np.log2(found.maps[i][there] / uniform.maps[i][there])
        given = np.stack([logs[:, a], logs[:, b], total])
        scores.append(
            PairScore(
                pair,
                name,
                len(expression),
                float(found.relative[i].mean()),
                float(found.relative[i].std(ddof=1)),
                # Half of the equals, so that uniform attention ranks every pair in the middle.
                float((others < found.matrix[a, b]).mean() + (others == found.matrix[a, b]).mean() / 2),
                _correlation(np.log2(found.maps[i] + 1), np.log2(expression[:, a] + expression[:, b] + 1)),
                float(beyond.std()) if there.any() else float("nan"),
                partial_correlation(found.relative[i], logs[:, a] * logs[:, b], given),
            )
        )
    return scores


def _mean(scores: Sequence[PairScore]) -> PairScore:
    def over(key: str) -> float:
        return float(np.mean([getattr(score, key) for score in scores]))

    first = scores[0]
    numbers = ("relative", "relative_sd", "rank", "map_correlation", "map_beyond_sd", "partial")
    return PairScore(first.pair, first.network, first.patches, *(over(key) for key in numbers))


def partial_correlation(x: Floats, y: Floats, given: Floats) -> float:
    """Correlation of what is left of ``x`` and ``y (b,)`` after a linear fit to ``given (k, b)``.

    NaN where nothing is left of one of them.
    """
    design = np.column_stack([np.ones(len(x)), given.T])
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    return _correlation(left[0], left[1])


def _correlation(x: Floats, y: Floats) -> float:
    # What rounding leaves of a constant is not a signal.
    spread = [float(v.std()) / max(1.0, float(np.abs(v).max())) for v in (x, y)]
    if min(spread) < 1e-9:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
