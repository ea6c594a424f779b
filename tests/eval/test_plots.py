"""Plots: drawn once and laid out once for both schemes, they look as if each had been laid out on its own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from teramind_eval.report import plots
from teramind_eval.report.plots import INK, Scheme, draw

SIZE = (4.0, 3.2)


def paint(figure: Any, scheme: Scheme) -> None:
    """All that moves axes: titles, legends outside, scales beside one and below several, equal aspects."""
    (line, image), (left, right) = figure.subplots(2, 2)
    line.plot([1, 2, 3000], label="a", color=INK[scheme][0])
    line.set(title="one", ylabel="how much", xlabel="of what")
    figure.colorbar(image.imshow(np.eye(5)), ax=image, label="share (%)", shrink=0.8)
    shown = [axes.imshow(np.eye(4, 9)) for axes in (left, right)]
    figure.colorbar(shown[0], ax=(left, right), location="bottom", shrink=0.9, pad=0.02)
    figure.legend(*line.get_legend_handles_labels(), loc="outside upper right")
    figure.suptitle("all", x=0.01, ha="left")


def alone(scheme: Scheme) -> Any:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    with mpl.rc_context(plots._style(scheme)):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure, scheme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=60)
    return np.asarray(Image.open(buffer))


def test_labels_with_dollars_are_drawn_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def labelled(figure: Any, scheme: Scheme) -> None:
        axes = figure.subplots()
        axes.plot([1, 2], label="cost_$5_vs_$6")
        axes.set_yticks([1, 2], ["$a_$b_$", "2"])
        axes.set_title("$x^{")
        figure.legend(loc="outside upper right")

    monkeypatch.setattr(plots, "_DPI", 30)
    assert draw(SIZE, labelled).light.startswith(b"\x89PNG")


def test_both_schemes_are_laid_out_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(plots, "_DPI", 60)
    plot = draw(SIZE, paint)
    assert (plot.width, plot.height) == (400, 320)
    for scheme, png in (("light", plot.light), ("dark", plot.dark)):
        found = np.asarray(Image.open(io.BytesIO(png)))
        assert np.ptp(found[..., :3]) > 100
        np.testing.assert_array_equal(found, alone(scheme))  # type: ignore[arg-type]
