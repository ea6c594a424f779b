"""The picture sheet: thumbnails of all sections with what stands out, and every measure along the brain."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from teramind_data.errors import MissingInputError
from teramind_data.qc.curves import draw_panel, panels_of
from teramind_data.qc.style import ALARM, INK, QUIET, STYLE
from teramind_data.qc.table import gaps
from teramind_data.qc.thumbnails import Thumbnail, thumbnails
from teramind_data.store import Brain, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["sheet"]

_WIDTH = 11.7  # inches: A4 across
_CAPTION = 0.36  # inches below a thumbnail
_PANEL = 1.62  # inches of a curve with its labels
_PANELS_A_ROW = 3
_DPI = 150
_MOST_FLAGS = 24  # lines; the table has them all
_THUMBNAIL_PX = 160

Numbers = Sequence[Mapping[str, Any]]


def sheet(brain: Brain, numbers: Numbers, title: str) -> bytes:
    """One page of PNG: thumbnails, curves over z with gaps and outliers, and the flags in words.

    Args:
        brain: an open store.
        numbers: ``Section.qc`` of each section (``stored`` or ``measure_brain``).
        title: of the page.

    Raises:
        MissingInputError: where matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise MissingInputError(
            "matplotlib is not installed", remedy="Install it with: pip install teramind-data[sheet]"
        ) from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        lines = _flag_lines(brain, numbers)
        places = _places(brain)
        columns = _columns(len(places), brain.canvas)
        rows = math.ceil(len(places) / columns)
        panels = panels_of(brain, numbers)
        panel_rows = math.ceil(len(panels) / _PANELS_A_ROW)
        cell = (_WIDTH - 0.6) / columns
        heights = [
            0.55,
            rows * (cell * 0.94 * brain.canvas[0] / brain.canvas[1] + _CAPTION),
            panel_rows * _PANEL + 0.1,
            0.2 + 0.15 * len(lines),
        ]
        figure = Figure(figsize=(_WIDTH, sum(heights)))
        FigureCanvasAgg(figure)
        top, bands = 1.0, []
        for height in heights:
            bands.append((top - height / sum(heights), top))
            top = bands[-1][0]
        _heading(figure, brain, numbers, title, heights[0] / sum(heights))
        _draw_sections(figure, brain, numbers, places, (rows, columns), bands[1])
        _draw_panels(figure, brain, numbers, panels, bands[2])
        for number, (text, colour) in enumerate(lines):
            y = bands[3][1] - (0.1 + 0.15 * number) / sum(heights)
            figure.text(0.3 / _WIDTH, y, text, color=colour, fontsize=7.5, va="top")
        buffer = io.BytesIO()
        # Software and date would make equal sheets differ.
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _heading(figure: Figure, brain: Brain, numbers: Numbers, title: str, height: float) -> None:
    flagged = sum(bool(own["flags"]) for own in numbers)
    um = brain.pixel_size_um
    several = brain.n_sections > 1
    text = (
        f"{brain.n_sections} section{'s' if several else ''}, "
        f"{brain.canvas[1] * um / 1000:.3g} × {brain.canvas[0] * um / 1000:.3g} mm"
    )
    text += f" each, {brain.z_spacing_um:g} µm apart; " if several else "; "
    text += f"{flagged} flagged" if flagged else "none flagged"
    figure.text(0.3 / _WIDTH, 1 - 0.25 * height, title, fontsize=12, fontweight="bold", va="top")
    figure.text(0.3 / _WIDTH, 1 - 0.64 * height, text, fontsize=8.5, color=QUIET, va="top")


def _columns(count: int, canvas: tuple[int, int]) -> int:
    """Sections a row: few are not blown up, many fill a third of the page."""
    ratio = canvas[0] / canvas[1]
    return min(max(5, math.ceil(math.sqrt(count * ratio * 2.6))), 14)


def _places(brain: Brain) -> list[Section | str]:
    """What the grid shows in order of z: sections, and between them a text for each gap."""
    missing = gaps(brain)
    left_out = [item for item in brain.provenance.get("excluded", ()) if item.get("z_um") is not None]
    places: list[Section | str] = []
    for before, section in zip((None, *brain.sections), brain.sections, strict=False):
        if before is not None and section.index in missing:
            inside = [i for i in left_out if before.z_um < i["z_um"] < section.z_um]
            names = "".join(f"\n{item['name']}\nleft out" for item in inside)
            places.append(f"gap of\n{missing[section.index]:g} µm{names}")
        places.append(section)
    return places


def _draw_sections(
    figure: Figure,
    brain: Brain,
    numbers: Numbers,
    places: list[Section | str],
    grid: tuple[int, int],
    band: tuple[float, float],
) -> None:
    pictures = thumbnails(brain, _THUMBNAIL_PX)
    rows, columns = grid
    left, width = 0.3 / _WIDTH, (1 - 0.6 / _WIDTH) / columns
    height = (band[1] - band[0]) / rows
    caption = _CAPTION / figure.get_figheight()
    for number, place in enumerate(places):
        row, column = divmod(number, columns)
        box = (left + column * width, band[1] - (row + 1) * height + caption, 0.94 * width, height - caption)
        axes = figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        if isinstance(place, str):
            _draw_gap(axes, place)
        else:
            _draw_section(axes, brain, place, pictures[place.index], numbers[place.index]["flags"])


def _draw_gap(axes: Axes, text: str) -> None:
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set(visible=True, linestyle=(0, (4, 4)), color=QUIET)
    size = 7.0 if axes.get_position().width * _WIDTH >= 1.0 else 5.5
    axes.text(0.5, 0.5, text, ha="center", va="center", color=QUIET, fontsize=size, transform=axes.transAxes)


def _draw_section(axes: Axes, brain: Brain, section: Section, picture: Thumbnail, flags: list[str]) -> None:
    height, width = brain.canvas
    extent = (0.0, float(width), float(height), 0.0)
    axes.set(xlim=(0, width), ylim=(height, 0), facecolor="black" if picture.grey is not None else "white")
    if picture.grey is not None:
        axes.imshow(picture.grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
    if picture.tissue is not None and picture.tissue.any():
        if picture.grey is None:
            axes.contourf(picture.tissue, levels=[0.5, 2], colors=["#bbbbbb"], extent=extent, origin="upper")
        if not picture.tissue.all():
            axes.contour(
                picture.tissue,
                levels=[0.5],
                colors=["#56B4E9"],
                linewidths=0.7,
                extent=extent,
                origin="upper",
            )
    for spine in axes.spines.values():
        spine.set(visible=True, color=ALARM if flags else "#999999", linewidth=2.2 if flags else 0.6)
    inches = axes.get_position().width * _WIDTH
    few = inches < 1.0
    at = f"{section.z_um / 1000:.4g} mm" if few else f"z {section.z_um:g} µm"
    name = section.name if len(section.name) <= 14 else f"{section.name[:6]}..{section.name[-6:]}"
    # Narrow cells have room for the number alone; the table has the names.
    words = f"{section.index}" if inches < 1.6 else f"{section.index}  {name}"
    mark = f"  \N{BLACK UP-POINTING TRIANGLE} {len(flags)}" if flags else ""
    axes.text(0, -0.03, words + mark, va="top", fontsize=7, fontweight="bold" if flags else "normal",
              color=ALARM if flags else INK, transform=axes.transAxes)  # fmt: skip
    axes.annotate(at, (0, -0.03), xytext=(0, -8.5), textcoords="offset points", xycoords="axes fraction",
                  va="top", fontsize=6.5, color=QUIET)  # fmt: skip


def _draw_panels(
    figure: Figure, brain: Brain, numbers: Numbers, panels: Sequence[Any], band: tuple[float, float]
) -> None:
    rows = math.ceil(len(panels) / _PANELS_A_ROW)
    left, right = 0.3 / _WIDTH, 0.3 / _WIDTH
    width, height = (1 - left - right) / _PANELS_A_ROW, (band[1] - band[0]) / rows
    tall = figure.get_figheight()
    for number, panel in enumerate(panels):
        row, column = divmod(number, _PANELS_A_ROW)
        x = left + column * width + 0.42 / _WIDTH
        y = band[1] - (row + 1) * height + 0.32 / tall
        axes = figure.add_axes((x, y, width - 0.6 / _WIDTH, height - 0.62 / tall))
        draw_panel(axes, brain, numbers, panel, last=number >= len(panels) - _PANELS_A_ROW)


def _flag_lines(brain: Brain, numbers: Numbers) -> list[tuple[str, str]]:
    lines = [
        (f"\N{BLACK UP-POINTING TRIANGLE} section {section.index} ({section.name}): {text}", ALARM)
        for section, own in zip(brain.sections, numbers, strict=True)
        for text in own["flags"]
    ]
    if len(lines) > _MOST_FLAGS:
        lines[_MOST_FLAGS:] = [(f"and {len(lines) - _MOST_FLAGS} more, in the table", ALARM)]
    lines += [
        (f"left out: {item['name']}: {item['reason']}", QUIET)
        for item in brain.provenance.get("excluded", ())
    ]
    return lines
