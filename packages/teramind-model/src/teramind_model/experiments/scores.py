"""What came of an experiment, read back from its reports and runs: one row a protocol, method and condition."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teramind_data.errors import InputError
from teramind_model.checkpoint import CONFIG, run_checkpoints

__all__ = ["MEASURES", "Measure", "Row", "TrainingFacts", "report_rows", "training_facts"]


@dataclass(frozen=True)
class Measure:
    """A column of numbers: its key, its title, digits shown, and whether more is better (None: nearer to real)."""

    key: str
    title: str
    digits: int
    more_is_better: bool | None


MEASURES = (
    Measure("psnr_db", "PSNR (dB)", 2, True),
    Measure("psnr_sd", "SD", 2, None),
    Measure("ssim", "SSIM", 3, True),
    Measure("ssim_sd", "SD", 3, None),
    Measure("nuclei", "nuclei", 0, None),
    Measure("nuclei_per_patch", "nuclei a patch", 2, None),
    Measure("area_um2", "nuclear area (um2)", 1, None),
    Measure("area_sd", "SD", 1, None),
    Measure("area_distance", "area, distance to real (um2)", 2, False),
    Measure("f1_truth", "centroid F1, truth", 3, True),
    Measure("f1_real", "centroid F1, real image", 3, True),
)


@dataclass(frozen=True)
class TrainingFacts:
    """How a network was trained.

    Attributes:
        steps, samples, seconds: of its own run.
        inherited: samples that the checkpoint it started from had seen; 0 where it started anew.
        network: its shape, plain values.
    """

    steps: int
    samples: int
    seconds: float
    inherited: int
    network: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A protocol's brain as one method made it under one condition (``real`` for the measured one)."""

    protocol: str
    method: str
    condition: str
    scores: Mapping[str, float | None]
    training: TrainingFacts | None = None

    def plain(self) -> dict[str, Any]:
        """For CSV."""
        facts = self.training
        told = (
            {"steps": None, "samples": None, "inherited_samples": None, "training_seconds": None}
            if facts is None
            else {
                "steps": facts.steps,
                "samples": facts.samples,
                "inherited_samples": facts.inherited,
                "training_seconds": facts.seconds,
            }
        )
        head = {"protocol": self.protocol, "method": self.method, "condition": self.condition}
        return {**head, **{m.key: self.scores.get(m.key) for m in MEASURES}, **told}


def report_rows(
    report: Path, protocol: str, method: str, names: Mapping[str, str], training: TrainingFacts | None
) -> Iterator[Row]:
    """Rows of one report, the real brain's first.

    Args:
        report: its folder.
        protocol: as it is shown.
        method: as it is shown.
        names: conditions by the report's labels, where they differ.
        training: of the network.

    Raises:
        InputError: where its numbers cannot be read.
    """
    file = report / "metrics.json"
    try:
        stores: Sequence[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["stores"]
        for store in stores:
            label, real = store["label"], store["role"] == "real"
            yield Row(
                protocol,
                "real" if real else method,
                "real" if real else names.get(label, label),
                _scores(store["brain"]),
                None if real else training,
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("report cannot be read", where=file, found=repr(error)) from None


def _scores(brain: Mapping[str, Any]) -> dict[str, float | None]:
    image = brain["image"].get("together") or {"psnr_db": {}, "ssim": {}}
    nuclei = brain["nuclei"]
    area, distance = nuclei["area_um2"], nuclei.get("area_um2_to_real") or {}
    return {
        "psnr_db": image["psnr_db"].get("mean"),
        "psnr_sd": image["psnr_db"].get("sd"),
        "ssim": image["ssim"].get("mean"),
        "ssim_sd": image["ssim"].get("sd"),
        "nuclei": nuclei["count"],
        "nuclei_per_patch": nuclei["per_patch"]["mean"],
        "area_um2": area["mean"],
        "area_sd": area["sd"],
        "area_distance": distance.get("wasserstein"),
        "f1_truth": (nuclei.get("against_truth") or {}).get("f1"),
        "f1_real": (nuclei.get("against_real") or {}).get("f1"),
    }


def training_facts(run: Path) -> TrainingFacts:
    """How the newest checkpoint of a run came to be; InputError where there is none."""
    found = run_checkpoints(run)
    if not found:
        raise InputError("run has no checkpoint", where=run)
    config = json.loads((found[-1][1] / CONFIG).read_text(encoding="utf-8"))
    *before, last = config["training"]["lineage"]
    return TrainingFacts(
        steps=last["steps"],
        samples=_samples(last),
        seconds=last["seconds"],
        inherited=sum(_samples(stage) for stage in before),
        network=config["network"],
    )


def _samples(stage: Mapping[str, Any]) -> int:
    return int(stage.get("steps", 0)) * int(stage.get("batch", 0))
