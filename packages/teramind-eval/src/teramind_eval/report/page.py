"""`report.html`: one file that opens from disk. Pictures are data URIs, style and scripts are inline.

Nothing is loaded, and the page itself forbids it (Content-Security-Policy). Without scripts all pictures and numbers
are there; with them two pictures can be compared under a slider and the brain can be turned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_data.console import note
from teramind_eval.report.embed import MOST_BYTES, PAGE_BYTES, data_uri, embed, laid_over, png_of
from teramind_eval.report.plots import Plot
from teramind_eval.report.tables import Row
from teramind_eval.report.verdict import Verdict
from teramind_eval.results import StoreResult

#: Numbers of a figure: rows, or columns by name.
Table = Sequence[Mapping[str, Any]] | Mapping[str, npt.NDArray[Any]]

_SCRIPTS = ("slider.js", "viewer.js")


@dataclass(frozen=True)
class Shown:
    """A micrograph on the page: file name in `figures/`, caption, what it shows for those who cannot see it."""

    name: str
    png: bytes
    caption: str
    alt: str
    size: tuple[int, int]
    #: Label of the store it is of; empty where it is of none.
    store: str = ""
    #: Lines to lay over it: its own size, transparent.
    overlay: bytes | None = None


@dataclass(frozen=True)
class Panel:
    """A row of micrographs of one place, one a store."""

    title: str
    note: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Place:
    """One place at several zooms, each a row of all stores, two of which lie under a slider."""

    title: str
    note: str
    zooms: tuple[Panel, ...]


@dataclass(frozen=True)
class Space:
    """The brain in three dimensions: stills from several sides, and what the viewer needs to turn it.

    Attributes:
        stills: a row a layer.
        layers: of the viewer, each all its sections in one picture.
        geometry: JSON for `viewer.js`.
        note: how it was drawn.
    """

    stills: tuple[Panel, ...]
    layers: tuple[Shown, ...]
    geometry: dict[str, Any]
    note: str


@dataclass(frozen=True)
class Chart:
    """A plot on the page; its numbers, rows of one table, are written beside its PNG."""

    name: str
    plot: Plot
    title: str
    note: str
    alt: str
    numbers: Table = ()

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
class MeasureRow:
    """One measure of nuclei: what it is, and for each store some lines, the value first."""

    title: str
    note: str
    cells: tuple[tuple[str, ...], ...]


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
    places: Sequence[Place]
    stains: Sequence[Panel]
    montage: Sequence[Panel]
    space: Space
    curves: Sequence[Chart]
    nuclei: Sequence[MeasureRow]
    distributions: Sequence[Chart]
    attention: Sequence[AttentionPart]
    genes: Sequence[Chart]
    origins: Sequence[Origin]
    facts: Sequence[tuple[str, str]]
    limits: Sequence[str]
    command: str
    notes: dict[str, str] = field(default_factory=dict)
    #: What part each store plays, by label.
    parts: dict[str, str] = field(default_factory=dict)
    #: Which draws the last cell of each row is of, where there is a noise floor.
    floor: str = ""
    #: Tables without a plot of their own, by the name of their file in `figures/`.
    tables: dict[str, Table] = field(default_factory=dict)

    def micrographs(self) -> list[Shown]:
        """Every picture that is no plot."""
        panels = (
            *(zoom for place in self.places for zoom in place.zooms),
            *self.stains,
            *self.montage,
            *self.space.stills,
        )
        return [*(one for panel in panels for one in panel.pictures), *self.space.layers]

    def charts(self) -> list[Chart]:
        """Every plot."""
        parts = [one for part in self.attention for one in part.charts]
        return [*self.curves, *self.distributions, *parts, *self.genes]

    def numbers(self) -> dict[str, Table]:
        """The numbers of every figure that has any, by the name of its file in `figures/`, without suffix."""
        charts = {chart.name: chart.numbers for chart in self.charts()}
        return {name: table for name, table in {**charts, **self.tables}.items() if len(table)}

    def images(self) -> dict[str, bytes]:
        """Every picture by the name of its file in `figures/`."""
        out: dict[str, bytes] = {}
        for one in self.micrographs():
            out[one.name] = one.png
            if one.overlay is not None:
                out[one.name.replace(".png", "_outlines.png")] = laid_over(one.png, one.overlay)
        for chart in self.charts():
            out[f"{chart.name}.png"] = chart.plot.light
            out[f"{chart.name}_dark.png"] = chart.plot.dark
        return out


def embedded(page: Page) -> tuple[dict[str, str], dict[str, str]]:
    """Data URIs by name of the micrographs and of the lines over them; what lines and plots take is theirs no more."""
    overlays = {one.name: data_uri(one.overlay) for one in page.micrographs() if one.overlay}
    plots = [uri for chart in page.charts() for uri in (chart.light, chart.dark)]
    left = PAGE_BYTES - sum(map(len, (*plots, *overlays.values())))
    return embed([(one.name, one.png) for one in page.micrographs()], left), overlays


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    room = files("teramind_eval.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(room.joinpath("template.html.j2").read_text(encoding="utf-8"))
    texts = {name: room.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", *_SCRIPTS)}
    pictures, overlays = embedded(page)
    values: dict[str, Any] = {
        "page": page,
        "style": texts["style.css"],
        "scripts": [texts[name] for name in _SCRIPTS],
        "pictures": pictures,
        "overlays": overlays,
    }
    return template.render(**values)


def tell_size(text: str, name: str) -> None:
    """Say on stderr that a page is too large to be sent: only micrographs are made smaller, plots and lines are not."""
    size, most = len(text.encode()) / 1e6, MOST_BYTES / 1e6
    if size > most:
        note(f"{name} has {size:.1f} MB, more than {most:.0f} MB: a report of fewer stores is smaller")


def shown(picture: npt.NDArray[np.uint8], name: str, caption: str, alt: str, store: str = "") -> Shown:
    """A picture array, `(y, x, 3)` or with alpha `(y, x, 4)`, as PNG."""
    size = (picture.shape[1], picture.shape[0])
    return Shown(f"{name}.png", png_of(picture), caption, alt, size, store)
