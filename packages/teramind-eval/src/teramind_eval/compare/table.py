"""The one table: a row a run, a column a measure, each cell told from the baseline's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from teramind_data.errors import InputError
from teramind_eval.compare.alike import measured_alike
from teramind_eval.compare.measures import Measure
from teramind_eval.compare.reports import Key, Report, Run
from teramind_eval.results import Statistic

Mark = Literal["better", "worse", "equal", ""]

#: Numbers of a run's making, as columns of the files.
MADE = ("method", "control", "sampler", "z", "patch", "channels", "steps", "seed", "crops")


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, how it stands to the baseline's, and whether none of its group is better.

    Neither is said where the run's report did not measure it as the baseline's did.
    """

    value: Statistic | None
    text: str
    spread: str
    mark: Mark
    best: bool


@dataclass(frozen=True)
class Row:
    """A run with its cells, one a measure. `report` None: the measured brain."""

    run: Run
    report: Report | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Runs that were laid over the same measured brain; only these can be told better or worse.

    Attributes:
        name: of that brain.
        real: it, with what can be measured of it alone, where all reports of the group agree.
        baseline: label of the run that the others are told from; None where the group lacks it.
        rows: the runs.
    """

    name: str
    real: Row
    baseline: str | None
    rows: tuple[Row, ...]


#: In the measured brain's row, where the reports of its runs measured other values of it.
DIFFERS = "differs"


def groups(
    reports: Sequence[Report], measures: Sequence[Measure], *, controls: bool, baseline: str | None
) -> tuple[Group, ...]:
    """All runs by measured brain, in the order given. `baseline`: a run's label; None for the first of each group.

    Raises
    ------
    InputError
        where there is no run so labelled.
    """
    names = _brain_names(reports)
    by_brain: dict[str, list[tuple[Report, Run]]] = {}
    for report in reports:
        shown = [run for run in report.runs if controls or run.role == "generated"]
        by_brain.setdefault(report.brain, []).extend((report, run) for run in shown)
    labels = [run.label for pairs in by_brain.values() for _, run in pairs]
    if baseline is not None and baseline not in labels:
        raise InputError("no such run", where="--baseline", expected=", ".join(labels), found=baseline)
    return tuple(_group(names[brain], pairs, measures, baseline) for brain, pairs in by_brain.items())


def _brain_names(reports: Sequence[Report]) -> dict[str, str]:
    """By brain, the name of its store; the whole URL where two stores have one name."""
    urls = {report.brain: report.url for report in reports}
    short = {brain: url.rstrip("/").rpartition("/")[2].removesuffix(".zarr") for brain, url in urls.items()}
    alike = len(set(short.values())) < len(short)
    return urls if alike else short


def _group(
    name: str, pairs: Sequence[tuple[Report, Run]], measures: Sequence[Measure], baseline: str | None
) -> Group:
    wanted = pairs[0][1].label if baseline is None else baseline
    base = next((pair for pair in pairs if pair[1].label == wanted), None)
    columns = [_column(measure, pairs, base) for measure in measures]
    rows = [
        Row(run, report, tuple(column[index] for column in columns))
        for index, (report, run) in enumerate(pairs)
    ]
    real = _real([report for report, _ in pairs], measures)
    return Group(name, real, base[1].label if base else None, tuple(rows))


def _real(reports: Sequence[Report], measures: Sequence[Measure]) -> Row:
    """The measured brain, with the values on which all of its reports that have them agree."""
    agreed: dict[Key, Statistic] = {}
    cells = []
    for measure in measures:
        found = [value for one in reports if (value := one.real.values.get(measure.key)) is not None]
        if all(_equal(one, found[0], measure) for one in found):
            agreed |= {measure.key: found[0]} if found else {}
            cells.append(_cell(measure, found[0] if found else None, "", False))
        else:
            cells.append(Cell(None, DIFFERS, "", "", False))
    return Row(replace(reports[0].real, values=agreed), None, tuple(cells))


def _equal(one: Statistic, other: Statistic, measure: Measure) -> bool:
    """Whether two reports mean the same: machines may differ far behind the last digit shown."""
    if one.mean is None or other.mean is None:
        return one.mean is other.mean
    return one.n == other.n and abs(one.mean - other.mean) < 0.5 * 10**-measure.digits


def _column(
    measure: Measure, pairs: Sequence[tuple[Report, Run]], base: tuple[Report, Run] | None
) -> list[Cell]:
    # Each run is as near to the real brain as its own report measured that brain. One that was measured otherwise than
    # the baseline is left out: its number differs for that alone.
    like = pairs[0][0] if base is None else base[0]
    costs = [
        _cost(measure, run, report.real) if measured_alike(like, report, measure.key[0]) else None
        for report, run in pairs
    ]
    known = [cost for cost in costs if cost is not None]
    own = None if base is None else _cost(measure, base[1], base[0].real)
    step = 0.5 * 10**-measure.digits
    cells = []
    for pair, cost in zip(pairs, costs, strict=True):
        run = pair[1]
        mark: Mark = ""
        if cost is not None and own is not None and pair is not base:
            mark = "equal" if abs(cost - own) < step else "better" if cost < own else "worse"
        best = cost is not None and len(known) > 1 and cost - min(known) < step
        cells.append(_cell(measure, run.values.get(measure.key), mark, best))
    return cells


def _cell(measure: Measure, value: Statistic | None, mark: Mark, best: bool) -> Cell:
    if value is None or value.mean is None:
        return Cell(None, "–", "", "", False)
    spread = "" if value.sd is None else f"± {value.sd:.{measure.digits}f}, n {value.n:,}"
    return Cell(value, f"{value.mean:,.{measure.digits}f}", spread, mark, best)


def _cost(measure: Measure, run: Run, real: Run) -> float | None:
    """Less is better; None where nothing can be said."""
    value, there = run.values.get(measure.key), real.values.get(measure.key)
    if value is None or value.mean is None or not measure.better:
        return None
    if measure.better == "near":
        return None if there is None or there.mean is None else abs(value.mean - there.mean)
    return value.mean if measure.better == "lower" else -value.mean


def long_rows(groups: Sequence[Group], measures: Sequence[Measure]) -> Iterator[dict[str, Any]]:
    """Rows of `compare.parquet`: one a run and measure, the measured brains' first in each group."""
    for group in groups:
        for row in (group.real, *group.rows):
            for measure, cell in zip(measures, row.cells, strict=True):
                if cell.value is None:
                    continue
                yield {
                    **_head(group, row),
                    "measure": measure.key[0],
                    "stain": measure.key[1],
                    **asdict(cell.value),
                    "better": measure.better or None,
                    "than_baseline": cell.mark or None,
                }


def wide_rows(groups: Sequence[Group], measures: Sequence[Measure]) -> Iterator[dict[str, Any]]:
    """Rows of `compare.csv`: one a run, two columns a measure."""
    for group in groups:
        for row in (group.real, *group.rows):
            out = _head(group, row)
            for measure, cell in zip(measures, row.cells, strict=True):
                name = ":".join(measure.key)
                out[name] = None if cell.value is None else cell.value.mean
                out[f"{name} sd"] = None if cell.value is None else cell.value.sd
            yield out


def _head(group: Group, row: Row) -> dict[str, Any]:
    return {
        "run": "real" if row.report is None else row.run.label,
        "real_brain": group.name,
        "role": row.run.role,
        "report": None if row.report is None else str(row.report.folder),
        "store": row.run.store,
        **{key: row.run.made.get(key) for key in MADE},
    }
