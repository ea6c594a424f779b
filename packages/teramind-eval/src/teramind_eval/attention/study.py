"""Attention of all stores of a report: measured in one pass, told as numbers, written as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_data.console import progress
from teramind_eval.attention.blocks import ALL_GENES
from teramind_eval.attention.maps import map_sets
from teramind_eval.attention.relations import Relations, relate
from teramind_eval.attention.scores import (
    AgreementScores,
    AttentionScores,
    BeyondScores,
    TrendScores,
)
from teramind_eval.attention.scoring import attention_scores
from teramind_eval.attention.trends import LEVELS, OCTAVES
from teramind_eval.walk import HERE, Walk

if TYPE_CHECKING:
    import pyarrow as pa

    from teramind_eval.pairs import Compared

#: Files of the tables, by what they hold.
TRENDS, BEYOND, AGREEMENT, DENSITY = (
    "attention_trends.parquet",
    "attention_beyond.parquet",
    "attention_agreement.parquet",
    "attention_density.parquet",
)


@dataclass(frozen=True)
class Study:
    """What was found: groups and densities to draw, numbers, and what a reader must know."""

    relations: tuple[Relations, ...] = ()
    scores: AttentionScores = field(default_factory=AttentionScores)
    warnings: tuple[str, ...] = ()

    @property
    def headlines(self) -> AttentionScores:
        """The numbers for `metrics.json`: of single genes the brain's alone, what is beyond without sections.

        The tables have all.
        """
        return AttentionScores(
            tuple(
                one
                for one in self.scores.trends
                if one.expression == ALL_GENES or (one.section is None and one.region is None)
            ),
            tuple(one for one in self.scores.beyond if one.section is None),
            tuple(one for one in self.scores.agreement if one.section is None),
        )


def study_attention(stores: Sequence[Compared], edge: int, seed: int, walk: Walk = HERE) -> Study:
    """Relate all attention maps of the stores to the first one's expression, blocks of `edge` bins.

    `walk` says who works, and where finished sections are kept; progress is shown here.
    """
    real, sets = stores[0].brain, map_sets(stores[1:])
    if not sets:
        return Study()
    with progress(len(real.sections), "relate attention to expression", "sections") as advance:
        relations = relate(real, sets, edge, seed, replace(walk, done=advance))
    return Study(relations, attention_scores(real, relations), tuple(_warnings(relations)))


def _warnings(relations: Sequence[Relations]) -> list[str]:
    found = []
    for one in relations:
        name, stores = one.maps.which.element, ", ".join(source.label for source in one.maps.sources)
        if not one.brain.scatter.n:
            found.append(f"{name} of {stores} has no block with expression and attention: nothing to relate.")
        elif one.without:
            found.append(
                f"{name} of {stores}: {one.without:,} blocks express its genes but have no attention in one of "
                "these stores; they are left out."
            )
    by_element: dict[str, list[Relations]] = {}
    for one in relations:
        by_element.setdefault(one.maps.which.element, []).append(one)
    found += [
        f"{element} is not the same in all stores (other genes or channels), so it is not compared between them."
        for element, several in by_element.items()
        if len(several) > 1
    ]
    return found


def write_tables(folder: Path, study: Study) -> None:
    """`attention_*.parquet` in a folder; nothing where there are no maps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not study.relations:
        return
    for name, kind, rows in (
        (TRENDS, TrendScores, study.scores.trends),
        (BEYOND, BeyondScores, study.scores.beyond),
        (AGREEMENT, AgreementScores, study.scores.agreement),
    ):
        lines = [_flat(asdict(row)) for row in rows]
        pq.write_table(pa.Table.from_pylist(lines, schema=_schema(kind)), folder / name)
    pq.write_table(pa.Table.from_pylist(_cells(study.relations), schema=_cell_schema()), folder / DENSITY)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {key: ", ".join(value) if isinstance(value, tuple) else value for key, value in row.items()}


def _schema(kind: type) -> pa.Schema:
    import pyarrow as pa

    known = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "tuple[str, ...]": pa.string()}
    return pa.schema([(one.name, known[str(one.type).removesuffix(" | None")]) for one in fields(kind)])


def _cell_schema() -> pa.Schema:
    import pyarrow as pa

    names = ("store", "map", "channel", "expression", "of")
    numbers = ("expression_low", "expression_high", "low", "high")
    return pa.schema(
        [(name, pa.string()) for name in names]
        + [(name, pa.float64()) for name in numbers]
        + [("blocks", pa.int64())]
    )


def _cells(relations: Sequence[Relations]) -> list[dict[str, Any]]:
    """The cells of the density pictures that hold a block."""
    rows = []
    for one in relations:
        v = one.variables
        pairs = [(source, channel) for source in v.sources for channel in v.channels]
        for place, (source, channel) in enumerate(pairs):
            head = {"store": source, "map": one.maps.which.element, "channel": channel}
            pictures = [
                (of, "level", one.levels[index, place], LEVELS) for index, of in enumerate(v.expressions)
            ]
            for of, what, counts, up in (*pictures, (ALL_GENES, "octaves", one.octaves[place], OCTAVES)):
                across, edges = LEVELS.edges, up.edges
                for i, j in np.argwhere(counts).tolist():
                    rows.append(
                        {
                            **head,
                            "expression": of,
                            "of": what,
                            "expression_low": float(across[i]),
                            "expression_high": float(across[i + 1]),
                            "low": float(edges[j]),
                            "high": float(edges[j + 1]),
                            "blocks": int(counts[i, j]),
                        }
                    )
    return rows
