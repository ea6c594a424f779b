"""Do the maps of two brains agree? Region by region, from the tables of their reports."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from teramind_data.errors import InputError, MissingInputError, OutputExistsError
from teramind_eval.attention.blocks import ALL_GENES
from teramind_eval.attention.scores import UNIFORM
from teramind_eval.attention.study import BEYOND, TRENDS
from teramind_eval.regions import UNANNOTATED
from teramind_eval.report.saved import read_table

#: Regions of fewer blocks in either brain are left out.
_FEWEST_BLOCKS = 3

#: Columns needed of a report's tables.
_PLACE = ("store", "map", "channel", "region")
_TREND_COLUMNS = (*_PLACE, "expression", "intercept", "slope", "mean_expression", "n")
_BEYOND_COLUMNS = (*_PLACE, "control", "mean")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class BrainAgreement:
    """Rank correlations over the regions that two brains share, of one map and channel.

    Attributes:
        map: the image.
        channel: version of the map.
        regions: how many are shared.
        spearman: of the regions' mean log2 attention; brains alike in expression agree in this by construction.
        spearman_beyond: of their mean attention beyond uniform, octaves.
    """

    map: str
    channel: str
    regions: int
    spearman: float | None
    spearman_beyond: float | None


def brain_agreement(
    first: str | os.PathLike[str], second: str | os.PathLike[str], stores: tuple[str, str]
) -> tuple[BrainAgreement, ...]:
    """How the maps of two reports agree, over regions of the same name; the brains need no common canvas.

    Args:
        first: folder of a report.
        second: that of the other brain.
        stores: label of the store in each.

    Raises
    ------
    MissingInputError
        where a folder has no tables of attention.
    InputError
        where a report has no map of that store in any region, or one of its tables is damaged.
    """
    mine, theirs = (
        _means(Path(folder), store) for folder, store in zip((first, second), stores, strict=True)
    )
    out = []
    for key in sorted(mine.keys() & theirs.keys()):
        names = sorted(mine[key].keys() & theirs[key].keys())
        pairs = [[(mine[key][name][i], theirs[key][name][i]) for name in names] for i in (0, 1)]
        out.append(BrainAgreement(*key, len(names), _spearman(pairs[0]), _spearman(pairs[1])))
    return tuple(out)


def labels(words: str) -> tuple[str, str]:
    """`A,B` as two labels; InputError for anything else."""
    first, comma, second = (one.strip() for one in words.partition(","))
    if not (first and comma and second):
        raise InputError(
            "labels of stores are not A,B",
            where="--stores",
            found=repr(words),
            remedy="Give the label of each report's store, for example --stores ours,generated",
        )
    return first, second


def agreement_lines(found: Sequence[BrainAgreement]) -> Iterator[str]:
    """A table in text: a line a map and channel."""
    wide = max(len(f"{one.map} {one.channel}") for one in found) if found else 4
    yield f"{'map':<{wide}}  regions  attention  beyond uniform"
    for one in found:
        values = ("–" if value is None else f"{value:.3f}" for value in (one.spearman, one.spearman_beyond))
        attention, beyond = values
        yield f"{f'{one.map} {one.channel}':<{wide}}  {one.regions:>7}  {attention:>9}  {beyond:>14}"
    if any(one.spearman is None for one in found):
        yield "–: fewer than three regions are shared, or all are alike; no ranks can be compared"
    if not found:
        yield "no map and channel is in both reports"


def write_agreement(path: Path, found: Sequence[BrainAgreement], *, overwrite: bool = False) -> None:
    """The numbers as parquet, a row a map and channel; written whole, and nothing replaced unasked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix != ".parquet":
        raise InputError("numbers are written as parquet", where="--out", expected="NAME.parquet", found=path)
    if path.exists() and not overwrite:
        raise OutputExistsError("file exists", path, remedy="Give another --out, or pass --overwrite")
    if not path.parent.is_dir():
        raise MissingInputError("no such folder", where=path.parent, remedy="Make it, or give another --out")
    kinds = {"map": pa.string(), "channel": pa.string(), "regions": pa.int64()}
    kinds |= {"spearman": pa.float64(), "spearman_beyond": pa.float64()}
    table = pa.Table.from_pylist([asdict(one) for one in found], schema=pa.schema(list(kinds.items())))
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table, draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _means(folder: Path, store: str) -> dict[Key, dict[str, tuple[float, float]]]:
    """By map and channel: each region's mean log2 attention, and its mean beyond uniform."""
    trends = _rows(folder / TRENDS, _TREND_COLUMNS)
    levels = {
        (row["map"], row["channel"], row["region"]): row["intercept"] + row["slope"] * row["mean_expression"]
        for row in trends
        if row["store"] == store
        and row["region"] not in (None, UNANNOTATED)
        and row["expression"] == ALL_GENES
        and row["n"] >= _FEWEST_BLOCKS
        and row["slope"] is not None  # a line of least squares runs through the means
    }
    out: dict[Key, dict[str, tuple[float, float]]] = {}
    for row in _rows(folder / BEYOND, _BEYOND_COLUMNS):
        place = row["map"], row["channel"], row["region"]
        if row["store"] == store and row["control"] == UNIFORM and place in levels:
            out.setdefault(place[:2], {})[place[2]] = levels[place], row["mean"]
    if not out:
        raise InputError(
            "report has no attention of that store by region",
            where=folder,
            expected=f"regions of {store!r} with at least {_FEWEST_BLOCKS} blocks",
            found=f"attention of {', '.join(sorted({row['store'] for row in trends})) or 'no store'}",
            remedy="Name the store of each report with --stores A,B; its atlas needs regions",
        )
    return out


def _rows(path: Path, columns: Sequence[str]) -> list[Mapping[str, Any]]:
    if not path.is_file():
        raise MissingInputError(
            "report has no table of attention",
            where=path,
            remedy="Make it with `teramind-eval report` from a store with attention maps",
        )
    rows: list[Mapping[str, Any]] = read_table(path, columns).to_pylist()
    return rows


def _spearman(pairs: list[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    if len(pairs) < 3 or min(len(set(side)) for side in zip(*pairs, strict=True)) < 2:
        return None
    value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return value if math.isfinite(value) else None
