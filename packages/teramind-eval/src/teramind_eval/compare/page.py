"""`compare.html`: one file that opens from disk, in the clothes of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from teramind_eval.compare.measures import Measure
from teramind_eval.compare.table import Group
from teramind_eval.report.page import Chart


@dataclass(frozen=True)
class Column:
    """Heading of a column: title and the rule for better, in words."""

    title: str
    rule: str


@dataclass(frozen=True)
class Page:
    """All that the template needs.

    Attributes:
        warnings: read first.
        columns: of the table.
        groups: its rows.
        notes: how to read the table.
        charts: plots.
        making: heads and rows of the table of how the runs were made.
        links: address of each run's report, from the page, by label.
        command: that makes the page again.
    """

    subtitle: str
    warnings: Sequence[str]
    columns: Sequence[Column]
    groups: Sequence[Group]
    notes: str
    charts: Sequence[Chart]
    making: tuple[Sequence[str], Sequence[Sequence[str]]]
    links: dict[str, str]
    command: str


_RULES = {
    "higher": "higher is better",
    "lower": "lower is better",
    "near": "nearer to real is better",
    "": "",
}
_ARROWS = {"higher": "↑ ", "lower": "↓ ", "near": "", "": ""}


def column(measure: Measure) -> Column:
    """Heading of a measure."""
    return Column(measure.title, f"{_ARROWS[measure.better]}{_RULES[measure.better]}")


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = files("teramind_eval.compare").joinpath("compare.html.j2").read_text(encoding="utf-8")
    style = files("teramind_eval.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.from_string(text).render(page=page, style=style)
