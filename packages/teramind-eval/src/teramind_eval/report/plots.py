"""The page's plots: matplotlib, each drawn for light and for dark, as PNG bytes.

Colours are those of Okabe and Ito (told apart by people with any colour vision); line styles and markers differ too.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from teramind_eval.results import TOGETHER, Role, StoreResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scheme = Literal["light", "dark"]
FloatArray = npt.NDArray[np.float64]

#: Colours of text, grid and panel in each scheme.
INK: dict[Scheme, tuple[str, str, str]] = {
    # text, grid, panel behind the plot (that of style.css)
    "light": ("#1d2733", "#dfe5ec", "#ffffff"),
    "dark": ("#dfe7f1", "#2c3947", "#151d27"),
}
_PALETTE: dict[Scheme, dict[str, str]] = {
    "light": {"real": "#2f3b48", "generated": "#0072b2"},
    "dark": {"real": "#e8eef5", "generated": "#56b4e9"},
}
# Controls, and generated stores after the first, take these in turn.
_MORE: dict[Scheme, tuple[str, ...]] = {
    "light": ("#d55e00", "#009e73", "#aa4499", "#997700"),
    "dark": ("#e69f00", "#4fd1a5", "#e58fc0", "#f0e442"),
}
_STYLES = ("-", "--", "-.", ":")
# As many as have no common divisor with the styles: twenty stores look different, whatever their colour.
_MARKERS = ("o", "s", "^", "D", "v")
_DPI = 170

#: Regions that a plot shows, a row each; the numbers beside it have all.
REGIONS_DRAWN = 30


@dataclass(frozen=True)
class Plot:
    """A plot in both schemes, PNG bytes, with its size in CSS pixels."""

    light: bytes
    dark: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Look:
    """How one store is drawn."""

    label: str
    colour: str
    style: str
    marker: str


class Labelled(Protocol):
    """A store as plots know it."""

    @property
    def label(self) -> str:
        """What it is called."""

    @property
    def role(self) -> Role:
        """What part it plays."""


def looks(stores: Sequence[Labelled], scheme: Scheme) -> dict[str, Look]:
    """Colour, line and marker of each store, the same in all plots."""
    out: dict[str, Look] = {}
    more = itertools.cycle(_MORE[scheme])
    named = {"real", "generated"}
    for index, store in enumerate(stores):
        colour = _PALETTE[scheme][store.role] if store.role in named else next(more)
        named.discard(store.role)
        style, marker = _STYLES[index % len(_STYLES)], _MARKERS[index % len(_MARKERS)]
        out[store.label] = Look(store.label, colour, style, marker)
    return out


def draw(size: tuple[float, float], paint: Callable[[Figure, Scheme], None]) -> Plot:
    """Draw a figure of `size` inches twice, once a scheme; both are laid out alike, so that is done once."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MakeFigure

    images: dict[Scheme, bytes] = {}
    schemes: tuple[Scheme, ...] = ("light", "dark")
    first: Figure | None = None
    for scheme in schemes:
        with mpl.rc_context(_style(scheme)):
            figure = MakeFigure(figsize=size, layout="constrained", dpi=_DPI)
            FigureCanvasAgg(figure)
            paint(figure, scheme)
            first = _laid_out(figure, first)
            buffer = io.BytesIO()
            # Software and date would make equal plots differ. Larger by a tenth, three times as fast.
            figure.savefig(
                buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3}
            )
            images[scheme] = buffer.getvalue()
    return Plot(images["light"], images["dark"], round(size[0] * 100), round(size[1] * 100))


def _laid_out(figure: Figure, like: Figure | None) -> Figure:
    """Put the axes of a figure in their places: those of an equal one, where there is one; returns that."""
    if like is None:
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
        like = figure
    # Else the canvas would lay it out once more, after a drawing for nothing.
    figure.set_layout_engine("none")
    if like is not figure:
        for own, other in zip(figure.axes, like.axes, strict=True):
            own.set_position(other.get_position(original=True))
            own.set_anchor(other.get_anchor())
            own.set_box_aspect(other.get_box_aspect())
        for mine, theirs in zip(figure.texts, like.texts, strict=True):
            mine.set_position(theirs.get_position())
    return like


def _style(scheme: Scheme) -> Any:
    text, grid, panel = INK[scheme]
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        # Labels are as people gave them: a dollar is a dollar.
        "text.parse_math": False,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": grid,
        "axes.labelcolor": text,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.7,
        "text.color": text,
        "xtick.color": text,
        "ytick.color": text,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "figure.facecolor": panel,
        "axes.facecolor": panel,
        "savefig.facecolor": panel,
        "lines.linewidth": 1.8,
    }


def shade(bands: int) -> float:
    """Opacity of a band, one of several that may lie over each other: together they must not hide the lines."""
    return min(0.16, 0.36 / max(1, bands))


def section_curves(stores: Sequence[StoreResult]) -> Plot:
    """PSNR and SSIM by section: mean over tissue tiles, band of one standard deviation."""

    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        panels = (("psnr_db", "PSNR (dB)"), ("ssim", "SSIM"))
        for axes, (measure, title) in zip(figure.subplots(1, 2), panels, strict=True):
            for store in stores:
                if not store.brain.image:
                    continue
                look = style[store.label]
                values = [getattr(one.scores.image[TOGETHER], measure) for one in store.sections]
                place = np.array([one.z_um for one in store.sections])
                mean = np.array([np.nan if v.mean is None else v.mean for v in values])
                spread = np.array([0.0 if v.sd is None else v.sd for v in values])
                axes.fill_between(
                    place,
                    mean - spread,
                    mean + spread,
                    color=look.colour,
                    alpha=shade(len(stores)),
                    linewidth=0,
                )
                axes.plot(
                    place,
                    mean,
                    look.style,
                    marker=look.marker,
                    markersize=4.5,
                    color=look.colour,
                    label=look.label,
                )
            axes.set_title(title)
            axes.set_xlabel("section position z (µm)")
            axes.set_ylabel(title)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)

    return draw((9.2, 3.3), paint)


def f1_by_section(stores: Sequence[StoreResult]) -> Plot | None:
    """Centroid F1 against the truth by section; None without truth."""
    scored = [one for one in stores if one.brain.nuclei.against_truth is not None]
    if not scored:
        return None

    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        axes = figure.subplots()
        for store in scored:
            look = style[store.label]
            values = [one.scores.nuclei.against_truth for one in store.sections]
            axes.plot(
                [one.z_um for one in store.sections],
                [np.nan if value is None else value.f1 for value in values],
                look.style,
                marker=look.marker,
                markersize=4.5,
                color=look.colour,
                label=look.label,
            )
        axes.set(ylim=(-0.02, 1.04), xlabel="section position z (µm)", ylabel="centroid F1")
        axes.set_title("Nuclei found where the true ones are")
        figure.legend(loc="outside upper left", ncols=4)

    return draw((9.2, 2.8), paint)


@dataclass(frozen=True)
class Histogram:
    """Values of one store as shares in common bins."""

    label: str
    edges: FloatArray
    shares: FloatArray
    mean: float | None


def distributions(stores: Sequence[StoreResult], panels: Sequence[tuple[str, Sequence[Histogram]]]) -> Plot:
    """Distributions two in a row: steps of equal area, a tick at each mean. `panels`: (axis label, one a store)."""
    rows = math.ceil(len(panels) / 2)

    def paint(figure: Figure, scheme: Scheme) -> None:
        style = looks(stores, scheme)
        grid: list[Axes] = figure.subplots(rows, 2, squeeze=False).ravel().tolist()
        for axes, (title, histograms) in zip(grid, panels, strict=True):
            for one in histograms:
                look = style[one.label]
                filled = look.label == stores[0].label
                axes.stairs(
                    one.shares * 100,
                    one.edges,
                    color=look.colour,
                    linewidth=1.8,
                    linestyle=look.style,
                    label=look.label,
                )
                if filled:
                    axes.stairs(one.shares * 100, one.edges, color=look.colour, alpha=0.14, fill=True)
                if one.mean is not None:
                    axes.axvline(one.mean, color=look.colour, linewidth=1.2, linestyle=look.style, alpha=0.8)
            axes.set(xlabel=title, ylabel="share (%)", ylim=(0, None))
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)

    return draw((9.2, 0.4 + 2.9 * rows), paint)
