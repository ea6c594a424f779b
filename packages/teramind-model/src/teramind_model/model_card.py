"""The model card beside a checkpoint's weights, made from its configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from teramind_data.console import counted, duration
from teramind_model.methods.protocol import sees_genes
from teramind_model.methods.registry import DEFAULT_METHOD

if TYPE_CHECKING:
    from teramind_model.checkpoint import ModelInfo

__all__ = ["model_card", "options_line", "scores_line", "stage_line"]

_OF_GENES = """\
- It learns which morphology goes with which molecules; it says nothing of cause.
- Sections lie 100 to 200 um apart. What lies between sections is not modelled, and neighbouring slices are related
  only through their genes.
- It knows the species, stains, pixel size and genes it was trained on (mouse brain, or synthetic phantoms). Phantoms
  have simple, made-up biology: a model of phantoms says nothing of real tissue."""

_OF_NO_GENES = """\
- It sees no genes: what it generates resembles the sections it was trained on, and says nothing of the brain that
  it is given.
- Sections lie 100 to 200 um apart. What lies between sections is not modelled.
- It knows the species, stains and pixel size it was trained on (mouse brain, or synthetic phantoms). Phantoms have
  simple, made-up biology: a model of phantoms says nothing of real tissue."""

_LIMITS = """## Limits

{}
- Generated images are not measurements. They must not be used for diagnosis, treatment or any decision about a patient.
"""

_AVERAGED = {
    True: "Weights are the exponential moving average.",
    False: "Weights are the last ones of training, not an average.",
    None: "The file that the weights come from does not say whether they are an average.",
}


def model_card(info: ModelInfo) -> str:
    """Markdown: what the network is, what it was trained on and for how long, and its limits."""
    n, with_genes = info.network, sees_genes(info.network)
    listed = ("genes", "stains", "gene_slices", "patch")
    shape = "; ".join(f"{key} {value}" for key, value in n.to_dict().items() if key not in listed)
    panel = f"{n.genes} (panel fingerprint `{info.panel.fingerprint[:16]}`)"
    lines = [
        *_title(info.method, with_genes),
        "",
        "| | |",
        "|---|---|",
        f"| genes | {panel} |"
        if with_genes
        else f"| genes | none seen; atlases must have the panel of its own, {panel} |",
        f"| gene slices, image slices | {n.gene_slices}, {n.image_slices} |",
        f"| stains | {', '.join(info.stains)} |",
        f"| patch | {n.patch} px of {info.pixel_size_um:g} um |",
        f"| method | {info.method} |",
        f"| network | {shape} |",
        "",
        _AVERAGED[info.averaged],
        "",
        "## Training",
        "",
    ]
    lineage = info.training.get("lineage", [])
    for number, stage in enumerate(lineage, start=1):
        how = options_line(stage)
        # Indented by the width of the number, it belongs to the list's item.
        lines += [stage_line(number, stage), *([] if how is None else [" " * len(f"{number}. ") + how])]
    lines += [] if lineage else ["No training is recorded."]
    limits = _LIMITS.format(_OF_GENES if with_genes else _OF_NO_GENES)
    return "\n".join([*lines, "", *_scores(info.training.get("scores", {})), limits])


def _title(method: str, with_genes: bool) -> list[str]:
    if method == DEFAULT_METHOD:
        does = "A patch diffusion model that generates stained sections from spatial gene expression"
        return ["# Tera-MIND checkpoint", "", f"{does} (arXiv 2503.01220)."]
    source = "from spatial gene expression" if with_genes else "without genes"
    does = f"A diffusion model of the method `{method}`, which generates stained sections {source}."
    return [f"# Checkpoint of {method}", "", does]


def _scores(scores: dict[str, Any]) -> list[str]:
    held_out = scores_line(scores)
    if held_out is None:
        return []
    said = f"{held_out}; all parts of the objective, unweighted, with the same noise each time."
    return ["## Scores", "", said, ""]


def scores_line(scores: dict[str, Any]) -> str | None:
    """What validation measured (``train.validation.summary``), as words; None where nothing was."""
    if "held_out_loss" not in scores:
        return None
    by_time = ", ".join(
        f"{value:.4g} at t = {t}" for t, value in scores.get("held_out_loss_at_t", {}).items()
    )
    after = _counted(scores.get("step"), "step")
    return f"Loss on held-out tiles after {after}: {scores['held_out_loss']:.4g} ({by_time})"


def stage_line(number: int, stage: dict[str, Any]) -> str:
    """One stage of a checkpoint's lineage as a numbered line."""
    if "imported_from" in stage:
        return f"{number}. Converted from published weights ({stage['imported_from']})."
    names = ", ".join(atlas["name"] for atlas in stage.get("data", []))
    # Runs record "1 CPU threads", perhaps after the number of processes.
    device = re.sub(r"\b1 CPU threads$", "1 CPU thread", str(stage.get("device", "an unknown device")))
    return (
        f"{number}. {_counted(stage.get('steps', 0), 'step')} of {_counted(stage.get('batch'), 'crop')} from {names} "
        f"in {duration(stage.get('seconds', 0))} on {device}."
    )


def options_line(stage: dict[str, Any]) -> str | None:
    """How a stage was trained, from the options that it recorded; None where it recorded none, as imported ones."""
    options = stage.get("options")
    if not isinstance(options, dict) or "lr" not in options:
        return None
    warmup, cap, held_out = (options.get(key) for key in ("warmup", "ratio_cap", "held_out"))
    parts = [
        f"Learning rate {_number(options['lr'])}, {options.get('schedule', 'constant')}"
        + (f" after {_counted(warmup, 'step')} of warm-up" if warmup else ""),
        f"EMA decay {_number(options.get('ema'))}",
        "all noise levels weighed alike" if cap is None else f"min-SNR weights up to {_number(cap)}",
        f"batch {options.get('batch')} in {_counted(options.get('accumulate', 1), 'part')}",
        f"{options.get('start', 'random')} start",
        f"precision {options.get('precision', '32-true')}",
        f"seed {options.get('seed', 0)}",
        f"{_number(held_out)} of the tiles held out" if held_out else "no tiles held out",
    ]
    return "; ".join(parts) + "."


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _counted(number: object, noun: str) -> str:
    return counted(number, noun) if isinstance(number, int) else f"unknown {noun}s"
