"""`report.html`: one file that opens from disk. Pictures are data URIs, style is inline, there is no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from teramind_eval.report.pictures import Picture
from teramind_eval.report.plots import Plot
from teramind_eval.report.tables import Row, Verdict
from teramind_eval.results import StoreResult


@dataclass(frozen=True)
class Shown:
    """A micrograph on the page: file name in `figures/`, caption, what it shows for those who cannot see it."""

    name: str
    png: bytes
    caption: str
    alt: str
    size: tuple[int, int]

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.png)


@dataclass(frozen=True)
class Panel:
    """A row of micrographs of one place, one a store."""

    title: str
    note: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Chart:
    """A plot on the page."""

    name: str
    plot: Plot
    title: str
    note: str
    alt: str

    @property
    def light(self) -> str:
        """For light screens and paper."""
        return data_uri(self.plot.light)

    @property
    def dark(self) -> str:
        """For dark screens."""
        return data_uri(self.plot.dark)


@dataclass(frozen=True)
class Grid:
    """A table of texts: head, rows with what each is about first, and what to make of it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


@dataclass(frozen=True)
class AttentionPart:
    """Charts and numbers of one pathway."""

    title: str
    genes: str
    charts: tuple[Chart, ...]
    numbers: Grid


@dataclass(frozen=True)
class Card:
    """A headline number."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Origin:
    """How one store was made: sentences, then everything recorded."""

    label: str
    role: str
    url: str
    sentences: tuple[str, ...]
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """All that the template needs."""

    title: str
    subtitle: str
    verdict: Verdict
    warnings: Sequence[str]
    cards: Sequence[Card]
    stores: Sequence[StoreResult]
    rows: Sequence[Row]
    zooms: Sequence[Panel]
    stains: Sequence[Panel]
    montage: Sequence[Panel]
    curves: Sequence[Chart]
    distributions: Sequence[Chart]
    attention: Sequence[AttentionPart]
    origins: Sequence[Origin]
    facts: Sequence[tuple[str, str]]
    limits: Sequence[str]
    command: str
    notes: dict[str, str] = field(default_factory=dict)

    def images(self) -> dict[str, bytes]:
        """Every picture by the name of its file in `figures/`."""
        out: dict[str, bytes] = {}
        for panel in (*self.zooms, *self.stains, *self.montage):
            out |= {one.name: one.png for one in panel.pictures}
        charts = [*self.curves, *self.distributions, *(one for part in self.attention for one in part.charts)]
        for chart in charts:
            out[f"{chart.name}.png"] = chart.plot.light
            out[f"{chart.name}_dark.png"] = chart.plot.dark
        return out


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    room = files("teramind_eval.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(room.joinpath("template.html.j2").read_text(encoding="utf-8"))
    style = room.joinpath("style.css").read_text(encoding="utf-8")
    values: dict[str, Any] = {"page": page, "style": style}
    return template.render(**values)


def data_uri(png: bytes) -> str:
    """PNG bytes as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def shown(picture: Picture, name: str, caption: str, alt: str) -> Shown:
    """A picture array as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return Shown(f"{name}.png", buffer.getvalue(), caption, alt, (picture.shape[1], picture.shape[0]))
