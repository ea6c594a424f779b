"""Nuclei of both brains, counted by the report as a program of its own: we import nothing of teramind-eval."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from teramind_data.store import open_brain
from teramind_model.experiments.plan import Plan, Step
from teramind_model.experiments.runner import RunOptions, run_plan
from teramind_model.experiments.scores import report_rows

__all__ = ["can_count", "count_nuclei"]

_KEYS = ("nuclei", "area_um2", "area_sd")


def can_count() -> bool:
    """Whether teramind-eval is installed."""
    return find_spec("teramind_eval") is not None


def count_nuclei(root: Path, atlas: str, baseline: str, edited: str) -> dict[str, Any]:
    """Number and mean area (um2) of nuclei in both brains; the report is kept in ``root/report-<request>``.

    Run again, a report that is there is read, not made anew; stores made anew from another request get another.

    Raises:
        StoreError: where the report fails, naming its log.
    """
    report = root / f"report-{_fingerprint(baseline, edited)}"
    words = ["teramind-eval", "report", "--real", atlas, "--generated", f"edited={edited}"]
    words += ["--control", f"baseline={baseline}", "--out", str(report)]
    run_plan(
        Plan(root, (Step(report.name, tuple(words), report / "metrics.json"),)), RunOptions(threads=None)
    )
    found = {row.condition: row.scores for row in report_rows(report, "perturb", "edited", {}, None)}
    return {name: {key: found[name][key] for key in _KEYS} for name in ("baseline", "edited")}


def _fingerprint(*stores: str) -> str:
    """Of what decides the stores' bytes, which tells whether a report is of these."""
    requests = [open_brain(store).provenance["request"] for store in stores]
    return hashlib.sha256(json.dumps(requests, sort_keys=True).encode()).hexdigest()[:12]
