"""Nuclei against nuclei: one-to-one matches of centroids, and distances between distributions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """Outcome of matching found nuclei with reference nuclei; counts add up over sections."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def merge(self, other: Match) -> Match:
        """Both sets of nuclei together."""
        return Match(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def precision(self) -> float:
        """Share of the found nuclei that stand on a reference nucleus; 0 where none was found."""
        found = self.true_positive + self.false_positive
        return self.true_positive / found if found else 0.0

    @property
    def recall(self) -> float:
        """Share of the reference nuclei that were found; 0 where there is none."""
        wanted = self.true_positive + self.false_negative
        return self.true_positive / wanted if wanted else 0.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 0 where both sides are empty."""
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else 0.0


def match_centroids(reference: FloatArray, radius: npt.ArrayLike, found: FloatArray) -> Match:
    """Match centroids one to one, each pair at most the reference nucleus's own radius apart.

    Among all such matchings one with the most pairs is taken, and of those the one with the least summed distance.

    Args:
        reference: `(n, 2)` y, x of the reference nuclei.
        radius: `(n,)` or a single number, same unit: how far a match may lie.
        found: `(m, 2)` y, x of the found nuclei.
    """
    pairs = matched_pairs(reference, radius, found)
    hits = len(pairs)
    return Match(hits, len(found) - hits, len(reference) - hits)


def matched_pairs(reference: FloatArray, radius: npt.ArrayLike, found: FloatArray) -> npt.NDArray[np.int64]:
    """`(k, 2)` indices (reference, found) of the matched pairs, see `match_centroids`."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = _candidates(reference, radius, found)
    if not len(edges[0]):
        return np.zeros((0, 2), dtype=np.int64)
    row, column, distance = edges
    n, m = len(reference), len(found)
    graph = coo_matrix((np.ones(len(row)), (row, column + n)), shape=(n + m, n + m))
    component = connected_components(graph, directed=False)[1][row]
    # Nuclei keep apart, so components are a handful of nuclei: an exact assignment in each is cheap.
    order = np.argsort(component, kind="stable")
    cuts = np.flatnonzero(np.diff(component[order])) + 1
    pairs = [_assign(row[part], column[part], distance[part]) for part in np.split(order, cuts)]
    return np.concatenate(pairs)


def _candidates(
    reference: FloatArray, radius: npt.ArrayLike, found: FloatArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    from scipy.spatial import cKDTree

    empty = np.zeros(0, dtype=np.int64)
    if not len(reference) or not len(found):
        return empty, empty, np.zeros(0)
    reach = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(reference),))
    near = cKDTree(found).query_ball_point(reference, reach)
    sizes = np.array([len(one) for one in near], dtype=np.int64)
    if not sizes.sum():
        return empty, empty, np.zeros(0)
    row = np.repeat(np.arange(len(reference), dtype=np.int64), sizes)
    column = np.concatenate([np.asarray(one, dtype=np.int64) for one in near if one])
    return row, column, np.linalg.norm(reference[row] - found[column], axis=1)


def _assign(
    row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], distance: FloatArray
) -> npt.NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    if len(row) == 1:
        return np.array([[row[0], column[0]]], dtype=np.int64)
    rows, i = np.unique(row, return_inverse=True)
    columns, j = np.unique(column, return_inverse=True)
    # Dearer than any set of allowed pairs, so that one more pair always pays.
    forbidden = float(distance.sum()) + 1.0
    cost = np.full((len(rows), len(columns)), forbidden)
    cost[i, j] = distance
    picked = np.stack(linear_sum_assignment(cost), axis=1)
    allowed = picked[cost[picked[:, 0], picked[:, 1]] < forbidden]
    return np.stack([rows[allowed[:, 0]], columns[allowed[:, 1]]], axis=1).astype(np.int64)
