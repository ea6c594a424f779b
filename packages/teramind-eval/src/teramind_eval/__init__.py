"""Evidence from two brains: image likeness, nuclei, attention, and the page that shows them.

Names load on first use, so that importing the package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Results": "teramind_eval.results",
    "find_nuclei": "teramind_eval.morphometry.segment",
    "match_centroids": "teramind_eval.morphometry.compare",
    "ms_ssim": "teramind_eval.metrics.image",
    "psnr": "teramind_eval.metrics.image",
    "ssim": "teramind_eval.metrics.image",
    "write_report": "teramind_eval.report.build",
}

__all__ = ["Results", "find_nuclei", "match_centroids", "ms_ssim", "psnr", "ssim", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
