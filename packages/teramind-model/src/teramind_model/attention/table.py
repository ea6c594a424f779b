"""The attention matrix as a table of named genes, its strongest pairs, and a picture of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_model.attention.sums import GroupSums, MatrixSums, RegionLabels

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "ALL",
    "COLUMNS",
    "Pair",
    "draw_heatmap",
    "strongest_pairs",
    "table_groups",
    "table_kind",
    "write_table",
]

ALL = "all"
"""Stands for every region, or every section."""

COLUMNS = {
    "gene_a": "the gene that attends",
    "gene_b": "the gene attended to",
    "region": "name of the patch's majority label, or 'all'",
    "section": "name of the section, or 'all'",
    "attention": "mean of Attn_gg[a, b] of the whole window over patches; rows sum to 1, uniform is 1 / n",
    "attention_weighted": "mean over molecules of gene b: sum of Attn_gg[a, b] * c_b / sum of c_b; empty without any",
    "attention_both": "mean over patches where genes a and b each have a molecule; empty where there are none",
    "score": "mean of q_a q_b / d before the softmax: symmetric, comparable between panels",
    "patches": "patches of the group; those without molecules in the section are left out",
    "patches_both": "those of them where genes a and b each have a molecule",
}

_HEATMAP_GENES = 40


@dataclass(frozen=True)
class Group:
    """One block of the table."""

    region: str
    section: str
    sums: GroupSums


def table_kind(path: Path) -> str:
    """``parquet`` or ``csv``, by the name; InputError on another."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("parquet", "csv"):
        raise InputError(
            "table's format is not known",
            where=path,
            expected="a name in .parquet or .csv",
            found=path.suffix,
        )
    return kind


def table_groups(sums: MatrixSums, labels: RegionLabels, sections: Mapping[int, str]) -> Iterator[Group]:
    """The whole brain, then regions, then sections; those without patches are absent."""
    whole = sums.whole()
    if whole.patches:
        yield Group(ALL, ALL, whole)
    for value in sorted(sums.regions):
        yield Group(labels.name(value), ALL, sums.regions[value])
    for z in sorted(sums.sections):
        yield Group(ALL, sections[z], sums.sections[z])


def write_table(path: Path, genes: Sequence[str], groups: Iterator[Group], about: Mapping[str, Any]) -> None:
    """Write the long table (:data:`COLUMNS`) group by group, and ``about`` as JSON beside it; the table comes last.

    Args:
        path: ``*.parquet`` or ``*.csv``.
        genes: of the panel, in the order of the matrices.
        groups: of :func:`table_groups`.
        about: request and definitions, kept as ``<path>.json``.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    text = pa.dictionary(pa.int32(), pa.string())
    number = pa.float64()
    types = (text,) * 4 + (number,) * 4 + (pa.int64(),) * 2
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    kind = table_kind(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        if kind == "parquet":
            with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
                for group in groups:
                    writer.write_table(_block(genes, group, schema))
        else:
            plain = pa.schema([(f.name, pa.string() if f.type == text else f.type) for f in schema])
            with pyarrow.csv.CSVWriter(file, plain) as writer:
                for group in groups:
                    writer.write_table(_block(genes, group, schema).cast(plain))
        file.flush()
        os.fsync(file.fileno())
    _write_json(path.with_name(f"{path.name}.json"), about)
    os.replace(temporary, path)


def _block(genes: Sequence[str], group: Group, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    n = len(genes)

    def named(index: NDArray[np.int64], names: Sequence[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(list(names)))

    a, b = np.divmod(np.arange(n * n), n)
    nothing = np.zeros(n * n, np.int64)
    weighted, both = group.sums.weighted.ravel(), group.sums.both.ravel()
    columns = [
        named(a, genes),
        named(b, genes),
        named(nothing, [group.region]),
        named(nothing, [group.section]),
        pa.array(group.sums.attention.ravel()),
        pa.array(weighted, mask=np.isnan(weighted)),
        pa.array(both, mask=np.isnan(both)),
        pa.array(group.sums.score.ravel()),
        pa.array(np.full(n * n, group.sums.patches, np.int64)),
        pa.array(group.sums.meetings.ravel().astype(np.int64)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@dataclass(frozen=True)
class Pair:
    """Two different genes: how many times uniform attention a pays to b, where both are and over all patches; their
    symmetric score; and the patches where both are."""

    gene_a: str
    gene_b: str
    both: float
    relative: float
    score: float
    patches: int


def strongest_pairs(sums: GroupSums, genes: Sequence[str], count: int) -> tuple[Pair, ...]:
    """The ``count`` pairs off the diagonal with the largest mean attention where both genes are, strongest first.

    Pairs that meet in less than a hundredth of the patches are left out: their means are chance.
    """
    n = len(genes)
    relative, score, meetings = n * sums.attention, sums.score, sums.meetings
    both = np.nan_to_num(_relative_both(sums), nan=-np.inf)
    order = np.argsort(-both, axis=None, kind="stable")[:count]
    return tuple(
        Pair(
            genes[a],
            genes[b],
            float(both[a, b]),
            float(relative[a, b]),
            float(score[a, b]),
            int(meetings[a, b]),
        )
        for a, b in (divmod(int(i), n) for i in order)
        if both[a, b] > -np.inf
    )


def _relative_both(sums: GroupSums) -> NDArray[np.float64]:
    """Times uniform attention where both genes are; NaN on the diagonal and for pairs that hardly ever meet."""
    often = sums.meetings >= max(1, sums.patches / 100)
    both = np.where(often, len(sums.molecules) * sums.both, np.nan)
    np.fill_diagonal(both, np.nan)
    return both


def draw_heatmap(path: Path, sums: GroupSums, genes: Sequence[str]) -> bool:
    """Draw the attention where both genes are, among the genes of the strongest pairs; False without matplotlib.

    At most 40 genes, each beside one whose scores are like its own; grey: the diagonal, and pairs that hardly meet.
    """
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    both = _relative_both(sums)
    chosen = _drawn_genes(both, sums.score)
    levels = np.log2(both[np.ix_(chosen, chosen)])
    limit = max(float(np.nanmax(np.abs(levels), initial=0.0)), 1e-3)
    edge = 2.5 + 0.19 * len(chosen)
    figure = Figure(figsize=(edge + 1.0, edge), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    picture = axes.imshow(levels, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    names = [genes[i] for i in chosen]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("attended to (b)")
    axes.set_ylabel("attends (a)")
    axes.set_title(f"mean attention in patches that hold both genes, of {sums.patches:,}", fontsize=9)
    figure.colorbar(picture, ax=axes, label="log2 of times uniform attention (1 / n)", shrink=0.8)
    temporary = path.with_name(f".{path.name}.tmp.png")
    figure.savefig(temporary, metadata={"Software": None})
    os.replace(temporary, path)
    return True


def _drawn_genes(both: NDArray[np.float64], score: NDArray[np.float64]) -> list[int]:
    """Genes of the strongest pairs, in the order in which a walk from each to its most like finds them."""
    known = np.nan_to_num(both, nan=-np.inf)
    best = np.maximum(known.max(axis=0), known.max(axis=1))
    chosen = np.sort(np.argsort(-best, kind="stable")[:_HEATMAP_GENES])
    profile = score[np.ix_(chosen, chosen)]
    order, left = [0], set(range(1, len(chosen)))
    while left:
        last = profile[order[-1]]
        # The one whose scores resemble the last one's most; equals by number.
        nearest = min(left, key=lambda i: (float(np.abs(profile[i] - last).sum()), i))
        order.append(nearest)
        left.remove(nearest)
    return [int(chosen[i]) for i in order]
